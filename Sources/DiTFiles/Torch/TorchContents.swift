import DiTTensor

/// A torch file taken apart: its pickle's value and tables, and where its storages lie.
struct TorchContents {
  let root: PickleValue
  let pickle: Unpickler
  private let storages: Storages

  private enum Storages {
    case archive(TorchArchive)
    case legacy(LegacyTorchFile)
  }

  /// - Throws: `DiTError`.
  init(_ bytes: FileBytes, path: String) throws(DiTError) {
    switch try TorchFormat(bytes, path: path) {
    case .archive:
      let archive = try TorchArchive(bytes, path: path)
      var pickle = Unpickler(bytes.withBytes(archive.pickle) { $0.array }, path: path)
      root = try pickle.load()
      try pickle.requireEnd()
      self.pickle = pickle
      storages = .archive(archive)
    case .legacy:
      let file = try LegacyTorchFile(bytes, path: path)
      (root, pickle) = (file.root, file.pickle)
      storages = .legacy(file)
    }
  }

  /// Where a storage's bytes lie in the file; its elements fit them.
  func range(_ storage: TorchStorage) throws(DiTError) -> Range<Int> {
    guard let key = pickle.text(storage.key) else {
      throw DiTError(file: pickle.path, .entry("storage"), expected: "a key in UTF-8", found: "one that is not")
    }
    switch storages {
    case .archive(let archive): return try archive.storage(key: key, type: storage.type, count: storage.count)
    case .legacy(let file): return try file.storage(key: key, type: storage.type, count: storage.count)
    }
  }
}
