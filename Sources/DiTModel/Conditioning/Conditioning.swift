import DiTKernels
import DiTTensor

// From (t, y) to what depends on nothing else:
//
//   E_time(t) = fc2(silu(fc0(freq(t)))), E_class(y) = table[y], c = E_time(t) + E_class(y)
//   (per_block: fc0, fc2 and table are each block's own; the final layer's c is the first block's)
//   adaln_zero, adaln: every shift, scale (and gate) = Linear(silu(c))
//   additive:          c joins every image token
//   in_context:        E_time(t) and E_class(y) are tokens (ConditionTokens)
//   tokens:            as many time MLPs as the network is told numbers; all embeddings are tokens
//   in_context_tokens: E_class(y) is a token too
//   noise mask:        one gate per head, g(t) = sigmoid(second(silu(first(E_time(t))))), and a width k(t)

extension DiTNetwork {
  /// The modulation for (times, labels), into rows the caller owns. A row has the same bits however many there are.
  ///
  /// - Parameters:
  ///   - times: network times, one per row; with `conditioning: tokens` ``DiTConfiguration/timeInputs`` numbers per row, in
  ///     the order omega, t_min, t_max, time.
  ///   - labels: class indices, `numClasses` for the null class; empty for an unconditional model.
  ///   - modulation: one row for each time; overwritten.
  ///   - releasingWeights: says that adaLN's weights, a third of a large model, will not be read again soon: where they
  ///     are a mapped file's, their memory is given back.
  public func modulate(
    times: [Float], labels: [Int], into modulation: Modulation, releasingWeights: Bool = false
  ) {
    let count = times.count / configuration.timeInputs
    precondition(count == modulation.rows, "\(count) times for \(modulation.rows) rows")
    let rows = Arena.filled { ConditioningRows(configuration, rows: count, hasGates: true, &$0) }
    let scratch = MutableFloatSlice(
      uninitialized: context.panelScratch(depth: weights.table.deepestConditioningLayer))
    // Nothing is read afterwards but with tokens, whose conditions are the embedders' own: all use the same rows.
    let embedders = weights.table.conditioning.embedders.count
    let saved =
      configuration.conditioning == .tokens
      ? (0..<embedders).map { _ in
        Arena.filled { ConditioningRows(configuration, rows: count, hasGates: true, &$0) }
      } : [ConditioningRows](repeating: rows, count: embedders)
    modulate(
      times: times.span, labels: labels.span, into: modulation, saving: saved, .panelwise(scratch),
      releasing: releasingWeights)
  }

  /// The same in memory that was made before: nothing is allocated.
  package func modulate(
    times: Span<Float>, labels: Span<Int>, into modulation: Modulation, workspace: ModulationWorkspace
  ) {
    precondition(modulation.rows <= workspace.rows, "\(modulation.rows) rows in memory for \(workspace.rows)")
    modulate(
      times: times, labels: labels, into: modulation, saving: workspace.saved, .panelwise(workspace.scratch))
  }

  /// The same into rows that ``backward`` reads.
  ///
  /// - Parameters:
  ///   - modulation: as many rows as `times`; overwritten.
  ///   - saved: the intermediate rows of each embedder, at least as many as `times`.
  ///   - source: of the weights; by default OpenBLAS multiplies all rows together.
  ///   - releasing: lets go of each adaLN weight's pages, where they are a file's, once it has been read.
  func modulate(
    times: Span<Float>, labels: Span<Int>, into modulation: Modulation, saving saved: [ConditioningRows],
    _ source: LayerSource = .blas(parts: 1), releasing: Bool = false, norms: Bool = true
  ) {
    let (table, count) = (weights.table, modulation.rows)
    precondition(times.count == count * configuration.timeInputs, "\(times.count) times for \(count) rows")
    let embedders = table.conditioning.embedders
    precondition(saved.count == embedders.count, "\(saved.count) rows for \(embedders.count) embedders")
    for (number, embedder) in embedders.enumerated() {
      let rows = saved[number].prefix(count)
      embed(times, labels, embedder, rows, source)
      for index in 0...configuration.depth where norms && table.conditioning.embedder(ofNorms: index) == number {
        modulate(norms: index, into: modulation, saved: saved, source, releasing: releasing)
      }
    }
    modulation.ones.fill(1)
    let rows = saved[0].prefix(count)
    placeAttention(times, modulation, rows, source)
    placeConditions(modulation, saved, labels)
  }

