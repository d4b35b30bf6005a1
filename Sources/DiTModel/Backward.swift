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
  ///   - times, labels: one a sample, as in ``modulate(times:labels:into:)``.
  public func trainingForward(
    output: consuming MutableSpan<Float>, images: Span<Float>, times: Span<Float>, labels: Span<Int>,
    workspace ws: TrainingWorkspace
  ) {
    let samples = times.count
    checkBatch(samples, images.count, ws)
    let modulation = Modulation(configuration, rows: samples, values: ws.modulation)
    let h = Activation(ws.h, numerics.precision)
    let hidden = Activation(ws.hidden, numerics.precision)
    let source = trainingSource(ws)
    modulate(times: times, labels: labels, into: modulation, saving: ws.conditioning.prefix(configuration, samples))
    embed(ws.tokens[0], patches: ws.patches, images: images, samples: samples, source)
    for (i, block) in weights.table.blocks.enumerated() {
      let a = ws.blocks[i]
      normalise(
        h, ws.tokens[i], mean: a.mean1, rstd: a.rstd1, shift: modulation.shiftMSA(i),
        scale: modulation.scaleMSA(i), samples: samples)
      attend(
        block, a, result: ws.middle[i], x: ws.tokens[i], h: h, gate: modulation.gateMSA(i), scratch: ws.scratch,
        samples: samples, source)
      normalise(
        h, ws.middle[i], mean: a.mean2, rstd: a.rstd2, shift: modulation.shiftMLP(i),
        scale: modulation.scaleMLP(i), samples: samples)
      feedForward(
        block, a, result: ws.tokens[i + 1], x: ws.middle[i], h: h, hidden: hidden, gate: modulation.gateMLP(i),
        samples: samples, source)
    }
    normalise(
      Activation(ws.h), ws.tokens[configuration.depth], mean: ws.finalMean, rstd: ws.finalRstd,
      shift: modulation.finalShift, scale: modulation.finalScale, samples: samples)
    decode(output, h: ws.h, patches: ws.patches, samples: samples, source)
  }

  /// Where a training step takes its layers from: packed just before use, because the weights change.
  fileprivate func trainingSource(_ ws: TrainingWorkspace) -> LayerSource {
    isPacked ? .packing(ws.packing, numerics.precision) : .blas
  }

  /// Adds the gradient of a loss to `gradients`, given its gradient with respect to the last ``trainingForward``'s
  /// output, of the same images, times, labels and workspace.
  ///
  /// - Parameters:
  ///   - gradients: flat, with the parameter table's offsets; added to.
  ///   - outputGradient: (N, C', H, W).
  public func backward(
    gradients: Slice, outputGradient: Span<Float>, images: Span<Float>, labels: Span<Int>, samples: Int,
    workspace ws: TrainingWorkspace
  ) {
    checkBatch(samples, images.count, ws)
    precondition(outputGradient.count == samples * configuration.outputElements, "\(outputGradient.count) gradients")
    precondition(
      weights.table.labels == nil || labels.count == samples, "\(labels.count) labels for \(samples) samples")
    let pass = BackwardPass(network: self, gradients: gradients, ws: ws, samples: samples)
    pass.finalLayer(outputGradient)
    for index in stride(from: configuration.depth - 1, through: 0, by: -1) {
      pass.feedForward(index)
      pass.attention(index)
    }
    pass.patchEmbedding(images)
    pass.conditioning(labels)
  }

  private func checkBatch(_ samples: Int, _ elements: Int, _ ws: TrainingWorkspace) {
    precondition(ws.configuration == configuration && samples <= ws.samples && samples > 0, "another workspace")
    precondition(ws.numerics == numerics, "a workspace of other numerics")
    precondition(elements == samples * configuration.imageElements, "\(elements) elements for \(samples) images")
  }
}

extension ConditioningRows {
  /// The first `rows` rows.
  func prefix(_ c: DiTConfiguration, _ rows: Int) -> ConditioningRows {
    ConditioningRows(
      frequencies: frequencies[0..<rows * timeFrequencyCount], hidden: hidden[0..<rows * c.hiddenSize],
      activated: activated[0..<rows * c.hiddenSize], conditioning: conditioning[0..<rows * c.hiddenSize],
      activatedConditioning: activatedConditioning[0..<rows * c.hiddenSize])
  }

  private init(
    frequencies: Slice, hidden: Slice, activated: Slice, conditioning: Slice, activatedConditioning: Slice
  ) {
    self.frequencies = frequencies
    self.hidden = hidden
    self.activated = activated
    self.conditioning = conditioning
    self.activatedConditioning = activatedConditioning
  }
}

private struct BackwardPass {
  let network: DiTNetwork
  let gradients: Slice
  let ws: TrainingWorkspace
  let samples: Int

