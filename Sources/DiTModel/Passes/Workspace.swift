import DiTKernels
import DiTTensor

// The memory of a pass: parts of one arena, each reserved in one line.

/// The rows between (t, y) and the modulation: (rows, 256) or (rows, D) each.
struct ConditioningRows {
  /// `time` is E_time(t), without the class.
  let frequencies, hidden, activated, time, conditioning, activatedConditioning: MutableMatrix
  /// Of each block; empty without a mask.
  let maskGates: [MaskGate.Memory]

  init(_ c: DiTConfiguration, rows: Int, hasGates: Bool, _ arena: inout Arena) {
    frequencies = arena.reserve(rows: rows, columns: timeFrequencyCount)
    hidden = arena.reserve(rows: rows, columns: c.hiddenSize)
    activated = arena.reserve(rows: rows, columns: c.hiddenSize)
    time = arena.reserve(rows: rows, columns: c.hiddenSize)
    conditioning = arena.reserve(rows: rows, columns: c.hiddenSize)
    activatedConditioning = arena.reserve(rows: rows, columns: c.hiddenSize)
    maskGates = (0..<(hasGates && c.attention.hasGate ? c.depth : 0)).map { _ in MaskGate.Memory(c, rows: rows, &arena)
    }
  }

  private init(_ all: ConditioningRows, rows: Int) {
    frequencies = all.frequencies.prefix(rows)
    hidden = all.hidden.prefix(rows)
    activated = all.activated.prefix(rows)
    time = all.time.prefix(rows)
    conditioning = all.conditioning.prefix(rows)
    activatedConditioning = all.activatedConditioning.prefix(rows)
    maskGates = all.maskGates  // whose kernels are told the rows
  }

  /// The first `rows` rows.
  func prefix(_ rows: Int) -> ConditioningRows { ConditioningRows(self, rows: rows) }
}

extension Block.Memory {
  /// For inference: every block works in the same memory, and its halves in each other's.
  ///
  /// - Parameter hidden: the feed-forward part's hidden layer, which lies where attention's memory was.
  init(
    inference c: DiTConfiguration, rows: Int, tokens: MutableMatrix, _ format: Format, isPacked: Bool,
    hidden: inout MutableMatrix?, _ arena: inout Arena
  ) {
    let norm = Norm.Memory(c, rows: rows, &arena)
    let logsumexp = arena.reserve(rows * c.numHeads)
    let projected = arena.reserve(rows: rows, columns: c.hiddenSize, format)
    var mlp = arena
    let qkv = arena.reserve(rows: rows, columns: 3 * c.hiddenSize, format)
    let attended = arena.reserve(rows: rows, columns: c.hiddenSize, format)
    let inner = mlp.reserve(rows: rows, columns: c.mlpSize, format)
    let needsSums = c.mlp.part.needsSums(of: c, isPacked: isPacked)
    let sums = needsSums ? mlp.reserve(rows: rows, columns: c.feedForwardSums, format) : inner
    arena.skip(past: mlp)
    hidden = inner
    (x, y, z, norm1, norm2) = (tokens, tokens, tokens, norm, norm)
    attention = Attention.Memory(qkv: qkv, attended: attended, projected: projected, logsumexp: logsumexp)
    feedForward = FeedForwardMemory(preactivation: sums, projected: projected)
  }

  /// For training. With `recomputed`, the tensors that products alone give again are computed again in the backward
  /// pass, in memory that all blocks share.
  init(
    training c: DiTConfiguration, rows: Int, x: MutableMatrix, y: MutableMatrix, z: MutableMatrix, _ format: Format,
    recomputed: Recomputed?, _ arena: inout Arena
  ) {
    (self.x, self.y, self.z) = (x, y, z)
    norm1 = Norm.Memory(c, rows: rows, &arena)
    norm2 = Norm.Memory(c, rows: rows, &arena)
    let logsumexp = arena.reserve(rows * c.numHeads)
    let attended = arena.reserve(rows: rows, columns: c.hiddenSize, format)
    let again = recomputed ?? Recomputed(c, rows: rows, format, &arena)
    attention = Attention.Memory(
      qkv: again.qkv, attended: attended, projected: again.attentionProjected, logsumexp: logsumexp)
    feedForward = FeedForwardMemory(preactivation: again.preactivation, projected: again.mlpProjected)
  }

  /// The tensors that the backward pass can compute again, with a block's four products, from its input and what attention
  /// made of it.
  struct Recomputed {
    let qkv, attentionProjected, preactivation, mlpProjected: MutableMatrix

