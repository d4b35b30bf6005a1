import DiTKernels
import DiTTensor

// The backward pass, part by part. Above each stand the forward lines it differentiates.

struct BackwardPass {
  let network: DiTNetwork
  let gradients: MutableFloatSlice
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
  // The factors of a block's products; those of the other layers are float32.
  var h: MutableMatrix { ws.h.prefix(rows) }
  var hidden: MutableMatrix { ws.hidden.prefix(rows) }
  var outputGradient: MutableMatrix { ws.outputGradient.prefix(rows).reused(as: network.format) }
  /// What enters a block's normalisation gets its gradient in float32.
  var hGradient: MutableMatrix { ws.hGradient.prefix(rows) }
  var tokenGradient: MutableMatrix { ws.tokenGradient.prefix(rows) }

  private func projectionGradient(columns: Int) -> MutableMatrix {
    MutableMatrix(ws.projectionGradient, rows: rows, columns: columns, format: network.format)
  }

  private func gradient(_ index: Int) -> MutableFloatSlice { gradients[table.parameters[index].range] }

  /// y = x Wᵀ + b: dW += dyᵀ x, db += Σ dy.
  private func weightGradient(
    _ layer: ParameterTable.LinearParameters, _ dy: Matrix, _ x: Matrix, scratch: MutableFloatSlice?
  ) {
    let dw = MutableMatrix(gradient(layer.weight), rows: dy.columns, columns: x.columns)
    context.weightGradient(into: dw, bias: gradient(layer.bias), dy, x, scratch: scratch)
  }

  /// A layer inside a block: its gradients and dx = dy W.
  private func blockLayer(_ layer: ParameterTable.LinearParameters, into dx: MutableMatrix, _ dy: Matrix, _ x: Matrix) {
    weightGradient(layer, dy, x, scratch: network.isPacked ? ws.gradientScratch : nil)
    context.product(into: dx, dy, network.backwardLayer(layer, source).factor)
  }

  /// The patch embedding, the final layer or a layer of the conditioning: float32, by OpenBLAS; dx unless it is nil.
  private func float32Layer(
    _ layer: ParameterTable.LinearParameters, into dx: MutableMatrix?, _ dy: Matrix, _ x: Matrix,
    accumulating: Bool = false
  ) {
    weightGradient(layer, dy, x, scratch: nil)
    guard let dx else { return }
    context.product(
      into: dx, dy, network.backwardLayer(layer, .blas(parts: 1)).factor,
      epilogue: accumulating ? .accumulate : .store)
  }

  /// The forward's h again: modulate(layerNorm(x), shift, scale).
  private func recompute(
    _ h: MutableMatrix, _ x: Matrix, mean: MutableFloatSlice, rstd: MutableFloatSlice, shift: MutableMatrix,
    scale: MutableMatrix, tokens: Int
  ) {
    context.modulateFromStatistics(
      output: h, mean: mean.reading, rstd: rstd.reading, input: x, shift: shift.reading, scale: scale.reading,
      tokens: tokens)
  }

  /// h = modulate(layerNorm(x), shift, scale): dx += …, dshift, dscale, from dh.
  private func normalisation(
    _ dx: MutableMatrix, _ dh: MutableMatrix, _ x: Matrix, mean: MutableFloatSlice, rstd: MutableFloatSlice,
    scale: MutableMatrix, shiftGradient: MutableMatrix, scaleGradient: MutableMatrix, tokens: Int
  ) {
    context.normModulateBackward(
      inputGradient: dx, shiftGradient: shiftGradient, scaleGradient: scaleGradient, scratch: ws.reduction,
      outputGradient: dh.reading, mean: mean.reading, rstd: rstd.reading, input: x, scale: scale.reading,
      tokens: tokens)
  }

