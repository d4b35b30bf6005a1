import DiTKernels
import DiTTensor

// The backward pass, part by part. Above each stand the forward lines it differentiates.

struct BackwardPass {
  let network: DiTNetwork
  let gradients: Slice
  let ws: TrainingWorkspace
  let samples: Int
  let extents: TokenExtents

  var c: DiTConfiguration { network.configuration }
  var context: ComputeContext { network.context }
  var table: ParameterTable { network.weights.table }
  var d: Int { c.hiddenSize }
  /// Rows of the blocks; of the patch embedding and the final layer.
  var rows: Int { extents.rows }
  var imageRows: Int { samples * c.tokens }
  var modulation: Modulation { Modulation(c, rows: samples, values: ws.modulation) }
  var modulationGradient: Modulation { Modulation(gradients: c, rows: samples, values: ws.modulationGradient) }

  var source: LayerSource { network.trainingSource(ws) }
  var precision: Precision { network.numerics.precision }
  // The operands of a block's products; those of the other layers are float32.
  var h: Activation { Activation(ws.h, precision) }
  var hidden: Activation { Activation(ws.hidden, precision) }
  var projectionGradient: Activation { Activation(ws.projectionGradient, precision) }
  var outputGradient: Activation { Activation(ws.outputGradient, precision) }

  private func gradient(_ index: Int) -> Slice { gradients[table.parameters[index].range] }

  /// y = x Wᵀ + b: dW += dyᵀ x, db += Σ dy.
  private func weightGradient(
    _ layer: ParameterTable.LinearParameters, outputGradient: Activation, input: Activation, rows: Int, isPacked: Bool
  ) {
    let (inputs, outputs) = table.extents(layer)
    context.linearBackwardWeight(
      weightGradient: gradient(layer.weight), biasGradient: gradient(layer.bias), outputGradient: outputGradient,
      input: input, scratch: isPacked ? ws.gradientScratch : nil, rows: rows, inputs: inputs, outputs: outputs)
  }

  /// A layer inside a block: its gradients and dx = dy W.
  private func blockLayer(
    _ layer: ParameterTable.LinearParameters, inputGradient: Activation, outputGradient: Activation, input: Activation
  ) {
    weightGradient(layer, outputGradient: outputGradient, input: input, rows: rows, isPacked: network.isPacked)
    context.linearBackwardInput(
      inputGradient: inputGradient, outputGradient: outputGradient, layer: network.backwardLayer(layer, source),
      rows: rows)
  }

  /// The patch embedding, the final layer or a layer of the conditioning: float32, by OpenBLAS; dx unless
  /// `inputGradient` is nil.
  private func float32Layer(
    _ layer: ParameterTable.LinearParameters, inputGradient: Slice?, outputGradient: Slice, input: Slice, rows: Int,
    accumulating: Bool = false
  ) {
    weightGradient(
      layer, outputGradient: Activation(outputGradient), input: Activation(input), rows: rows, isPacked: false)
    guard let inputGradient else { return }
    context.linearBackwardInput(
      inputGradient: Activation(inputGradient), outputGradient: Activation(outputGradient),
      layer: network.backwardLayer(layer, .blas(parts: 1)), rows: rows, accumulating: accumulating)
  }

  /// The forward's h again: modulate(layerNorm(x), shift, scale).
  private func recompute(
    _ h: Activation, _ x: Slice, mean: Slice, rstd: Slice, shift: Modulation.Chunk, scale: Modulation.Chunk,
    _ extents: TokenExtents
  ) {
    context.modulateFromStatistics(output: h, mean: mean, rstd: rstd, input: x, shift: shift, scale: scale, extents)
  }

  /// h = modulate(layerNorm(x), shift, scale): dx += …, dshift, dscale, from dh in `hGradient`.
  private func normalisation(
    _ x: Slice, mean: Slice, rstd: Slice, scale: Modulation.Chunk, shiftGradient: Modulation.Chunk,
    scaleGradient: Modulation.Chunk, _ extents: TokenExtents
  ) {
    context.layerNormModulateBackward(
      inputGradient: ws.tokenGradient, shiftGradient: shiftGradient, scaleGradient: scaleGradient,
      scratch: ws.reduction, outputGradient: ws.hGradient, mean: mean, rstd: rstd, input: x, scale: scale, extents)
  }

