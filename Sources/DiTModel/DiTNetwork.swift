import DiTKernels
import DiTTensor

/// The Diffusion Transformer: what it computes, over weights it only reads.
///
/// Several threads may call one network at once, each with a workspace of its own.
public struct DiTNetwork: Sendable {
  public let configuration: DiTConfiguration
  public let weights: Weights
  public let context: ComputeContext

  static let epsilon: Float = 1e-6

  /// - Precondition: `weights` belong to `configuration`.
  public init(_ configuration: DiTConfiguration, weights: Weights, context: ComputeContext) {
    precondition(weights.table == ParameterTable(configuration), "weights of another configuration")
    self.configuration = configuration
    self.weights = weights
    self.context = context
  }

  func weight(_ layer: ParameterTable.Affine) -> Slice { weights.slices[layer.weight] }
  func bias(_ layer: ParameterTable.Affine) -> Slice { weights.slices[layer.bias] }

  /// c = MLP(freq(t)) + table[y]; every adaLN is Linear(SiLU(c)).
  ///
  /// - Parameters:
  ///   - times: training indices, one a row.
  ///   - labels: class indices, `numClasses` for the null class; empty for an unconditional model.
  ///   - modulation: as many rows as `times`; overwritten.
  ///   - saved: the intermediate rows that ``backward`` reads.
  func modulate(times: Span<Float>, labels: Span<Int>, into modulation: Modulation, saving saved: ConditioningRows) {
    let (rows, d) = (times.count, configuration.hiddenSize)
    let table = weights.table
    timeFrequencies(output: saved.frequencies.mutableSpan, times: times)
    context.linear(
      output: saved.hidden, input: saved.frequencies, weight: weight(table.time0),
      bias: bias(table.time0), rows: rows, inputs: timeFrequencyCount, outputs: d)
    context.silu(output: saved.activated, input: saved.hidden)
    context.linear(
      output: saved.conditioning, input: saved.activated, weight: weight(table.time2),
      bias: bias(table.time2), rows: rows, inputs: d, outputs: d)
    if let index = table.labels {
      precondition(labels.count == rows, "\(labels.count) labels for \(rows) rows")
      addEmbedding(
        output: saved.conditioning, table: weights.slices[index], labels: labels, width: d)
    }
    context.silu(output: saved.activatedConditioning, input: saved.conditioning)
    for index in 0...configuration.depth {
      let layer = index == configuration.depth ? table.finalAdaLN : table.blocks[index].adaLN
      context.linear(
        output: modulation.block(index), input: saved.activatedConditioning,
        weight: weight(layer), bias: bias(layer), rows: rows, inputs: d,
        outputs: (index == configuration.depth ? 2 : 6) * d)
    }
  }

  /// h = modulate(layerNorm(x), shift, scale)
  func normalise(
    _ h: Slice, _ x: Slice, mean: Slice, rstd: Slice, shift: Modulation.Chunk, scale: Modulation.Chunk, samples: Int
  ) {
    context.layerNormModulate(
      output: h, mean: mean, rstd: rstd, input: x, shift: shift, scale: scale, epsilon: Self.epsilon,
      TokenExtents(configuration, samples: samples))
  }

  /// tokens = patches Wᵀ + b + positions
  func embed(_ tokens: Slice, patches: Slice, images: Span<Float>, samples: Int) {
    let (grid, table) = (configuration.inputGrid, weights.table)
    patchify(patches: patches.mutableSpan, images: images, samples: samples, grid: grid, order: .channelFirst)
    context.linear(
      output: tokens, input: patches, weight: weight(table.patchEmbedding),
      bias: bias(table.patchEmbedding), addingRows: weights.slices[table.positions],
      rows: samples * configuration.tokens, inputs: grid.patchElements, outputs: configuration.hiddenSize)
  }

  /// result = x + gate · attention(h)
  func attend(
    _ block: ParameterTable.Block, _ ws: BlockActivations, result: Slice, x: Slice, h: Slice,
    gate: Modulation.Chunk, scratch: Slice, samples: Int
  ) {
    let (c, d) = (configuration, configuration.hiddenSize)
    context.linear(
      output: ws.qkv, input: h, weight: weight(block.qkv), bias: bias(block.qkv),
      rows: samples * c.tokens, inputs: d, outputs: 3 * d)
    context.attention(
      output: ws.attention, logsumexp: ws.logsumexp, scratch: scratch, qkv: ws.qkv, TokenExtents(c, samples: samples))
    context.linearGateResidual(
      result: result, output: ws.attentionProjected, residual: x,
      input: ws.attention, weight: weight(block.proj), bias: bias(block.proj), gate: gate, samples: samples,
      tokens: c.tokens, inputs: d, outputs: d)
  }