  /// x' = x + gate · y: dy = gate · dx', dgate = Σ dx' y; dx' passes on as dx.
  private func residualGate(_ y: MutableMatrix, gate: MutableMatrix, gradient: MutableMatrix) {
    context.gateBackward(
      outputGradient: outputGradient, gateGradient: gradient, scratch: ws.reduction,
      residualGradient: tokenGradient.reading, output: y.prefix(rows).reading, gate: gate.reading,
      tokens: extents.tokens)
  }

  // output = unpatchify(Linear(h)), h = modulate(layerNorm(x), shift, scale)
  func finalLayer(_ outputGradient: Span<Float>) {
    let (m, dm) = (modulation, modulationGradient)
    let (x, h) = (ws.tokens[c.depth].prefix(imageRows).reading, ws.finalH.prefix(imageRows))
    let (dx, dh) = (ws.tokenGradient.prefix(imageRows), ws.hGradient.prefix(imageRows))
    let patched = ws.patches
    patchify(
      patches: patched.mutableSpan, images: outputGradient, samples: samples, grid: c.outputGrid,
      order: .channelLast)
    recompute(
      h, x, mean: ws.finalMean, rstd: ws.finalRstd, shift: m.finalShift, scale: m.finalScale, tokens: c.tokens)
    let patches = Matrix(patched.reading, rows: imageRows, columns: c.outputGrid.patchElements)
    float32Layer(table.finalLinear, into: dh, patches, h.reading)
    dx.elements.fill(0)
    normalisation(
      dx, dh, x, mean: ws.finalMean, rstd: ws.finalRstd, scale: m.finalScale, shiftGradient: dm.finalShift,
      scaleGradient: dm.finalScale, tokens: c.tokens)
    let all = ws.tokenGradient.memory
    network.spreadImageTokens(all, samples: samples)
    let prefix = c.prefixTokens * d
    for n in 0..<samples where prefix > 0 {
      all[n * c.totalTokens * d..<n * c.totalTokens * d + prefix].fill(0)
    }
  }

  // x' = x + gate · fc2(gelu(fc1(h))), h = modulate(layerNorm(x), shift, scale)
  func feedForward(_ i: Int) {
    let (m, dm, a, block) = (modulation, modulationGradient, ws.blocks[i], table.blocks[i])
    let x = ws.afterAttention[i].prefix(rows)
    func recomputeH() {
      recompute(
        h, x.reading, mean: a.mean2, rstd: a.rstd2, shift: m.shiftMLP(i), scale: m.scaleMLP(i), tokens: extents.tokens)
    }
    if ws.recomputes {
      recomputeAfterAttention(i)
      recomputeH()
      recomputeMLP(i)
    }
    residualGate(a.mlpProjected, gate: m.gateMLP(i), gradient: dm.gateMLP(i))
    let dpre = backThroughGELU(block.fc2, a.preactivation.prefix(rows))
    if !ws.recomputes { recomputeH() }
    blockLayer(block.fc1, into: hGradient, dpre.reading, h.reading)
    normalisation(
      tokenGradient, hGradient, x.reading, mean: a.mean2, rstd: a.rstd2, scale: m.scaleMLP(i),
      shiftGradient: dm.shiftMLP(i), scaleGradient: dm.scaleMLP(i), tokens: extents.tokens)
  }

  /// fc2's gradients, and the pre-activation's, dpre = (dy W) ⊙ gelu'(pre).
  ///
  /// Over packed operands dpre takes pre's place, and gelu(pre) is written in the order in which fc2's weight gradient
  /// reads it.
  private func backThroughGELU(_ fc2: ParameterTable.LinearParameters, _ pre: MutableMatrix) -> MutableMatrix {
    let (dy, factor) = (outputGradient.reading, network.backwardLayer(fc2, source).factor)
    guard network.isPacked else {
      let dpre = projectionGradient(columns: c.mlpSize)
      context.product(
        into: dpre, dy, factor, epilogue: .geluBackward(preactivation: pre.reading, activation: .rows(hidden)))
      weightGradient(fc2, dy, hidden.reading, scratch: nil)
      return dpre
    }
    let scratch = ws.gradientScratch
    let size = ComputeContext.packedElements(depth: rows, columns: c.mlpSize, format: network.format)
    let panels = scratch[0..<size]
    context.product(
      into: pre, dy, factor, epilogue: .geluBackward(preactivation: pre.reading, activation: .panels(panels)))
    weightGradient(
      fc2, dy,
      ComputeContext.panels(in: panels.reading, depth: rows, columns: c.mlpSize, format: network.format),
      scratch: scratch[size..<scratch.count])
    return pre
  }

