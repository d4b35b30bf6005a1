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
  /// What attention reads of the noise schedule.
  let noise: AttentionNoise?
  /// What q and k of the image's tokens turn by; nil without rotary positions.
  private let rotary: Slice?

  /// ε of all LayerNorms but the second of a block.
  static let epsilon = Float(DiTConfiguration.publishedEpsilon)
  /// ε of a block's second LayerNorm.
  var norm2Epsilon: Float { Float(configuration.norm2Epsilon) }

  /// - Parameters:
  ///   - numerics: the format of the operands and the matrix-multiplication backend. Sums, the residual stream, normalisation, softmax, the
  ///     conditioning and the first and last layer are float32 in every format.
  ///   - weightsAreFixed: whether ``forward`` may pack the weights once, at its first call, and read only the packed ones
  ///     from then on. Otherwise every pass packs each layer just before its product, as it must while weights change.
  ///   - noise: the schedule's tables, where ``AttentionConfiguration/readsNoise``.
  /// - Precondition: `weights` belong to `configuration`; `numerics` are supported.
  public init(
    _ configuration: DiTConfiguration, weights: Weights, context: ComputeContext, numerics: Numerics = Numerics(),
    weightsAreFixed: Bool = false, noise: AttentionNoise? = nil
  ) {
    precondition(weights.table == ParameterTable(configuration), "weights of another configuration")
    precondition(noise != nil || !configuration.attention.readsNoise, "attention that reads the noise schedule")
    precondition(numerics.isSupported, "OpenBLAS has no products of bf16")
    self.configuration = configuration
    self.weights = weights
    self.context = context
    self.numerics = numerics
    self.noise = noise
    store = weightsAreFixed && numerics.isPacked(on: context) ? PackedWeightStore() : nil
    rotary = configuration.position == .rope ? Self.rotaryTable(configuration) : nil
  }

  private static func rotaryTable(_ c: DiTConfiguration) -> Slice {
    let table = Slice(zeros: c.tokens * 2 * c.headSize)
    DiTKernels.rotaryTable(
      output: table.mutableSpan, rows: c.inputGrid.rows, columns: c.inputGrid.columns, headSize: c.headSize)
    return table
  }

  /// Whether ``forward`` needs memory to pack a layer into.
  var packsPerCall: Bool { isPacked && store == nil }

  /// Where ``forward`` takes its layers from.
  private func inferenceSource(_ ws: InferenceWorkspace, samples: Int) -> LayerSource {
    if let store { return .stored(store.packed(weights, precision: numerics.precision, context: context)) }
    return isPacked ? .packing(ws.packing, numerics.precision) : .blas(parts: samples)
  }

  func weight(_ layer: ParameterTable.LinearParameters) -> Slice { weights.slices[layer.weight] }
  func bias(_ layer: ParameterTable.LinearParameters) -> Slice { weights.slices[layer.bias] }

  /// h = modulate(layerNorm(x), shift, scale)
  func normalise(
    _ h: Activation, _ x: Slice, mean: Slice, rstd: Slice, shift: Modulation.Chunk, scale: Modulation.Chunk,
    epsilon: Float = Self.epsilon, _ extents: TokenExtents
  ) {
    context.layerNormModulate(
      output: h, mean: mean, rstd: rstd, input: x, shift: shift, scale: scale, epsilon: epsilon, extents)
  }

  /// tokens = patches Wᵀ + b + positions (+ c), after the tokens that stand for time, class and sequence
  func embed(
    _ tokens: Slice, patches: Slice, images: Span<Float>, modulation: Modulation, sequence: SequenceTokens?,
    samples: Int, _ source: LayerSource
  ) {
    let (c, table) = (configuration, weights.table)
    let size = c.tokens * c.hiddenSize
    patchify(patches: patches.mutableSpan, images: images, samples: samples, grid: c.inputGrid, order: .channelFirst)
    context.linear(
      output: Activation(tokens), input: Activation(patches),
      layer: layer(table.patchEmbedding, source, precision: .fp32),
      addingRows: table.positions.map { weights.slices[$0] }, rows: samples * c.tokens)
    if c.conditioning == .additive {
      for n in 0..<samples {
        context.add(
          modulation.condition(n).span, toRows: tokens[n * size..<(n + 1) * size].mutableSpan, rows: c.tokens,
          width: c.hiddenSize)
      }
    }
    spreadImageTokens(tokens, samples: samples)
    placePrefix(tokens, modulation: modulation, sequence: sequence, samples: samples)
  }

  /// q, k, v = Linear(h), q and k of the image's tokens turned by their positions where these are rotary
  func project(_ qkv: Activation, h: Activation, layer: Layer, _ extents: TokenExtents) {
    context.linear(output: qkv, input: h, layer: layer, rows: extents.rows)
    rotate(qkv, inverse: false, extents)
  }

  func rotate(_ qkv: Activation, inverse: Bool, _ extents: TokenExtents) {
    guard let rotary else { return }
    context.rotate(
      qkv: qkv.slice.mutableBytes, qkv.precision, table: rotary.span, inverse: inverse, samples: extents.samples,
      tokens: extents.tokens, prefix: extents.prefix, heads: extents.heads, headSize: configuration.headSize)
  }

  /// result = x + gate · attention(h)
  func attend(
    _ block: ParameterTable.Block, _ ws: BlockActivations, result: Slice, x: Slice, h: Activation,
    gate: Modulation.Chunk, scales: Slice, widths: Slice, scratch: Slice, _ extents: TokenExtents, _ source: LayerSource
  ) {
    let qkv = layer(block.qkv, source)
    project(ws.qkv, h: h, layer: qkv, extents)
    context.attention(
      output: ws.attention, logsumexp: ws.logsumexp, scratch: scratch, qkv: ws.qkv, isPacked: qkv.packed != nil,
      scales: scales, widths: widths, extents)
    context.linearGateResidual(
      result: result, output: ws.attentionProjected, saving: ws.isSaved, residual: x, input: ws.attention,
      layer: layer(block.proj, source), gate: gate, samples: extents.samples, tokens: extents.tokens)
  }

  /// result = x + gate · mlp(h), the hidden layer in `hidden`
  func feedForward(
    _ block: ParameterTable.Block, _ ws: BlockActivations, result: Slice, x: Slice, h: Activation, hidden: Activation,
    gate: Modulation.Chunk, _ extents: TokenExtents, _ source: LayerSource
  ) {
    context.linearGELU(
      output: hidden, preactivation: ws.preactivation, saving: ws.isSaved, input: h, layer: layer(block.fc1, source),
      rows: extents.rows)
    context.linearGateResidual(
      result: result, output: ws.mlpProjected, saving: ws.isSaved, residual: x, input: hidden,
      layer: layer(block.fc2, source), gate: gate, samples: extents.samples, tokens: extents.tokens)
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
  /// One evaluation: output = DiT(images | modulation, sequence). An image has the same bits however many there are.
  ///
  /// - Parameters:
  ///   - output: (N, C', H, W); overwritten.
  ///   - images: (N, C, H, W).
  ///   - modulation: N rows.
  ///   - sequence: N sequences where the network is conditioned by one.
  ///   - workspace: made for at least N samples; nothing is allocated here.
  public func forward(
    output: consuming MutableSpan<Float>, images: Span<Float>, modulation: Modulation,
    sequence: SequenceTokens? = nil, samples: Int, workspace ws: InferenceWorkspace
  ) {
    let c = configuration
    precondition(ws.configuration == c && samples <= ws.samples, "a workspace for \(ws.samples) of another network")
    precondition(ws.numerics == numerics, "a workspace of other numerics")
    precondition(!packsPerCall || ws.packing.count > 0, "a workspace for packed weights")
    precondition(images.count == samples * c.imageElements, "\(images.count) elements for \(samples) images")
    precondition(modulation.rows >= samples, "\(modulation.rows) modulation rows for \(samples) images")
    checkSequence(sequence?.samples, of: samples)
    let a = ws.activations
    let h = Activation(ws.h, numerics.precision)
    let source = inferenceSource(ws, samples: samples)
    let extents = TokenExtents(c, samples: samples, prefixKeys: sequence?.prefixKeys ?? [])
    embed(
      ws.tokens, patches: ws.patches, images: images, modulation: modulation, sequence: sequence, samples: samples,
      source)
    for (i, block) in weights.table.blocks.enumerated() {
      normalise(
        h, ws.tokens, mean: a.mean1, rstd: a.rstd1, shift: modulation.shiftMSA(i), scale: modulation.scaleMSA(i),
        extents)
      attend(
        block, a, result: ws.tokens, x: ws.tokens, h: h, gate: modulation.gateMSA(i),
        scales: modulation.scales(i), widths: modulation.widths, scratch: ws.scratch, extents, source)
      normalise(
        h, ws.tokens, mean: a.mean1, rstd: a.rstd1, shift: modulation.shiftMLP(i), scale: modulation.scaleMLP(i),
        epsilon: norm2Epsilon, extents)
      feedForward(
        block, a, result: ws.tokens, x: ws.tokens, h: h, hidden: a.preactivation, gate: modulation.gateMLP(i), extents,
        source)
    }
    gatherImageTokens(ws.tokens, samples: samples)
    normalise(
      Activation(ws.h), ws.tokens, mean: a.mean1, rstd: a.rstd1, shift: modulation.finalShift,
      scale: modulation.finalScale, TokenExtents(imagesOf: c, samples: samples))
    decode(output, h: ws.h, patches: ws.patches, samples: samples, source)
  }
}
