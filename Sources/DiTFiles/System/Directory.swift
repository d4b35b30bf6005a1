import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Directories on disk. Changes of names are durable when a call returns.
package enum Directory {
  /// The names in the directory at `path`, hidden ones too, in order; none when there is no such directory.
  package static func names(_ path: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
  }

  /// Makes the directory at `path` and those above it where they are missing.
  ///
  /// - Throws: ``FileError``, also when there is something else at `path`.
  package static func create(_ path: String) throws(FileError) {
    func refusal(_ code: Int32) -> FileError {
      FileError(path: path, reason: .refused(operation: "create the directory", code: code))
    }
    if let status = try FileStatus(path: path) {
      guard status.isDirectory else { throw refusal(EEXIST) }
      return
    }
    let parent = Paths.parent(of: path)
    if parent != path { try create(parent) }
    if unsafe mkdir(path, 0o777) != 0 {
      let code = errno  // another process may have been faster
      guard code == EEXIST, try FileStatus(path: path)?.isDirectory == true else { throw refusal(code) }
    }
    try flush(parent, for: path)
  }

  /// Gives a finished directory another name in its own parent. Nothing may have that name.
  ///
  /// - Throws: ``FileError``, which names `target`.
  package static func rename(_ path: String, to target: String) throws(FileError) {
    guard systemRename(path, target) else { throw FileError(path: target, refused: "put in place") }
    try flush(Paths.parent(of: target), for: target)
  }

  /// Removes a file, or a directory and what is in it; nothing where there is none.
  ///
  /// - Throws: ``FileError``.
  package static func remove(_ path: String) throws(FileError) {
    do {
      try FileManager.default.removeItem(atPath: path)
    } catch {
      let code = errorNumber(error)
      guard code != ENOENT else { return }
      throw FileError(path: path, reason: .refused(operation: "remove", code: code))
    }
  }

  /// Copies the regular files of the directory `source`, those that links lead to included but no hidden ones, into the
  /// directory `target`, which is made.
  ///
  /// - Throws: ``FileError``.
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

  /// Waits until the names in `directory` are on the disk; errors name `path`, the file or directory that was put there.
  static func flush(_ directory: String, for path: String) throws(FileError) {
    let operation = "flush the directory of"
    let descriptor = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError(path: path, refused: operation) }
    defer { close(descriptor) }
    // Some file systems cannot flush a directory and need not.
    while fsync(descriptor) != 0 {
      if errno == EINTR { continue }
      if errno == EINVAL || errno == ENOTSUP { return }
      throw FileError(path: path, refused: operation)
    }
  }

  /// Whether the system did it; if not, `errno` says why.
  static func systemRename(_ path: String, _ target: String) -> Bool {
    #if canImport(Glibc)
      unsafe Glibc.rename(path, target) == 0
    #elseif canImport(Musl)
      unsafe Musl.rename(path, target) == 0
    #else
      unsafe Darwin.rename(path, target) == 0
    #endif
  }

  /// The system's error number under a Foundation error.
  package static func errorNumber(_ error: any Error) -> Int32 {
    let cause = (error as? POSIXError) ?? (error as? CocoaError)?.underlying as? POSIXError
    return (cause?.code ?? .EIO).rawValue
  }
}