  /// x + gate · proj(attention), and what the gate multiplies, exactly as in the forward pass.
  private func recomputeAfterAttention(_ i: Int) {
    let a = ws.blocks[i]
    network.closeHalf(
      table.blocks[i].proj, to: a.attention.prefix(rows).reading, result: ws.afterAttention[i].prefix(rows),
      residual: ws.tokens[i].prefix(rows).reading, gate: modulation.gateMSA(i), sums: a.attentionProjected,
      isSaved: true, extents, source)
  }

  /// The MLP's pre-activation and output again, exactly as in the forward pass. The result is written to `outputGradient`,
  /// whose next writer is the gate's backward; it is not used.
  private func recomputeMLP(_ i: Int) {
    network.feedForward(
      i, ws.blocks[i], result: ws.outputGradient.prefix(rows), residual: ws.afterAttention[i].prefix(rows).reading,
      h: h.reading, hidden: hidden, modulation, extents, source)
  }

  // x' = x + gate · proj(attention(qkv(h))), h = modulate(layerNorm(x), shift, scale)
  func attention(_ i: Int) {
    let (m, dm, a, block) = (modulation, modulationGradient, ws.blocks[i], table.blocks[i])
    let (x, qkv, attended) = (ws.tokens[i].prefix(rows), a.qkv.prefix(rows), a.attention.prefix(rows).reading)
    func recomputeH() {
      recompute(
        h, x.reading, mean: a.mean1, rstd: a.rstd1, shift: m.shiftMSA(i), scale: m.scaleMSA(i), tokens: extents.tokens)
    }
    if ws.recomputes {
      recomputeH()
      network.project(qkv, h: h.reading, layer: network.layer(block.qkv, source), extents)
    }
    residualGate(a.attentionProjected, gate: m.gateMSA(i), gradient: dm.gateMSA(i))
    let attentionGradient = hGradient.reused(as: network.format)
    blockLayer(block.proj, into: attentionGradient, outputGradient.reading, attended)
    let qkvGradient = projectionGradient(columns: 3 * d)
    context.attentionBackward(
      qkvGradient: qkvGradient, queryDots: c.attention.hasGate ? dm.scales(i) : .empty,
      outputGradient: attentionGradient.reading, output: attended, logsumexp: a.logsumexp.reading,
      extents.operands(
        qkv: qkv.reading, m, block: i, scratch: ws.scratch, isPacked: network.isPacked))
    network.rotate(qkvGradient, inverse: true, extents)
    if !ws.recomputes { recomputeH() }
    blockLayer(block.qkv, into: hGradient, qkvGradient.reading, h.reading)
    normalisation(
      tokenGradient, hGradient, x.reading, mean: a.mean1, rstd: a.rstd1, scale: m.scaleMSA(i),
      shiftGradient: dm.shiftMSA(i), scaleGradient: dm.scaleMSA(i), tokens: extents.tokens)
  }

