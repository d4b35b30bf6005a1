import DiTTensor

/// The order of the published network's parameters, as `parameters()` gives them. Averages and optimizers keep tensors in
/// that order, without names.
enum PublishedOrder {
  /// A store whose tensors are called 0, 1, 2, …, as a list's are, with the published names where their number and shapes
  /// are those of a published network; any other as it is.
  static func named(_ store: any TensorStore) -> any TensorStore {
    let keys = store.keys
    guard !keys.isEmpty, keys.enumerated().allSatisfy({ $1.name == "\($0)" }) else { return store }
    for hasLabels in [true, false] {
      // Without its blocks' 10 each, a network has 11 tensors, and the label table.
      let blocks = keys.count - (hasLabels ? 12 : 11)
      guard blocks > 0, blocks.isMultiple(of: 10) else { continue }
      let names = names(depth: blocks / 10, hasLabels: hasLabels)
      let shapes = Dictionary(zip(names, keys.map(\.shape)), uniquingKeysWith: { first, _ in first })
      guard names.count == keys.count, shapes["pos_embed"]?.count == 3, shapes["x_embedder.proj.weight"]?.count == 4
      else { continue }
      return OrderedTensors(store, names)
    }
    return store
  }

  static func names(depth: Int, hasLabels: Bool) -> [String] {
    func pair(_ name: String) -> [String] { ["\(name).weight", "\(name).bias"] }
    let ends = ["x_embedder.proj", "t_embedder.mlp.0", "t_embedder.mlp.2"].flatMap(pair)
    let labels = hasLabels ? ["y_embedder.embedding_table.weight"] : []
    let blocks = (0..<depth).flatMap { block in
      ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1"].flatMap { pair("blocks.\(block).\($0)") }
    }
    return ["pos_embed"] + ends + labels + blocks + pair("final_layer.linear") + pair("final_layer.adaLN_modulation.1")
  }
}

/// A list's tensors under other names.
private struct OrderedTensors: TensorStore {
  let path: String
  let keys: [StateDict.Key]
  private let base: any TensorStore
  private let places: [String: Int]

  init(_ base: any TensorStore, _ names: [String]) {
    (path, self.base) = (base.path, base)
    keys = zip(names, base.keys).map { (name: $0, shape: $1.shape) }
    places = Dictionary(names.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
  }

  func shape(of name: String) -> [Int]? { places[name].map { keys[$0].shape } }

  func slice(_ name: String) throws -> FloatSlice { try base.slice(places[name].map { "\($0)" } ?? name) }
}
