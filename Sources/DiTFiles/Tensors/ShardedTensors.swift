import DiTTensor

/// Tensors that lie in several files of one directory. An index says which is in which, and it is the authority: every
/// tensor that it names must be in the file that it names, and what it does not name does not exist (as in diffusers).
///
/// Files are opened when this is made, safetensors and torch files alike; their tensors are read when asked for.
public final class ShardedTensors: TensorStore {
  /// The index.
  public let path: String
  /// In the order of the index.
  public let keys: [StateDict.Key]
  /// By tensor.
  private let shards: [ExactName: any TensorStore]

  /// Opens every file that the index at `path` names.
  ///
  /// - Parameters:
  ///   - path: of the index, beside which the files must be.
  ///   - map: each tensor once, with the name of its file.
  /// - Throws: `DiTError` for a file outside the directory or one that is not there, and for a tensor that its
  ///   file lacks; what opening a file throws.
  public init(index path: String, map: [(tensor: String, file: String)]) throws {
    let directory = path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[...$0]) } ?? ""
    var stores: [ExactName: any TensorStore] = [:]
    var shards: [ExactName: any TensorStore] = [:]
    var keys: [StateDict.Key] = []
    for (tensor, file) in map {
      let store = try stores[ExactName(file)] ?? Self.open(file, in: directory, for: tensor, index: path)
      stores[ExactName(file)] = store
      guard let shape = store.shape(of: tensor) else {
        throw DiTError(
          file: path, key: "weight_map.\(tensor)", expected: "it in \(file)", found: "no tensor of that name there")
      }
      guard shards.updateValue(store, forKey: ExactName(tensor)) == nil else {
        throw DiTError(file: path, key: "weight_map.\(tensor)", expected: "it once", found: "it twice")
      }
      keys.append((name: tensor, shape: shape))
    }
    self.path = path
    self.keys = keys
    self.shards = shards
  }

  public func shape(of name: String) -> [Int]? { shards[ExactName(name)]?.shape(of: name) }

  public func slice(_ name: String) throws -> FloatSlice { try shard(of: name).slice(name) }

  public func parts(_ name: String) throws -> TensorParts { try shard(of: name).parts(name) }

  private func shard(of name: String) throws(DiTError) -> any TensorStore {
    guard let shard = shards[ExactName(name)] else {
      throw DiTError(
        file: path, key: "weight_map.\(name)", expected: "it in the index", found: "no tensor of that name")
    }
    return shard
  }

  private static func open(
    _ file: String, in directory: String, for tensor: String, index path: String
  ) throws -> any TensorStore {
    // By bytes: a slash with an accent behind it is another Character, and still a slash.
    let forbidden = ["/", "\\", "\0"].map { UInt8(ascii: $0) }
    guard let first = file.utf8.first, first != UInt8(ascii: "."), !file.utf8.contains(where: forbidden.contains) else {
      throw DiTError(
        file: path, key: "weight_map.\(tensor)", expected: "the plain name of a file beside the index",
        found: "\"\(file)\"")
    }
    guard try FileStatus(path: directory + file) != nil else {
      throw DiTError(
        file: path, key: "weight_map.\(tensor)", expected: "the file \(file) beside the index", found: "none")
    }
    return try StateDictFile(contentsOf: directory + file, tree: .whole).store
  }
}
