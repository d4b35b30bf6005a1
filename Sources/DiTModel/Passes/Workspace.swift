import DiTKernels
import DiTTensor

// Memory plans. A plan reserves ranges in an arena; the arena is one buffer of the plan's size.

/// The rows between (t, y) and the modulation: (rows, 256) or (rows, D) each.
struct ConditioningRows {
  struct Plan {
    let frequencies, hidden, activated, time, conditioning, activatedConditioning: Range<Int>
    /// Of each block: the hidden layer's sums and outputs, (rows, D/4), and the gates, (rows, h).
    let gates: [GateRows<Range<Int>>]

    init(_ c: DiTConfiguration, rows: Int, hasGates: Bool, _ layout: inout ArenaLayout) {
      frequencies = layout.reserve(rows * timeFrequencyCount)
      hidden = layout.reserve(rows * c.hiddenSize)
      activated = layout.reserve(rows * c.hiddenSize)
      time = layout.reserve(rows * c.hiddenSize)
      conditioning = layout.reserve(rows * c.hiddenSize)
      activatedConditioning = layout.reserve(rows * c.hiddenSize)
      gates = (0..<(hasGates && c.attention.hasGate ? c.depth : 0)).map { _ in
        GateRows(
          hidden: layout.reserve(rows * c.gateSize), activated: layout.reserve(rows * c.gateSize),
          gate: layout.reserve(rows * c.numHeads))
      }
    }
  }

  /// `time` is E_time(t), without the class.
  let frequencies, hidden, activated, time, conditioning, activatedConditioning: Slice
  let gates: [GateRows<Slice>]

  init(_ plan: Plan, in arena: Slice) {
    frequencies = arena[plan.frequencies]
    hidden = arena[plan.hidden]
    activated = arena[plan.activated]
    time = arena[plan.time]
    conditioning = arena[plan.conditioning]
    activatedConditioning = arena[plan.activatedConditioning]
    gates = plan.gates.map {
      GateRows(hidden: arena[$0.hidden], activated: arena[$0.activated], gate: arena[$0.gate])
    }
  }

  private init(_ all: ConditioningRows, narrow: Range<Int>, wide: Range<Int>) {
    frequencies = all.frequencies[narrow]
    hidden = all.hidden[wide]
    activated = all.activated[wide]
    time = all.time[wide]
    conditioning = all.conditioning[wide]
    activatedConditioning = all.activatedConditioning[wide]
    gates = all.gates  // whose kernels are told the rows
  }

  /// The first `rows` rows.
  func prefix(_ c: DiTConfiguration, _ rows: Int) -> ConditioningRows {
    ConditioningRows(self, narrow: 0..<rows * timeFrequencyCount, wide: 0..<rows * c.hiddenSize)
  }
}

/// What a block's gate computes on its way: as plans, or as memory.
struct GateRows<Place: Sendable>: Sendable {
  let hidden, activated, gate: Place
}

/// What a block computes and, when training, saves for its backward pass.
struct BlockActivations {
  struct Plan {
    let mean1, rstd1, qkv, logsumexp, attention, attentionProjected: Range<Int>
    let mean2, rstd2, preactivation, mlpProjected: Range<Int>

    /// For inference: the halves of the block reuse each other's memory.
    init(inference c: DiTConfiguration, samples: Int, _ precision: Precision, _ layout: inout ArenaLayout) {
      let rows = samples * c.totalTokens
      mean1 = layout.reserve(rows)
      rstd1 = layout.reserve(rows)
      logsumexp = layout.reserve(rows * c.numHeads)
      attentionProjected = layout.reserve(rows * c.hiddenSize, precision)
      let attentionStart = layout.count
      qkv = layout.reserve(rows * 3 * c.hiddenSize, precision)
      attention = layout.reserve(rows * c.hiddenSize, precision)
      mean2 = mean1
      rstd2 = rstd1
      mlpProjected = attentionProjected
      preactivation = attentionStart..<attentionStart + Activation.floats(rows * c.mlpSize, precision)
      if layout.count < preactivation.upperBound { _ = layout.reserve(preactivation.upperBound - layout.count) }
    }

