import DiTKernels
import DiTTensor

// A training step's forward pass, which saves what its backward pass reads, and the backward pass. Above each part of
// the backward stand the forward lines it differentiates. Gradients of parameters are added to; the caller zeroes them.

extension DiTNetwork {
  /// One evaluation that can be differentiated.
  ///
  /// - Parameters:
  ///   - output: (N, C', H, W); overwritten.
  ///   - images: (N, C, H, W); `patches` for the backward pass are cut from them again.
  ///   - times, labels: one per sample, as in ``modulate(times:labels:into:)``.
  ///   - sequence: N sequences where the network is conditioned by one.
  public func trainingForward(
    output: consuming MutableSpan<Float>, images: Span<Float>, times: Span<Float>, labels: Span<Int>,
    sequence: SequenceInput? = nil, workspace ws: TrainingWorkspace
  ) {
    let samples = times.count
    checkBatch(samples, images.count, ws)
    checkSequence(sequence?.samples, of: samples)
    let modulation = Modulation(configuration, rows: samples, values: ws.modulation)
    let source = trainingSource(ws)
    modulate(times: times, labels: labels, into: modulation, saving: ws.conditioning)
    let embedded = sequence.map { embed($0, into: ws.sequence, patches: ws.sequencePatches) }
    let extents = TokenExtents(configuration, samples: samples, prefixKeys: sequence?.prefixKeys ?? [])
    let rows = extents.rows
    let (h, hidden) = (ws.h.prefix(rows), ws.hidden.prefix(rows))
    embed(
      ws.tokens[0], patches: ws.patches, images: images, modulation: modulation, sequence: embedded, samples: samples,
      source)
    for i in 0..<configuration.depth {
      let (a, x, y) = (ws.blocks[i], ws.tokens[i].prefix(rows), ws.afterAttention[i].prefix(rows))
      normalise(
        h, x.reading, mean: a.mean1, rstd: a.rstd1, shift: modulation.shiftMSA(i), scale: modulation.scaleMSA(i),
        tokens: extents.tokens)
      attend(
        i, a, result: y, residual: x.reading, h: h.reading, modulation, scratch: ws.scratch, extents, source)
      normalise(
        h, y.reading, mean: a.mean2, rstd: a.rstd2, shift: modulation.shiftMLP(i), scale: modulation.scaleMLP(i),
        epsilon: norm2Epsilon, tokens: extents.tokens)
      feedForward(
        i, a, result: ws.tokens[i + 1].prefix(rows), residual: y.reading, h: h.reading, hidden: hidden, modulation,
        extents, source)
    }
    let last = ws.tokens[configuration.depth]
    gatherImageTokens(last.memory, samples: samples)
    let imageRows = samples * configuration.tokens
    normalise(
      ws.finalH.prefix(imageRows), last.prefix(imageRows).reading, mean: ws.finalMean, rstd: ws.finalRstd,
      shift: modulation.finalShift, scale: modulation.finalScale, tokens: configuration.tokens)
    decode(output, h: ws.finalH.prefix(imageRows).reading, patches: ws.patches, samples: samples, source)
    ws.holdsForward = true
  }

  /// Where a training step takes its layers from: packed just before use, because the weights change.
  func trainingSource(_ ws: TrainingWorkspace) -> LayerSource {
    isPacked ? .packing(ws.packing, format) : .blas(parts: 1)
  }

  /// Adds the gradient of a loss to `gradients`, given its gradient with respect to the last ``trainingForward``'s
  /// output, of the same images, times, labels, sequence and workspace. Once for each forward pass, whose activations it
  /// overwrites.
  ///
  /// - Parameters:
  ///   - gradients: flat, with the parameter table's offsets; added to.
  ///   - outputGradient: (N, C', H, W).
  public func backward(
    gradients: MutableFloatSlice, outputGradient: Span<Float>, images: Span<Float>, labels: Span<Int>,
    sequence: SequenceInput? = nil, samples: Int, workspace ws: TrainingWorkspace
  ) {
    checkBatch(samples, images.count, ws)
    checkSequence(sequence?.samples, of: samples)
    precondition(ws.holdsForward, "a backward pass without a forward pass of its own")
    ws.holdsForward = false
    precondition(outputGradient.count == samples * configuration.outputElements, "\(outputGradient.count) gradients")
    precondition(
      configuration.labelRows == 0 || labels.count == samples, "\(labels.count) labels for \(samples) samples")
    let extents = TokenExtents(configuration, samples: samples, prefixKeys: sequence?.prefixKeys ?? [])
    let pass = BackwardPass(network: self, gradients: gradients, ws: ws, samples: samples, extents: extents)
    pass.finalLayer(outputGradient)
    for index in stride(from: configuration.depth - 1, through: 0, by: -1) {
      pass.feedForward(index)
      pass.attention(index)
    }
    if let sequence { pass.sequence(sequence) }
    pass.tokens()
    pass.patchEmbedding(images)
    pass.conditioning(labels)
  }

  /// A step forward and back: the output, the loss's gradient with respect to it, and what that adds to `gradients`.
  ///
  /// Parameters as in ``trainingForward`` and ``backward``, and:
  /// - Parameters:
  ///   - output, outputGradient: memory for both, (N, C', H, W).
  ///   - loss: writes the loss's gradient with respect to `output`, which then holds the network's; channels that it leaves
  ///     keep what `outputGradient` held.
  public func differentiate(
    images: Span<Float>, times: Span<Float>, labels: Span<Int>, sequence: SequenceInput? = nil,
    output: MutableFloatSlice, outputGradient: MutableFloatSlice, into gradients: MutableFloatSlice,
    workspace: TrainingWorkspace, loss: (_ outputGradient: inout MutableSpan<Float>) -> Void
  ) {
    trainingForward(
      output: output.mutableSpan, images: images, times: times, labels: labels, sequence: sequence,
      workspace: workspace)
    var gradient = outputGradient.mutableSpan
    loss(&gradient)
    backward(
      gradients: gradients, outputGradient: outputGradient.span, images: images, labels: labels, sequence: sequence,
      samples: times.count, workspace: workspace)
  }

  private func checkBatch(_ samples: Int, _ elements: Int, _ ws: TrainingWorkspace) {
    precondition(ws.configuration == configuration && samples <= ws.samples && samples > 0, "another workspace")
    precondition(ws.numerics == numerics, "a workspace of other numerics")
    precondition(elements == samples * configuration.imageElements, "\(elements) elements for \(samples) images")
  }
}
