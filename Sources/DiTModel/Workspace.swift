import DiTKernels
import DiTTensor

// Memory plans. A plan reserves ranges in an arena; the arena is one buffer of the plan's size.

/// The rows between (t, y) and the modulation: (rows, 256) or (rows, D) each.
struct ConditioningRows {
  struct Plan {
    let frequencies, hidden, activated, conditioning, activatedConditioning: Range<Int>

    init(_ c: DiTConfiguration, rows: Int, _ layout: inout ArenaLayout) {
      frequencies = layout.reserve(rows * timeFrequencyCount)
      hidden = layout.reserve(rows * c.hiddenSize)
      activated = layout.reserve(rows * c.hiddenSize)
      conditioning = layout.reserve(rows * c.hiddenSize)
      activatedConditioning = layout.reserve(rows * c.hiddenSize)
    }
  }

  let frequencies, hidden, activated, conditioning, activatedConditioning: Slice

  init(_ plan: Plan, in arena: Slice) {
    frequencies = arena[plan.frequencies]
    hidden = arena[plan.hidden]
    activated = arena[plan.activated]
    conditioning = arena[plan.conditioning]
    activatedConditioning = arena[plan.activatedConditioning]
  }
}

/// What a block computes and, when training, saves for its backward pass.
struct BlockActivations {
  struct Plan {
    let mean1, rstd1, qkv, logsumexp, attention, attentionProjected: Range<Int>
    let mean2, rstd2, preactivation, mlpProjected: Range<Int>

    /// With `shared`, for inference, the halves of a block reuse each other's memory.
    init(_ c: DiTConfiguration, samples: Int, shared: Bool, _ layout: inout ArenaLayout) {
      let rows = samples * c.tokens
      mean1 = layout.reserve(rows)
      rstd1 = layout.reserve(rows)
      logsumexp = layout.reserve(rows * c.numHeads)
      attentionProjected = layout.reserve(rows * c.hiddenSize)
      let attentionStart = layout.count
      qkv = layout.reserve(rows * 3 * c.hiddenSize)
      attention = layout.reserve(rows * c.hiddenSize)
      if shared {
        mean2 = mean1
        rstd2 = rstd1
        mlpProjected = attentionProjected
        let needed = rows * c.mlpSize
        preactivation = attentionStart..<attentionStart + needed
        if layout.count < preactivation.upperBound { _ = layout.reserve(preactivation.upperBound - layout.count) }
      } else {
        mean2 = layout.reserve(rows)
        rstd2 = layout.reserve(rows)
        mlpProjected = layout.reserve(rows * c.hiddenSize)
        preactivation = layout.reserve(rows * c.mlpSize)
      }
    }
  }

  let mean1, rstd1, qkv, logsumexp, attention, attentionProjected: Slice
  let mean2, rstd2, preactivation, mlpProjected: Slice

  init(_ plan: Plan, in arena: Slice) {
    mean1 = arena[plan.mean1]
    rstd1 = arena[plan.rstd1]
    qkv = arena[plan.qkv]
    logsumexp = arena[plan.logsumexp]
    attention = arena[plan.attention]
    attentionProjected = arena[plan.attentionProjected]
    mean2 = arena[plan.mean2]
    rstd2 = arena[plan.rstd2]
    preactivation = arena[plan.preactivation]
    mlpProjected = arena[plan.mlpProjected]
  }
}

/// The memory of one forward pass: one arena for up to `samples` images. One caller at a time.
public final class InferenceWorkspace: Sendable {
  public let configuration: DiTConfiguration
  /// The largest batch.
  public let samples: Int
  /// Bytes of the arena.
  public let byteCount: Int

  let patches, tokens, h, scratch: Slice
  let activations: BlockActivations