    init(_ c: DiTConfiguration, rows: Int, _ format: Format, _ arena: inout Arena) {
      qkv = arena.reserve(rows: rows, columns: 3 * c.hiddenSize, format)
      preactivation = arena.reserve(rows: rows, columns: c.feedForwardSums, format)
      attentionProjected = arena.reserve(rows: rows, columns: c.hiddenSize, format)
      mlpProjected = arena.reserve(rows: rows, columns: c.hiddenSize, format)
    }
  }
}

extension DiTConfiguration {
  /// Elements of a token's patch, of the input or the output, whichever has more.
  fileprivate var patchRows: Int { max(inputGrid.patchElements, outputGrid.patchElements) }
  /// What the feed-forward part keeps of a token before its activation.
  fileprivate var feedForwardSums: Int { mlp.part.sums(of: self) }
}

/// Elements that depend on the machine and on how the network computes, rather than on its sizes alone.
private struct ScratchSizes {
  var attention = 0
  /// One packed layer; none where the network's weights are packed once.
  var packing = 0
  /// The packed operands of one weight gradient.
  var gradient = 0
  /// Whether products run over packed operands.
  var isPacked = true
  /// The gradients of the weights of q's and k's norms.
  var heads = 0

  /// None: what is left is a function of the configuration, the larger one where the way products are run decides.
  init() { isPacked = false }

  init(inference network: DiTNetwork, samples: Int) {
    let format = network.numerics.precision.format
    attention = TokenExtents(network.configuration, samples: samples)
      .attentionScratch(network.context, format, isPacked: network.isPacked, backward: false)
    packing = network.packsPerCall ? network.weights.largestPackedLayer(network.numerics.precision) : 0
    isPacked = network.isPacked
  }

  init(training network: DiTNetwork, samples: Int) {
    let (c, format, isPacked) = (network.configuration, network.numerics.precision.format, network.isPacked)
    let extents = TokenExtents(c, samples: samples)
    attention = max(
      extents.attentionScratch(network.context, format, isPacked: isPacked, backward: false),
      extents.attentionScratch(network.context, format, isPacked: isPacked, backward: true))
    self.isPacked = isPacked
    heads = c.qkNorm ? ComputeContext.prepareHeadsScratch(extents.attention) : 0
    guard isPacked else { return }
    packing = network.weights.largestPackedLayer(network.numerics.precision)
    gradient = network.weights.largestGradientScratch(
      rows: samples * c.totalTokens, network.numerics.precision)
  }
}

/// The memory of one forward pass: one arena for up to `samples` images. One caller at a time.
public final class InferenceWorkspace {
  public let configuration: DiTConfiguration
  public let numerics: Numerics
  /// The largest batch.
  public let samples: Int
  /// Bytes of the arena.
  public let byteCount: Int

  let memory: PassMemory
  /// Of each block.
  let blocks: [Block.Memory]
  /// A packed layer; empty where the network's weights are packed once.
  let packing: MutableFloatSlice

  /// Memory for passes of `network` over at most `samples` images.
  public convenience init(_ network: DiTNetwork, samples: Int) {
    precondition(samples > 0, "a workspace for \(samples) samples")
    let (c, numerics) = (network.configuration, network.numerics)
    let scratch = ScratchSizes(inference: network, samples: samples)
    var plan = Arena()
    _ = InferenceWorkspace(c, numerics, samples, scratch, &plan)
    var arena = Arena(count: plan.count)
    self.init(c, numerics, samples, scratch, &arena)
  }

  private init(
    _ c: DiTConfiguration, _ numerics: Numerics, _ samples: Int, _ sizes: ScratchSizes, _ arena: inout Arena
  ) {
    let (rows, format) = (samples * c.totalTokens, numerics.precision.format)
    configuration = c
    self.numerics = numerics
    self.samples = samples
    let patches = arena.reserve(samples * c.tokens * c.patchRows)
    let tokens = arena.reserve(rows: rows, columns: c.hiddenSize)
    let codes = numerics.precision.weightFormat == .int8 ? max(c.hiddenSize, c.mlpSize) : 0
    let entry = arena.reserve(
      max(Format.fp32.floats(rows: rows, columns: c.hiddenSize), Format.int8.floats(rows: rows, columns: codes)))
    let h = arena.matrix(in: entry, rows: rows, columns: c.hiddenSize)
    let scratch = arena.reserve(sizes.attention)
    packing = arena.reserve(sizes.packing)
    let bottleneck = arena.reserve(rows: samples * c.tokens, columns: c.patchBottleneck ?? 0)
    var hidden: MutableMatrix?
    let block = Block.Memory(
      inference: c, rows: rows, tokens: tokens, format, isPacked: sizes.isPacked, hidden: &hidden, &arena)
    blocks = [Block.Memory](repeating: block, count: c.depth)
    memory = PassMemory(
      patches: patches, scratch: scratch, h: h.reused(as: format), finalH: h, codes: entry, hidden: hidden!,
      preparedHeads: block.attention.qkv, bottleneck: bottleneck)
    byteCount = arena.count * MemoryLayout<Float>.stride
  }

