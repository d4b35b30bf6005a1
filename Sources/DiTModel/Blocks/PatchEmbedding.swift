import DiTKernels
import DiTTensor

/// Pictures become tokens: tokens = patches Wᵀ + b + positions, or with a bottleneck (patches W₁ᵀ + b₁) W₂ᵀ + b₂ + positions.
struct PatchEmbedding: Sendable {
  /// The position table's index; nil with rotary positions alone.
  let positions: Int?
  /// Into the bottleneck, where there is one.
  let first: LinearLayer?
  let last: LinearLayer

  init(_ c: DiTConfiguration, _ b: inout ParameterBuilder) {
    let (d, patch) = (c.hiddenSize, [c.inChannels, c.patchSize, c.patchSize])
    positions =
      c.position.hasTable
      ? b.add(
        "pos_embed", [1, c.positionTokens, d], .sinCosPositions(prefix: c.positionTokens - c.tokens),
        isTrained: c.position.isLearned) : nil
    if let width = c.patchBottleneck {
      first = b.linear("x_embedder.proj1", shape: [width] + patch, hasBias: c.bias.patchBottleneck)
      last = b.linear("x_embedder.proj2", shape: [d, width, 1, 1])
    } else {
      first = nil
      last = b.linear("x_embedder.proj", shape: [d] + patch)
    }
  }

  var layers: [LinearLayer] { [first, last].compactMap(\.self) }

  /// The image's tokens, (samples · L, D), at the start of `tokens`.
  func forward(_ pass: ForwardPass, images: Span<Float>, into tokens: MutableMatrix) {
    let (c, network) = (pass.configuration, pass.network)
    let (rows, patches) = (pass.samples * c.tokens, pass.memory.patches)
    patchify(
      patches: patches.mutableSpan, images: images, samples: pass.samples, grid: c.inputGrid, order: .channelFirst)
    var input = Matrix(patches.reading, rows: rows, columns: c.inputGrid.patchElements)
    if let first {
      let narrow = pass.memory.bottleneck.prefix(rows)
      network.apply(first, pass.source, to: input, into: narrow)
      input = narrow.reading
    }
    // Of a table with rows for other tokens too, the image's are the last.
    let table = positions.map { index in
      let all = pass.weights.slices[index]
      return Matrix(
        all[all.count - c.tokens * c.hiddenSize..<all.count], rows: c.tokens, columns: c.hiddenSize)
    }
    network.apply(
      last, pass.source, to: input, into: tokens.prefix(rows), epilogue: table.map { .addRows($0) } ?? .store)
    guard c.conditioning == .additive else { return }
    for n in 0..<pass.samples {
      let image = tokens.memory[n * c.tokens * c.hiddenSize..<(n + 1) * c.tokens * c.hiddenSize]
      pass.context.add(
        pass.modulation.condition(n).reading,
        toRows: MutableMatrix(image, rows: c.tokens, columns: c.hiddenSize))
    }
  }

  /// The gradients of the layers, of a learned table and with `additive` of the condition, from the image's tokens'.
  func backward(_ pass: BackwardPass, images: Span<Float>) {
    let (c, context, patches) = (pass.c, pass.context, pass.ws.patches)
    let (rows, dtokens) = (pass.samples * c.tokens, pass.ws.tokenGradient.prefix(pass.samples * c.tokens).reading)
    if c.position.isLearned, let positions {
      let all = pass.gradient(positions)
      let size = c.tokens * c.hiddenSize
      context.addSum(
        into: all[all.count - size..<all.count],
        ofRows: Matrix(dtokens.memory, rows: pass.samples, columns: size))
    }
    for n in 0..<pass.samples where c.conditioning == .additive {
      let size = c.tokens * c.hiddenSize
      let condition = pass.modulationGradient.condition(n)
      condition.fill(0)
      context.addSum(
        into: condition,
        ofRows: Matrix(dtokens.memory[n * size..<(n + 1) * size], rows: c.tokens, columns: c.hiddenSize))
    }
    patchify(
      patches: patches.mutableSpan, images: images, samples: pass.samples, grid: c.inputGrid, order: .channelFirst)
    let input = Matrix(patches.reading, rows: rows, columns: c.inputGrid.patchElements)
    guard let first else { return pass.throughFloat32(last, into: nil, dtokens, input) }
    let (narrow, dnarrow) = (pass.ws.bottleneck.prefix(rows), pass.ws.bottleneckGradient.prefix(rows))
    pass.network.apply(first, .blas(parts: 1), to: input, into: narrow)
    pass.throughFloat32(last, into: dnarrow, dtokens, narrow.reading)
    pass.throughFloat32(first, into: nil, dnarrow.reading, input)
  }
}
