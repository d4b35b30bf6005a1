import DiTKernels
import DiTTensor
import TestSupport
import Testing

/// y = x Wᵀ + b over packed weights with each of its endings, and dx = dy W: in both formats, at every level, against
/// Double on the operands as they are rounded.
@Suite("The linear layer over packed weights") struct PackedLinearTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let rows, depth, columns: Int
    var testDescription: String { "\(rows)×\(depth)→\(columns)" }

    init(_ rows: Int, _ depth: Int, _ columns: Int) { (self.rows, self.depth, self.columns) = (rows, depth, columns) }
  }

  /// Rows below, at and beyond a group of 6 and a block of 256; columns around a panel of 64 and a vector of 16; depths
  /// that are odd, and from 1537 (float32) and 3073 (bf16) on summed in several cuts.
  static let cases = [
    Case(1, 1, 1), Case(2, 33, 5), Case(3, 5, 64), Case(4, 7, 65), Case(5, 64, 130), Case(6, 33, 64), Case(7, 1700, 5),
    Case(8, 3300, 65), Case(9, 1, 130), Case(10, 33, 1), Case(11, 130, 64), Case(12, 65, 17), Case(13, 1701, 130),
    Case(255, 33, 65), Case(257, 64, 130), Case(257, 1537, 16), Case(300, 3301, 5),
  ]

  /// A left operand (rows, depth), a right one, and a weight that is its transpose or itself, packed for one direction.
  private struct Product {
    enum Direction { case forward, backward }

    let c: Case
    let precision: Precision
    let direction: Direction
    let left, weight, bias: [Float]
    /// What the product is, without the bias, of the rounded operands.
    let sums: [Double]

    init(_ c: Case, _ precision: Precision, _ direction: Direction, seed: UInt64 = 111) {
      var draw = Draw(seed: seed)
      (self.c, self.precision, self.direction) = (c, precision, direction)
      left = draw.normal(c.rows * c.depth)
      weight = draw.normal(c.columns * c.depth)
      bias = draw.normal(c.columns)
      let (a, w) = (left.rounded(to: precision).doubles, weight.rounded(to: precision).doubles)
      sums =
        direction == .forward
        ? Reference.linear(
          a, w, [Double](repeating: 0, count: c.columns), rows: c.rows, inputs: c.depth, outputs: c.columns)
        : Reference.linearInputGradient(a, w, rows: c.rows, inputs: c.columns, outputs: c.depth)
    }

    var count: Int { c.rows * c.columns }
    /// With the bias.
    var linear: [Double] { sums.indices.map { sums[$0] + Double(bias[$0 % c.columns]) } }
    var tolerance: Tolerance { .sum(of: c.depth) }
    /// The sums' size for every element: what is computed from them is in error by a share of it.
    func scales(_ expected: [Double]) -> [Double] {
      [Double](repeating: expected.reduce(0) { max($0, abs($1)) }, count: count)
    }
  }

  /// A product's operands at one level.
  private struct Run {
    let context: ComputeContext
    let operands = Operands()
    let p: Product
    let left, bias, packed: Slice

    init(_ p: Product, _ level: Level) throws {
      context = try level.context()
      self.p = p
      let c = p.c
      left = operands.input("left operand", p.left, p.precision)
      bias = operands.input("bias", p.bias)
      let weight = operands.input("W", p.weight)
      packed = operands.output(
        "packed", ComputeContext.packedElements(depth: c.depth, columns: c.columns, precision: p.precision))
      if p.direction == .forward {
        context.packForward(
          packed.mutableBytes, weight: weight.span, inputs: c.depth, outputs: c.columns, precision: p.precision)
      } else {
        context.packBackward(
          packed.mutableBytes, weight: weight.span, inputs: c.columns, outputs: c.depth, precision: p.precision)
      }
    }

    func linear(_ y: Slice, _ format: Precision, table: [Float] = []) {
      context.packedLinear(
        output: y.mutableBytes, format, input: left.bytes, packed: packed.bytes, p.precision, bias: bias.span,
        addingRows: operands.input("table", table).span, rows: p.c.rows, inputs: p.c.depth, outputs: p.c.columns)
    }

    func gelu(_ h: Slice, saving pre: Slice) {
      context.packedLinearGELU(
        output: h.mutableBytes, preactivation: pre.mutableBytes, input: left.bytes, packed: packed.bytes, p.precision,
        bias: bias.span, rows: p.c.rows, inputs: p.c.depth, outputs: p.c.columns)
    }

    func gateResidual(
      _ result: Slice, saving y: Slice, residual: Slice, gate: Slice, stride: Int, samples: Int, tokens: Int
    ) {
      context.packedLinearGateResidual(
        result: result.mutableSpan, output: y.mutableBytes, residual: residual.span, input: left.bytes,
        packed: packed.bytes, p.precision, bias: bias.span, gate: gate.span, gateStride: stride, samples: samples,
        tokens: tokens, inputs: p.c.depth, outputs: p.c.columns)
    }

    func backwardInput(_ dx: Slice, _ format: Precision, accumulating: Bool) {
      context.packedLinearBackwardInput(
        inputGradient: dx.mutableBytes, format, outputGradient: left.bytes, packed: packed.bytes, p.precision,
        rows: p.c.rows, inputs: p.c.columns, outputs: p.c.depth, accumulating: accumulating)
    }

    func backwardGELU(_ dpre: Slice, _ h: Slice, pre: Slice) {
      context.packedLinearBackwardGELU(
        preactivationGradient: dpre.mutableBytes, activation: h.mutableBytes, preactivation: pre.bytes,
        outputGradient: left.bytes, packed: packed.bytes, p.precision, rows: p.c.rows, inputs: p.c.columns,
        outputs: p.c.depth)
    }
  }

  /// With and without rows that are added, into both formats.
  @Test(
    "The packed linear layer, with and without added rows, agrees with the reference",
    arguments: cases, Precision.allCases)
  func plain(_ c: Case, _ precision: Precision) throws {
    let p = Product(c, precision, .forward)
    let expected = p.linear
    var draw = Draw(seed: 112)
    let table = draw.normal((c.rows / 2 + 1) * c.columns)
    let added = expected.indices.map { expected[$0] + Double(table[$0 % table.count]) }
    for level in Level.all {
      let run = try Run(p, level)
      for format in Precision.allCases {
        let y = run.operands.output("y", p.count, format)
        run.linear(y, format)
        #expect(mismatch(y, format, expected, within: p.tolerance) == nil, "\(level), into \(format)")
        run.linear(y, format, table: table)
        #expect(mismatch(y, format, added, within: p.tolerance) == nil, "\(level), into \(format), rows added")
      }
      #expect(run.operands.damage == nil, "\(level)")
    }
  }

  @Test(
    "Packed linear with GELU agrees with the reference, saving the pre-activation or not",
    arguments: cases, Precision.allCases)
  func gelu(_ c: Case, _ precision: Precision) throws {
    let p = Product(c, precision, .forward)
    let pre = p.linear
    let expected = pre.map(Reference.gelu)
    for level in Level.all {
      let run = try Run(p, level)
      let (h, saved) = (
        run.operands.output("h", p.count, precision), run.operands.output("pre", p.count, precision)
      )
      run.gelu(h, saving: saved)
      #expect(mismatch(saved, precision, pre, within: p.tolerance) == nil, "\(level)")
      #expect(mismatch(h, precision, expected, within: p.tolerance, scales: p.scales(pre)) == nil, "\(level)")
      let alone = run.operands.output("h alone", p.count, precision)
      run.gelu(alone, saving: saved[0..<0])
      #expect(bitDifference(alone.array, h.array) == nil, "\(level), nothing saved")
      #expect(run.operands.damage == nil, "\(level)")
    }
  }

  /// Samples × tokens: groups of rows and blocks begin and end inside a sample.
  @Test(
    "Packed linear with gate and residual agrees with the reference, in place too",
    arguments: [(1, 1), (3, 5), (2, 17), (3, 85), (1, 257), (4, 75), (13, 1)], Precision.allCases)
  func gateResidual(_ extents: (samples: Int, tokens: Int), _ precision: Precision) throws {
    let (samples, tokens) = extents
    let c = Case(samples * tokens, samples == 2 ? 3300 : 33, samples == 3 ? 65 : 37)
    let (p, stride) = (Product(c, precision, .forward), 71)
    var draw = Draw(seed: 113)
    let (residual, gate) = (draw.normal(p.count), draw.normal(samples * c.columns))
    let linear = p.linear
    let expected = Reference.gated(residual.doubles, linear, gate: gate.doubles, tokens: tokens, width: c.columns)
    let scales = p.scales(linear).map { 3 * $0 }  // gates are as large
    for level in Level.all {
      let run = try Run(p, level)
      let gates = run.operands.input("gate", scatter(gate, width: c.columns, stride: stride))
      let (x, result) = (run.operands.input("x", residual), run.operands.output("x'", p.count))
      let y = run.operands.output("y", p.count, precision)
      run.gateResidual(result, saving: y, residual: x, gate: gates, stride: stride, samples: samples, tokens: tokens)
      #expect(mismatch(y, precision, linear, within: p.tolerance) == nil, "\(level)")
      #expect(mismatch(result.array, expected, within: p.tolerance, scales: scales) == nil, "\(level)")
      // As inference calls it: nothing saved, the result in the residual's own memory.
      let stream = run.operands.state("stream", residual)
      run.gateResidual(
        stream, saving: y[0..<0], residual: stream, gate: gates, stride: stride, samples: samples, tokens: tokens)
      #expect(bitDifference(stream.array, result.array) == nil, "\(level), in place")
      #expect(run.operands.damage == nil, "\(level)")
    }
  }

  /// Overwriting and adding, into both formats.
  @Test("The input's gradient agrees with the reference, overwritten or added", arguments: cases, Precision.allCases)
  func backwardInput(_ c: Case, _ precision: Precision) throws {
    let p = Product(c, precision, .backward)
    var draw = Draw(seed: 114)
    let before = draw.normal(p.count)
    for level in Level.all {
      let run = try Run(p, level)
      for format in Precision.allCases {
        let dx = run.operands.output("dx", p.count, format)
        run.backwardInput(dx, format, accumulating: false)
        #expect(mismatch(dx, format, p.sums, within: p.tolerance) == nil, "\(level), into \(format)")
        let sum = run.operands.state("dx, added to", before, format)
        run.backwardInput(sum, format, accumulating: true)
        let expected = zip(before.rounded(to: format), p.sums).map { Double($0) + $1 }
        #expect(mismatch(sum, format, expected, within: p.tolerance) == nil, "\(level), added to \(format)")
      }
      #expect(run.operands.damage == nil, "\(level)")
    }
  }

  @Test("The gradient through GELU agrees with the reference", arguments: cases, Precision.allCases)
  func backwardGELU(_ c: Case, _ precision: Precision) throws {
    let p = Product(c, precision, .backward)
    var draw = Draw(seed: 115)
    let pre = draw.normal(p.count, deviation: 3)
    let x = pre.rounded(to: precision).doubles
    let expected = zip(p.sums, x).map { $0 * Reference.geluSlope($1) }
    // The slope is in error by up to 20 ulps (see ActivationTests), and weighted by the sum.
    let tolerance = Tolerance.roundings(48 + 2 * Int(Double(c.depth).squareRoot()))
    for level in Level.all {
      let run = try Run(p, level)
      let (dpre, h) = (
        run.operands.output("dpre", p.count, precision), run.operands.output("h", p.count, precision)
      )
      run.backwardGELU(dpre, h, pre: run.operands.input("pre", pre, precision))
      #expect(mismatch(dpre, precision, expected, within: tolerance, scales: p.scales(p.sums)) == nil, "\(level)")
      #expect(mismatch(h, precision, x.map(Reference.gelu), within: .roundings(8)) == nil, "\(level)")
      #expect(run.operands.damage == nil, "\(level)")
    }
  }

  /// A row has the same bits alone, among the first n, and inside another run of rows: the depth is cut in both formats.
  @Test("A row has the same bits alone as among any other rows", arguments: Precision.allCases, Level.all)
  func rowsAreIndependent(_ precision: Precision, _ level: Level) throws {
    let c = Case(300, 3301, 37)
    let p = Product(c, precision, .forward)
    let run = try Run(p, level)
    let (all, allGELU) = (Slice(zeros: p.count), Slice(zeros: p.count))
    run.linear(all, .fp32)
    run.gelu(allGELU, saving: Slice(zeros: 0))
    for (first, rows) in [
      (0, 1), (0, 2), (0, 5), (0, 6), (0, 7), (0, 13), (0, 255), (0, 256), (0, 257), (299, 1), (3, 7), (43, 257),
    ] {
      let input = Slice(Array(p.left[first * c.depth..<(first + rows) * c.depth]).stored(precision))
      let (y, h) = (Slice(zeros: rows * c.columns), Slice(zeros: rows * c.columns))
      run.context.packedLinear(
        output: y.mutableBytes, .fp32, input: input.bytes, packed: run.packed.bytes, precision, bias: run.bias.span,
        addingRows: [Float]().span, rows: rows, inputs: c.depth, outputs: c.columns)
      let range = first * c.columns..<(first + rows) * c.columns
      #expect(bitDifference(y.array, all[range].array) == nil, "rows \(first) …, \(rows) of them")
      run.context.packedLinearGELU(
        output: h.mutableBytes, preactivation: Slice(zeros: 0).mutableBytes, input: input.bytes,
        packed: run.packed.bytes, precision, bias: run.bias.span, rows: rows, inputs: c.depth, outputs: c.columns)
      let expected = Array(allGELU.values(p.count, precision)[range])
      #expect(
        bitDifference(h.values(range.count, precision), expected) == nil, "GELU, rows \(first) …, \(rows) of them")
    }
  }

  @Test(
    "The packed linear layer and its input gradient are PyTorch's",
    arguments: ["1x1x1", "5x7x3", "13x37x19"], Level.all)
  func torch(_ name: String, _ level: Level) throws {
    let fixture = try Fixture("kernels")
    let c = name.split(separator: "x").compactMap { Int($0) }
    let (rows, inputs, outputs) = (c[0], c[1], c[2])
    func floats(_ tensor: String) throws -> [Float] { try fixture.floats("linear.\(name).\(tensor)") }
    let context = try level.context()
    let (x, w, b, dy) = try (floats("input"), floats("weight"), floats("bias"), floats("dy"))
    let packed = Slice(zeros: ComputeContext.packedElements(depth: inputs, columns: outputs, precision: .fp32))
    context.packForward(packed.mutableBytes, weight: w.span, inputs: inputs, outputs: outputs, precision: .fp32)
    let y = Slice(zeros: rows * outputs)
    context.packedLinear(
      output: y.mutableBytes, .fp32, input: Slice(x).bytes, packed: packed.bytes, .fp32, bias: b.span,
      addingRows: [Float]().span, rows: rows, inputs: inputs, outputs: outputs)
    try #expect(mismatch(y.array, fixture.doubles("linear.\(name).y"), within: .sum(of: inputs)) == nil)
    let transposed = Slice(zeros: ComputeContext.packedElements(depth: outputs, columns: inputs, precision: .fp32))
    context.packBackward(transposed.mutableBytes, weight: w.span, inputs: inputs, outputs: outputs, precision: .fp32)
    let dx = Slice(zeros: rows * inputs)
    context.packedLinearBackwardInput(
      inputGradient: dx.mutableBytes, .fp32, outputGradient: Slice(dy).bytes, packed: transposed.bytes, .fp32,
      rows: rows, inputs: inputs, outputs: outputs)
    try #expect(mismatch(dx.array, fixture.doubles("linear.\(name).dinput"), within: .sum(of: outputs)) == nil)
  }
}

