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
    let packing = Slice(uninitialized: weights.table.largestConditioningLayer)
    // Nothing is read afterwards: all embedders use the same rows.
    modulate(
      times: times.span, labels: labels.span, into: modulation,
      saving: [ConditioningRows](repeating: rows, count: weights.table.embedders.count), .packing(packing, .fp32),
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
      let rows = saved[number].prefix(configuration, times.count)
      embed(times, labels, embedder, rows, source)
      for index in 0...configuration.depth where table.embedder(ofNorms: index) == number {
        norms(index, modulation, rows.activatedConditioning, rows: times.count, source, releasing: releasing)
      }
    }
    modulation.ones.fill(1)
    let rows = saved[0].prefix(configuration, times.count)
    placeAttention(times, modulation, rows, source)
    placeConditions(modulation, rows)
  }

  /// c, and silu(c)
  private func embed(
    _ times: Span<Float>, _ labels: Span<Int>, _ embedder: ParameterTable.Embedder, _ saved: ConditioningRows,
    _ source: LayerSource
  ) {
    embedTimes(times, embedder, saved, source)
    saved.conditioning.copy(from: saved.time.span)
    if configuration.conditioning == .inContext { saved.conditioning.fill(0) }
    if let index = embedder.labels {
      precondition(labels.count == times.count, "\(labels.count) labels for \(times.count) rows")
      addEmbedding(
        output: saved.conditioning, table: weights.slices[index], labels: labels, width: configuration.hiddenSize)
    }
    context.silu(output: saved.activatedConditioning, input: saved.conditioning)
  }

  /// E_time(t)
  private func embedTimes(
    _ times: Span<Float>, _ embedder: ParameterTable.Embedder, _ saved: ConditioningRows, _ source: LayerSource
  ) {
    switch configuration.timeFrequencies {
    case .dit: timeFrequencies(output: saved.frequencies.mutableSpan, times: times)
    case .diffusers: timeFrequencies(output: saved.frequencies.mutableSpan, times: times, divisor: 127)
    case .literal: literalTimeFrequencies(output: saved.frequencies.mutableSpan, times: times)
    }
    context.linear(
      output: Activation(saved.hidden), input: Activation(saved.frequencies), layer: layer(embedder.time0, source),
      rows: times.count)
    context.silu(output: saved.activated, input: saved.hidden)
    context.linear(
      output: Activation(saved.time), input: Activation(saved.activated), layer: layer(embedder.time2, source),
      rows: times.count)
  }

  /// Shift, scale and gate of block `index`, or of the final layer.
  private func norms(
    _ index: Int, _ modulation: Modulation, _ activated: Slice, rows: Int, _ source: LayerSource, releasing: Bool
  ) {
    let target = modulation.block(index)
    switch weights.table.norms(index) {
    case .adaLN(let adaLN):
      context.linear(
        output: Activation(target), input: Activation(activated), layer: layer(adaLN, source), rows: rows)
      if releasing { weight(adaLN).releasePages() }
    case .own(let norms):
      // shift = bias, scale = weight − 1: the kernels multiply by 1 + scale.
      let d = configuration.hiddenSize
      for (place, norm) in norms.enumerated() {
        target[2 * place * d..<(2 * place + 1) * d].copy(from: bias(norm).span)
        let scale = target[(2 * place + 1) * d..<(2 * place + 2) * d]
        scale.fill(-1)
        context.add(weight(norm).span, to: scale.mutableSpan)
      }
    }
  }

  /// c, or E_time and E_class, row by row.
  private func placeConditions(_ modulation: Modulation, _ saved: ConditioningRows) {
    let d = configuration.hiddenSize
    for row in 0..<modulation.rows where modulation.conditionCount > 0 {
      let (condition, place) = (modulation.condition(row), row * d..<(row + 1) * d)
      guard configuration.conditioning == .inContext else {
        condition.copy(from: saved.conditioning[place].span)
        continue
      }
      condition[0..<d].copy(from: saved.time[place].span)
      if condition.count > d { condition[d..<2 * d].copy(from: saved.conditioning[place].span) }
    }
  }
}
