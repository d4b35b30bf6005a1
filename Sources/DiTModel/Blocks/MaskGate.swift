import DiTKernels
import DiTTensor

/// The gate of the noise mask, one value per head: g(t) = sigmoid(second(silu(first(E_time(t))))). An untrained one is
/// sigmoid(4) = 0.982 whatever t: nearly plain attention.
struct MaskGate: Sendable {
  let first, second: LinearLayer

  /// Nil where attention has no gate.
  init?(_ name: String, _ c: DiTConfiguration, _ b: inout ParameterBuilder) {
    guard c.attention.hasGate else { return nil }
    first = b.linear("\(name).0", c.hiddenSize, c.gateSize)
    let weight = b.add("\(name).2.weight", [c.numHeads, c.gateSize], .zero)
    let bias = b.add("\(name).2.bias", [c.numHeads], .constant(4))
    second = LinearLayer(weight: weight, bias: bias, inputs: c.gateSize, outputs: c.numHeads)
  }

  var layers: [LinearLayer] { [first, second] }

  /// The hidden layer's sums and outputs, (rows, D/4), and the gates, (rows, h).
  struct Memory {
    let hidden, activated, gate: MutableMatrix

    init(_ c: DiTConfiguration, rows: Int, _ arena: inout Arena) {
      hidden = arena.reserve(rows: rows, columns: c.gateSize)
      activated = arena.reserve(rows: rows, columns: c.gateSize)
      gate = arena.reserve(rows: rows, columns: c.numHeads)
    }
  }

  func forward(_ network: DiTNetwork, _ source: LayerSource, _ m: Memory, _ time: Matrix) {
    let rows = time.rows
    let (hidden, activated, gate) = (m.hidden.prefix(rows), m.activated.prefix(rows), m.gate.prefix(rows))
    network.apply(first, source, to: time, into: hidden)
    network.context.silu(output: activated.elements, input: hidden.reading.elements)
    network.apply(second, source, to: activated.reading, into: gate)
    sigmoid(gate.elements.mutableSpan)
  }

  /// With z what the sigmoid is of, logits = base · g · q·k: dz = g(1−g) dg, g dg = Σ q·dq. E_time's gradient is added to.
  ///
  /// - Parameter dz: Σ q·dq of each row and head; overwritten.
  func backward(_ pass: BackwardPass, _ m: Memory, _ dz: MutableFloatSlice, time: Matrix, into dtime: MutableMatrix) {
    let (rows, c) = (pass.samples, pass.c)
    let (hidden, activated, gate) = (
      m.hidden.prefix(rows).reading, m.activated.prefix(rows).reading, m.gate.prefix(rows).reading
    )
    scaleByComplement(dz, gate.elements)
    let dhidden = MutableMatrix(pass.ws.conditionGradient2.memory, rows: rows, columns: c.gateSize)
    pass.throughFloat32(second, into: dhidden, Matrix(dz.reading, rows: rows, columns: c.numHeads), activated)
    pass.context.siluBackward(
      inputGradient: dhidden.elements, outputGradient: dhidden.reading.elements, input: hidden.elements)
    pass.throughFloat32(first, into: dtime, dhidden.reading, time, accumulating: true)
  }

  /// x *= 1 − g
  private func scaleByComplement(_ x: MutableFloatSlice, _ gates: FloatSlice) {
    var values = x.mutableSpan
    let gate = gates.span
    for index in values.indices { values[index] *= 1 - gate[index] }
  }
}

extension DiTNetwork {
  /// What attention needs of the time: base(t) · g(t), the scale of each head, and the window's width k(t), of all rows.
  func placeAttention(
    _ times: Span<Float>, _ modulation: Modulation, _ saved: ConditioningRows, _ source: LayerSource
  ) {
    let (attention, heads, grid) = (configuration.attention, configuration.numHeads, configuration.inputGrid)
    guard !attention.isStandard else { return }
    let inputs = configuration.timeInputs
    for (index, block) in weights.table.blocks.enumerated() {
      block.attention.maskGate?.forward(self, source, saved.maskGates[index], saved.time.reading)
    }
    var widths = modulation.widths.mutableSpan
    for row in 0..<modulation.rows {
      let step = noise?.index(ofTime: times[(row + 1) * inputs - 1]) ?? 0
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
}
