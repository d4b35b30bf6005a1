import DiTKernels
import DiTTensor

// The memory of a pass: parts of one arena, each reserved in one line.

/// The rows between (t, y) and the modulation: (rows, 256) or (rows, D) each.
struct ConditioningRows {
  /// `time` is E_time(t), without the class.
  let frequencies, hidden, activated, time, conditioning, activatedConditioning: Slice
  /// Of each block; empty without a mask.
  let maskGates: [MaskGateRows]

  init(_ c: DiTConfiguration, rows: Int, hasGates: Bool, _ arena: inout Arena) {
    frequencies = arena.reserve(rows * timeFrequencyCount)
    hidden = arena.reserve(rows * c.hiddenSize)
    activated = arena.reserve(rows * c.hiddenSize)
    time = arena.reserve(rows * c.hiddenSize)
    conditioning = arena.reserve(rows * c.hiddenSize)
    activatedConditioning = arena.reserve(rows * c.hiddenSize)
    maskGates = (0..<(hasGates && c.attention.hasGate ? c.depth : 0)).map { _ in MaskGateRows(c, rows: rows, &arena) }
  }

  private init(_ all: ConditioningRows, narrow: Range<Int>, wide: Range<Int>) {
    frequencies = all.frequencies[narrow]
    hidden = all.hidden[wide]
    activated = all.activated[wide]
    time = all.time[wide]
    conditioning = all.conditioning[wide]
    activatedConditioning = all.activatedConditioning[wide]
    maskGates = all.maskGates  // whose kernels are told the rows
  }

  /// The first `rows` rows.
  func prefix(_ c: DiTConfiguration, _ rows: Int) -> ConditioningRows {
    ConditioningRows(self, narrow: 0..<rows * timeFrequencyCount, wide: 0..<rows * c.hiddenSize)
  }
}

/// What a block's gate computes: the hidden layer's sums and outputs, (rows, D/4), and the gates, (rows, h).
struct MaskGateRows {
  let hidden, activated, gate: Slice

  init(_ c: DiTConfiguration, rows: Int, _ arena: inout Arena) {
    hidden = arena.reserve(rows * c.gateSize)
    activated = arena.reserve(rows * c.gateSize)
    gate = arena.reserve(rows * c.numHeads)
  }
}

/// What a block computes and, when training, saves for its backward pass.
struct BlockActivations {
  let mean1, rstd1, logsumexp, mean2, rstd2: Slice
  let qkv, attention, attentionProjected, preactivation, mlpProjected: Activation
  /// Whether a backward pass reads them.
  let isSaved: Bool

  /// For inference: the halves of the block reuse each other's memory.
  init(inference c: DiTConfiguration, samples: Int, _ precision: Precision, _ arena: inout Arena) {
    let rows = samples * c.totalTokens
    mean1 = arena.reserve(rows)
    rstd1 = arena.reserve(rows)
    logsumexp = arena.reserve(rows * c.numHeads)
    attentionProjected = arena.reserve(rows * c.hiddenSize, precision)
    var mlp = arena
    qkv = arena.reserve(rows * 3 * c.hiddenSize, precision)
    attention = arena.reserve(rows * c.hiddenSize, precision)
    preactivation = mlp.reserve(rows * c.mlpSize, precision)
    arena.skip(past: mlp)
    (mean2, rstd2, mlpProjected) = (mean1, rstd1, attentionProjected)
    isSaved = false
  }

  /// For training. With `recomputed`, the tensors that products alone give again are computed again in the backward
  /// pass, in memory that all blocks share.
  init(
    training c: DiTConfiguration, samples: Int, _ precision: Precision, recomputed: Recomputed?,
    _ arena: inout Arena
  ) {
    let rows = samples * c.totalTokens
    mean1 = arena.reserve(rows)
    rstd1 = arena.reserve(rows)
    mean2 = arena.reserve(rows)
    rstd2 = arena.reserve(rows)
    logsumexp = arena.reserve(rows * c.numHeads)
    attention = arena.reserve(rows * c.hiddenSize, precision)
    let again = recomputed ?? Recomputed(c, samples: samples, precision, &arena)
    attentionProjected = again.attentionProjected
    mlpProjected = again.mlpProjected
    qkv = again.qkv
    preactivation = again.preactivation
    isSaved = true
  }

