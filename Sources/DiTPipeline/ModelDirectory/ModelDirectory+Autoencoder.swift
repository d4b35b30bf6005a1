import DiTFiles
import DiTTensor
import Foundation

// The autoencoder that belongs to a model: where it lies, and a copy that goes along with the model.

extension ModelConfiguration {
  /// Where the autoencoder of the model in `directory` lies, a directory or a state-dict file; nil where it has none.
  ///
  /// - Throws: `DiTError` where there is neither a file nor a config.json.
  public func autoencoderDirectory(in directory: String) throws(DiTError) -> String? {
    guard let autoencoder else { return nil }
    let path = Paths.resolve(autoencoder, in: directory)
    if try FileStatus(path: path)?.isRegular == true { return path }
    let file = Paths.join(path, ModelDirectory.configurationFile)
    guard FileStatus.exists(file) else { throw DiTError(file: file, .missing) }
    return path
  }
}

extension ModelDirectory {
  /// Copies the autoencoder `source`, a directory or a file, to `vae` in the directory `target`, which is made if need be; one
  /// that is there is replaced. It appears complete or not at all.
  ///
  /// - Throws: `DiTError`.
  public static func copyAutoencoder(_ source: String, to target: String) throws(DiTError) {
    if try FileStatus(path: source)?.isRegular == true {
      return try Directory.copyFiles(of: source, to: Paths.join(target, autoencoderName))
    }
    let directory = try AtomicDirectory(path: Paths.join(target, autoencoderName))
    try Directory.copyFiles(of: source, to: directory.temporary)
    try directory.commit()
  }
}
