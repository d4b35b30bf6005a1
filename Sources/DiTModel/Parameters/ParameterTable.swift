/// The ordered list of a network's tensors. Weights, gradients, moments and averages are flat buffers that share its
/// offsets, so zeroing, AdamW, EMA, the gradient norm and checkpoint IO are one loop each.
public struct ParameterTable: Equatable, Sendable {
  public let parameters: [Parameter]
  /// Elements of a flat buffer, padding between tensors included.
  public let elementCount: Int
  /// The parts of a flat buffer that training changes, in order, neighbors joined; their padding stays zero.
  public let trainable: [Range<Int>]

  // The parts of the network, in the order of their tensors.
  let patchEmbedding: PatchEmbedding
  let conditioning: ConditionEmbedding
  let conditionTokens: ConditionTokens
  let sequence: SequenceEmbedding?
  let blocks: [Block]
  let finalLayer: FinalLayer
  /// Where each block begins in a flat buffer, then the final layer.
  let starts: [Int]

  /// The table of the published names for a configuration.
  public init(_ configuration: DiTConfiguration) {
    let c = configuration
    var builder = ParameterBuilder()
    patchEmbedding = PatchEmbedding(c, &builder)
    var embedders = c.embedders == .shared ? ConditionEmbedding.shared(c, &builder) : []
    conditionTokens = ConditionTokens(c, positions: patchEmbedding.positions, &builder)
    sequence = SequenceEmbedding(c, &builder)
    var starts: [Int] = []
    blocks = (0..<c.depth).map { index in
      starts.append(builder.next)
      if c.embedders == .perBlock { embedders.append(Embedder("blocks.\(index).", c, &builder)) }
      return Block("blocks.\(index).", c, &builder)
    }
    conditioning = ConditionEmbedding(embedders: embedders)
    starts.append(builder.next)
    finalLayer = FinalLayer(c, &builder)
    self.starts = starts
    parameters = builder.parameters
    elementCount = builder.next
    trainable = builder.trainable
  }

  /// The parts follow from the tensors' names.
  public static func == (a: ParameterTable, b: ParameterTable) -> Bool {
    a.parameters == b.parameters
  }

  /// Scalars in all tensors, the position table included.
  public var parameterCount: Int { parameters.reduce(0) { $0 + $1.count } }
  /// Scalars that training changes.
  public var trainableCount: Int { trainableParameters.reduce(0) { $0 + $1.count } }
  /// The tensors that training changes.
  public var trainableParameters: [Parameter] { parameters.filter(\.isTrained) }

  /// Where the norms of block `index` take shift and scale from; of the final layer at `depth`.
  func modulation(_ index: Int) -> NormModulation {
    index == blocks.count ? finalLayer.modulation : blocks[index].modulation
  }

  /// The tensor of that name.
  public func parameter(named name: String) -> Parameter? { parameters.first { $0.name == name } }
}