  /// The tensors that the backward pass can compute again, with a block's four products, from its input and what attention
  /// made of it.
  struct Recomputed {
    let qkv, attentionProjected, preactivation, mlpProjected: Activation

    init(_ c: DiTConfiguration, samples: Int, _ precision: Precision, _ arena: inout Arena) {
      qkv = arena.reserve(samples * c.totalTokens * 3 * c.hiddenSize, precision)
      preactivation = arena.reserve(samples * c.totalTokens * c.mlpSize, precision)
      attentionProjected = arena.reserve(samples * c.totalTokens * c.hiddenSize, precision)
      mlpProjected = arena.reserve(samples * c.totalTokens * c.hiddenSize, precision)
    }
  }
}

/// Elements that depend on the machine and on how the network computes, rather than on its sizes alone.
private struct ScratchSizes {
  var attention = 0
  /// One packed layer; none where the network's weights are packed once.
  var packing = 0
  /// The packed operands of one weight gradient.
  var gradient = 0

  /// None: what is left is a function of the configuration.
  init() {}

  init(inference network: DiTNetwork, samples: Int) {
    let precision = network.numerics.precision
    attention = network.context.attentionScratch(
      network.configuration, samples: samples, precision, isPacked: network.isPacked, backward: false)
    packing = network.packsPerCall ? network.weights.table.largestPackedLayer(precision) : 0
  }

  init(training network: DiTNetwork, samples: Int) {
    let (c, precision, isPacked) = (network.configuration, network.numerics.precision, network.isPacked)
    attention = [false, true].reduce(0) {
      max(
        $0,
        network.context.attentionScratch(c, samples: samples, precision, isPacked: isPacked, backward: $1))
    }
    guard isPacked else { return }
    packing = network.weights.table.largestPackedLayer(precision)
    gradient = network.weights.table.largestGradientScratch(rows: samples * c.totalTokens, precision)
  }
}

/// The memory of one forward pass: one arena for up to `samples` images. One caller at a time.
public final class InferenceWorkspace: Sendable {
  public let configuration: DiTConfiguration
  public let numerics: Numerics
  /// The largest batch.
  public let samples: Int
  /// Bytes of the arena.
  public let byteCount: Int

  let patches, tokens, h, scratch: Slice
  /// A packed layer; empty where the network's weights are packed once.
  let packing: Slice
  let activations: BlockActivations

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
    let (rows, precision) = (samples * c.totalTokens, numerics.precision)
    configuration = c
    self.numerics = numerics
    self.samples = samples
    patches = arena.reserve(samples * c.tokens * max(c.inputGrid.patchElements, c.outputGrid.patchElements))
    tokens = arena.reserve(rows * c.hiddenSize)
    h = arena.reserve(rows * c.hiddenSize)
    scratch = arena.reserve(sizes.attention)
    packing = arena.reserve(sizes.packing)
    activations = BlockActivations(inference: c, samples: samples, precision, &arena)
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
public final class TrainingWorkspace: Sendable {
  public let configuration: DiTConfiguration
  public let numerics: Numerics
  /// Whether the backward pass computes the widest activations again instead of reading them.
  public let recomputes: Bool
  /// The largest batch.
  public let samples: Int
  /// Bytes of the arena.
  public let byteCount: Int

  /// Of each embedder; the first has the gates' rows too.
  let conditioning: [ConditioningRows]
  let modulation, modulationGradient: Slice
  let patches, h, finalMean, finalRstd, scratch, reduction: Slice
  /// tokens[i] enters block i, afterAttention[i] is between its halves; tokens[depth] leaves the last. Where the latter is
  /// computed again, all blocks share one.
  let tokens, afterAttention: [Slice]
  let blocks: [BlockActivations]
  let tokenGradient, outputGradient, hGradient, hidden: Slice
  /// Of the widest products: the MLP's pre-activation, or q, k and v.
  let projectionGradient: Slice
  /// (rows, D) each, on the way back from the modulation to (t, y).
  let conditionGradient, conditionGradient2: Slice
  /// Where products run over packed operands: one packed layer, and the packed operands of one weight gradient.
  let packing, gradientScratch: Slice
  /// The conditioning sequence's tokens, then their gradients; the patches of its images.
  let sequence, sequencePatches: Slice

