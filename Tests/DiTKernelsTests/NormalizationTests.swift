import DiTKernels
import DiTTensor
import TestSupport
import Testing

/// LayerNorm with modulate, its gradient, the gate's gradient.
@Suite("LayerNorm with modulation, and the gate's gradient") struct NormalizationTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let samples, tokens, width: Int
    var rows: Int { samples * tokens }
    var count: Int { rows * width }
    var testDescription: String { "\(samples)×\(tokens)×\(width)" }
  }

  /// Odd widths; tokens on both sides of the 64 rows that a task takes.
  static let cases = [
    Case(samples: 1, tokens: 1, width: 1), Case(samples: 2, tokens: 3, width: 7),
    Case(samples: 1, tokens: 5, width: 17),
    Case(samples: 3, tokens: 64, width: 5), Case(samples: 3, tokens: 65, width: 72),
    Case(samples: 2, tokens: 130, width: 145), Case(samples: 1, tokens: 513, width: 16),
    Case(samples: 2, tokens: 1, width: 385),
  ]
  private static let epsilon = 1e-6

  private struct Inputs {
    let x, shift, scale, dy: [Float]

    init(_ c: Case, mean: Float = 0.3, deviation: Float = 1) {
      var draw = Draw(seed: 31)
      x = draw.normal(c.count, deviation: deviation, mean: mean)
      shift = draw.normal(c.samples * c.width)
      scale = draw.normal(c.samples * c.width)
      dy = draw.normal(c.count)
    }

    init(x: [Float], shift: [Float], scale: [Float], dy: [Float]) {
      self.x = x
      self.shift = shift
      self.scale = scale
      self.dy = dy
    }
  }

  /// The three kernels over one case, shift and scale inside wider rows.
  private struct Run {
    let operands = Operands()
    let c: Case
    let precision: Precision
    let x, shift, scale, dy: Slice
    let out, again, mean, rstd, dx, shiftGradient, scaleGradient: Slice

    private var stride: Int { 3 * c.width + 1 }
    private var gradientStride: Int { 2 * c.width + 3 }

    init(
      _ context: ComputeContext, _ c: Case, _ inputs: Inputs, _ precision: Precision = .fp32, dxBefore: [Float]? = nil
    ) {
      (self.c, self.precision) = (c, precision)
      x = operands.input("x", inputs.x)
      shift = operands.input("shift", scatter(inputs.shift, width: c.width, stride: 3 * c.width + 1))
      scale = operands.input("scale", scatter(inputs.scale, width: c.width, stride: 3 * c.width + 1))
      dy = operands.input("dy", inputs.dy)
      out = operands.output("out", c.count, precision)
      again = operands.output("out again", c.count, precision)
      mean = operands.output("mean", c.rows)
      rstd = operands.output("rstd", c.rows)
      dx = operands.state("dx", dxBefore ?? [Float](repeating: 0, count: c.count))
      let sparse = (c.samples - 1) * (2 * c.width + 3) + c.width
      shiftGradient = operands.output("dshift", sparse)
      scaleGradient = operands.output("dscale", sparse)
      forward(context)
      backward(context)
    }

    private func forward(_ context: ComputeContext) {
      context.layerNormModulate(
        output: out.mutableBytes, precision, mean: mean.mutableSpan, rstd: rstd.mutableSpan, input: x.span,
        shift: shift.span, scale: scale.span, stride: stride, epsilon: Float(NormalizationTests.epsilon),
        samples: c.samples,
        tokens: c.tokens, width: c.width)
      context.modulateFromStatistics(
        output: again.mutableBytes, precision, mean: mean.span, rstd: rstd.span, input: x.span,
        shift: shift.span, scale: scale.span, stride: stride, samples: c.samples, tokens: c.tokens, width: c.width)
    }

    private func backward(_ context: ComputeContext) {
      let scratch = operands.output(
        "scratch", ComputeContext.rowReductionScratch(samples: c.samples, tokens: c.tokens, width: c.width))
      context.layerNormModulateBackward(
        inputGradient: dx.mutableSpan, shiftGradient: shiftGradient.mutableSpan,
        scaleGradient: scaleGradient.mutableSpan, gradientStride: gradientStride, scratch: scratch.mutableSpan,
        outputGradient: dy.span, mean: mean.span, rstd: rstd.span, input: x.span, scale: scale.span, stride: stride,
        samples: c.samples, tokens: c.tokens, width: c.width)
    }

    var dshift: (rows: [Float], clean: Bool) {
      gather(shiftGradient.array, width: c.width, stride: gradientStride)
    }
    var dscale: (rows: [Float], clean: Bool) {
      gather(scaleGradient.array, width: c.width, stride: gradientStride)
    }
  }

  @Test(
    "Modulated LayerNorm, its statistics and its gradients agree with the reference",
    arguments: cases, InstructionSet.runnable)
  func modulate(_ c: Case, _ level: InstructionSet) throws {
    let inputs = Inputs(c)
    var draw = Draw(seed: 32)
    let before = draw.normal(c.count)
    let run = Run(try ComputeContext(threads: 2, instructionSet: level), c, inputs, dxBefore: before)
    let x = inputs.x.doubles
    let expected = Reference.modulate(
      x, shift: inputs.shift.doubles, scale: inputs.scale.doubles, epsilon: Self.epsilon, samples: c.samples,
      tokens: c.tokens, width: c.width)
    let tolerance = Tolerance.normalised(offset: 1, terms: c.width)
    #expect(mismatch(run.out.array, expected, within: tolerance) == nil)
    #expect(mismatch(run.again.array, expected, within: tolerance) == nil)
    let rows = (0..<c.rows).map { Reference.normalise(x[$0 * c.width..<($0 + 1) * c.width], Self.epsilon) }
    #expect(mismatch(run.mean.array, rows.map(\.1), within: tolerance) == nil)
    #expect(mismatch(run.rstd.array, rows.map(\.2), within: tolerance) == nil)

    let gradient = Reference.modulateGradient(
      inputs.dy.doubles, x, scale: inputs.scale.doubles, epsilon: Self.epsilon, samples: c.samples, tokens: c.tokens,
      width: c.width)
    let sums = Tolerance.normalised(offset: 1, terms: c.tokens)
    // One value wide, x − mean is 0 and rstd 1000: what should cancel is left with a rounding of dy · 1000.
    let scales = c.width == 1 ? [Double](repeating: 1000, count: c.count) : nil
    #expect(
      mismatch(
        run.dx.array, zip(before, gradient.dx).map { Double($0) + $1 }, within: tolerance, scales: scales) == nil)
    #expect(mismatch(run.dshift.rows, gradient.dshift, within: sums) == nil)
    #expect(mismatch(run.dscale.rows, gradient.dscale, within: sums, scales: gradient.dscale.map { _ in 10 }) == nil)
    #expect(run.dshift.clean && run.dscale.clean, "gaps between the rows were written")
    #expect(run.operands.damage == nil)
  }

  /// Into bf16: rounded once, at the end; and made again with the same bits.
  @Test("Into bf16 the result is rounded once, and made again with the same bits", arguments: cases, Level.all)
  func modulateIntoBF16(_ c: Case, _ level: Level) throws {
    let inputs = Inputs(c)
    let run = Run(try level.context(), c, inputs, .bf16)
    let expected = Reference.modulate(
      inputs.x.doubles, shift: inputs.shift.doubles, scale: inputs.scale.doubles, epsilon: Self.epsilon,
      samples: c.samples, tokens: c.tokens, width: c.width)
    #expect(mismatch(run.out, .bf16, expected, within: .normalised(offset: 1, terms: c.width)) == nil)
    #expect(bitDifference(run.again.array, run.out.array) == nil)
    #expect(run.operands.damage == nil)
  }

  /// Means far from zero: x = 1000 ± 1, and −40 ± 0.01.
  @Test(
    "Rows with means far from zero keep their precision",
    arguments: [(Float(1000), Float(1)), (-40, 0.01)], InstructionSet.runnable)
  func largeMean(_ row: (mean: Float, deviation: Float), _ level: InstructionSet) throws {
    let c = Case(samples: 2, tokens: 3, width: 145)
    let inputs = Inputs(c, mean: row.mean, deviation: row.deviation)
    let run = Run(
      try ComputeContext(threads: 2, instructionSet: level), c, inputs)
    let (x, scale) = (inputs.x.doubles, inputs.scale.doubles)
    let expected = Reference.modulate(
      x, shift: inputs.shift.doubles, scale: scale, epsilon: Self.epsilon, samples: c.samples, tokens: c.tokens,
      width: c.width)
    let gradient = Reference.modulateGradient(
      inputs.dy.doubles, x, scale: scale, epsilon: Self.epsilon, samples: c.samples, tokens: c.tokens, width: c.width)
    let tolerance = Tolerance.normalised(offset: Double(abs(row.mean / row.deviation)), terms: c.width)
    #expect(mismatch(run.out.array, expected, within: tolerance) == nil)
    #expect(mismatch(run.dx.array, gradient.dx, within: tolerance) == nil)
    #expect(mismatch(run.dscale.rows, gradient.dscale, within: tolerance) == nil)
  }

  /// The gradients are those of the loss Σ dy ⊙ out, by central differences of the reference.
  @Test("LayerNorm's gradients are the slopes by central differences", arguments: InstructionSet.runnable)
  func differences(_ level: InstructionSet) throws {
    let c = Case(samples: 2, tokens: 3, width: 5)
    let inputs = Inputs(c)
    let run = Run(
      try ComputeContext(threads: 2, instructionSet: level), c, inputs)
    let (x, shift, scale, dy) = (inputs.x.doubles, inputs.shift.doubles, inputs.scale.doubles, inputs.dy.doubles)
    func loss(_ x: [Double], _ shift: [Double], _ scale: [Double]) -> Double {
      dot(
        dy,
        Reference.modulate(
          x, shift: shift, scale: scale, epsilon: Self.epsilon, samples: c.samples, tokens: c.tokens, width: c.width))
    }
    let tolerance = Tolerance.normalised(offset: 1, terms: c.width)
    #expect(mismatch(run.dx.array, centralDifferences(at: x) { loss($0, shift, scale) }, within: tolerance) == nil)
    #expect(
      mismatch(run.dshift.rows, centralDifferences(at: shift) { loss(x, $0, scale) }, within: tolerance) == nil)
    #expect(
      mismatch(run.dscale.rows, centralDifferences(at: scale) { loss(x, shift, $0) }, within: tolerance) == nil)
  }

  /// In `tiny` the variance is about ε: a wrong ε, or one outside the root, shows.
  @Test(
    "Modulated LayerNorm and its gradients are PyTorch's",
    arguments: ["7", "72", "145", "tiny"], InstructionSet.runnable)
  func torch(_ name: String, _ level: InstructionSet) throws {
    let fixture = try Fixture("kernels")
    let shape = try fixture.shape("modulate.\(name).x")
    let c = Case(samples: shape[0], tokens: shape[1], width: shape[2])
    func floats(_ tensor: String) throws -> [Float] { try fixture.floats("modulate.\(name).\(tensor)") }
    func doubles(_ tensor: String) throws -> [Double] { try fixture.doubles("modulate.\(name).\(tensor)") }
    let inputs = try Inputs(x: floats("x"), shift: floats("shift"), scale: floats("scale"), dy: floats("dy"))
    let run = Run(
      try ComputeContext(threads: 2, instructionSet: level), c, inputs)
    // The fixtures' rows have means of up to 3 deviations.
    let tolerance = Tolerance.normalised(offset: 3, terms: c.width)
    try #expect(mismatch(run.out.array, doubles("y"), within: tolerance) == nil)
    try #expect(mismatch(run.dx.array, doubles("dx"), within: tolerance) == nil)
    try #expect(mismatch(run.dshift.rows, doubles("dshift"), within: tolerance) == nil)
    try #expect(mismatch(run.dscale.rows, doubles("dscale"), within: tolerance) == nil)
  }

  @Test("The gate's gradients agree with the reference in both precisions", arguments: cases, Level.all)
  func gate(_ c: Case, _ level: Level) throws {
    var draw = Draw(seed: 33)
    let (dx, y, gate) = (draw.normal(c.count), draw.normal(c.count), draw.normal(c.samples * c.width))
    let width = c.tokens * c.width
    for precision in Precision.allCases {
      let run = GateRun(try level.context(), c, precision, dx: dx, y: y, gate: gate)
      let saved = y.rounded(to: precision)
      let expected = dx.indices.map { Double(gate[$0 / width * c.width + $0 % c.width]) * Double(dx[$0]) }
      #expect(mismatch(run.dy, precision, expected, within: .roundings(1)) == nil, "\(precision)")
      var dgate = [Double](repeating: 0, count: gate.count)
      for i in dx.indices { dgate[i / width * c.width + i % c.width] += Double(dx[i]) * Double(saved[i]) }
      #expect(mismatch(run.dgate.rows, dgate, within: .sum(of: c.tokens)) == nil, "\(precision)")
      #expect(run.dgate.clean, "gaps between the rows were written")
      #expect(run.operands.damage == nil, "\(precision)")
    }
  }

  @Test("The gate and its gradients are PyTorch's", arguments: InstructionSet.runnable)
  func torchGate(_ level: InstructionSet) throws {
    let fixture = try Fixture("kernels")
    let shape = try fixture.shape("gate.x")
    let c = Case(samples: shape[0], tokens: shape[1], width: shape[2])
    let (dx, y, gate) = try (fixture.floats("gate.dy"), fixture.floats("gate.branch"), fixture.floats("gate.gate"))
    let run = GateRun(try ComputeContext(threads: 2, instructionSet: level), c, dx: dx, y: y, gate: gate)
    try #expect(mismatch(run.dy.array, fixture.doubles("gate.dbranch"), within: .roundings(1)) == nil)
    try #expect(mismatch(run.dgate.rows, fixture.doubles("gate.dgate"), within: .sum(of: c.tokens)) == nil)
    // x + gate ⊙ y, with y = y · 1 + 0 for a product.
    let (x, result, out) = (try fixture.floats("gate.x"), Slice(zeros: c.count), Slice(zeros: c.count))
    var identity = [Float](repeating: 0, count: c.width * c.width)
    for i in 0..<c.width { identity[i * c.width + i] = 1 }
    let context = try ComputeContext(threads: 2, instructionSet: level)
    context.linearGateResidual(
      result: result.mutableSpan, output: out.mutableSpan, residual: x.span, input: y.span, weight: identity.span,
      bias: [Float](repeating: 0, count: c.width).span, gate: gate.span, gateStride: c.width, samples: c.samples,
      tokens: c.tokens, inputs: c.width, outputs: c.width)
    try #expect(mismatch(result.array, fixture.doubles("gate.y"), within: .roundings(2)) == nil)
  }

  private struct GateRun {
    let operands = Operands()
    let dy, gateGradient: Slice
    let width, gradientStride: Int

    init(
      _ context: ComputeContext, _ c: Case, _ precision: Precision = .fp32, dx: [Float], y: [Float], gate: [Float]
    ) {
      let stride = 2 * c.width + 5
      (width, gradientStride) = (c.width, 3 * c.width + 2)
      dy = operands.output("dy", c.count, precision)
      gateGradient = operands.output("dgate", (c.samples - 1) * gradientStride + c.width)
      let scratch = operands.output(
        "scratch", ComputeContext.rowReductionScratch(samples: c.samples, tokens: c.tokens, width: c.width))
      context.gateBackward(
        outputGradient: dy.mutableBytes, precision, gateGradient: gateGradient.mutableSpan,
        gradientStride: gradientStride, scratch: scratch.mutableSpan, residualGradient: operands.input("dx", dx).span,
        output: operands.input("y", y, precision).bytes,
        gate: operands.input("gate", scatter(gate, width: c.width, stride: stride)).span, stride: stride,
        samples: c.samples, tokens: c.tokens, width: c.width)
    }

    var dgate: (rows: [Float], clean: Bool) { gather(gateGradient.array, width: width, stride: gradientStride) }
  }
}
