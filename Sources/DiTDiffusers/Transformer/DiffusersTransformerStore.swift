import DiTFiles
import DiTModel
import DiTTensor

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
  /// - Throws: `DiTError` with diffusers' names; what reading a tensor throws; when there are fewer tensors than
  ///   blocks.
  init(_ source: any TensorStore, network: DiTConfiguration, attentionBias: Bool) throws {
    let found = source.keys.count
    guard network.depth <= found else {  // or the table would be larger than the file warrants
      throw DiTError(
        file: source.path, .entry("tensors"), expected: "those of \(network.depth) blocks", found: "\(found)")
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

  func slice(_ name: String) throws -> FloatSlice { try parts(name).slice }

  /// q, k and v are put together when they are asked for; all else lies where the file has it. A bias that is not there is zeros.
  func parts(_ name: String) throws -> TensorParts {
    guard let (shape, names) = entries[name] else {
      throw DiTError(file: path, .tensor(name), expected: "it", found: "none")
    }
    let size = shape.reduce(1, *) / names.count
    return TensorParts(
      joining: try names.map { name in
        source.shape(of: name) == nil
          ? TensorParts(MutableFloatSlice(zeros: size).reading) : try source.parts(name)
      })
  }

  private static func isTheSame(_ name: String, in source: any TensorStore, depth: Int) throws -> Bool {
    let copies = (0..<depth).compactMap { DiffusersNames.theirs(name, block: $0).first }
    let first = try source.slice(copies[0])
    return try copies.dropFirst().allSatisfy { hasSameBits(first, try source.slice($0)) }
  }

  private static func hasSameBits(_ a: FloatSlice, _ b: FloatSlice) -> Bool {
    let (a, b) = (a.span, b.span)
    var difference: UInt32 = 0
    for i in a.indices { difference |= a[i].bitPattern ^ b[i].bitPattern }
    return difference == 0
  }
}