  /// Elements for so many images in float32, as far as they depend on the configuration alone.
  package static func elements(_ configuration: DiTConfiguration, samples: Int) -> Int {
    var plan = Arena()
    _ = InferenceWorkspace(configuration, Numerics(), samples, ScratchSizes(), &plan)
    return plan.count
  }
}

/// The memory of one training step of up to `samples` images: what the forward pass saves, and the gradients that flow
/// back. One arena.
public final class TrainingWorkspace {
  public let configuration: DiTConfiguration
  public let numerics: Numerics
  /// Whether the backward pass computes the widest activations again instead of reading them.
  public let recomputes: Bool
  /// Whether forward passes may drop elements.
  public let drops: Bool
  /// The largest batch.
  public let samples: Int
  /// Bytes of the arena.
  public let byteCount: Int

  /// Whether a forward pass has left what a backward pass reads, and uses up.
  var holdsForward = false

  /// Of each embedder; the first has the gates' rows too.
  let conditioning: [ConditioningRows]
  let modulation, modulationGradient: MutableFloatSlice
  let patches, scratch, reduction: MutableFloatSlice
  let finalNorm: Norm.Memory
  /// What the parts of a pass use in turn. The hidden layer lies, over packed operands, in the memory of
  /// ``gradientScratch``, which no forward pass uses.
  let memory: PassMemory
  /// Each block's z is the next one's x. Where y is computed again, all blocks share one.
  let blocks: [Block.Memory]
  /// Of the residual stream, float32.
  let tokenGradient: MutableMatrix
  /// (rows, D): what enters a product, and the gradient of what leaves one. The same memory, unless the backward pass needs
  /// both: it makes h anew when the gradient has been used.
  let h, outputGradient: MutableMatrix
  /// (rows, D), the gradient of what enters a product. Over packed operands in the memory of ``gradientScratch``, which is
  /// free whenever it is written, until it has been read.
  let hGradient: MutableMatrix
  /// Of q, k and v; by OpenBLAS also of the MLP's pre-activation, whose own memory takes it else.
  let projectionGradient: MutableFloatSlice
  /// (rows, D) each, on the way back from the modulation to (t, y).
  let conditionGradient, conditionGradient2: MutableMatrix
  /// Sums of the gradients of the weights of q's and k's norms.
  let headsScratch: MutableFloatSlice
  /// Between the maps of a bottleneck patch embedding, and its gradient.
  let bottleneck, bottleneckGradient: MutableMatrix
  /// Where products run over packed operands: one packed layer, and the packed operands of one weight gradient.
  let packing: MutableFloatSlice
  package let gradientScratch: MutableFloatSlice
  /// The conditioning sequence's tokens, then their gradients; the patches of its images.
  let sequence, sequencePatches: MutableFloatSlice

  /// Memory for steps of `network` over at most `samples` images.
  ///
  /// - Parameters:
  ///   - network: whose steps they are.
  ///   - samples: the most of one step.
  ///   - recomputes: keeps a block's input and attention's output, a fifth of the activations; the backward pass computes
  ///     the rest again, attention itself not.
  ///   - drops: whether forward passes have ``Dropout``.
  public convenience init(_ network: DiTNetwork, samples: Int, recomputes: Bool = false, drops: Bool = false) {
    precondition(network.numerics.precision.isForTraining, "training in \(network.numerics.precision)")
    precondition(samples > 0, "a workspace for \(samples) samples")
    let (c, numerics) = (network.configuration, network.numerics)
    let scratch = ScratchSizes(training: network, samples: samples)
    var plan = Arena()
    _ = TrainingWorkspace(c, numerics, samples, recomputes, drops, scratch, &plan)
    var arena = Arena(count: plan.count)
    self.init(c, numerics, samples, recomputes, drops, scratch, &arena)
  }

