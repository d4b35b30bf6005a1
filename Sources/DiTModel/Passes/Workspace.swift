import DiTKernels
import DiTTensor

// The memory of a pass: parts of one arena, each reserved in one line.

/// The rows between (t, y) and the modulation: (rows, 256) or (rows, D) each.
struct ConditioningRows {
  /// `time` is E_time(t), without the class.
  let frequencies, hidden, activated, time, conditioning, activatedConditioning: MutableMatrix
  /// Of each block; empty without a mask.
  let maskGates: [MaskGateRows]

  init(_ c: DiTConfiguration, rows: Int, hasGates: Bool, _ arena: inout Arena) {
    frequencies = arena.reserve(rows: rows, columns: timeFrequencyCount)
    hidden = arena.reserve(rows: rows, columns: c.hiddenSize)
    activated = arena.reserve(rows: rows, columns: c.hiddenSize)
    time = arena.reserve(rows: rows, columns: c.hiddenSize)
    conditioning = arena.reserve(rows: rows, columns: c.hiddenSize)
    activatedConditioning = arena.reserve(rows: rows, columns: c.hiddenSize)
    maskGates = (0..<(hasGates && c.attention.hasGate ? c.depth : 0)).map { _ in MaskGateRows(c, rows: rows, &arena) }
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

/// What a block's gate computes: the hidden layer's sums and outputs, (rows, D/4), and the gates, (rows, h).
struct MaskGateRows {
  let hidden, activated, gate: MutableMatrix

  init(_ c: DiTConfiguration, rows: Int, _ arena: inout Arena) {
    hidden = arena.reserve(rows: rows, columns: c.gateSize)
    activated = arena.reserve(rows: rows, columns: c.gateSize)
    gate = arena.reserve(rows: rows, columns: c.numHeads)
  }
}

/// What a block computes and, when training, saves for its backward pass.
struct BlockActivations {
  let mean1, rstd1, logsumexp, mean2, rstd2: MutableFloatSlice
  let qkv, attention, attentionProjected, preactivation, mlpProjected: MutableMatrix
  /// Whether a backward pass reads them.
  let isSaved: Bool

  /// For inference: the halves of the block reuse each other's memory.
  init(inference c: DiTConfiguration, samples: Int, _ format: Format, _ arena: inout Arena) {
    let rows = samples * c.totalTokens
    mean1 = arena.reserve(rows)
    rstd1 = arena.reserve(rows)
    logsumexp = arena.reserve(rows * c.numHeads)
    attentionProjected = arena.reserve(rows: rows, columns: c.hiddenSize, format)
    var mlp = arena
    qkv = arena.reserve(rows: rows, columns: 3 * c.hiddenSize, format)
    attention = arena.reserve(rows: rows, columns: c.hiddenSize, format)
    preactivation = mlp.reserve(rows: rows, columns: c.mlpSize, format)
    arena.skip(past: mlp)
    (mean2, rstd2, mlpProjected) = (mean1, rstd1, attentionProjected)
    isSaved = false
  }

  /// For training. With `recomputed`, the tensors that products alone give again are computed again in the backward
  /// pass, in memory that all blocks share.
  init(
    training c: DiTConfiguration, samples: Int, _ format: Format, recomputed: Recomputed?,
    _ arena: inout Arena
  ) {
    let rows = samples * c.totalTokens
    mean1 = arena.reserve(rows)
    rstd1 = arena.reserve(rows)
    mean2 = arena.reserve(rows)
    rstd2 = arena.reserve(rows)
    logsumexp = arena.reserve(rows * c.numHeads)
    attention = arena.reserve(rows: rows, columns: c.hiddenSize, format)
    let again = recomputed ?? Recomputed(c, samples: samples, format, &arena)
    attentionProjected = again.attentionProjected
    mlpProjected = again.mlpProjected
    qkv = again.qkv
    preactivation = again.preactivation
    isSaved = true
  }

  /// The tensors that the backward pass can compute again, with a block's four products, from its input and what attention
  /// made of it.
  struct Recomputed {
    let qkv, attentionProjected, preactivation, mlpProjected: MutableMatrix

    init(_ c: DiTConfiguration, samples: Int, _ format: Format, _ arena: inout Arena) {
      let rows = samples * c.totalTokens
      qkv = arena.reserve(rows: rows, columns: 3 * c.hiddenSize, format)
      preactivation = arena.reserve(rows: rows, columns: c.mlpSize, format)
      attentionProjected = arena.reserve(rows: rows, columns: c.hiddenSize, format)
      mlpProjected = arena.reserve(rows: rows, columns: c.hiddenSize, format)
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
    let format = network.numerics.precision.format
    attention = TokenExtents(network.configuration, samples: samples)
      .attentionScratch(network.context, format, isPacked: network.isPacked, backward: false)
    packing = network.packsPerCall ? network.weights.table.largestPackedLayer(format) : 0
  }

  init(training network: DiTNetwork, samples: Int) {
    let (c, format, isPacked) = (network.configuration, network.numerics.precision.format, network.isPacked)
    let extents = TokenExtents(c, samples: samples)
    attention = max(
      extents.attentionScratch(network.context, format, isPacked: isPacked, backward: false),
      extents.attentionScratch(network.context, format, isPacked: isPacked, backward: true))
    guard isPacked else { return }
    packing = network.weights.table.largestPackedLayer(format)
    gradient = network.weights.table.largestGradientScratch(rows: samples * c.totalTokens, format)
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

  let patches, scratch: MutableFloatSlice
  /// The residual stream, (rows, D); and memory for what enters the next product, of any format.
  let tokens, h: MutableMatrix
  /// A packed layer; empty where the network's weights are packed once.
  let packing: MutableFloatSlice
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
    let (rows, format) = (samples * c.totalTokens, numerics.precision.format)
    configuration = c
    self.numerics = numerics
    self.samples = samples
    patches = arena.reserve(samples * c.tokens * max(c.inputGrid.patchElements, c.outputGrid.patchElements))
    tokens = arena.reserve(rows: rows, columns: c.hiddenSize)
    h = arena.reserve(rows: rows, columns: c.hiddenSize)
    scratch = arena.reserve(sizes.attention)
    packing = arena.reserve(sizes.packing)
    activations = BlockActivations(inference: c, samples: samples, format, &arena)
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
  /// The largest batch.
  public let samples: Int
  /// Bytes of the arena.
  public let byteCount: Int

  /// Whether a forward pass has left what a backward pass reads, and uses up.
  var holdsForward = false

  /// Of each embedder; the first has the gates' rows too.
  let conditioning: [ConditioningRows]
  let modulation, modulationGradient: MutableFloatSlice
  let patches, finalMean, finalRstd, scratch, reduction: MutableFloatSlice
  /// What enters the final layer, (rows, D), float32.
  let finalH: MutableMatrix
  /// tokens[i] enters block i, afterAttention[i] is between its halves; tokens[depth] leaves the last. Where the latter is
  /// computed again, all blocks share one.
  let tokens, afterAttention: [MutableMatrix]
  let blocks: [BlockActivations]
  /// Of the residual stream, float32.
  let tokenGradient: MutableMatrix
  /// (rows, D): what enters a product, and the gradient of what leaves one. The same memory, unless the backward pass needs
  /// both: it makes h anew when the gradient has been used.
  let h, outputGradient: MutableMatrix
  /// (rows, D), the gradient of what enters a product. Over packed operands in the memory of ``gradientScratch``, which is
  /// free whenever it is written, until it has been read.
  let hGradient: MutableMatrix
  /// The MLP's hidden layer, of the products' format. Over packed operands in the memory of ``gradientScratch``, which no
  /// forward pass uses.
  let hidden: MutableMatrix
  /// Of q, k and v; by OpenBLAS also of the MLP's pre-activation, whose own memory takes it else.
  let projectionGradient: MutableFloatSlice
  /// (rows, D) each, on the way back from the modulation to (t, y).
  let conditionGradient, conditionGradient2: MutableMatrix
  /// Where products run over packed operands: one packed layer, and the packed operands of one weight gradient.
  let packing, gradientScratch: MutableFloatSlice
  /// The conditioning sequence's tokens, then their gradients; the patches of its images.
  let sequence, sequencePatches: MutableFloatSlice

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
    let (rows, format) = (samples * c.totalTokens, numerics.precision.format)
    configuration = c
    self.numerics = numerics
    self.recomputes = recomputes
    self.samples = samples
    conditioning = (0..<c.embedderCount).map { ConditioningRows(c, rows: samples, hasGates: $0 == 0, &arena) }
    modulation = arena.reserve(Modulation.elements(c, rows: samples))
    modulationGradient = arena.reserve(Modulation.gradientElements(c, rows: samples))
    patches = arena.reserve(samples * c.tokens * max(c.inputGrid.patchElements, c.outputGrid.patchElements))
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
    tokens = (0...c.depth).map { _ in arena.reserve(rows: rows, columns: c.hiddenSize) }
    let sums = (0..<(recomputes ? 1 : c.depth)).map { _ in arena.reserve(rows: rows, columns: c.hiddenSize) }
    afterAttention = (0..<c.depth).map { sums[recomputes ? 0 : $0] }
    let shared = recomputes ? BlockActivations.Recomputed(c, samples: samples, format, &arena) : nil
    blocks = (0..<c.depth).map { _ in
      BlockActivations(training: c, samples: samples, format, recomputed: shared, &arena)
    }
    tokenGradient = arena.reserve(rows: rows, columns: c.hiddenSize)
    // Recomputing writes a residual stream there, in float32, and reads h.
    outputGradient = arena.reserve(rows: rows, columns: c.hiddenSize, recomputes ? .fp32 : format)
    h = recomputes ? arena.reserve(rows: rows, columns: c.hiddenSize, format) : outputGradient
    if sizes.gradient > 0 {
      hidden = arena.matrix(in: gradientScratch, rows: rows, columns: c.mlpSize, format)
      hGradient = arena.matrix(in: gradientScratch, rows: rows, columns: c.hiddenSize)
      projectionGradient = arena.reserve(format.floats(holding: rows * 3 * c.hiddenSize))
    } else {
      hidden = arena.reserve(rows: rows, columns: c.mlpSize, format)
      hGradient = arena.reserve(rows: rows, columns: c.hiddenSize)
      projectionGradient = arena.reserve(format.floats(holding: rows * max(c.mlpSize, 3 * c.hiddenSize)))
    }
    finalH = arena.matrix(in: projectionGradient, rows: rows, columns: c.hiddenSize)
    conditionGradient = arena.reserve(rows: samples, columns: c.hiddenSize)
    conditionGradient2 = arena.reserve(rows: samples, columns: c.hiddenSize)
    byteCount = arena.count * MemoryLayout<Float>.stride
  }

  /// Elements for so many images in float32, as far as they depend on the configuration alone.
  package static func elements(_ configuration: DiTConfiguration, samples: Int) -> Int {
    var plan = Arena()
    _ = TrainingWorkspace(configuration, Numerics(), samples, false, ScratchSizes(), &plan)
    return plan.count
  }
}