  // The rows before the image's: the sequence's embedding + positions, after the in-context tokens.
  func sequence(_ input: SequenceInput) {
    guard let sequence = table.sequence else { return }
    let (rows, dx) = (ws.sequence[0..<samples * c.sequenceLength * d], ws.tokenGradient.memory)
    for n in 0..<samples {
      let (start, real) = (n * c.sequenceLength * d, input.count(n) * d)
      let from = (n * c.totalTokens + c.inContextTokens) * d
      rows[start..<start + real].copy(from: dx[from..<from + real].reading)
      rows[start + real..<start + c.sequenceLength * d].fill(0)  // padding
    }
    addSum(to: sequence.positions, of: rows.reading, terms: samples, count: c.sequenceLength * d)
    switch (input.content, sequence.embedding) {
    case (.text, .table(let index)): addBytes(input, rows.reading, to: gradient(index))
    case (.image, .proj(let proj)):
      let count = samples * c.sequenceLength
      float32Layer(
        proj, into: nil, Matrix(rows.reading, rows: count, columns: d),
        Matrix(ws.sequencePatches.reading, rows: count, columns: c.sequenceGrid.patchElements))
    default: break  // a program's own embeddings are not trained here
    }
  }

  /// table[byte] += the row, in the order of the rows.
  private func addBytes(_ input: SequenceInput, _ rows: FloatSlice, to table: MutableFloatSlice) {
    for n in 0..<samples {
      for place in n * c.sequenceLength..<n * c.sequenceLength + input.count(n) {
        let byte = Int(input.bytes[place])
        context.add(rows[place * d..<(place + 1) * d], to: table[byte * d..<(byte + 1) * d])
      }
    }
  }

  /// A parameter's gradient += Σ of `terms` runs of `count`, one after another.
  private func addSum(to parameter: Int, of rows: FloatSlice, terms: Int, count: Int) {
    context.addSum(into: gradient(parameter), ofRows: Matrix(rows, rows: terms, columns: count))
  }

  // in_context: the first rows are E_time(t) and E_class(y).
  // The image's rows, brought together, are patches Wᵀ + b (+ positions where learned) (+ c).
  func tokens() {
    let (dc, inContext, dx) = (modulationGradient, c.inContextTokens * d, ws.tokenGradient.memory)
    for n in 0..<samples where inContext > 0 {
      let start = n * c.totalTokens * d
      dc.condition(n).copy(from: dx[start..<start + inContext].reading)
    }
    network.gatherImageTokens(dx, samples: samples)
    if c.position == .learned, let positions = table.positions {
      addSum(to: positions, of: dx.reading, terms: samples, count: c.tokens * d)
    }
    for n in 0..<samples where c.conditioning == .additive {
      let rows = dx[n * c.tokens * d..<(n + 1) * c.tokens * d].reading
      dc.condition(n).fill(0)
      context.addSum(into: dc.condition(n), ofRows: Matrix(rows, rows: c.tokens, columns: d))
    }
  }

  // tokens = patches Wᵀ + b + positions
  func patchEmbedding(_ images: Span<Float>) {
    let patches = ws.patches
    patchify(
      patches: patches.mutableSpan, images: images, samples: samples, grid: c.inputGrid, order: .channelFirst)
    float32Layer(
      table.patchEmbedding, into: nil, ws.tokenGradient.prefix(imageRows).reading,
      Matrix(patches.reading, rows: imageRows, columns: c.inputGrid.patchElements))
  }

  // c = E_time(t) + E_class(y), E_time(t) = fc2(silu(fc0(freq(t)))), E_class(y) = table[y]
  func conditioning(_ labels: Span<Int>) {
    for index in table.embedders.indices { embedder(index, labels) }
  }

  private func embedder(_ number: Int, _ labels: Span<Int>) {
    let (saved, embedder) = (ws.conditioning[number].prefix(samples), table.embedders[number])
    let (dtime, dhidden) = (ws.conditionGradient.prefix(samples), ws.conditionGradient2.prefix(samples))
    let dclass = conditionGradient(number, saved, dtime, scratch: dhidden)
    if let index = embedder.labels {
      let (table, rows) = (gradient(index), dclass.elements)
      addEmbeddingBackward(tableGradient: table.mutableSpan, outputGradient: rows.span, labels: labels, width: d)
    }
    for index in saved.maskGates.indices { maskGate(index, saved, dtime) }
    float32Layer(embedder.time2, into: dhidden, dtime.reading, saved.activated.reading)
    context.siluBackward(
      inputGradient: dtime.elements, outputGradient: dhidden.reading.elements, input: saved.hidden.reading.elements)
    float32Layer(embedder.time0, into: nil, dtime.reading, saved.frequencies.reading)
  }

