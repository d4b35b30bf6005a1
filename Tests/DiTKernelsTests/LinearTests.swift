import DiTKernels
import DiTTensor
import TestSupport
import Testing

/// y = x Wᵀ + b in its four forms, and its gradients: against the Double reference, PyTorch, and central differences.
@Suite("The linear layer in its four forms, and its gradients") struct LinearTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let rows, inputs, outputs: Int
    var testDescription: String { "\(rows)×\(inputs)→\(outputs)" }
  }

  /// Odd sizes, and sizes that cross the edges of tiles (512 rows, 384 columns) and of sgemm's own blocks.
  static let cases = [
    Case(rows: 1, inputs: 1, outputs: 1), Case(rows: 3, inputs: 5, outputs: 7), Case(rows: 17, inputs: 1, outputs: 5),
    Case(rows: 7, inputs: 17, outputs: 1), Case(rows: 5, inputs: 3, outputs: 17),
    Case(rows: 64, inputs: 16, outputs: 64),
    Case(rows: 3, inputs: 1031, outputs: 33), Case(rows: 513, inputs: 17, outputs: 385),
    Case(rows: 1025, inputs: 5, outputs: 769), Case(rows: 385, inputs: 513, outputs: 7),
  ]

  private struct Inputs {
    let x, w, b, dy: [Float]

    init(_ c: Case) {
      var draw = Draw(seed: 11)
      x = draw.normal(c.rows * c.inputs)
      w = draw.normal(c.outputs * c.inputs)
      b = draw.normal(c.outputs)
      dy = draw.normal(c.rows * c.outputs)
    }
  }

  @Test("The linear layer agrees with the Double reference", arguments: cases, InstructionSet.runnable)
  func plain(_ c: Case, _ level: InstructionSet) throws {
    let (inputs, operands) = (Inputs(c), Operands())
    let context = try ComputeContext(threads: 2, instructionSet: level)
    let y = operands.output("y", c.rows * c.outputs)
    let (x, w, b) = (
      operands.input("x", inputs.x), operands.input("W", inputs.w), operands.input("b", inputs.b)
    )
    context.linear(
      output: y.mutableSpan, input: x.span, weight: w.span, bias: b.span, rows: c.rows, inputs: c.inputs,
      outputs: c.outputs)
    let expected = Reference.linear(
      inputs.x.doubles, inputs.w.doubles, inputs.b.doubles, rows: c.rows, inputs: c.inputs, outputs: c.outputs)
    #expect(mismatch(y.array, expected, within: .sum(of: c.inputs)) == nil)
    #expect(operands.damage == nil)
  }

  /// Few rows are dot products of our own, in tasks of 128 outputs, four at a time: odd inputs and outputs around both, and
  /// the rows on both sides of the last number that is few.
  @Test("Products of few rows agree with the Double reference", arguments: 1...9, InstructionSet.runnable)
  func fewRows(_ rows: Int, _ level: InstructionSet) throws {
    let context = try ComputeContext(threads: 2, instructionSet: level)
    for (inputs, outputs) in [(1, 1), (5, 3), (16, 4), (17, 5), (33, 127), (1031, 7), (15, 129), (64, 257)] {
      let (values, operands) = (Inputs(Case(rows: rows, inputs: inputs, outputs: outputs)), Operands())
      let y = operands.output("y", rows * outputs)
      context.linear(
        output: y.mutableSpan, input: operands.input("x", values.x).span, weight: operands.input("W", values.w).span,
        bias: operands.input("b", values.b).span, rows: rows, inputs: inputs, outputs: outputs)
      let expected = Reference.linear(
        values.x.doubles, values.w.doubles, values.b.doubles, rows: rows, inputs: inputs, outputs: outputs)
      #expect(mismatch(y.array, expected, within: .sum(of: inputs)) == nil, "\(inputs)→\(outputs)")
      #expect(operands.damage == nil, "\(inputs)→\(outputs)")
    }
  }

  /// On both sides of the number of rows that is few, in a part and in all.
  @Test("A part's rows have the same bits whatever parts stand beside it", arguments: InstructionSet.runnable)
  func partsAreApart(_ level: InstructionSet) throws {
    let context = try ComputeContext(threads: 2, instructionSet: level)
    let (parts, inputs, outputs) = (5, 129, 70)
    for rows in [1, 2, 8, 9, 33] {
      let (values, operands) = (Inputs(Case(rows: parts * rows, inputs: inputs, outputs: outputs)), Operands())
      let (w, b) = (operands.input("W", values.w), operands.input("b", values.b))
      func product(_ range: Range<Int>) -> [Float] {
        let x = operands.input(
          "x", Array(values.x[range.lowerBound * rows * inputs..<range.upperBound * rows * inputs]))
        let y = operands.output("y", range.count * rows * outputs)
        context.linear(
          output: y.mutableSpan, input: x.span, weight: w.span, bias: b.span, rows: range.count * rows,
          parts: range.count, inputs: inputs, outputs: outputs)
        return y.array
      }
      let together = product(0..<parts)
      let apart = (0..<parts).flatMap { product($0..<$0 + 1) }
      #expect(bitDifference(together, apart) == nil, "\(rows) rows a part")
      #expect(operands.damage == nil)
    }
  }

  @Test(
    "Linear with GELU agrees with the reference, also with the pre-activation in the output's memory",
    arguments: cases, InstructionSet.runnable)
  func gelu(_ c: Case, _ level: InstructionSet) throws {
    let (inputs, operands) = (Inputs(c), Operands())
    let context = try ComputeContext(threads: 2, instructionSet: level)
    let (h, pre) = (operands.output("h", c.rows * c.outputs), operands.output("pre", c.rows * c.outputs))
    let (x, w, b) = (
      operands.input("x", inputs.x), operands.input("W", inputs.w), operands.input("b", inputs.b)
    )
    context.linearGELU(
      output: h.mutableSpan, preactivation: pre.mutableSpan, input: x.span, weight: w.span, bias: b.span, rows: c.rows,
      inputs: c.inputs, outputs: c.outputs)
    let expected = Reference.linear(
      inputs.x.doubles, inputs.w.doubles, inputs.b.doubles, rows: c.rows, inputs: c.inputs, outputs: c.outputs)
    #expect(mismatch(pre.array, expected, within: .sum(of: c.inputs)) == nil)
    #expect(mismatch(h.array, expected.map(Reference.gelu), within: .sum(of: c.inputs)) == nil)
    // As inference calls it: the preactivation in the output's own memory.
    let shared = operands.output("h and pre", c.rows * c.outputs)
    context.linearGELU(
      output: shared.mutableSpan, preactivation: shared.mutableSpan, input: x.span, weight: w.span, bias: b.span,
      rows: c.rows, inputs: c.inputs, outputs: c.outputs)
    #expect(mismatch(shared.array, expected.map(Reference.gelu), within: .sum(of: c.inputs)) == nil)
    #expect(operands.damage == nil)
  }

  /// Samples × tokens; in the last two a tile of rows begins and ends inside a sample.
  @Test(
    "Linear with gate and residual, or with added positions, agrees with the reference",
    arguments: [(1, 1), (3, 5), (2, 17), (3, 257), (5, 209)], InstructionSet.runnable)
  func gateResidualAndPositions(_ extents: (samples: Int, tokens: Int), _ level: InstructionSet) throws {
    let (samples, tokens) = extents
    let (c, stride) = (Case(rows: samples * tokens, inputs: 9, outputs: 37), 41)
    let (inputs, operands) = (Inputs(c), Operands())
    let context = try ComputeContext(threads: 2, instructionSet: level)
    var draw = Draw(seed: 12)
    let (residual, gate) = (draw.normal(c.rows * c.outputs), draw.normal(samples * c.outputs))
    let table = draw.normal(tokens * c.outputs)
    let (x, w, b) = (
      operands.input("x", inputs.x), operands.input("W", inputs.w), operands.input("b", inputs.b)
    )
    let gates = operands.input("gate", scatter(gate, width: c.outputs, stride: stride))
    let linear = Reference.linear(
      inputs.x.doubles, inputs.w.doubles, inputs.b.doubles, rows: c.rows, inputs: c.inputs, outputs: c.outputs)
    let gated = Reference.gated(residual.doubles, linear, gate: gate.doubles, tokens: tokens, width: c.outputs)

    let (result, y) = (operands.output("x'", c.rows * c.outputs), operands.output("y", c.rows * c.outputs))
    context.linearGateResidual(
      result: result.mutableSpan, output: y.mutableSpan, residual: operands.input("residual", residual).span,
      input: x.span, weight: w.span, bias: b.span, gate: gates.span, gateStride: stride, samples: samples,
      tokens: tokens, inputs: c.inputs, outputs: c.outputs)
    #expect(mismatch(y.array, linear, within: .sum(of: c.inputs)) == nil)
    #expect(mismatch(result.array, gated, within: .sum(of: c.inputs)) == nil)

    // As inference calls it: the result in the residual's own memory.
    let stream = operands.state("stream", residual)
    context.linearGateResidual(
      result: stream.mutableSpan, output: y.mutableSpan, residual: stream.span, input: x.span, weight: w.span,
      bias: b.span, gate: gates.span, gateStride: stride, samples: samples, tokens: tokens, inputs: c.inputs,
      outputs: c.outputs)
    #expect(mismatch(stream.array, gated, within: .sum(of: c.inputs)) == nil)

    let positioned = operands.output("tokens", c.rows * c.outputs)
    context.linear(
      output: positioned.mutableSpan, input: x.span, weight: w.span, bias: b.span,
      addingRows: operands.input("positions", table).span, rows: c.rows, inputs: c.inputs, outputs: c.outputs)
    let expected = linear.indices.map { linear[$0] + Double(table[$0 % table.count]) }
    #expect(mismatch(positioned.array, expected, within: .sum(of: c.inputs)) == nil)
    #expect(operands.damage == nil)
  }

  @Test(
    "Gradients of input, weight and bias agree with the reference, overwritten or added",
    arguments: cases, InstructionSet.runnable)
  func backward(_ c: Case, _ level: InstructionSet) throws {
    let (inputs, operands) = (Inputs(c), Operands())
    let context = try ComputeContext(threads: 2, instructionSet: level)
    var draw = Draw(seed: 13)
    let (before, beforeW) = (draw.normal(c.rows * c.inputs), draw.normal(c.outputs * c.inputs))
    let beforeB = draw.normal(c.outputs)
    let (x, w, dy) = (
      operands.input("x", inputs.x), operands.input("W", inputs.w), operands.input("dy", inputs.dy)
    )
    let dx = operands.output("dx", c.rows * c.inputs)
    context.linearBackwardInput(
      inputGradient: dx.mutableSpan, outputGradient: dy.span, weight: w.span, rows: c.rows, inputs: c.inputs,
      outputs: c.outputs)
    let expected = Reference.linearInputGradient(
      inputs.dy.doubles, inputs.w.doubles, rows: c.rows, inputs: c.inputs, outputs: c.outputs)
    #expect(mismatch(dx.array, expected, within: .sum(of: c.outputs)) == nil)

    let sum = operands.state("dx, added to", before)
    context.linearBackwardInput(
      inputGradient: sum.mutableSpan, outputGradient: dy.span, weight: w.span, rows: c.rows, inputs: c.inputs,
      outputs: c.outputs, accumulating: true)
    #expect(mismatch(sum.array, zip(before, expected).map { Double($0) + $1 }, within: .sum(of: c.outputs)) == nil)

    let (dw, db) = (operands.state("dW", beforeW), operands.state("db", beforeB))
    context.linearBackwardWeight(
      weightGradient: dw.mutableSpan, biasGradient: db.mutableSpan, outputGradient: dy.span, input: x.span,
      rows: c.rows, inputs: c.inputs, outputs: c.outputs)
    let (weight, bias) = Reference.linearWeightGradient(
      inputs.dy.doubles, inputs.x.doubles, rows: c.rows, inputs: c.inputs, outputs: c.outputs)
    #expect(mismatch(dw.array, zip(beforeW, weight).map { Double($0) + $1 }, within: .sum(of: c.rows)) == nil)
    #expect(mismatch(db.array, zip(beforeB, bias).map { Double($0) + $1 }, within: .sum(of: c.rows)) == nil)
    #expect(operands.damage == nil)
  }

  /// The gradients are those of the loss Σ dy ⊙ y, by central differences of the reference.
  @Test("The linear layer's gradients are the slopes by central differences", arguments: InstructionSet.runnable)
  func differences(_ level: InstructionSet) throws {
    let c = Case(rows: 5, inputs: 7, outputs: 3)
    let inputs = Inputs(c)
    let context = try ComputeContext(threads: 2, instructionSet: level)
    let (dx, dw, db) = (Slice(zeros: 35), Slice(zeros: 21), Slice(zeros: 3))
    context.linearBackwardInput(
      inputGradient: dx.mutableSpan, outputGradient: inputs.dy.span, weight: inputs.w.span, rows: 5, inputs: 7,
      outputs: 3)
    context.linearBackwardWeight(
      weightGradient: dw.mutableSpan, biasGradient: db.mutableSpan, outputGradient: inputs.dy.span,
      input: inputs.x.span, rows: 5, inputs: 7, outputs: 3)
    let (x, w, b, dy) = (inputs.x.doubles, inputs.w.doubles, inputs.b.doubles, inputs.dy.doubles)
    func loss(_ x: [Double], _ w: [Double], _ b: [Double]) -> Double {
      dot(dy, Reference.linear(x, w, b, rows: 5, inputs: 7, outputs: 3))
    }
    #expect(mismatch(dx.array, centralDifferences(at: x) { loss($0, w, b) }, within: .sum(of: 3)) == nil)
    #expect(mismatch(dw.array, centralDifferences(at: w) { loss(x, $0, b) }, within: .sum(of: 5)) == nil)
    #expect(mismatch(db.array, centralDifferences(at: b) { loss(x, w, $0) }, within: .sum(of: 5)) == nil)
  }

  @Test(
    "The linear layer and its gradients are PyTorch's",
    arguments: ["1x1x1", "5x7x3", "13x37x19"], InstructionSet.runnable)
  func torch(_ name: String, _ level: InstructionSet) throws {
    let fixture = try Fixture("kernels")
    let c = name.split(separator: "x").compactMap { Int($0) }
    let (rows, inputs, outputs) = (c[0], c[1], c[2])
    func floats(_ tensor: String) throws -> [Float] { try fixture.floats("linear.\(name).\(tensor)") }
    func doubles(_ tensor: String) throws -> [Double] { try fixture.doubles("linear.\(name).\(tensor)") }
    let context = try ComputeContext(threads: 2, instructionSet: level)
    let (x, w, b, dy) = try (floats("input"), floats("weight"), floats("bias"), floats("dy"))
    let y = Slice(zeros: rows * outputs)
    context.linear(
      output: y.mutableSpan, input: x.span, weight: w.span, bias: b.span, rows: rows, inputs: inputs, outputs: outputs)
    try #expect(mismatch(y.array, doubles("y"), within: .sum(of: inputs)) == nil)
    let (dx, dw, db) = (Slice(zeros: rows * inputs), Slice(zeros: outputs * inputs), Slice(zeros: outputs))
    context.linearBackwardInput(
      inputGradient: dx.mutableSpan, outputGradient: dy.span, weight: w.span, rows: rows, inputs: inputs,
      outputs: outputs)
    context.linearBackwardWeight(
      weightGradient: dw.mutableSpan, biasGradient: db.mutableSpan, outputGradient: dy.span, input: x.span,
      rows: rows, inputs: inputs, outputs: outputs)
    try #expect(mismatch(dx.array, doubles("dinput"), within: .sum(of: outputs)) == nil)
    try #expect(mismatch(dw.array, doubles("dweight"), within: .sum(of: rows)) == nil)
    try #expect(mismatch(db.array, doubles("dbias"), within: .sum(of: rows)) == nil)
  }
}