  private init(
    _ c: DiTConfiguration, _ numerics: Numerics, _ samples: Int, _ recomputes: Bool, _ drops: Bool,
    _ sizes: ScratchSizes, _ arena: inout Arena
  ) {
    let (rows, d, format) = (samples * c.totalTokens, c.hiddenSize, numerics.precision.format)
    configuration = c
    self.numerics = numerics
    self.recomputes = recomputes
    self.drops = drops
    self.samples = samples
    conditioning = (0..<c.embedderCount).map { ConditioningRows(c, rows: samples, hasGates: $0 == 0, &arena) }
    modulation = arena.reserve(Modulation.elements(c, rows: samples))
    modulationGradient = arena.reserve(Modulation.gradientElements(c, rows: samples))
    patches = arena.reserve(samples * c.tokens * c.patchRows)
    finalNorm = Norm.Memory(c, rows: rows, &arena)
    scratch = arena.reserve(sizes.attention)
    reduction = arena.reserve(
      ComputeContext.rowReductionScratch(samples: samples, tokens: c.totalTokens, width: d))
    headsScratch = arena.reserve(sizes.heads)
    packing = arena.reserve(sizes.packing)
    gradientScratch = arena.reserve(sizes.gradient)
    sequence = arena.reserve(samples * c.sequenceLength * d)
    var sequenceElements = 0
    if case .image = c.sequence { sequenceElements = samples * c.sequenceGrid.elements }
    sequencePatches = arena.reserve(sequenceElements)
    let stream = (0...c.depth).map { _ in arena.reserve(rows: rows, columns: d) }
    let middle = (0..<(recomputes ? 1 : c.depth)).map { _ in arena.reserve(rows: rows, columns: d) }
    let shared = recomputes ? Block.Memory.Recomputed(c, rows: rows, format, &arena) : nil
    blocks = (0..<c.depth).map { index in
      Block.Memory(
        training: c, rows: rows, x: stream[index], y: middle[recomputes ? 0 : index], z: stream[index + 1], format,
        recomputed: shared, &arena)
    }
    tokenGradient = arena.reserve(rows: rows, columns: d)
    // Recomputing writes a residual stream there, in float32, and reads h.
    outputGradient = arena.reserve(rows: rows, columns: d, recomputes ? .fp32 : format)
    h = recomputes ? arena.reserve(rows: rows, columns: d, format) : outputGradient
    let hidden: MutableMatrix
    if sizes.gradient > 0 {
      // What is dropped of the hidden layer is dropped before the weight gradient packs it.
      hidden =
        drops
        ? arena.reserve(rows: rows, columns: c.mlpSize, format)
        : arena.matrix(in: gradientScratch, rows: rows, columns: c.mlpSize, format)
      hGradient = arena.matrix(in: gradientScratch, rows: rows, columns: d)
      projectionGradient = arena.reserve(format.floats(holding: rows * 3 * d))
    } else {
      hidden = arena.reserve(rows: rows, columns: c.mlpSize, format)
      hGradient = arena.reserve(rows: rows, columns: d)
      projectionGradient = arena.reserve(format.floats(holding: rows * max(c.feedForwardSums, 3 * d)))
    }
    let prepared = arena.reserve(rows: c.qkNorm ? rows : 0, columns: 3 * d, format)
    bottleneck = arena.reserve(rows: samples * c.tokens, columns: c.patchBottleneck ?? 0)
    bottleneckGradient = arena.reserve(rows: samples * c.tokens, columns: c.patchBottleneck ?? 0)
    conditionGradient = arena.reserve(rows: samples, columns: d)
    conditionGradient2 = arena.reserve(rows: samples, columns: d)
    memory = PassMemory(
      patches: patches, scratch: scratch, h: h,
      finalH: arena.matrix(in: projectionGradient, rows: rows, columns: d), codes: .empty, hidden: hidden,
      preparedHeads: prepared,
      bottleneck: bottleneck)
    byteCount = arena.count * MemoryLayout<Float>.stride
  }

  /// Elements for so many images in float32, as far as they depend on the configuration alone.
  package static func elements(_ configuration: DiTConfiguration, samples: Int) -> Int {
    var plan = Arena()
    _ = TrainingWorkspace(configuration, Numerics(), samples, false, false, ScratchSizes(), &plan)
    return plan.count
  }
}