  /// Memory for steps of `network` over at most `samples` images.
  ///
  /// - Parameter recomputes: keeps a block's input and attention's output, a fifth of the activations; the backward pass
  ///   computes the rest again, attention itself not.
  public convenience init(_ network: DiTNetwork, samples: Int, recomputes: Bool = false) {
    precondition(samples > 0, "a workspace for \(samples) samples")
    let (c, numerics) = (network.configuration, network.numerics)
    let scratch = ScratchSizes(training: network, samples: samples)
    var plan = Arena()
    _ = TrainingWorkspace(c, numerics, samples, recomputes, scratch, &plan)
    var arena = Arena(count: plan.count)
    self.init(c, numerics, samples, recomputes, scratch, &arena)
  }

  private init(
    _ c: DiTConfiguration, _ numerics: Numerics, _ samples: Int, _ recomputes: Bool, _ sizes: ScratchSizes,
    _ arena: inout Arena
  ) {
    let (rows, precision) = (samples * c.totalTokens, numerics.precision)
    configuration = c
    self.numerics = numerics
    self.recomputes = recomputes
    self.samples = samples
    conditioning = (0..<c.embedderCount).map { ConditioningRows(c, rows: samples, hasGates: $0 == 0, &arena) }
    modulation = arena.reserve(Modulation.elements(c, rows: samples))
    modulationGradient = arena.reserve(Modulation.gradientElements(c, rows: samples))
    patches = arena.reserve(samples * c.tokens * max(c.inputGrid.patchElements, c.outputGrid.patchElements))
    h = arena.reserve(rows * c.hiddenSize)
    finalMean = arena.reserve(rows)
    finalRstd = arena.reserve(rows)
    scratch = arena.reserve(sizes.attention)
    reduction = arena.reserve(
      ComputeContext.rowReductionScratch(samples: samples, tokens: c.totalTokens, width: c.hiddenSize))
    packing = arena.reserve(sizes.packing)
    gradientScratch = arena.reserve(sizes.gradient)
    sequence = arena.reserve(samples * c.sequenceLength * c.hiddenSize)
    var sequenceElements = 0
    if case .image = c.sequence { sequenceElements = samples * c.sequenceGrid.elements }
    sequencePatches = arena.reserve(sequenceElements)
    tokens = (0...c.depth).map { _ in arena.reserve(rows * c.hiddenSize) }
    let sums = (0..<(recomputes ? 1 : c.depth)).map { _ in arena.reserve(rows * c.hiddenSize) }
    afterAttention = (0..<c.depth).map { sums[recomputes ? 0 : $0] }
    let shared = recomputes ? BlockActivations.Recomputed(c, samples: samples, precision, &arena) : nil
    blocks = (0..<c.depth).map { _ in
      BlockActivations(training: c, samples: samples, precision, recomputed: shared, &arena)
    }
    tokenGradient = arena.reserve(rows * c.hiddenSize)
    outputGradient = arena.reserve(rows * c.hiddenSize)
    hGradient = arena.reserve(rows * c.hiddenSize)
    let wide = Activation.floats(rows * max(c.mlpSize, 3 * c.hiddenSize), precision)
    hidden = arena.reserve(wide)
    projectionGradient = arena.reserve(wide)
    conditionGradient = arena.reserve(samples * c.hiddenSize)
    conditionGradient2 = arena.reserve(samples * c.hiddenSize)
    byteCount = arena.count * MemoryLayout<Float>.stride
  }

  /// Elements for so many images in float32, as far as they depend on the configuration alone.
  package static func elements(_ configuration: DiTConfiguration, samples: Int) -> Int {
    var plan = Arena()
    _ = TrainingWorkspace(configuration, Numerics(), samples, false, ScratchSizes(), &plan)
    return plan.count
  }
}
