/// One tensor of the network: its published state-dict name, shape, and place in every flat buffer.
public struct Parameter: Equatable, Sendable {
  /// How a new network's values are drawn.
  public enum Initialisation: Equatable, Sendable {
    case zero
    case constant(Float)
    /// U(−a, a), a = √(6 / (fanIn + fanOut)).
    case xavierUniform(fanIn: Int, fanOut: Int)
    /// N(0, deviation²).
    case normal(deviation: Float)
    /// The 2-D sine-cosine position table.
    case sinCosPositions
  }

  public let name: String
  public let shape: [Int]
  /// The first element's index in a flat buffer; a multiple of 16.
  public let offset: Int
  public let initialisation: Initialisation

  public var count: Int { shape.reduce(1, *) }
  /// The elements' place in a flat buffer.
  public var range: Range<Int> { offset..<offset + count }
}

/// The ordered list of a network's tensors. Weights, gradients, moments and averages are flat buffers that share its
/// offsets, so zeroing, AdamW, EMA, the gradient norm and checkpoint IO are one loop each.
///
/// A position table, where there is one, is first; unless it is learned it is not trained. Everything from
/// `trainable.lowerBound` on is.
public struct ParameterTable: Equatable, Sendable {
  /// A linear layer's two tensors, by index.
  struct LinearParameters: Equatable, Sendable {
    let weight, bias: Int
  }

  /// A block's tensors, by index.
  struct Block: Equatable, Sendable {
    let qkv, proj: LinearParameters
    /// The noise mask's, where there is one.
    let maskGate: MaskGate?
    let fc1, fc2: LinearParameters
    let norms: Norms
  }

  /// A time MLP and a label table, by index; no table without classes.
  struct Embedder: Equatable, Sendable {
    let time0, time2: LinearParameters
    let labels: Int?
  }

  /// A noise mask's gate: sigmoid(second(silu(first(E_time)))).
  struct MaskGate: Equatable, Sendable {
    let first, second: LinearParameters
  }

  /// Where the shift and scale of a block's LayerNorms, or the final one's, come from.
  enum Norms: Equatable, Sendable {
    /// A linear layer of the condition.
    case adaLN(LinearParameters)
    /// Weight and bias of their own: norm1 and norm2, or norm_final.
    case own([LinearParameters])
  }

  public private(set) var parameters: [Parameter] = []
  /// Elements of a flat buffer, padding between tensors included.
  public private(set) var elementCount = 0
  /// The part of a flat buffer that training changes; its padding stays zero.
  public let trainable: Range<Int>

  /// The position table's index; nil with rotary positions.
  let positions: Int?
  let patchEmbedding: LinearParameters
  /// What embeds time and class: one, or one per block.
  let embedders: [Embedder]
  /// The conditioning sequence's tensors: what its tokens are embedded with, and their positions.
  let sequence: Sequence?
  let blocks: [Block]
  let finalLinear: LinearParameters
  let finalNorm: Norms

  /// A conditioning sequence's tensors, by index.
  struct Sequence: Equatable, Sendable {
    enum Embedding: Equatable, Sendable {
      /// (256, D), a row a byte.
      case table(Int)
      /// A patch embedding.
      case proj(LinearParameters)
    }

    let embedding: Embedding
    /// (1, length, D).
    let positions: Int
  }

  /// The table of the published names for a configuration.
  public init(_ configuration: DiTConfiguration) {
    let c = configuration
    let d = c.hiddenSize
    var builder = Builder()
    positions = c.position == .rope ? nil : builder.add("pos_embed", [1, c.tokens, d], .sinCosPositions)
    let firstTrainable = c.position == .learned ? 0 : builder.next
    patchEmbedding = builder.patches("x_embedder.proj", c)
    var embedders = c.embedders == .shared ? [builder.embedder("", c)] : []
    sequence = builder.sequence(c)
    var blocks: [Block] = []
    for i in 0..<c.depth {
      if c.embedders == .perBlock { embedders.append(builder.embedder("blocks.\(i).", c)) }
      blocks.append(
        Block(
          qkv: builder.linear("blocks.\(i).attn.qkv", d, 3 * d),
          proj: builder.linear("blocks.\(i).attn.proj", d, d),
          maskGate: builder.gate("blocks.\(i).attn.noise_mask.mlp", c),
          fc1: builder.linear("blocks.\(i).mlp.fc1", d, c.mlpSize),
          fc2: builder.linear("blocks.\(i).mlp.fc2", c.mlpSize, d),
          norms: builder.norms("blocks.\(i).", ["norm1", "norm2"], c, parts: Modulation.parts(c))))
    }
    self.blocks = blocks
    self.embedders = embedders
    finalLinear = builder.linear("final_layer.linear", d, c.outputGrid.patchElements, .zero)
    finalNorm = builder.norms("final_layer.", ["norm_final"], c, parts: 2)
    parameters = builder.parameters
    elementCount = builder.next
    trainable = firstTrainable..<builder.next
  }