/// dW += dyᵀ x and db += Σ dy over operands that the call packs.
@Suite("Gradients of weight and bias over packed operands") struct PackedGradientTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let rows, inputs, outputs: Int
    var testDescription: String { "\(outputs)×\(rows)→\(inputs)" }

    init(_ rows: Int, _ inputs: Int, _ outputs: Int) {
      (self.rows, self.inputs, self.outputs) = (rows, inputs, outputs)
    }
  }

  /// Outputs around a group of 6, eight groups and a block of 192 rows; the depth is the batch's rows, odd and cut.
  static let cases = [
    Case(1, 1, 1), Case(2, 5, 3), Case(3, 64, 6), Case(5, 65, 7), Case(13, 130, 13), Case(33, 1, 47), Case(64, 64, 48),
    Case(255, 5, 49), Case(257, 65, 191), Case(300, 130, 193), Case(1700, 64, 5), Case(3300, 5, 64), Case(3301, 65, 12),
    Case(1537, 130, 1),
  ]

  @Test("Weight and bias gradients agree with the Double reference", arguments: cases, Precision.allCases)
  func reference(_ c: Case, _ precision: Precision) throws {
    var draw = Draw(seed: 116)
    let (x, dy) = (draw.normal(c.rows * c.inputs), draw.normal(c.rows * c.outputs))
    let (beforeW, beforeB) = (draw.normal(c.outputs * c.inputs), draw.normal(c.outputs))
    let (weight, bias) = Reference.linearWeightGradient(
      dy.rounded(to: precision).doubles, x.rounded(to: precision).doubles, rows: c.rows, inputs: c.inputs,
      outputs: c.outputs)
    let dwExpected = zip(beforeW, weight).map { Double($0) + $1 }
    let dbExpected = zip(beforeB, bias).map { Double($0) + $1 }
    // A sum of n normals is about √n, a single one perhaps much less.
    let scales = dbExpected.map { _ in 3 * Double(c.rows).squareRoot() }
    for level in Level.all {
      let operands = Operands()
      let (dw, db) = (operands.state("dW", beforeW), operands.state("db", beforeB))
      let scratch = operands.output(
        "scratch",
        ComputeContext.packedGradientScratch(
          rows: c.rows, inputs: c.inputs, outputs: c.outputs, precision: precision))
      try level.context().packedLinearBackwardWeight(
        weightGradient: dw.mutableSpan, biasGradient: db.mutableSpan,
        outputGradient: operands.input("dy", dy, precision).bytes, input: operands.input("x", x, precision).bytes,
        scratch: scratch.mutableBytes, precision, rows: c.rows, inputs: c.inputs, outputs: c.outputs)
      #expect(mismatch(dw.array, dwExpected, within: .sum(of: c.rows)) == nil, "\(level)")
      #expect(mismatch(db.array, dbExpected, within: .sum(of: c.rows), scales: scales) == nil, "\(level)")
      #expect(operands.damage == nil, "\(level)")
    }
  }

  @Test("Weight and bias gradients are PyTorch's", arguments: ["1x1x1", "5x7x3", "13x37x19"], Level.all)
  func torch(_ name: String, _ level: Level) throws {
    let fixture = try Fixture("kernels")
    let c = name.split(separator: "x").compactMap { Int($0) }
    let (rows, inputs, outputs) = (c[0], c[1], c[2])
    let (x, dy) = try (fixture.floats("linear.\(name).input"), fixture.floats("linear.\(name).dy"))
    let (dw, db) = (Slice(zeros: outputs * inputs), Slice(zeros: outputs))
    let scratch = Slice(
      zeros: ComputeContext.packedGradientScratch(rows: rows, inputs: inputs, outputs: outputs, precision: .fp32))
    try level.context().packedLinearBackwardWeight(
      weightGradient: dw.mutableSpan, biasGradient: db.mutableSpan, outputGradient: Slice(dy).bytes,
      input: Slice(x).bytes, scratch: scratch.mutableBytes, .fp32, rows: rows, inputs: inputs, outputs: outputs)
    try #expect(mismatch(dw.array, fixture.doubles("linear.\(name).dweight"), within: .sum(of: rows)) == nil)
    try #expect(mismatch(db.array, fixture.doubles("linear.\(name).dbias"), within: .sum(of: rows)) == nil)
  }
}
