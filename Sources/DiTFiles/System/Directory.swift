import Foundation

/// Directories that need not appear complete or not at all: parts of one that does.
package enum Directory {
  /// Makes the directory at `path` and those above it, as far as they are not there.
  ///
  /// - Throws: `FileError`.
  package static func create(_ path: String) throws(FileError) {
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
      throw FileError(path: path, reason: .refused(operation: "create the directory", code: errorNumber(error)))
    }
  }

  /// Copies the regular files of a directory, those that links lead to included, into one that is made.
  ///
  /// - Throws: `FileError`.
  package static func copyFiles(of source: String, to target: String) throws(FileError) {
    try create(target)
    do {
      for name in try FileManager.default.contentsOfDirectory(atPath: source).sorted() where !name.hasPrefix(".") {
        let file = URL(filePath: Paths.join(source, name)).resolvingSymlinksInPath()
        let isRegular = try file.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile ?? false
        if isRegular { try FileManager.default.copyItem(at: file, to: URL(filePath: Paths.join(target, name))) }
      }
    } catch {
      throw FileError(path: source, reason: .refused(operation: "copy", code: errorNumber(error)))
    }
  }

  /// The system's error number under a Foundation error.
  package static func errorNumber(_ error: any Error) -> Int32 {
    let cause = (error as? POSIXError) ?? (error as? CocoaError)?.underlying as? POSIXError
    return (cause?.code ?? .EIO).rawValue
  }
}