  /// Shift, scale and gates of block `index`, of the final layer at `depth`.
  func modulate(
    norms index: Int, into modulation: Modulation, saved: [ConditioningRows], _ source: LayerSource = .blas(parts: 1),
    releasing: Bool = false
  ) {
    let rows = saved[weights.table.conditioning.embedder(ofNorms: index)].prefix(modulation.rows)
    weights.table.modulation(index).forward(
      self, source, into: modulation.block(index), activated: rows.activatedConditioning.reading, releasing: releasing)
  }

  /// c, and silu(c)
  private func embed(
    _ times: Span<Float>, _ labels: Span<Int>, _ embedder: Embedder, _ saved: ConditioningRows, _ source: LayerSource
  ) {
    embedTimes(times, embedder, saved, source)
    let conditioning = saved.conditioning.elements
    conditioning.copy(from: saved.time.reading.elements)
    if configuration.conditioning == .inContext || configuration.conditioning == .tokens { conditioning.fill(0) }
    if let index = embedder.labels {
      precondition(labels.count == saved.time.rows, "\(labels.count) labels for \(saved.time.rows) rows")
      let table = weights.slices[index]
      addEmbedding(
        output: conditioning.mutableSpan, table: table.span, labels: labels, width: configuration.hiddenSize)
    }
    context.silu(output: saved.activatedConditioning.elements, input: conditioning.reading)
  }

  /// E(t)
  private func embedTimes(_ times: Span<Float>, _ embedder: Embedder, _ saved: ConditioningRows, _ source: LayerSource)
  {
    let inputs = configuration.timeInputs
    for row in 0..<saved.time.rows where inputs > 1 {
      let (at, frequencies) = (row * inputs + embedder.input, saved.frequencies.elements)
      fillFrequencies(
        frequencies[row * timeFrequencyCount..<(row + 1) * timeFrequencyCount], times.extracting(at..<at + 1))
    }
    if inputs == 1 { fillFrequencies(saved.frequencies.elements, times) }
    apply(embedder.time0, source, to: saved.frequencies.reading, into: saved.hidden)
    context.silu(output: saved.activated.elements, input: saved.hidden.reading.elements)
    apply(embedder.time2, source, to: saved.activated.reading, into: saved.time)
  }

  private func fillFrequencies(_ rows: MutableFloatSlice, _ times: Span<Float>) {
    switch configuration.timeFrequencies {
    case .dit: timeFrequencies(output: rows.mutableSpan, times: times)
    case .diffusers: timeFrequencies(output: rows.mutableSpan, times: times, divisor: 127)
    case .literal: literalTimeFrequencies(output: rows.mutableSpan, times: times)
    }
  }

  /// What a row keeps of its conditions: c, or the embeddings that stand before the tokens.
  private func placeConditions(_ modulation: Modulation, _ saved: [ConditioningRows], _ labels: Span<Int>) {
    let (d, c) = (configuration.hiddenSize, configuration)
    for row in 0..<modulation.rows where modulation.conditionCount > 0 {
      let (condition, place) = (modulation.condition(row), row * d..<(row + 1) * d)
      func put(_ vector: Int, _ rows: MutableMatrix) {
        condition[vector * d..<(vector + 1) * d].copy(from: rows.memory[place].reading)
      }
      switch c.conditioning {
      case .additive: put(0, saved[0].conditioning)
      case .inContext:
        put(0, saved[0].time)
        if modulation.conditionCount > 1 { put(1, saved[0].conditioning) }
      case .tokens:
        let hasClass = modulation.conditionCount > saved.count
        if hasClass { put(0, saved[0].conditioning) }
        for (number, rows) in saved.enumerated() { put(number + (hasClass ? 1 : 0), rows.time) }
      case .adaLNZero, .adaLN:
        guard let table = weights.table.conditioning.embedders[0].labels else { continue }
        condition.copy(from: weights.slices[table][labels[row] * d..<(labels[row] + 1) * d])
      }
    }
  }
}

// MARK: - Backward

extension BackwardPass {
  // c = E_time(t) + E_class(y), E_time(t) = time2(silu(time0(freq(t)))), E_class(y) = table[y]
  func conditioning(_ labels: Span<Int>) {
    for index in table.conditioning.embedders.indices { embedder(index, labels) }
  }

