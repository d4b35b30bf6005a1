import DiTKernels
import DiTTensor

// From (t, y) to what depends on nothing else:
//
//   E_time(t) = fc2(silu(fc0(freq(t)))), E_class(y) = table[y], c = E_time(t) + E_class(y)
//   adaln_zero, adaln: every shift, scale (and gate) = Linear(silu(c))
//   additive:          c joins every image token
//   in_context:        E_time(t) and E_class(y) are tokens
//   noise mask:        a gate a head, g(t) = sigmoid(second(silu(first(E_time(t))))), and a width k(t)

extension DiTNetwork {
  /// The modulation for (times, labels), into rows the caller owns.
  ///
  /// - Parameters:
  ///   - times: training indices, one a row.
  ///   - labels: class indices, `numClasses` for the null class; empty for an unconditional model.
  ///   - releasingWeights: says that adaLN's weights, a third of a large model, will not be read again soon: where they
  ///     are a mapped file's, their memory is given back.
  public func modulate(
    times: [Float], labels: [Int], into modulation: Modulation, releasingWeights: Bool = false
  ) {
    precondition(times.count == modulation.rows, "\(times.count) times for \(modulation.rows) rows")
    var layout = ArenaLayout()
    let plan = ConditioningRows.Plan(configuration, rows: times.count, &layout)
    let rows = ConditioningRows(plan, in: Slice(zeros: layout.count))
    modulate(times: times.span, labels: labels.span, into: modulation, saving: rows, releasing: releasingWeights)
  }

  /// The same into rows that ``backward`` reads.
  ///
  /// - Parameters:
  ///   - modulation: as many rows as `times`; overwritten.
  ///   - saved: the intermediate rows.
  ///   - releasing: lets go of each adaLN weight's pages, where they are a file's, once it has been read.
  func modulate(
    times: Span<Float>, labels: Span<Int>, into modulation: Modulation, saving saved: ConditioningRows,
    releasing: Bool = false
  ) {
    let (rows, d) = (times.count, configuration.hiddenSize)
    embedTimes(times, saved)
    saved.conditioning.copy(from: saved.time.span)
    if configuration.conditioning == .inContext { saved.conditioning.fill(0) }
    if let index = weights.table.labels {
      precondition(labels.count == rows, "\(labels.count) labels for \(rows) rows")
      addEmbedding(output: saved.conditioning, table: weights.slices[index], labels: labels, width: d)
    }
    context.silu(output: saved.activatedConditioning, input: saved.conditioning)
    for index in 0...configuration.depth {
      norms(index, modulation, saved.activatedConditioning, rows: rows, releasing: releasing)
    }
    modulation.ones.fill(1)
    placeAttention(times, modulation, saved)
    placeConditions(modulation, saved)
  }

  /// E_time(t)
  private func embedTimes(_ times: Span<Float>, _ saved: ConditioningRows) {
    let table = weights.table
    switch configuration.timeFrequencies {
    case .dit: timeFrequencies(output: saved.frequencies.mutableSpan, times: times)
    case .literal: literalTimeFrequencies(output: saved.frequencies.mutableSpan, times: times)
    }
    context.linear(
      output: Activation(saved.hidden), input: Activation(saved.frequencies), layer: layer(table.time0, .blas),
      rows: times.count)
    context.silu(output: saved.activated, input: saved.hidden)
    context.linear(
      output: Activation(saved.time), input: Activation(saved.activated), layer: layer(table.time2, .blas),
      rows: times.count)
  }

  /// Shift, scale and gate of block `index`, or of the final layer.
  private func norms(_ index: Int, _ modulation: Modulation, _ activated: Slice, rows: Int, releasing: Bool) {
    let target = modulation.block(index)
    switch weights.table.norms(index) {
    case .adaLN(let adaLN):
      context.linear(
        output: Activation(target), input: Activation(activated), layer: layer(adaLN, .blas), rows: rows)
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