  /// result = x + gate · mlp(h), the hidden layer in `hidden`
  func feedForward(
    _ block: ParameterTable.Block, _ ws: BlockActivations, result: Slice, x: Slice, h: Slice, hidden: Slice,
    gate: Modulation.Chunk, samples: Int
  ) {
    let (c, d) = (configuration, configuration.hiddenSize)
    context.linearGELU(
      output: hidden, preactivation: ws.preactivation, input: h,
      weight: weight(block.fc1), bias: bias(block.fc1), rows: samples * c.tokens, inputs: d,
      outputs: c.mlpSize)
    context.linearGateResidual(
      result: result, output: ws.mlpProjected, residual: x, input: hidden,
      weight: weight(block.fc2), bias: bias(block.fc2), gate: gate,
      samples: samples, tokens: c.tokens, inputs: c.mlpSize, outputs: d)
  }

  /// output = unpatchify(Linear(h))
  func decode(_ output: consuming MutableSpan<Float>, h: Slice, patches: Slice, samples: Int) {
    let (grid, table) = (configuration.outputGrid, weights.table)
    context.linear(
      output: patches, input: h, weight: weight(table.finalLinear),
      bias: bias(table.finalLinear), rows: samples * configuration.tokens, inputs: configuration.hiddenSize,
      outputs: grid.patchElements)
    unpatchify(images: output, patches: patches.span, samples: samples, grid: grid, order: .channelLast)
  }
}

// MARK: - Inference

extension DiTNetwork {
  /// The modulation for (times, labels), into rows the caller owns.
  ///
  /// - Parameters:
  ///   - times: training indices, one a row.
  ///   - labels: class indices, `numClasses` for the null class; empty for an unconditional model.
  public func modulate(times: [Float], labels: [Int], into modulation: Modulation) {
    precondition(times.count == modulation.rows, "\(times.count) times for \(modulation.rows) rows")
    var layout = ArenaLayout()
    let plan = ConditioningRows.Plan(configuration, rows: times.count, &layout)
    let rows = ConditioningRows(plan, in: Slice(zeros: layout.count))
    modulate(times: times.span, labels: labels.span, into: modulation, saving: rows)
  }

  /// One evaluation: output = DiT(images | modulation).
  ///
  /// - Parameters:
  ///   - output: (N, C', H, W); overwritten.
  ///   - images: (N, C, H, W).
  ///   - modulation: N rows.
  ///   - workspace: made for at least N samples; nothing is allocated here.
  public func forward(
    output: consuming MutableSpan<Float>, images: Span<Float>, modulation: Modulation, samples: Int,
    workspace ws: InferenceWorkspace
  ) {
    let c = configuration
    precondition(ws.configuration == c && samples <= ws.samples, "a workspace for \(ws.samples) of another network")
    precondition(images.count == samples * c.imageElements, "\(images.count) elements for \(samples) images")
    precondition(modulation.rows >= samples, "\(modulation.rows) modulation rows for \(samples) images")
    let a = ws.activations
    embed(ws.tokens, patches: ws.patches, images: images, samples: samples)
    for (i, block) in weights.table.blocks.enumerated() {
      normalise(
        ws.h, ws.tokens, mean: a.mean1, rstd: a.rstd1, shift: modulation.shiftMSA(i), scale: modulation.scaleMSA(i),
        samples: samples)
      attend(
        block, a, result: ws.tokens, x: ws.tokens, h: ws.h, gate: modulation.gateMSA(i), scratch: ws.scratch,
        samples: samples)
      normalise(
        ws.h, ws.tokens, mean: a.mean1, rstd: a.rstd1, shift: modulation.shiftMLP(i), scale: modulation.scaleMLP(i),
        samples: samples)
      feedForward(
        block, a, result: ws.tokens, x: ws.tokens, h: ws.h, hidden: a.preactivation, gate: modulation.gateMLP(i),
        samples: samples)
    }
    normalise(
      ws.h, ws.tokens, mean: a.mean1, rstd: a.rstd1, shift: modulation.finalShift, scale: modulation.finalScale,
      samples: samples)
    decode(output, h: ws.h, patches: ws.patches, samples: samples)
  }
}