  /// x' = x + gate · y: dy = gate · dx', dgate = Σ dx' y; dx' passes on as dx.
  private func residualGate(_ y: Activation, gate: Modulation.Chunk, gradient: Modulation.Chunk) {
    context.gateBackward(
      outputGradient: outputGradient, gateGradient: gradient, scratch: ws.reduction,
      residualGradient: ws.tokenGradient, output: y, gate: gate, extents)
  }

  // output = unpatchify(Linear(h)), h = modulate(layerNorm(x), shift, scale)
  func finalLayer(_ outputGradient: Span<Float>) {
    let (m, dm) = (modulation, modulationGradient)
    let x = ws.tokens[c.depth]
    let patches = ws.patches
    let extents = TokenExtents(imagesOf: c, samples: samples)
    patchify(
      patches: patches.mutableSpan, images: outputGradient, samples: samples, grid: c.outputGrid,
      order: .channelLast)
    recompute(
      Activation(ws.h), x, mean: ws.finalMean, rstd: ws.finalRstd, shift: m.finalShift, scale: m.finalScale, extents)
    float32Layer(
      table.finalLinear, inputGradient: ws.hGradient, outputGradient: ws.patches, input: ws.h, rows: imageRows)
    ws.tokenGradient[0..<imageRows * d].fill(0)
    normalisation(
      x, mean: ws.finalMean, rstd: ws.finalRstd, scale: m.finalScale, shiftGradient: dm.finalShift,
      scaleGradient: dm.finalScale, extents)
    network.spreadImageTokens(ws.tokenGradient, samples: samples)
    let prefix = c.prefixTokens * d
    for n in 0..<samples where prefix > 0 {
      ws.tokenGradient[n * c.totalTokens * d..<n * c.totalTokens * d + prefix].fill(0)
    }
  }

  // x' = x + gate · fc2(gelu(fc1(h))), h = modulate(layerNorm(x), shift, scale)
  func feedForward(_ i: Int) {
    let (m, dm, a, block) = (modulation, modulationGradient, ws.blocks[i], table.blocks[i])
    if ws.recomputes { recomputeAfterAttention(i) }
    recompute(
      h, ws.afterAttention[i], mean: a.mean2, rstd: a.rstd2, shift: m.shiftMLP(i), scale: m.scaleMLP(i), extents)
    if ws.recomputes { recomputeMLP(i) }
    residualGate(a.mlpProjected, gate: m.gateMLP(i), gradient: dm.gateMLP(i))
    context.linearBackwardGELU(
      preactivationGradient: projectionGradient, hidden: hidden, preactivation: a.preactivation,
      outputGradient: outputGradient, layer: network.backwardLayer(block.fc2, source), rows: rows)
    weightGradient(
      block.fc2, outputGradient: outputGradient, input: hidden, rows: rows, isPacked: network.isPacked)
    blockLayer(block.fc1, inputGradient: Activation(ws.hGradient), outputGradient: projectionGradient, input: h)
    normalisation(
      ws.afterAttention[i], mean: a.mean2, rstd: a.rstd2, scale: m.scaleMLP(i), shiftGradient: dm.shiftMLP(i),
      scaleGradient: dm.scaleMLP(i), extents)
  }

  /// x + gate · proj(attention), and what the gate multiplies, exactly as in the forward pass.
  private func recomputeAfterAttention(_ i: Int) {
    let a = ws.blocks[i]
    context.linearGateResidual(
      result: ws.afterAttention[i], output: a.attentionProjected, saving: true, residual: ws.tokens[i],
      input: a.attention,
      layer: network.layer(table.blocks[i].proj, source), gate: modulation.gateMSA(i), samples: samples,
      tokens: extents.tokens)
  }

  /// The MLP's pre-activation and output again, exactly as in the forward pass. The result is written to `outputGradient`,
  /// whose next writer is the gate's backward; it is not used.
  private func recomputeMLP(_ i: Int) {
    network.feedForward(
      table.blocks[i], ws.blocks[i], result: ws.outputGradient, x: ws.afterAttention[i], h: h, hidden: hidden,
      gate: modulation.gateMLP(i), extents, source)
  }

