import DiTKernels
import DiTTensor

// From (t, y) to what depends on nothing else:
//
//   E_time(t) = fc2(silu(fc0(freq(t)))), E_class(y) = table[y], c = E_time(t) + E_class(y)
//   (per_block: fc0, fc2 and table are each block's own; the final layer's c is the first block's)
//   adaln_zero, adaln: every shift, scale (and gate) = Linear(silu(c))
//   additive:          c joins every image token
//   in_context:        E_time(t) and E_class(y) are tokens
//   noise mask:        one gate per head, g(t) = sigmoid(second(silu(first(E_time(t))))), and a width k(t)

extension DiTNetwork {
  /// The modulation for (times, labels), into rows the caller owns. A row has the same bits however many there are.
  ///
  /// - Parameters:
  ///   - times: training indices, one per row.
  ///   - labels: class indices, `numClasses` for the null class; empty for an unconditional model.
  ///   - releasingWeights: says that adaLN's weights, a third of a large model, will not be read again soon: where they
  ///     are a mapped file's, their memory is given back.
  public func modulate(
    times: [Float], labels: [Int], into modulation: Modulation, releasingWeights: Bool = false
  ) {
    precondition(times.count == modulation.rows, "\(times.count) times for \(modulation.rows) rows")
    let rows = Arena.filled { ConditioningRows(configuration, rows: times.count, hasGates: true, &$0) }
    let scratch = MutableFloatSlice(
      uninitialized: context.panelScratch(depth: weights.table.deepestConditioningLayer))
    // Nothing is read afterwards: all embedders use the same rows.
    modulate(
      times: times.span, labels: labels.span, into: modulation,
      saving: [ConditioningRows](repeating: rows, count: weights.table.embedders.count), .panelwise(scratch),
      releasing: releasingWeights)
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
    _ source: LayerSource = .blas(parts: 1), releasing: Bool = false
  ) {
    let table = weights.table
    precondition(saved.count == table.embedders.count, "\(saved.count) rows for \(table.embedders.count) embedders")
    for (number, embedder) in table.embedders.enumerated() {
      let rows = saved[number].prefix(times.count)
      embed(times, labels, embedder, rows, source)
      for index in 0...configuration.depth where table.embedder(ofNorms: index) == number {
        norms(index, modulation, rows.activatedConditioning.reading, source, releasing: releasing)
      }
    }
    modulation.ones.fill(1)
    let rows = saved[0].prefix(times.count)
    placeAttention(times, modulation, rows, source)
    placeConditions(modulation, rows)
  }

  /// c, and silu(c)
  private func embed(
    _ times: Span<Float>, _ labels: Span<Int>, _ embedder: ParameterTable.Embedder, _ saved: ConditioningRows,
    _ source: LayerSource
  ) {
    embedTimes(times, embedder, saved, source)
    let conditioning = saved.conditioning.elements
    conditioning.copy(from: saved.time.reading.elements)
    if configuration.conditioning == .inContext { conditioning.fill(0) }
    if let index = embedder.labels {
      precondition(labels.count == times.count, "\(labels.count) labels for \(times.count) rows")
      let table = weights.slices[index]
      addEmbedding(
        output: conditioning.mutableSpan, table: table.span, labels: labels, width: configuration.hiddenSize)
    }
    context.silu(output: saved.activatedConditioning.elements, input: conditioning.reading)
  }

  /// E_time(t)
  private func embedTimes(
    _ times: Span<Float>, _ embedder: ParameterTable.Embedder, _ saved: ConditioningRows, _ source: LayerSource
  ) {
    let frequencies = saved.frequencies.elements
    switch configuration.timeFrequencies {
    case .dit: timeFrequencies(output: frequencies.mutableSpan, times: times)
    case .diffusers: timeFrequencies(output: frequencies.mutableSpan, times: times, divisor: 127)
    case .literal: literalTimeFrequencies(output: frequencies.mutableSpan, times: times)
    }
    apply(layer(embedder.time0, source), to: saved.frequencies.reading, into: saved.hidden)
    context.silu(output: saved.activated.elements, input: saved.hidden.reading.elements)
    apply(layer(embedder.time2, source), to: saved.activated.reading, into: saved.time)
  }

  /// Shift, scale and gate of block `index`, or of the final layer.
  private func norms(
    _ index: Int, _ modulation: Modulation, _ activated: Matrix, _ source: LayerSource, releasing: Bool
  ) {
    let target = modulation.block(index)
    switch weights.table.norms(index) {
    case .adaLN(let adaLN):
      let columns = weights.table.extents(adaLN).outputs
      apply(
        layer(adaLN, source), to: activated,
        into: MutableMatrix(target, rows: activated.rows, columns: columns))
      if releasing { weights.slices[adaLN.weight].releasePages() }
    case .own(let norms):
      // shift = bias, scale = weight − 1: the kernels multiply by 1 + scale.
      let d = configuration.hiddenSize
      for (place, norm) in norms.enumerated() {
        target[2 * place * d..<(2 * place + 1) * d].copy(from: bias(norm))
        let scale = target[(2 * place + 1) * d..<(2 * place + 2) * d]
        scale.fill(-1)
        context.add(weights.slices[norm.weight], to: scale)
      }
    }
  }

  /// c, or E_time and E_class, row by row.
  private func placeConditions(_ modulation: Modulation, _ saved: ConditioningRows) {
    let d = configuration.hiddenSize
    let (time, sum) = (saved.time.reading.elements, saved.conditioning.reading.elements)
    for row in 0..<modulation.rows where modulation.conditionCount > 0 {
      let (condition, place) = (modulation.condition(row), row * d..<(row + 1) * d)
      guard configuration.conditioning == .inContext else {
        condition.copy(from: sum[place])
        continue
      }
      condition[0..<d].copy(from: time[place])
      if condition.count > d { condition[d..<2 * d].copy(from: sum[place]) }
    }
  }
}