  var c: DiTConfiguration { network.configuration }
  var context: ComputeContext { network.context }
  var table: ParameterTable { network.weights.table }
  var d: Int { c.hiddenSize }
  var rows: Int { samples * c.tokens }
  var extents: TokenExtents { TokenExtents(c, samples: samples) }
  var modulation: Modulation { Modulation(c, rows: samples, values: ws.modulation) }
  var modulationGradient: Modulation { Modulation(c, rows: samples, values: ws.modulationGradient) }

  var source: LayerSource { network.trainingSource(ws) }
  var precision: Precision { network.numerics.precision }
  // The operands of a block's products; the ends' and the conditioning's are float32.
  var h: Activation { Activation(ws.h, precision) }
  var hidden: Activation { Activation(ws.hidden, precision) }
  var wideGradient: Activation { Activation(ws.wideGradient, precision) }
  var outputGradient: Activation { Activation(ws.outputGradient, precision) }

  private func gradient(_ index: Int) -> Slice { gradients[table.parameters[index].range] }

  /// y = x Wᵀ + b: dW += dyᵀ x, db += Σ dy.
  private func weightGradient(
    _ layer: ParameterTable.Affine, outputGradient: Activation, input: Activation, rows: Int, isPacked: Bool
  ) {
    let (inputs, outputs) = table.extents(layer)
    context.linearBackwardWeight(
      weightGradient: gradient(layer.weight), biasGradient: gradient(layer.bias), outputGradient: outputGradient,
      input: input, scratch: isPacked ? ws.gradientScratch : nil, rows: rows, inputs: inputs, outputs: outputs)
  }

  /// A layer inside a block: its gradients and dx = dy W.
  private func blockLayer(
    _ layer: ParameterTable.Affine, inputGradient: Activation, outputGradient: Activation, input: Activation
  ) {
    weightGradient(layer, outputGradient: outputGradient, input: input, rows: rows, isPacked: network.isPacked)
    context.linearBackwardInput(
      inputGradient: inputGradient, outputGradient: outputGradient, layer: network.backwardLayer(layer, source),
      rows: rows)
  }

  /// A layer of the ends or the conditioning: float32, by OpenBLAS; dx where the caller wants it.
  private func outerLayer(
    _ layer: ParameterTable.Affine, inputGradient: Slice?, outputGradient: Slice, input: Slice, rows: Int,
    accumulating: Bool = false
  ) {
    weightGradient(
      layer, outputGradient: Activation(outputGradient), input: Activation(input), rows: rows, isPacked: false)
    guard let inputGradient else { return }
    context.linearBackwardInput(
      inputGradient: Activation(inputGradient), outputGradient: Activation(outputGradient),
      layer: network.backwardLayer(layer, .blas), rows: rows, accumulating: accumulating)
  }

  /// The forward's h again: modulate(layerNorm(x), shift, scale).
  private func recompute(
    _ h: Activation, _ x: Slice, mean: Slice, rstd: Slice, shift: Modulation.Chunk, scale: Modulation.Chunk
  ) {
    context.modulateFromStatistics(output: h, mean: mean, rstd: rstd, input: x, shift: shift, scale: scale, extents)
  }

  /// h = modulate(layerNorm(x), shift, scale): dx += …, dshift, dscale, from dh in `hGradient`.
  private func normalisation(
    _ x: Slice, mean: Slice, rstd: Slice, scale: Modulation.Chunk, shiftGradient: Modulation.Chunk,
    scaleGradient: Modulation.Chunk
  ) {
    context.layerNormModulateBackward(
      inputGradient: ws.tokenGradient, shiftGradient: shiftGradient, scaleGradient: scaleGradient,
      scratch: ws.reduction, outputGradient: ws.hGradient, mean: mean, rstd: rstd, input: x, scale: scale, extents)
  }

  /// x' = x + gate · y: dy = gate · dx', dgate = Σ dx' y; dx' passes on as dx.
  private func gate(_ y: Activation, gate: Modulation.Chunk, gradient: Modulation.Chunk) {
    context.gateBackward(
      outputGradient: outputGradient, gateGradient: gradient, scratch: ws.reduction,
      residualGradient: ws.tokenGradient, output: y, gate: gate, extents)
  }

  // output = unpatchify(Linear(h)), h = modulate(layerNorm(x), shift, scale)
  func finalLayer(_ outputGradient: Span<Float>) {
    let (m, dm) = (modulation, modulationGradient)
    let x = ws.tokens[c.depth]
    let patches = ws.patches
    patchify(
      patches: patches.mutableSpan, images: outputGradient, samples: samples, grid: c.outputGrid,
      order: .channelLast)
    recompute(
      Activation(ws.h), x, mean: ws.finalMean, rstd: ws.finalRstd, shift: m.finalShift, scale: m.finalScale)
    outerLayer(
      table.finalLinear, inputGradient: ws.hGradient, outputGradient: ws.patches, input: ws.h, rows: rows)
    ws.tokenGradient[0..<rows * d].fill(0)
    normalisation(
      x, mean: ws.finalMean, rstd: ws.finalRstd, scale: m.finalScale, shiftGradient: dm.finalShift,
      scaleGradient: dm.finalScale)
  }