  /// Scalars in all tensors, the position table included.
  public var parameterCount: Int { parameters.reduce(0) { $0 + $1.count } }
  /// Scalars that training changes.
  public var trainableCount: Int { trainableParameters.reduce(0) { $0 + $1.count } }
  /// The tensors that training changes.
  public var trainableParameters: [Parameter] { parameters.filter { $0.offset >= trainable.lowerBound } }

  /// Where the LayerNorms of block `index` take shift and scale from; of the final layer at `depth`.
  func norms(_ index: Int) -> Norms { index == blocks.count ? finalNorm : blocks[index].norms }

  /// The embedder whose condition the norms of block `index` have; those of the final layer, at `depth`, have the first's.
  func embedder(ofNorms index: Int) -> Int { index < embedders.count ? index : 0 }

  /// The tensor of that name.
  public func parameter(named name: String) -> Parameter? { parameters.first { $0.name == name } }
}

private struct Builder {
  var parameters: [Parameter] = []
  var next = 0

  mutating func add(_ name: String, _ shape: [Int], _ initialisation: Parameter.Initialisation) -> Int {
    let parameter = Parameter(name: name, shape: shape, offset: next, initialisation: initialisation)
    next += (parameter.count + 15) & ~15
    parameters.append(parameter)
    return parameters.count - 1
  }

  mutating func linear(
    _ name: String, _ inputs: Int, _ outputs: Int, _ initialisation: Parameter.Initialisation? = nil
  ) -> ParameterTable.LinearParameters {
    let drawn = initialisation ?? .xavierUniform(fanIn: inputs, fanOut: outputs)
    return ParameterTable.LinearParameters(
      weight: add(name + ".weight", [outputs, inputs], drawn), bias: add(name + ".bias", [outputs], .zero))
  }

  /// A patch embedding, stored as a convolution's weight.
  mutating func patches(_ name: String, _ c: DiTConfiguration) -> ParameterTable.LinearParameters {
    let (d, fanIn) = (c.hiddenSize, c.inputGrid.patchElements)
    return ParameterTable.LinearParameters(
      weight: add(
        name + ".weight", [d, c.inChannels, c.patchSize, c.patchSize], .xavierUniform(fanIn: fanIn, fanOut: d)),
      bias: add(name + ".bias", [d], .zero))
  }

  mutating func embedder(_ prefix: String, _ c: DiTConfiguration) -> ParameterTable.Embedder {
    let (d, drawn) = (c.hiddenSize, Parameter.Initialisation.normal(deviation: 0.02))
    return ParameterTable.Embedder(
      time0: linear(prefix + "t_embedder.mlp.0", 256, d, drawn),
      time2: linear(prefix + "t_embedder.mlp.2", d, d, drawn),
      labels: c.labelRows > 0 ? add(prefix + "y_embedder.embedding_table.weight", [c.labelRows, d], drawn) : nil)
  }

  mutating func sequence(_ c: DiTConfiguration) -> ParameterTable.Sequence? {
    let drawn = Parameter.Initialisation.normal(deviation: 0.02)
    switch c.sequence {
    case nil: return nil
    case .text(let length):
      return ParameterTable.Sequence(
        embedding: .table(add("text_embedder.table", [256, c.hiddenSize], drawn)),
        positions: add("text_embedder.pos_embed", [1, length, c.hiddenSize], drawn))
    case .image:
      return ParameterTable.Sequence(
        embedding: .proj(patches("image_embedder.proj", c)),
        positions: add("image_embedder.pos_embed", [1, c.sequenceLength, c.hiddenSize], drawn))
    }
  }

  /// An untrained gate is sigmoid(4) = 0.982 whatever t: nearly plain attention.
  mutating func gate(_ name: String, _ c: DiTConfiguration) -> ParameterTable.MaskGate? {
    guard c.attention.hasGate else { return nil }
    let first = linear("\(name).0", c.hiddenSize, c.gateSize)
    let weight = add("\(name).2.weight", [c.numHeads, c.gateSize], .zero)
    return ParameterTable.MaskGate(
      first: first,
      second: ParameterTable.LinearParameters(weight: weight, bias: add("\(name).2.bias", [c.numHeads], .constant(4))))
  }

  mutating func norms(
    _ prefix: String, _ names: [String], _ c: DiTConfiguration, parts: Int
  ) -> ParameterTable.Norms {
    let d = c.hiddenSize
    if c.conditioning.isModulated { return .adaLN(linear(prefix + "adaLN_modulation.1", d, parts * d, .zero)) }
    return .own(
      names.map {
        ParameterTable.LinearParameters(
          weight: add("\(prefix)\($0).weight", [d], .constant(1)), bias: add("\(prefix)\($0).bias", [d], .zero))
      })
  }
}