  public init(_ configuration: DiTConfiguration, samples: Int, context: ComputeContext) {
    precondition(samples > 0, "a workspace for \(samples) samples")
    let c = configuration
    var layout = ArenaLayout()
    let rows = samples * c.tokens
    let patches = layout.reserve(rows * c.outputGrid.patchElements)
    let tokens = layout.reserve(rows * c.hiddenSize)
    let h = layout.reserve(rows * c.hiddenSize)
    let scratch = layout.reserve(
      context.attentionScratch(tokens: c.tokens, headSize: c.headSize, backward: false))
    let plan = BlockActivations.Plan(c, samples: samples, shared: true, &layout)
    let arena = Slice(zeros: layout.count)
    self.configuration = c
    self.samples = samples
    byteCount = layout.count * MemoryLayout<Float>.stride
    self.patches = arena[patches]
    self.tokens = arena[tokens]
    self.h = arena[h]
    self.scratch = arena[scratch]
    activations = BlockActivations(plan, in: arena)
  }
}

/// The memory of one training step of up to `samples` images: what the forward pass saves, and the gradients that flow
/// back. One arena.
public final class TrainingWorkspace: Sendable {
  public let configuration: DiTConfiguration
  /// The largest batch.
  public let samples: Int
  /// Bytes of the arena.
  public let byteCount: Int

  let conditioning: ConditioningRows
  let modulation, modulationGradient: Slice
  let patches, h, finalMean, finalRstd, scratch, reduction: Slice
  /// tokens[i] enters block i, middle[i] is between its halves; tokens[depth] leaves the last.
  let tokens, middle: [Slice]
  let blocks: [BlockActivations]
  let tokenGradient, outputGradient, hGradient, hidden, wideGradient, rowGradient, rowGradient2: Slice

  public init(_ configuration: DiTConfiguration, samples: Int, context: ComputeContext) {
    precondition(samples > 0, "a workspace for \(samples) samples")
    let c = configuration
    var layout = ArenaLayout()
    let rows = samples * c.tokens
    let wide = max(c.mlpSize, 3 * c.hiddenSize)
    let conditioning = ConditioningRows.Plan(c, rows: samples, &layout)
    let modulation = layout.reserve(Modulation.elements(c, rows: samples))
    let modulationGradient = layout.reserve(Modulation.elements(c, rows: samples))
    let ends = layout.reserve(rows * c.outputGrid.patchElements)
    let h = layout.reserve(rows * c.hiddenSize)
    let stats = [layout.reserve(rows), layout.reserve(rows)]
    let scratch = layout.reserve(
      context.attentionScratch(tokens: c.tokens, headSize: c.headSize, backward: true))
    let reduction = layout.reserve(
      ComputeContext.rowReductionScratch(samples: samples, tokens: c.tokens, width: c.hiddenSize))
    let tokens = (0...c.depth).map { _ in layout.reserve(rows * c.hiddenSize) }
    let middle = (0..<c.depth).map { _ in layout.reserve(rows * c.hiddenSize) }
    let plans = (0..<c.depth).map { _ in BlockActivations.Plan(c, samples: samples, shared: false, &layout) }
    let gradients = (0..<3).map { _ in layout.reserve(rows * c.hiddenSize) }
    let wides = (0..<2).map { _ in layout.reserve(rows * wide) }
    let rowGradients = (0..<2).map { _ in layout.reserve(samples * c.hiddenSize) }

    let arena = Slice(zeros: layout.count)
    self.configuration = c
    self.samples = samples
    byteCount = layout.count * MemoryLayout<Float>.stride
    self.conditioning = ConditioningRows(conditioning, in: arena)
    self.modulation = arena[modulation]
    self.modulationGradient = arena[modulationGradient]
    patches = arena[ends]
    self.h = arena[h]
    finalMean = arena[stats[0]]
    finalRstd = arena[stats[1]]
    self.scratch = arena[scratch]
    self.reduction = arena[reduction]
    self.tokens = tokens.map { arena[$0] }
    self.middle = middle.map { arena[$0] }
    blocks = plans.map { BlockActivations($0, in: arena) }
    tokenGradient = arena[gradients[0]]
    outputGradient = arena[gradients[1]]
    hGradient = arena[gradients[2]]
    hidden = arena[wides[0]]
    wideGradient = arena[wides[1]]
    rowGradient = arena[rowGradients[0]]
    rowGradient2 = arena[rowGradients[1]]
  }
}