  // x' = x + gate · fc2(gelu(fc1(h))), h = modulate(layerNorm(x), shift, scale)
  func feedForward(_ i: Int) {
    let (m, dm, a, block) = (modulation, modulationGradient, ws.blocks[i], table.blocks[i])
    recompute(h, ws.middle[i], mean: a.mean2, rstd: a.rstd2, shift: m.shiftMLP(i), scale: m.scaleMLP(i))
    if ws.recomputes { hiddenSums(again: a.preactivation, network.layer(block.fc1, source)) }
    gate(a.mlpProjected, gate: m.gateMLP(i), gradient: dm.gateMLP(i))
    context.linearBackwardGELU(
      preactivationGradient: wideGradient, hidden: hidden, preactivation: a.preactivation,
      outputGradient: outputGradient, layer: network.backwardLayer(block.fc2, source), rows: rows)
    weightGradient(
      block.fc2, outputGradient: outputGradient, input: hidden, rows: rows, isPacked: network.isPacked)
    blockLayer(block.fc1, inputGradient: Activation(ws.hGradient), outputGradient: wideGradient, input: h)
    normalisation(
      ws.middle[i], mean: a.mean2, rstd: a.rstd2, scale: m.scaleMLP(i), shiftGradient: dm.shiftMLP(i),
      scaleGradient: dm.scaleMLP(i))
  }

  /// fc1(h) with the forward's bits. Without packing those are `linearGELU`'s: `linear` adds few rows in another order.
  private func hiddenSums(again preactivation: Activation, _ fc1: Layer) {
    if fc1.packed != nil {
      context.linear(output: preactivation, input: h, layer: fc1, rows: rows)
    } else {
      context.linearGELU(
        output: hidden, preactivation: preactivation, saving: true, input: h, layer: fc1, rows: rows)
    }
  }

  // x' = x + gate · proj(attention(qkv(h))), h = modulate(layerNorm(x), shift, scale)
  func attention(_ i: Int) {
    let (m, dm, a, block) = (modulation, modulationGradient, ws.blocks[i], table.blocks[i])
    recompute(h, ws.tokens[i], mean: a.mean1, rstd: a.rstd1, shift: m.shiftMSA(i), scale: m.scaleMSA(i))
    if ws.recomputes {
      context.linear(output: a.qkv, input: h, layer: network.layer(block.qkv, source), rows: rows)
    }
    gate(a.attentionProjected, gate: m.gateMSA(i), gradient: dm.gateMSA(i))
    let attentionGradient = Activation(ws.hGradient, precision)
    blockLayer(
      block.proj, inputGradient: attentionGradient, outputGradient: outputGradient, input: a.attention)
    context.attentionBackward(
      qkvGradient: wideGradient, scratch: ws.scratch, outputGradient: attentionGradient, output: a.attention,
      logsumexp: a.logsumexp, qkv: a.qkv, isPacked: network.isPacked, extents)
    blockLayer(block.qkv, inputGradient: Activation(ws.hGradient), outputGradient: wideGradient, input: h)
    normalisation(
      ws.tokens[i], mean: a.mean1, rstd: a.rstd1, scale: m.scaleMSA(i), shiftGradient: dm.shiftMSA(i),
      scaleGradient: dm.scaleMSA(i))
  }

  // tokens = patches Wᵀ + b + positions
  func patchEmbedding(_ images: Span<Float>) {
    let patches = ws.patches
    patchify(
      patches: patches.mutableSpan, images: images, samples: samples, grid: c.inputGrid, order: .channelFirst)
    outerLayer(
      table.patchEmbedding, inputGradient: nil, outputGradient: ws.tokenGradient, input: ws.patches, rows: rows)
  }

  // modulation = Linear(silu(c)), c = fc2(silu(fc0(freq(t)))) + table[y]
  func conditioning(_ labels: Span<Int>) {
    let (saved, dm) = (ws.conditioning.prefix(c, samples), modulationGradient)
    let (dc, dhidden) = (ws.rowGradient[0..<samples * d], ws.rowGradient2[0..<samples * d])
    for index in 0...c.depth {
      let layer = index == c.depth ? table.finalAdaLN : table.blocks[index].adaLN
      outerLayer(
        layer, inputGradient: dhidden, outputGradient: dm.block(index), input: saved.activatedConditioning,
        rows: samples, accumulating: index > 0)
    }
    context.siluBackward(inputGradient: dc, outputGradient: dhidden, input: saved.conditioning)
    if let index = table.labels {
      addEmbeddingBackward(
        tableGradient: gradient(index), outputGradient: dc, labels: labels, width: d)
    }
    outerLayer(
      table.time2, inputGradient: dhidden, outputGradient: dc, input: saved.activated, rows: samples)
    context.siluBackward(inputGradient: dc, outputGradient: dhidden, input: saved.hidden)
    outerLayer(
      table.time0, inputGradient: nil, outputGradient: dc, input: saved.frequencies, rows: samples)
  }
}
