import DiTKernels
import DiTTensor
import Foundation
import TestSupport
import Testing

/// GELU (tanh form), SiLU, their slopes, and the flat sum.
@Suite("GELU, SiLU, their slopes, and addition") struct ActivationTests {
  /// Around a vector's length and, for the parallel one, a chunk's.
  static let counts = [1, 3, 5, 7, 15, 16, 17, 31, 385]

  /// Values of every size up to ±100, where the sigmoid under- and overflows in a careless form.
  private static func values(_ count: Int) -> [Float] {
    var draw = Draw(seed: 21)
    return draw.normal(count).enumerated().map { $1 * [0.01, 1, 3, 10, 30][$0 % 5] }
  }

  /// x σ: σ is in error by some 2⁻²³ whatever x is, so errors are a share of |x|, element by element; 1e-30 keeps the
  /// share meaningful where σ itself is below Float's range.
  private static func scales(_ x: [Float]) -> [Double] { x.map { abs(Double($0)) + 1e-30 } }

  /// GELU's slope is σ + x σ(1−σ)(1.6 + 0.21x²). Near x = 5, 1 − σ is a few units of 2⁻²⁴ and what multiplies it is 35, so
  /// that its rounding alone is worth 18; beyond, σ rounds to 1 and the term is gone.
  private static let slopeTolerance = Tolerance.roundings(40)

  /// The slope is of order 1 and weighted by dy.
  private static func slopeScales(_ dy: [Float]) -> [Double] { dy.map { abs(Double($0)) + 1e-30 } }

  private static func slope(_ f: (Double) -> Double, _ x: Double) -> Double {
    centralDifferences(at: [x], step: 1e-5) { f($0[0]) }[0]
  }

  @Test(
    "SiLU and its gradient agree with Double for values up to 100 in size",
    arguments: counts, InstructionSet.runnable)
  func silu(_ count: Int, _ level: InstructionSet) throws {
    let context = try ComputeContext(threads: 2, instructionSet: level)
    let (operands, values) = (Operands(), Self.values(count))
    var draw = Draw(seed: 22)
    let gradient = draw.normal(count)
    let (y, dx) = (operands.output("y", count), operands.output("dx", count))
    let x = operands.input("x", values)
    context.silu(output: y.mutableSpan, input: x.span)
    context.siluBackward(
      inputGradient: dx.mutableSpan, outputGradient: operands.input("dy", gradient).span, input: x.span)
    #expect(
      mismatch(
        y.array, values.doubles.map(Reference.silu), within: .roundings(6), scales: Self.scales(values)) == nil)
    let expected = zip(values.doubles, gradient.doubles).map { $1 * Self.slope(Reference.silu, $0) }
    #expect(mismatch(dx.array, expected, within: .roundings(16), scales: Self.slopeScales(gradient)) == nil)
    #expect(operands.damage == nil)
  }

  @Test(
    "GELU's gradient and the activation made again agree with Double",
    arguments: counts + [65_536, 131_077], InstructionSet.runnable)
  func geluBackward(_ count: Int, _ level: InstructionSet) throws {
    let context = try ComputeContext(threads: 2, instructionSet: level)
    let (operands, values) = (Operands(), Self.values(count))
    var draw = Draw(seed: 23)
    let gradient = draw.normal(count)
    let (h, dpre) = (operands.output("h", count), operands.state("dh", gradient))
    context.geluBackward(
      output: h.mutableSpan, gradient: dpre.mutableSpan, preactivation: operands.input("pre", values).span)
    #expect(
      mismatch(
        h.array, values.doubles.map(Reference.gelu), within: .roundings(6), scales: Self.scales(values)) == nil)
    let expected = zip(values.doubles, gradient.doubles).map { $1 * Self.slope(Reference.gelu, $0) }
    #expect(mismatch(dpre.array, expected, within: Self.slopeTolerance, scales: Self.slopeScales(gradient)) == nil)
    #expect(operands.damage == nil)
  }

  @Test("SiLU and its gradient are PyTorch's", arguments: InstructionSet.runnable)
  func torchSiLU(_ level: InstructionSet) throws {
    let fixture = try Fixture("kernels")
    let context = try ComputeContext(threads: 2, instructionSet: level)
    let (x, dy) = try (fixture.floats("silu.x"), fixture.floats("silu.dy"))
    let (y, dx) = (Slice(zeros: x.count), Slice(zeros: x.count))
    context.silu(output: y.mutableSpan, input: x.span)
    context.siluBackward(inputGradient: dx.mutableSpan, outputGradient: dy.span, input: x.span)
    try #expect(mismatch(y.array, fixture.doubles("silu.y"), within: .roundings(6), scales: Self.scales(x)) == nil)
    try #expect(
      mismatch(dx.array, fixture.doubles("silu.dx"), within: .roundings(16), scales: Self.slopeScales(dy)) == nil)
  }

  /// The exact (erf) GELU differs from the tanh form by up to 5e-4 here, a hundred times what is allowed.
  @Test("GELU in its tanh form and its gradient are PyTorch's", arguments: InstructionSet.runnable)
  func torchGELU(_ level: InstructionSet) throws {
    let fixture = try Fixture("kernels")
    let context = try ComputeContext(threads: 2, instructionSet: level)
    let (x, dy) = try (fixture.floats("gelu.x"), fixture.floats("gelu.dy"))
    let (h, dx) = (Slice(zeros: x.count), Slice(dy))
    context.geluBackward(output: h.mutableSpan, gradient: dx.mutableSpan, preactivation: x.span)
    try #expect(mismatch(h.array, fixture.doubles("gelu.y"), within: .roundings(6), scales: Self.scales(x)) == nil)
    try #expect(
      mismatch(dx.array, fixture.doubles("gelu.dx"), within: Self.slopeTolerance, scales: Self.slopeScales(dy)) == nil)
    // The forward kernel, with the identity for a product.
    let (forward, pre) = (Slice(zeros: x.count), Slice(zeros: x.count))
    context.linearGELU(
      output: forward.mutableSpan, preactivation: pre.mutableSpan, input: x.span, weight: [Float](arrayLiteral: 1).span,
      bias: [Float](arrayLiteral: 0).span, rows: x.count, inputs: 1, outputs: 1)
    try #expect(
      mismatch(forward.array, fixture.doubles("gelu.y"), within: .roundings(6), scales: Self.scales(x)) == nil)
  }

  @Test("Addition gives the bits of single additions", arguments: InstructionSet.runnable)
  func addition(_ level: InstructionSet) throws {
    let context = try ComputeContext(threads: 2, instructionSet: level)
    for count in [0] + Self.counts {
      var draw = Draw(seed: 24)
      let (operands, x, y) = (Operands(), draw.normal(count), draw.normal(count))
      let sum = operands.state("y", y)
      context.add(operands.input("x", x).span, to: sum.mutableSpan)
      #expect(bitDifference(sum.array, zip(x, y).map { $0 + $1 }) == nil)
      #expect(operands.damage == nil)
    }
  }
}