  private func embedder(_ number: Int, _ labels: Span<Int>) {
    let (saved, embedder) = (ws.conditioning[number].prefix(samples), table.conditioning.embedders[number])
    let (dtime, dhidden) = (ws.conditionGradient.prefix(samples), ws.conditionGradient2.prefix(samples))
    let dclass = conditionGradient(number, saved, dtime, scratch: dhidden)
    if let index = embedder.labels {
      let (table, rows) = (gradient(index), dclass.elements)
      addEmbeddingBackward(tableGradient: table.mutableSpan, outputGradient: rows.span, labels: labels, width: d)
      if c.conditioning.isModulated, c.inContextTokens > 0 {
        let tokens = modulationGradient.conditions
        addEmbeddingBackward(tableGradient: table.mutableSpan, outputGradient: tokens.span, labels: labels, width: d)
      }
    }
    for index in saved.maskGates.indices {
      table.blocks[index].attention.maskGate?.backward(
        self, saved.maskGates[index], modulationGradient.scales(index), time: saved.time.reading, into: dtime)
    }
    throughFloat32(embedder.time2, into: dhidden, dtime.reading, saved.activated.reading)
    context.siluBackward(
      inputGradient: dtime.elements, outputGradient: dhidden.reading.elements, input: saved.hidden.reading.elements)
    throughFloat32(embedder.time0, into: nil, dtime.reading, saved.frequencies.reading)
  }

  /// The gradients of what makes the norms' shift and scale and the gates of block `index`, or of the final layer: of
  /// modulation = Linear(silu(c)), or of vectors of its own.
  func modulationGradients(_ index: Int) {
    let modulation = table.modulation(index)
    if let layer = modulation.adaLN {
      let saved = ws.conditioning[table.conditioning.embedder(ofNorms: index)].prefix(samples)
      weightGradient(layer, modulationRows(index, layer), saved.activatedConditioning.reading, scratch: nil)
    } else {
      modulation.backward(self, rows: modulationGradient.block(index).reading)
    }
  }

  /// The gradients of the layer's outputs, a row for each sample.
  private func modulationRows(_ index: Int, _ layer: LinearLayer) -> Matrix {
    Matrix(modulationGradient.block(index).reading, rows: samples, columns: layer.outputs)
  }

  /// The gradients of E_time in `dtime`, and of E_class in the matrix that is returned.
  private func conditionGradient(
    _ number: Int, _ saved: ConditioningRows, _ dtime: MutableMatrix, scratch: MutableMatrix
  ) -> MutableMatrix {
    let dm = modulationGradient
    for index in 0...c.depth where table.conditioning.embedder(ofNorms: index) == number {
      guard let layer = table.modulation(index).adaLN else { continue }
      context.product(
        into: scratch, modulationRows(index, layer), network.weights.matrix(layer),
        epilogue: index != number ? .accumulate : .store)
    }
    let (time, other) = (dtime.elements, scratch.elements)
    func take(_ vector: Int, _ to: MutableFloatSlice) {
      for n in 0..<samples {
        to[n * d..<(n + 1) * d].copy(from: dm.condition(n)[vector * d..<(vector + 1) * d].reading)
      }
    }
    switch c.conditioning {
    case .adaLNZero, .adaLN:
      context.siluBackward(
        inputGradient: time, outputGradient: other.reading, input: saved.conditioning.reading.elements)
      return dtime
    case .additive:
      time.copy(from: dm.conditions.reading)
      return dtime
    case .inContext:
      take(0, time)
      if dm.conditionCount > 1 { take(1, other) }
      return scratch
    case .tokens:
      let hasClass = dm.conditionCount > table.conditioning.embedders.count
      take(number + (hasClass ? 1 : 0), time)
      if hasClass { take(0, other) }
      return scratch
    }
  }
}

/// The memory of ``DiTNetwork/modulate(times:labels:into:workspace:)``. One caller at a time.
package final class ModulationWorkspace {
  package let rows: Int
  let saved: [ConditioningRows]
  let scratch: MutableFloatSlice

  package init(_ network: DiTNetwork, rows: Int) {
    let (c, embedders) = (network.configuration, network.weights.table.conditioning.embedders.count)
    self.rows = rows
    func made() -> ConditioningRows { Arena.filled { ConditioningRows(c, rows: rows, hasGates: true, &$0) } }
    saved =
      c.conditioning == .tokens
      ? (0..<embedders).map { _ in made() } : [ConditioningRows](repeating: made(), count: embedders)
    scratch = MutableFloatSlice(
      uninitialized: network.context.panelScratch(depth: network.weights.table.deepestConditioningLayer))
  }
}
