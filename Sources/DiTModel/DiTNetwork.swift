import DiTKernels
import DiTTensor

/// The Diffusion Transformer: what it computes, over weights it only reads.
///
/// Several threads may call one network at once, each with a workspace of its own.
public struct DiTNetwork: Sendable {
  public let configuration: DiTConfiguration
  public let weights: Weights
  public let context: ComputeContext
  public let numerics: Numerics
  /// Whether products run over packed weights.
  public var isPacked: Bool { numerics.isPacked(on: context) }
  /// The packed weights, when they are packed once.
  private let store: PackedWeightStore?

  static let epsilon: Float = 1e-6

  /// - Parameters:
  ///   - numerics: the format of the operands and who multiplies. Sums, the residual stream, normalisation, softmax, the
  ///     conditioning and the first and last layer are float32 in every format.
  ///   - weightsAreFixed: whether ``forward`` may pack the weights once, at its first call, and read only the packed ones
  ///     from then on. Otherwise every pass packs each layer just before its product, as it must while weights change.
  /// - Precondition: `weights` belong to `configuration`; `numerics` are supported.
  public init(
    _ configuration: DiTConfiguration, weights: Weights, context: ComputeContext, numerics: Numerics = Numerics(),
    weightsAreFixed: Bool = false
  ) {
    precondition(weights.table == ParameterTable(configuration), "weights of another configuration")
    precondition(numerics.isSupported, "OpenBLAS has no products of bf16")
    self.configuration = configuration
    self.weights = weights
    self.context = context
    self.numerics = numerics
    store = weightsAreFixed && numerics.isPacked(on: context) ? PackedWeightStore() : nil
  }

  /// Whether ``forward`` needs memory to pack a layer into.
  var packsPerCall: Bool { isPacked && store == nil }