  // g = sigmoid(z), z = second(silu(first(E_time(t)))), logits = base · g · q·k: dz = g(1−g) dg, g dg = Σ q·dq
  private func maskGate(_ i: Int, _ saved: ConditioningRows, _ dtime: MutableMatrix) {
    guard let layers = table.blocks[i].maskGate else { return }
    let (rows, dz) = (saved.maskGates[i], modulationGradient.scales(i))
    let (hidden, activated, gate) = (
      rows.hidden.prefix(samples).reading, rows.activated.prefix(samples).reading, rows.gate.prefix(samples).reading
    )
    scaleByComplement(dz, gate.elements)
    let dhidden = MutableMatrix(ws.conditionGradient2.memory, rows: samples, columns: c.gateSize)
    float32Layer(
      layers.second, into: dhidden, Matrix(dz.reading, rows: samples, columns: c.numHeads), activated)
    context.siluBackward(
      inputGradient: dhidden.elements, outputGradient: dhidden.reading.elements, input: hidden.elements)
    float32Layer(layers.first, into: dtime, dhidden.reading, saved.time.reading, accumulating: true)
  }

  /// x *= 1 − g
  private func scaleByComplement(_ x: MutableFloatSlice, _ gates: FloatSlice) {
    var values = x.mutableSpan
    let gate = gates.span
    for index in values.indices { values[index] *= 1 - gate[index] }
  }

  /// The gradients of E_time in `dtime`, and of E_class in the matrix that is returned.
  private func conditionGradient(
    _ embedder: Int, _ saved: ConditioningRows, _ dtime: MutableMatrix, scratch: MutableMatrix
  ) -> MutableMatrix {
    let dm = modulationGradient
    for index in 0...c.depth where table.embedder(ofNorms: index) == embedder {
      switch table.norms(index) {
      case .adaLN(let adaLN):  // modulation = Linear(silu(c))
        let columns = table.extents(adaLN).outputs
        float32Layer(
          adaLN, into: scratch, Matrix(dm.block(index).reading, rows: samples, columns: columns),
          saved.activatedConditioning.reading, accumulating: index != embedder)
      case .own(let own): ownNorms(own, dm.block(index).reading)
      }
    }
    let (time, other) = (dtime.elements, scratch.elements)
    switch c.conditioning {
    case .adaLNZero, .adaLN:
      context.siluBackward(
        inputGradient: time, outputGradient: other.reading, input: saved.conditioning.reading.elements)
      return dtime
    case .additive:
      time.copy(from: dm.conditions.reading)
      return dtime
    case .inContext:
      for n in 0..<samples {
        let (row, place) = (dm.condition(n), n * d..<(n + 1) * d)
        time[place].copy(from: row[0..<d].reading)
        if row.count > d { other[place].copy(from: row[d..<2 * d].reading) }
      }
      return scratch
    }
  }

  // shift = bias, scale = weight − 1, the same for all samples
  private func ownNorms(_ norms: [ParameterTable.LinearParameters], _ rows: FloatSlice) {
    let stride = 2 * norms.count * d
    for (place, norm) in norms.enumerated() {
      for (part, parameter) in [(2 * place, norm.bias), (2 * place + 1, norm.weight)] {
        context.addSum(
          into: gradient(parameter),
          ofRows: Matrix(rows[part * d..<rows.count], rows: samples, columns: d, stride: stride))
      }
    }
  }
}