  // x' = x + gate · proj(attention(qkv(h))), h = modulate(layerNorm(x), shift, scale)
  func attention(_ i: Int) {
    let (m, dm, a, block) = (modulation, modulationGradient, ws.blocks[i], table.blocks[i])
    recompute(h, ws.tokens[i], mean: a.mean1, rstd: a.rstd1, shift: m.shiftMSA(i), scale: m.scaleMSA(i), extents)
    if ws.recomputes { network.project(a.qkv, h: h, layer: network.layer(block.qkv, source), extents) }
    residualGate(a.attentionProjected, gate: m.gateMSA(i), gradient: dm.gateMSA(i))
    let attentionGradient = Activation(ws.hGradient, precision)
    blockLayer(
      block.proj, inputGradient: attentionGradient, outputGradient: outputGradient, input: a.attention)
    context.attentionBackward(
      qkvGradient: projectionGradient, queryDots: c.attention.hasGate ? dm.scales(i) : dm.scales(i)[0..<0],
      scratch: ws.scratch, outputGradient: attentionGradient, output: a.attention, logsumexp: a.logsumexp, qkv: a.qkv,
      isPacked: network.isPacked, scales: m.scales(i), widths: m.widths, extents)
    network.rotate(projectionGradient, inverse: true, extents)
    blockLayer(block.qkv, inputGradient: Activation(ws.hGradient), outputGradient: projectionGradient, input: h)
    normalisation(
      ws.tokens[i], mean: a.mean1, rstd: a.rstd1, scale: m.scaleMSA(i), shiftGradient: dm.shiftMSA(i),
      scaleGradient: dm.scaleMSA(i), extents)
  }

  // The rows before the image's: the sequence's embedding + positions, after the in-context tokens.
  func sequence(_ input: SequenceInput) {
    guard let sequence = table.sequence else { return }
    let rows = ws.sequence[0..<samples * c.sequenceLength * d]
    for n in 0..<samples {
      let (start, real) = (n * c.sequenceLength * d, input.count(n) * d)
      let from = (n * c.totalTokens + c.inContextTokens) * d
      rows[start..<start + real].copy(from: ws.tokenGradient[from..<from + real].span)
      rows[start + real..<start + c.sequenceLength * d].fill(0)  // padding
    }
    addSum(to: sequence.positions, of: rows, terms: samples, count: c.sequenceLength * d)
    switch (input.content, sequence.embedding) {
    case (.text, .table(let index)): addBytes(input, rows, to: gradient(index))
    case (.image, .proj(let proj)):
      float32Layer(
        proj, inputGradient: nil, outputGradient: rows, input: ws.sequencePatches, rows: samples * c.sequenceLength)
    default: break  // a program's own embeddings are not trained here
    }
  }

  /// table[byte] += the row, in the order of the rows.
  private func addBytes(_ input: SequenceInput, _ rows: Slice, to table: Slice) {
    for n in 0..<samples {
      for place in n * c.sequenceLength..<n * c.sequenceLength + input.count(n) {
        let byte = Int(input.bytes[place])
        context.add(rows[place * d..<(place + 1) * d].span, to: table[byte * d..<(byte + 1) * d].mutableSpan)
      }
    }
  }

  /// A parameter's gradient += Σ of `terms` runs of `count`, one after another.
  private func addSum(to parameter: Int, of rows: Slice, terms: Int, count: Int) {
    context.addSum(
      into: gradient(parameter).mutableSpan, of: rows.span, terms: terms, stride: count, count: count)
  }

  // in_context: the first rows are E_time(t) and E_class(y).
  // The image's rows, brought together, are patches Wᵀ + b (+ positions where learned) (+ c).
  func tokens() {
    let (dc, inContext) = (modulationGradient, c.inContextTokens * d)
    for n in 0..<samples where inContext > 0 {
      let start = n * c.totalTokens * d
      dc.condition(n).copy(from: ws.tokenGradient[start..<start + inContext].span)
    }
    network.gatherImageTokens(ws.tokenGradient, samples: samples)
    if c.position == .learned, let positions = table.positions {
      addSum(to: positions, of: ws.tokenGradient, terms: samples, count: c.tokens * d)
    }
    for n in 0..<samples where c.conditioning == .additive {
      let rows = ws.tokenGradient[n * c.tokens * d..<(n + 1) * c.tokens * d]
      dc.condition(n).fill(0)
      context.addSum(into: dc.condition(n).mutableSpan, of: rows.span, terms: c.tokens, stride: d, count: d)
    }
  }

  // tokens = patches Wᵀ + b + positions
  func patchEmbedding(_ images: Span<Float>) {
    let patches = ws.patches
    patchify(
      patches: patches.mutableSpan, images: images, samples: samples, grid: c.inputGrid, order: .channelFirst)
    float32Layer(
      table.patchEmbedding, inputGradient: nil, outputGradient: ws.tokenGradient, input: ws.patches, rows: imageRows)
  }

