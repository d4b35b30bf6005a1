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
  private let rotary: FloatSlice?

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

  private static func rotaryTable(_ c: DiTConfiguration) -> FloatSlice {
    let table = MutableFloatSlice(zeros: c.tokens * 2 * c.headSize)
    DiTKernels.rotaryTable(
      output: table.mutableSpan, rows: c.inputGrid.rows, columns: c.inputGrid.columns, headSize: c.headSize)
    return table.reading
  }

  /// Whether ``forward`` needs memory to pack a layer into.
  var packsPerCall: Bool { isPacked && store == nil }

  /// Where ``forward`` takes its layers from.
  private func inferenceSource(_ ws: InferenceWorkspace, samples: Int) -> LayerSource {
    if let store { return .stored(store.packed(weights, format: format, context: context)) }
    return isPacked ? .packing(ws.packing, format) : .blas(parts: samples)
  }

  /// Of a block's products.
  var format: Format { numerics.precision.format }

  func bias(_ layer: ParameterTable.LinearParameters) -> FloatSlice { weights.slices[layer.bias] }

  /// h = modulate(layerNorm(x), shift, scale)
  func normalise(
    _ h: MutableMatrix, _ x: Matrix, mean: MutableFloatSlice, rstd: MutableFloatSlice, shift: MutableMatrix,
    scale: MutableMatrix, epsilon: Float = Self.epsilon, tokens: Int
  ) {
    context.normModulate(
      output: h, mean: mean, rstd: rstd, input: x, shift: shift.reading, scale: scale.reading, epsilon: epsilon,
      tokens: tokens)
  }

  /// tokens = patches Wᵀ + b + positions (+ c), after the tokens that stand for time, class and sequence
  func embed(
    _ tokens: MutableMatrix, patches: MutableFloatSlice, images: Span<Float>, modulation: Modulation,
    sequence: SequenceTokens?, samples: Int, _ source: LayerSource
  ) {
    let (c, table) = (configuration, weights.table)
    let (rows, width) = (samples * c.tokens, c.hiddenSize)
    patchify(patches: patches.mutableSpan, images: images, samples: samples, grid: c.inputGrid, order: .channelFirst)
    let positions = table.positions.map { Matrix(weights.slices[$0], rows: c.tokens, columns: width) }
    apply(
      layer(table.patchEmbedding, source, format: .fp32),
      to: Matrix(patches.reading, rows: rows, columns: c.inputGrid.patchElements), into: tokens.prefix(rows),
      epilogue: positions.map { .addRows($0) } ?? .store)
    if c.conditioning == .additive {
      for n in 0..<samples {
        let image = tokens.memory[n * c.tokens * width..<(n + 1) * c.tokens * width]
        context.add(
          modulation.condition(n).reading, toRows: MutableMatrix(image, rows: c.tokens, columns: width))
      }
    }
    spreadImageTokens(tokens.memory, samples: samples)
    placePrefix(tokens.memory, modulation: modulation, sequence: sequence, samples: samples)
  }

  /// q, k, v = Linear(h), q and k of the image's tokens turned by their positions where these are rotary
  func project(_ qkv: MutableMatrix, h: Matrix, layer: Layer, _ extents: TokenExtents) {
    apply(layer, to: h, into: qkv)
    rotate(qkv, inverse: false, extents)
  }

  func rotate(_ qkv: MutableMatrix, inverse: Bool, _ extents: TokenExtents) {
    guard let rotary else { return }
    context.rotate(qkv: qkv, table: rotary, inverse: inverse, extents.attention, prefix: extents.prefix)
  }

  /// result = residual + gate · attention(h); without a residual, result is its memory
  func attend(
    _ index: Int, _ ws: BlockActivations, result: MutableMatrix, residual: Matrix?, h: Matrix, _ modulation: Modulation,
    scratch: MutableFloatSlice, _ extents: TokenExtents, _ source: LayerSource
  ) {
    let (block, rows) = (weights.table.blocks[index], extents.rows)
    let (qkv, attended) = (ws.qkv.prefix(rows), ws.attention.prefix(rows))
    project(qkv, h: h, layer: layer(block.qkv, source), extents)
    context.attention(
      output: attended, logsumexp: ws.logsumexp,
      extents.operands(
        qkv: qkv.reading, modulation, block: index, scratch: scratch, isPacked: isPacked))
    closeHalf(
      block.proj, to: attended.reading, result: result, residual: residual, gate: modulation.gateMSA(index),
      sums: ws.attentionProjected, isSaved: ws.isSaved, extents, source)
  }

  /// result = residual + gate · mlp(h), the hidden layer in `hidden`; without a residual, result is its memory
  func feedForward(
    _ index: Int, _ ws: BlockActivations, result: MutableMatrix, residual: Matrix?, h: Matrix, hidden: MutableMatrix,
    _ modulation: Modulation, _ extents: TokenExtents, _ source: LayerSource
  ) {
    let block = weights.table.blocks[index]
    apply(
      layer(block.fc1, source), to: h, into: hidden,
      epilogue: .gelu(sums: ws.isSaved ? .kept(ws.preactivation.prefix(extents.rows)) : nil))
    closeHalf(
      block.fc2, to: hidden.reading, result: result, residual: residual, gate: modulation.gateMLP(index),
      sums: ws.mlpProjected, isSaved: ws.isSaved, extents, source)
  }

  /// result = residual + gate · Linear(x): the end of each half of a block.
  func closeHalf(
    _ affine: ParameterTable.LinearParameters, to x: Matrix, result: MutableMatrix, residual: Matrix?,
    gate: MutableMatrix, sums: MutableMatrix, isSaved: Bool, _ extents: TokenExtents, _ source: LayerSource
  ) {
    let sums = sums.prefix(extents.rows)
    apply(
      layer(affine, source), to: x, into: result,
      epilogue: .gateResidual(
        residual: residual, gate: gate.reading, tokens: extents.tokens, sums: isSaved ? .kept(sums) : .scratch(sums)))
  }

  /// output = unpatchify(Linear(h))
  func decode(
    _ output: consuming MutableSpan<Float>, h: Matrix, patches: MutableFloatSlice, samples: Int, _ source: LayerSource
  ) {
    let (grid, table) = (configuration.outputGrid, weights.table)
    apply(
      layer(table.finalLinear, source, format: .fp32), to: h,
      into: MutableMatrix(patches, rows: h.rows, columns: grid.patchElements))
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
    let source = inferenceSource(ws, samples: samples)
    let extents = TokenExtents(c, samples: samples, prefixKeys: sequence?.prefixKeys ?? [])
    let rows = extents.rows
    let (x, h, hidden) = (ws.tokens.prefix(rows), ws.h.prefix(rows).reused(as: format), a.preactivation.prefix(rows))
    embed(
      ws.tokens, patches: ws.patches, images: images, modulation: modulation, sequence: sequence, samples: samples,
      source)
    for i in 0..<c.depth {
      normalise(
        h, x.reading, mean: a.mean1, rstd: a.rstd1, shift: modulation.shiftMSA(i), scale: modulation.scaleMSA(i),
        tokens: extents.tokens)
      attend(
        i, a, result: x, residual: nil, h: h.reading, modulation, scratch: ws.scratch, extents, source)
      normalise(
        h, x.reading, mean: a.mean1, rstd: a.rstd1, shift: modulation.shiftMLP(i), scale: modulation.scaleMLP(i),
        epsilon: norm2Epsilon, tokens: extents.tokens)
      feedForward(i, a, result: x, residual: nil, h: h.reading, hidden: hidden, modulation, extents, source)
    }
    gatherImageTokens(ws.tokens.memory, samples: samples)
    let (image, last) = (ws.tokens.prefix(samples * c.tokens), ws.h.prefix(samples * c.tokens))
    normalise(
      last, image.reading, mean: a.mean1, rstd: a.rstd1, shift: modulation.finalShift, scale: modulation.finalScale,
      tokens: c.tokens)
    decode(output, h: last.reading, patches: ws.patches, samples: samples, source)
  }
}
