import DiTKernels
import DiTTensor

// What attention needs of the time: base(t) · g(t), the scale of each head, and the window's width k(t).

extension DiTNetwork {
  /// The scales and widths of all rows.
  func placeAttention(
    _ times: Span<Float>, _ modulation: Modulation, _ saved: ConditioningRows, _ source: LayerSource
  ) {
    let (attention, heads, grid) = (configuration.attention, configuration.numHeads, configuration.inputGrid)
    guard !attention.isStandard else { return }
    for (index, block) in weights.table.blocks.enumerated() {
      guard let layers = block.maskGate else { continue }
      maskGate(layers, saved.maskGates[index], saved.time.reading, rows: times.count, source)
    }
    var widths = modulation.widths.mutableSpan
    for row in 0..<times.count {
      let step = noise?.index(ofTime: times[row]) ?? 0
      let base = attention.scale(at: step, of: noise, headSize: configuration.headSize)
      if !widths.isEmpty {
        widths[row] = Float(attention.width(at: step, of: noise, rows: grid.rows, columns: grid.columns))
      }
      for index in 0..<configuration.depth {
        var scales = modulation.scales(index).mutableSpan
        for head in row * heads..<(row + 1) * heads { scales[head] = base }
        guard attention.hasGate else { continue }
        let rows = saved.maskGates[index].gate.memory
        let gates = rows.span
        // Even where the gate underflows to 0, logits inside the window stay different from a masked logit.
        for head in row * heads..<(row + 1) * heads { scales[head] = max(1e-20, base * gates[head]) }
      }
    }
  }

  /// gate = sigmoid(second(silu(first(time))))
  private func maskGate(
    _ layers: ParameterTable.MaskGate, _ rows: MaskGateRows, _ time: Matrix, rows count: Int, _ source: LayerSource
  ) {
    let (hidden, activated, gate) = (rows.hidden.prefix(count), rows.activated.prefix(count), rows.gate.prefix(count))
    apply(layer(layers.first, source), to: time, into: hidden)
    context.silu(output: activated.elements, input: hidden.reading.elements)
    apply(layer(layers.second, source), to: activated.reading, into: gate)
    sigmoid(gate.elements.mutableSpan)
  }
}