  /// Where ``forward`` takes its layers from.
  private func inferenceSource(_ ws: InferenceWorkspace) -> LayerSource {
    if let store { return .stored(store.packed(weights, precision: numerics.precision, context: context)) }
    return isPacked ? .packing(ws.packing, numerics.precision) : .blas
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
  ///   - releasing: lets go of each adaLN weight's pages, where they are a file's, once it has been read.
  func modulate(
    times: Span<Float>, labels: Span<Int>, into modulation: Modulation, saving saved: ConditioningRows,
    releasing: Bool = false
  ) {
    let (rows, d) = (times.count, configuration.hiddenSize)
    let table = weights.table
    timeFrequencies(output: saved.frequencies.mutableSpan, times: times)
    context.linear(
      output: Activation(saved.hidden), input: Activation(saved.frequencies), layer: layer(table.time0, .blas),
      rows: rows)
    context.silu(output: saved.activated, input: saved.hidden)
    context.linear(
      output: Activation(saved.conditioning), input: Activation(saved.activated), layer: layer(table.time2, .blas),
      rows: rows)
    if let index = table.labels {
      precondition(labels.count == rows, "\(labels.count) labels for \(rows) rows")
      addEmbedding(
        output: saved.conditioning, table: weights.slices[index], labels: labels, width: d)
    }
    context.silu(output: saved.activatedConditioning, input: saved.conditioning)
    for index in 0...configuration.depth {
      let adaLN = index == configuration.depth ? table.finalAdaLN : table.blocks[index].adaLN
      context.linear(
        output: Activation(modulation.block(index)), input: Activation(saved.activatedConditioning),
        layer: layer(adaLN, .blas), rows: rows)
      if releasing { weight(adaLN).releasePages() }
    }
  }

  /// h = modulate(layerNorm(x), shift, scale)
  func normalise(
    _ h: Activation, _ x: Slice, mean: Slice, rstd: Slice, shift: Modulation.Chunk, scale: Modulation.Chunk,
    samples: Int
  ) {
    context.layerNormModulate(
      output: h, mean: mean, rstd: rstd, input: x, shift: shift, scale: scale, epsilon: Self.epsilon,
      TokenExtents(configuration, samples: samples))
  }

  /// tokens = patches Wᵀ + b + positions
  func embed(_ tokens: Slice, patches: Slice, images: Span<Float>, samples: Int, _ source: LayerSource) {
    let (grid, table) = (configuration.inputGrid, weights.table)
    patchify(patches: patches.mutableSpan, images: images, samples: samples, grid: grid, order: .channelFirst)
    context.linear(
      output: Activation(tokens), input: Activation(patches),
      layer: layer(table.patchEmbedding, source, precision: .fp32), addingRows: weights.slices[table.positions],
      rows: samples * configuration.tokens)
  }

  /// result = x + gate · attention(h)
  func attend(
    _ block: ParameterTable.Block, _ ws: BlockActivations, result: Slice, x: Slice, h: Activation,
    gate: Modulation.Chunk, scratch: Slice, samples: Int, _ source: LayerSource
  ) {
    let c = configuration
    let qkv = layer(block.qkv, source)
    context.linear(output: ws.qkv, input: h, layer: qkv, rows: samples * c.tokens)
    context.attention(
      output: ws.attention, logsumexp: ws.logsumexp, scratch: scratch, qkv: ws.qkv, isPacked: qkv.packed != nil,
      TokenExtents(c, samples: samples))
    context.linearGateResidual(
      result: result, output: ws.attentionProjected, saving: ws.isSaved, residual: x, input: ws.attention,
      layer: layer(block.proj, source), gate: gate, samples: samples, tokens: c.tokens)
  }

  /// result = x + gate · mlp(h), the hidden layer in `hidden`
  func feedForward(
    _ block: ParameterTable.Block, _ ws: BlockActivations, result: Slice, x: Slice, h: Activation, hidden: Activation,
    gate: Modulation.Chunk, samples: Int, _ source: LayerSource
  ) {
    let c = configuration
    context.linearGELU(
      output: hidden, preactivation: ws.preactivation, saving: ws.isSaved, input: h, layer: layer(block.fc1, source),
      rows: samples * c.tokens)
    context.linearGateResidual(
      result: result, output: ws.mlpProjected, saving: ws.isSaved, residual: x, input: hidden,
      layer: layer(block.fc2, source), gate: gate, samples: samples, tokens: c.tokens)
  }

  /// output = unpatchify(Linear(h))
  func decode(_ output: consuming MutableSpan<Float>, h: Slice, patches: Slice, samples: Int, _ source: LayerSource) {
    let (grid, table) = (configuration.outputGrid, weights.table)
    context.linear(
      output: Activation(patches), input: Activation(h), layer: layer(table.finalLinear, source, precision: .fp32),
      rows: samples * configuration.tokens)
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
  ///   - releasingWeights: says that adaLN's weights, a third of a large model, will not be read again soon: where they
  ///     are a mapped file's, their memory is given back.
  public func modulate(
    times: [Float], labels: [Int], into modulation: Modulation, releasingWeights: Bool = false
  ) {
    precondition(times.count == modulation.rows, "\(times.count) times for \(modulation.rows) rows")
    var layout = ArenaLayout()
    let plan = ConditioningRows.Plan(configuration, rows: times.count, &layout)
    let rows = ConditioningRows(plan, in: Slice(zeros: layout.count))
    modulate(times: times.span, labels: labels.span, into: modulation, saving: rows, releasing: releasingWeights)
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
    precondition(ws.numerics == numerics, "a workspace of other numerics")
    precondition(!packsPerCall || ws.packing.count > 0, "a workspace for packed weights")
    precondition(images.count == samples * c.imageElements, "\(images.count) elements for \(samples) images")
    precondition(modulation.rows >= samples, "\(modulation.rows) modulation rows for \(samples) images")
    let a = ws.activations
    let h = Activation(ws.h, numerics.precision)
    let source = inferenceSource(ws)
    embed(ws.tokens, patches: ws.patches, images: images, samples: samples, source)
    for (i, block) in weights.table.blocks.enumerated() {
      normalise(
        h, ws.tokens, mean: a.mean1, rstd: a.rstd1, shift: modulation.shiftMSA(i), scale: modulation.scaleMSA(i),
        samples: samples)
      attend(
        block, a, result: ws.tokens, x: ws.tokens, h: h, gate: modulation.gateMSA(i), scratch: ws.scratch,
        samples: samples, source)
      normalise(
        h, ws.tokens, mean: a.mean1, rstd: a.rstd1, shift: modulation.shiftMLP(i), scale: modulation.scaleMLP(i),
        samples: samples)
      feedForward(
        block, a, result: ws.tokens, x: ws.tokens, h: h, hidden: a.preactivation, gate: modulation.gateMLP(i),
        samples: samples, source)
    }
    normalise(
      Activation(ws.h), ws.tokens, mean: a.mean1, rstd: a.rstd1, shift: modulation.finalShift,
      scale: modulation.finalScale,
      samples: samples)
    decode(output, h: ws.h, patches: ws.patches, samples: samples, source)
  }
}
