/// One tensor of the network: its published state-dict name, shape, and place in every flat buffer.
public struct Parameter: Equatable, Sendable {
  /// How a new network's values are drawn.
  public enum Initialisation: Equatable, Sendable {
    case zero
    /// U(−a, a), a = √(6 / (fanIn + fanOut)).
    case xavierUniform(fanIn: Int, fanOut: Int)
    /// N(0, deviation²).
    case normal(deviation: Float)
    /// The fixed 2-D position table.
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
/// The position table is first and is not trained; everything from `trainable.lowerBound` on is.
public struct ParameterTable: Equatable, Sendable {
  /// A linear layer's two tensors, by index.
  struct Affine: Equatable, Sendable {
    let weight, bias: Int
  }

  /// A block's tensors, by index.
  struct Block: Equatable, Sendable {
    let qkv, proj, fc1, fc2, adaLN: Affine
  }

  public private(set) var parameters: [Parameter] = []
  /// Elements of a flat buffer, padding between tensors included.
  public private(set) var elementCount = 0
  /// The part of a flat buffer that training changes; its padding stays zero.
  public let trainable: Range<Int>

  let positions: Int
  let patchEmbedding, time0, time2: Affine
  let labels: Int?
  let blocks: [Block]
  let finalAdaLN, finalLinear: Affine

  /// The table of the published names for a configuration.
  public init(_ configuration: DiTConfiguration) {
    let c = configuration
    let (d, patch) = (c.hiddenSize, c.inputGrid.patchElements)
    var builder = Builder()
    positions = builder.add("pos_embed", [1, c.tokens, d], .sinCosPositions)
    let firstTrainable = builder.next
    patchEmbedding = Affine(
      weight: builder.add(
        "x_embedder.proj.weight", [d, c.inChannels, c.patchSize, c.patchSize], .xavierUniform(fanIn: patch, fanOut: d)),
      bias: builder.add("x_embedder.proj.bias", [d], .zero))
    time0 = builder.linear("t_embedder.mlp.0", 256, d, .normal(deviation: 0.02))
    time2 = builder.linear("t_embedder.mlp.2", d, d, .normal(deviation: 0.02))
    labels =
      c.labelRows > 0
      ? builder.add("y_embedder.embedding_table.weight", [c.labelRows, d], .normal(deviation: 0.02)) : nil
    var blocks: [Block] = []
    for i in 0..<c.depth {
      blocks.append(
        Block(
          qkv: builder.linear("blocks.\(i).attn.qkv", d, 3 * d),
          proj: builder.linear("blocks.\(i).attn.proj", d, d),
          fc1: builder.linear("blocks.\(i).mlp.fc1", d, c.mlpSize),
          fc2: builder.linear("blocks.\(i).mlp.fc2", c.mlpSize, d),
          adaLN: builder.linear("blocks.\(i).adaLN_modulation.1", d, 6 * d, .zero)))
    }
    self.blocks = blocks
    finalLinear = builder.linear("final_layer.linear", d, c.outputGrid.patchElements, .zero)
    finalAdaLN = builder.linear("final_layer.adaLN_modulation.1", d, 2 * d, .zero)
    parameters = builder.parameters
    elementCount = builder.next
    trainable = firstTrainable..<builder.next
  }

  /// Scalars in all tensors, the position table included.
  public var parameterCount: Int { parameters.reduce(0) { $0 + $1.count } }
  /// Scalars that training changes.
  public var trainableCount: Int { parameterCount - parameters[positions].count }
  /// The tensors that training changes.
  public var trainableParameters: [Parameter] { parameters.filter { $0.offset >= trainable.lowerBound } }

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
  ) -> ParameterTable.Affine {
    let drawn = initialisation ?? .xavierUniform(fanIn: inputs, fanOut: outputs)
    return ParameterTable.Affine(
      weight: add(name + ".weight", [outputs, inputs], drawn), bias: add(name + ".bias", [outputs], .zero))
  }
}