    /// For training. With `recomputed`, the tensors that products alone give again are computed again in the backward
    /// pass, in memory that all blocks share.
    init(
      training c: DiTConfiguration, samples: Int, _ precision: Precision, recomputed: Recomputed?,
      _ layout: inout ArenaLayout
    ) {
      let rows = samples * c.totalTokens
      mean1 = layout.reserve(rows)
      rstd1 = layout.reserve(rows)
      mean2 = layout.reserve(rows)
      rstd2 = layout.reserve(rows)
      logsumexp = layout.reserve(rows * c.numHeads)
      attention = layout.reserve(rows * c.hiddenSize, precision)
      let again = recomputed ?? Recomputed(c, samples: samples, precision, &layout)
      attentionProjected = again.attentionProjected
      mlpProjected = again.mlpProjected
      qkv = again.qkv
      preactivation = again.preactivation
    }
  }

  /// The tensors that the backward pass can compute again, with a block's four products, from its input and what attention
  /// made of it.
  struct Recomputed {
    let qkv, attentionProjected, preactivation, mlpProjected: Range<Int>

    init(_ c: DiTConfiguration, samples: Int, _ precision: Precision, _ layout: inout ArenaLayout) {
      qkv = layout.reserve(samples * c.totalTokens * 3 * c.hiddenSize, precision)
      preactivation = layout.reserve(samples * c.totalTokens * c.mlpSize, precision)
      attentionProjected = layout.reserve(samples * c.totalTokens * c.hiddenSize, precision)
      mlpProjected = layout.reserve(samples * c.totalTokens * c.hiddenSize, precision)
    }
  }

  let mean1, rstd1, logsumexp, mean2, rstd2: Slice
  let qkv, attention, attentionProjected, preactivation, mlpProjected: Activation
  /// Whether a backward pass reads them.
  let isSaved: Bool

