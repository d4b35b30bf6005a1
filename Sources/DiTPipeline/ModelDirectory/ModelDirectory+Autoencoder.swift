import DiTFiles
import Foundation

// The autoencoder that belongs to a model: where it lies, and a copy that goes along with the model.

extension ModelConfiguration {
  /// Where the autoencoder of the model in `directory` lies; nil where it has none.
  ///
  /// - Throws: `FileError` where there is no config.json.
  public func autoencoderDirectory(in directory: String) throws(FileError) -> String? {
    guard let autoencoder else { return nil }
    let path = ModelDirectory.resolve(autoencoder, in: directory)
    let file = ModelDirectory.join(path, ModelDirectory.configurationFile)
    guard FileManager.default.fileExists(atPath: file) else { throw FileError(path: file, reason: .missing) }
    return path
  }
}

extension ModelDirectory {
  /// Copies the autoencoder's directory `source` to `vae/` in the directory `target`, which is made if need be; one that
  /// is there is replaced. It appears complete or not at all.
  ///
  /// - Throws: `FileError`.
  public static func copyAutoencoder(_ source: String, to target: String) throws(FileError) {
    let directory = try AtomicDirectory(path: join(target, autoencoderName))
    try copyFiles(of: source, to: directory.temporary)
    try directory.commit()
  }

  /// Copies the regular files of a directory, those that links lead to included, into one that is made.
  ///
  /// - Throws: `FileError`.
  static func copyFiles(of source: String, to target: String) throws(FileError) {
    try createDirectory(target)
    do {
      for name in try FileManager.default.contentsOfDirectory(atPath: source).sorted() where !name.hasPrefix(".") {
        let file = URL(filePath: join(source, name)).resolvingSymlinksInPath()
        let isRegular = try file.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile ?? false
        if isRegular { try FileManager.default.copyItem(at: file, to: URL(filePath: join(target, name))) }
      }
    } catch {
      throw FileError(path: source, reason: .refused(operation: "copy", code: errorNumber(error)))
    }
  }
}