  // c = E_time(t) + E_class(y), E_time(t) = fc2(silu(fc0(freq(t)))), E_class(y) = table[y]
  func conditioning(_ labels: Span<Int>) {
    for index in table.embedders.indices { embedder(index, labels) }
  }

  private func embedder(_ number: Int, _ labels: Span<Int>) {
    let (saved, embedder) = (ws.conditioning[number].prefix(c, samples), table.embedders[number])
    let (dtime, dhidden) = (ws.conditionGradient[0..<samples * d], ws.conditionGradient2[0..<samples * d])
    let dclass = conditionGradient(number, saved, dtime, scratch: dhidden)
    if let index = embedder.labels {
      addEmbeddingBackward(tableGradient: gradient(index), outputGradient: dclass, labels: labels, width: d)
    }
    for index in saved.maskGates.indices { maskGate(index, saved, dtime) }
    float32Layer(
      embedder.time2, inputGradient: dhidden, outputGradient: dtime, input: saved.activated, rows: samples)
    context.siluBackward(inputGradient: dtime, outputGradient: dhidden, input: saved.hidden)
    float32Layer(
      embedder.time0, inputGradient: nil, outputGradient: dtime, input: saved.frequencies, rows: samples)
  }

  // g = sigmoid(z), z = second(silu(first(E_time(t)))), logits = base · g · q·k: dz = g(1−g) dg, g dg = Σ q·dq
  private func maskGate(_ i: Int, _ saved: ConditioningRows, _ dtime: Slice) {
    guard let layers = table.blocks[i].maskGate else { return }
    let (rows, dz) = (saved.maskGates[i], modulationGradient.scales(i))
    scaleByComplement(dz, rows.gate)
    let dhidden = ws.conditionGradient2[0..<samples * c.gateSize]
    let hidden = rows.hidden[0..<samples * c.gateSize]
    float32Layer(layers.second, inputGradient: dhidden, outputGradient: dz, input: rows.activated, rows: samples)
    context.siluBackward(inputGradient: dhidden, outputGradient: dhidden, input: hidden)
    float32Layer(
      layers.first, inputGradient: dtime, outputGradient: dhidden, input: saved.time, rows: samples, accumulating: true)
  }

  /// x *= 1 − g
  private func scaleByComplement(_ x: Slice, _ gates: Slice) {
    var values = x.mutableSpan
    let gate = gates.span
    for index in values.indices { values[index] *= 1 - gate[index] }
  }

  /// The gradients of E_time in `dtime`, and of E_class in the slice that is returned.
  private func conditionGradient(
    _ embedder: Int, _ saved: ConditioningRows, _ dtime: Slice, scratch: Slice
  ) -> Slice {
    let dm = modulationGradient
    for index in 0...c.depth where table.embedder(ofNorms: index) == embedder {
      switch table.norms(index) {
      case .adaLN(let adaLN):  // modulation = Linear(silu(c))
        float32Layer(
          adaLN, inputGradient: scratch, outputGradient: dm.block(index), input: saved.activatedConditioning,
          rows: samples, accumulating: index != embedder)
      case .own(let own): ownNorms(own, dm.block(index))
      }
    }
    switch c.conditioning {
    case .adaLNZero, .adaLN:
      context.siluBackward(inputGradient: dtime, outputGradient: scratch, input: saved.conditioning)
      return dtime
    case .additive:
      dtime.copy(from: dm.conditions.span)
      return dtime
    case .inContext:
      for n in 0..<samples {
        let (row, place) = (dm.condition(n), n * d..<(n + 1) * d)
        dtime[place].copy(from: row[0..<d].span)
        if row.count > d { scratch[place].copy(from: row[d..<2 * d].span) }
      }
      return scratch
    }
  }

  // shift = bias, scale = weight − 1, the same for all samples
  private func ownNorms(_ norms: [ParameterTable.LinearParameters], _ rows: Slice) {
    let stride = 2 * norms.count * d
    for (place, norm) in norms.enumerated() {
      for (part, parameter) in [(2 * place, norm.bias), (2 * place + 1, norm.weight)] {
        context.addSum(
          into: gradient(parameter).mutableSpan, of: rows[part * d..<rows.count].span, terms: samples, stride: stride,
          count: d)
      }
    }
  }
}
