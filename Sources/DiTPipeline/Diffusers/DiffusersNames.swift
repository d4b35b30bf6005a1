import DiTFiles
import DiTModel
import DiTTensor

// The published names against diffusers'. Shapes are the same but for q, k and v, which diffusers keeps apart, and for the
// embedders, of which it has a copy in every block.

enum DiffusersNames {
  /// Of a tensor outside the blocks; the name in one is after `blocks.i.`.
  private static let outside = [
    "x_embedder.proj": "pos_embed.proj", "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
  ]
  private static let inBlock = [
    "adaLN_modulation.1": ["norm1.linear"], "attn.qkv": ["attn1.to_q", "attn1.to_k", "attn1.to_v"],
    "attn.proj": ["attn1.to_out.0"], "mlp.fc1": ["ff.net.0.proj"], "mlp.fc2": ["ff.net.2"],
  ]
  private static let embedder = [
    "t_embedder.mlp.0": "norm1.emb.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "norm1.emb.timestep_embedder.linear_2",
    "y_embedder.embedding_table": "norm1.emb.class_embedder.embedding_table",
  ]
  /// The position table, which old files may hold; it is computed.
  static let ignored: Set<String> = ["pos_embed.pos_embed"]

  /// diffusers' tensors whose rows, one after another, are the tensor `name`; none for the position table.
  ///
  /// - Parameter block: from which block a shared embedder's are taken.
  static func theirs(_ name: String, block: Int = 0) -> [String] {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard let kind = parts.last, parts.count > 1 else { return [] }
    if parts[0] == "blocks", parts.count > 3 {
      let stem = parts[2..<parts.count - 1].joined(separator: ".")
      let names = inBlock[stem] ?? embedder[stem].map { [$0] } ?? []
      return names.map { "transformer_blocks.\(parts[1]).\($0).\(kind)" }
    }
    let stem = parts.dropLast().joined(separator: ".")
    if let name = outside[stem] { return ["\(name).\(kind)"] }
    return embedder[stem].map { ["transformer_blocks.\(block).\($0).\(kind)"] } ?? []
  }

  /// Whether a tensor of ours embeds time or class.
  static func isEmbedder(_ name: String) -> Bool {
    embedder.keys.contains { name.hasPrefix($0) || name.contains(".\($0)") }
  }

  /// Every tensor of a diffusers transformer, with its shape, in the order of our table, a shared embedder's copies
  /// together: from which of our tensors it comes, and which of its equal parts it is.
  static func tensors(_ table: ParameterTable, depth: Int) -> [Tensor] {
    table.parameters.flatMap { parameter in
      let isShared = isEmbedder(parameter.name) && !parameter.name.hasPrefix("blocks.")
      return (0..<(isShared ? depth : 1)).flatMap { block in
        let names = theirs(parameter.name, block: block)
        return names.enumerated().map { part, name in
          var shape = parameter.shape
          shape[0] /= names.count
          return Tensor(name: name, shape: shape, source: parameter, part: part)
        }
      }
    }
  }

  /// A tensor of diffusers.
  struct Tensor {
    let name: String
    let shape: [Int]
    let source: Parameter
    /// 0, or which third.
    let part: Int

    var count: Int { shape.reduce(1, *) }
  }
}

/// A diffusers transformer's tensors under the published names.
struct DiffusersTransformerStore: TensorStore {
  private let source: any TensorStore
  /// What there is, by published name: its shape and diffusers' names for its rows.
  private let entries: [String: (shape: [Int], names: [String])]
  /// Whether every block embeds time and class with the same weights, bit by bit.
  let hasSharedEmbedders: Bool

  var path: String { source.path }
  let keys: [StateDict.Key]

  /// - Parameters:
  ///   - network: of the transformer, its embedders shared or not: which it is is found out here.
  ///   - attentionBias: whether q, k and v have biases; those that are not there are 0.
  /// - Throws: `StateDictMismatch` with diffusers' names; what reading a tensor throws; ``ModelFileError`` when there are
  ///   fewer tensors than blocks.
  init(_ source: any TensorStore, network: DiTConfiguration, attentionBias: Bool) throws {
    let found = source.keys.count
    guard network.depth <= found else {  // or the table would be larger than the file warrants
      throw ModelFileError(
        file: source.path, item: "tensors", expected: "those of \(network.depth) blocks", found: "\(found)")
    }
    var network = network
    network.embedders = .perBlock
    let own = ParameterTable(network)
    let tensors = DiffusersNames.tensors(own, depth: network.depth)
    let expected = attentionBias ? tensors : tensors.filter { !$0.isAttentionBias }
    try StateDict.check(
      source.keys, holds: expected.map { (name: $0.name, shape: $0.shape) }, path: source.path,
      ignoring: DiffusersNames.ignored)
    network.embedders = .shared
    let shared = ParameterTable(network)
    let embedders = shared.parameters.map(\.name).filter(DiffusersNames.isEmbedder)
    hasSharedEmbedders = try embedders.allSatisfy { try Self.isTheSame($0, in: source, depth: network.depth) }
    let stored = (hasSharedEmbedders ? shared : own).parameters.map {
      (name: $0.name, entry: (shape: $0.shape, names: DiffusersNames.theirs($0.name)))
    }.filter { !$0.entry.names.isEmpty }
    keys = stored.map { (name: $0.name, shape: $0.entry.shape) }
    entries = Dictionary(uniqueKeysWithValues: stored.map { ($0.name, $0.entry) })
    self.source = source
  }

  func shape(of name: String) -> [Int]? { entries[name]?.shape }

  /// q, k and v are copied into one; all else lies where the file has it.
  func slice(_ name: String) throws -> Slice {
    guard let (shape, names) = entries[name] else {
      throw ModelFileError(file: path, item: "tensor \(name)", expected: "it", found: "none")
    }
    if names.count == 1 { return try source.slice(names[0]) }
    let whole = Slice(uninitialized: shape.reduce(1, *))
    let size = whole.count / names.count
    for (part, name) in names.enumerated() { try copy(name, into: whole[part * size..<(part + 1) * size]) }
    return whole
  }

  /// Copies a tensor of diffusers; zeros where there is none.
  private func copy(_ name: String, into target: Slice) throws {
    guard source.shape(of: name) != nil else { return target.fill(0) }
    let part = try source.slice(name)
    target.copy(from: part.span)
  }

  private static func isTheSame(_ name: String, in source: any TensorStore, depth: Int) throws -> Bool {
    let copies = (0..<depth).compactMap { DiffusersNames.theirs(name, block: $0).first }
    let first = try source.slice(copies[0])
    return try copies.dropFirst().allSatisfy { hasSameBits(first, try source.slice($0)) }
  }

  private static func hasSameBits(_ a: Slice, _ b: Slice) -> Bool {
    let (a, b) = (a.span, b.span)
    var difference: UInt32 = 0
    for i in a.indices { difference |= a[i].bitPattern ^ b[i].bitPattern }
    return difference == 0
  }
}

extension DiffusersNames.Tensor {
  var isAttentionBias: Bool { source.name.hasSuffix("attn.qkv.bias") }
}