  init(_ plan: Plan, _ precision: Precision, isSaved: Bool, in arena: Slice) {
    mean1 = arena[plan.mean1]
    rstd1 = arena[plan.rstd1]
    qkv = Activation(arena[plan.qkv], precision)
    logsumexp = arena[plan.logsumexp]
    attention = Activation(arena[plan.attention], precision)
    attentionProjected = Activation(arena[plan.attentionProjected], precision)
    mean2 = arena[plan.mean2]
    rstd2 = arena[plan.rstd2]
    preactivation = Activation(arena[plan.preactivation], precision)
    mlpProjected = Activation(arena[plan.mlpProjected], precision)
    self.isSaved = isSaved
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
  public init(_ network: DiTNetwork, samples: Int) {
    precondition(samples > 0, "a workspace for \(samples) samples")
    let (c, precision) = (network.configuration, network.numerics.precision)
    var layout = ArenaLayout()
    let rows = samples * c.totalTokens
    let patches = layout.reserve(samples * c.tokens * max(c.inputGrid.patchElements, c.outputGrid.patchElements))
    let tokens = layout.reserve(rows * c.hiddenSize)
    let h = layout.reserve(rows * c.hiddenSize)
    let scratch = layout.reserve(
      network.context.attentionScratch(
        c, samples: samples, precision, isPacked: network.isPacked, backward: false))
    let packing = layout.reserve(network.packsPerCall ? network.weights.table.largestPackedLayer(precision) : 0)
    let plan = BlockActivations.Plan(inference: c, samples: samples, precision, &layout)
    let arena = Slice(zeros: layout.count)
    configuration = c
    numerics = network.numerics
    self.samples = samples
    byteCount = layout.count * MemoryLayout<Float>.stride
    self.patches = arena[patches]
    self.tokens = arena[tokens]
    self.h = arena[h]
    self.scratch = arena[scratch]
    self.packing = arena[packing]
    activations = BlockActivations(plan, precision, isSaved: false, in: arena)
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
  /// tokens[i] enters block i, middle[i] is between its halves; tokens[depth] leaves the last. Where the middle is computed
  /// again, all are one.
  let tokens, middle: [Slice]
  let blocks: [BlockActivations]
  let tokenGradient, outputGradient, hGradient, hidden, wideGradient, rowGradient, rowGradient2: Slice
  /// Where products run over packed operands: one packed layer, and the packed operands of one weight gradient.
  let packing, gradientScratch: Slice
  /// The conditioning sequence's tokens, then their gradients; the patches of its images.
  let sequence, sequencePatches: Slice

  /// Memory for steps of `network` over at most `samples` images.
  ///
  /// - Parameter recomputes: keeps a block's input and attention's output, a fifth of the activations; the backward pass
  ///   computes the rest again, attention itself not.
  public init(_ network: DiTNetwork, samples: Int, recomputes: Bool = false) {
    precondition(samples > 0, "a workspace for \(samples) samples")
    let (c, precision) = (network.configuration, network.numerics.precision)
    var layout = ArenaLayout()
    let rows = samples * c.totalTokens
    let wide = max(c.mlpSize, 3 * c.hiddenSize)
    let conditioning = (0..<c.embedderCount).map {
      ConditioningRows.Plan(c, rows: samples, hasGates: $0 == 0, &layout)
    }
    let modulation = layout.reserve(Modulation.elements(c, rows: samples))
    let modulationGradient = layout.reserve(Modulation.gradientElements(c, rows: samples))
    let ends = layout.reserve(samples * c.tokens * max(c.inputGrid.patchElements, c.outputGrid.patchElements))
    let h = layout.reserve(rows * c.hiddenSize)
    let stats = [layout.reserve(rows), layout.reserve(rows)]
    let scratch = layout.reserve(
      max(
        network.context.attentionScratch(
          c, samples: samples, precision, isPacked: network.isPacked, backward: true),
        network.context.attentionScratch(
          c, samples: samples, precision, isPacked: network.isPacked, backward: false)))
    let reduction = layout.reserve(
      ComputeContext.rowReductionScratch(samples: samples, tokens: c.totalTokens, width: c.hiddenSize))
    let packing = layout.reserve(network.isPacked ? network.weights.table.largestPackedLayer(precision) : 0)
    let gradientScratch = layout.reserve(
      network.isPacked ? network.weights.table.largestGradientScratch(rows: rows, precision) : 0)
    let sequence = layout.reserve(samples * c.sequenceLength * c.hiddenSize)
    var context = 0
    if case .image = c.sequence { context = samples * c.sequenceGrid.elements }
    let sequencePatches = layout.reserve(context)
    let tokens = (0...c.depth).map { _ in layout.reserve(rows * c.hiddenSize) }
    let middles = (0..<(recomputes ? 1 : c.depth)).map { _ in layout.reserve(rows * c.hiddenSize) }
    let middle = (0..<c.depth).map { middles[recomputes ? 0 : $0] }
    let recomputed =
      recomputes ? BlockActivations.Recomputed(c, samples: samples, precision, &layout) : nil
    let plans = (0..<c.depth).map { _ in
      BlockActivations.Plan(training: c, samples: samples, precision, recomputed: recomputed, &layout)
    }
    let gradients = (0..<3).map { _ in layout.reserve(rows * c.hiddenSize) }
    let wides = (0..<2).map { _ in layout.reserve(rows * wide, precision) }
    let rowGradients = (0..<2).map { _ in layout.reserve(samples * c.hiddenSize) }

    let arena = Slice(zeros: layout.count)
    configuration = c
    numerics = network.numerics
    self.recomputes = recomputes
    self.samples = samples
    byteCount = layout.count * MemoryLayout<Float>.stride
    self.conditioning = conditioning.map { ConditioningRows($0, in: arena) }
    self.modulation = arena[modulation]
    self.modulationGradient = arena[modulationGradient]
    patches = arena[ends]
    self.h = arena[h]
    finalMean = arena[stats[0]]
    finalRstd = arena[stats[1]]
    self.scratch = arena[scratch]
    self.reduction = arena[reduction]
    self.packing = arena[packing]
    self.gradientScratch = arena[gradientScratch]
    self.sequence = arena[sequence]
    self.sequencePatches = arena[sequencePatches]
    self.tokens = tokens.map { arena[$0] }
    self.middle = middle.map { arena[$0] }
    blocks = plans.map { BlockActivations($0, precision, isSaved: true, in: arena) }
    tokenGradient = arena[gradients[0]]
    outputGradient = arena[gradients[1]]
    hGradient = arena[gradients[2]]
    hidden = arena[wides[0]]
    wideGradient = arena[wides[1]]
    rowGradient = arena[rowGradients[0]]
    rowGradient2 = arena[rowGradients[1]]
  }
}
