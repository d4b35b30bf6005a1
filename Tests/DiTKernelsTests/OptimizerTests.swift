import DiTKernels
import DiTTensor
import TestSupport
import Testing

/// AdamW, the moving average and the sum of squares: flat loops over every parameter.
@Suite("AdamW, the moving average and the sum of squares") struct OptimizerTests {
  /// Around a vector's length and a chunk's (65,536).
  static let counts = [1, 3, 5, 7, 17, 65_535, 131_077]

  /// AdamW in Double, of the constants as Float holds them.
  private struct Model {
    var w, m, v: [Double]

    mutating func step(
      _ n: Int, _ gradient: [Float], scale: Float, learningRate: Float, _ constants: AdamW
    ) {
      let (b1, b2) = (Double(constants.beta1), Double(constants.beta2))
      let (rate, decay) = (Double(learningRate), Double(constants.weightDecay))
      var (b1n, b2n) = (1.0, 1.0)
      for _ in 0..<n { (b1n, b2n) = (b1n * b1, b2n * b2) }
      for i in w.indices {
        let g = Double(gradient[i]) * Double(scale)
        w[i] *= 1 - rate * decay
        m[i] = b1 * m[i] + (1 - b1) * g
        v[i] = b2 * v[i] + (1 - b2) * g * g
        w[i] -= rate * (m[i] / (1 - b1n)) / ((v[i] / (1 - b2n)).squareRoot() + Double(constants.epsilon))
      }
    }
  }

  /// Ten steps: each rounds w, m and v a few times, and a wrong power, bias correction, order of decay or place of ε
  /// grows with them. ε is as large as the gradients here, so that its place matters.
  @Test("Ten steps of AdamW agree with AdamW in Double", arguments: counts, InstructionSet.runnable)
  func adamW(_ count: Int, _ level: InstructionSet) throws {
    let context = try ComputeContext(threads: 2, instructionSet: level)
    var draw = Draw(seed: 61)
    let weights = draw.normal(count)
    let operands = Operands()
    let w = operands.state("w", weights)
    let zeros = [Float](repeating: 0, count: count)
    let (m, v) = (operands.state("m", zeros), operands.state("v", zeros))
    let constants = AdamW(beta1: 0.8, beta2: 0.97, epsilon: 0.1, weightDecay: 0.3)
    var model = Model(w: weights.doubles, m: zeros.doubles, v: zeros.doubles)
    for step in 1...10 {
      let gradient = draw.normal(count)
      let rate = 0.02 * Float(step)
      context.adamW(
        weights: w.mutableSpan, firstMoment: m.mutableSpan, secondMoment: v.mutableSpan,
        gradient: operands.input("g", gradient).span, gradientScale: 0.4, learningRate: rate, step: step,
        constants: constants)
      model.step(step, gradient, scale: 0.4, learningRate: rate, constants)
    }
    #expect(mismatch(w.array, model.w, within: .roundings(40)) == nil)
    #expect(mismatch(m.array, model.m, within: .roundings(40)) == nil)
    #expect(mismatch(v.array, model.v, within: .roundings(40)) == nil)
    #expect(operands.damage == nil)
  }

  /// The defaults at their own scale: the first step moves every weight by the learning rate, whatever the gradient's
  /// size, and what is all zero (the padding between tensors) stays so.
  @Test(
    "AdamW's defaults are the published ones, and the first step is the learning rate",
    arguments: InstructionSet.runnable)
  func defaults(_ level: InstructionSet) throws {
    let context = try ComputeContext(threads: 2, instructionSet: level)
    let constants = AdamW()
    #expect(constants == AdamW(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.05))
    let gradient: [Float] = [1e-3, -4, 1e-5, 0, 250]
    let (w, m, v) = (Slice(zeros: 5), Slice(zeros: 5), Slice(zeros: 5))
    context.adamW(
      weights: w.mutableSpan, firstMoment: m.mutableSpan, secondMoment: v.mutableSpan, gradient: gradient.span,
      gradientScale: 1, learningRate: 1e-3, step: 1, constants: constants)
    // m̂ = g and √v̂ = |g|, which ε, a thousandth of 1e-5, is added to.
    let expected = gradient.doubles.map { -1e-3 * $0 / (abs($0) + 1e-8) }
    #expect(mismatch(w.array, expected, within: .roundings(16)) == nil)
  }

  @Test("The exponential moving average agrees with Double", arguments: counts, InstructionSet.runnable)
  func average(_ count: Int, _ level: InstructionSet) throws {
    let context = try ComputeContext(threads: 2, instructionSet: level)
    var draw = Draw(seed: 62)
    let start = draw.normal(count)
    let operands = Operands()
    let average = operands.state("e", start)
    var expected = start.doubles
    for n in 1...10 {
      let decay = min(0.9999, Float(1 + n) / Float(10 + n))
      let weights = draw.normal(count)
      context.exponentialMovingAverage(
        average.mutableSpan, weights: operands.input("w", weights).span, decay: decay)
      for i in expected.indices { expected[i] = Double(decay) * expected[i] + (1 - Double(decay)) * Double(weights[i]) }
    }
    #expect(mismatch(average.array, expected, within: .roundings(20)) == nil)
    #expect(operands.damage == nil)
  }

  @Test("The sum of squares agrees with Double", arguments: [0, 4096, 4097] + counts, InstructionSet.runnable)
  func sumOfSquares(_ count: Int, _ level: InstructionSet) throws {
    let context = try ComputeContext(threads: 2, instructionSet: level)
    var draw = Draw(seed: 63)
    let x = draw.normal(count, deviation: 3)
    var scratch = [Double](repeating: .nan, count: ComputeContext.normScratch(count))
    let operands = Operands()
    let sum = context.sumOfSquares(operands.input("x", x).span, scratch: scratch.mutableSpan)
    // Float sums of at most 4,096 squares, then Double.
    #expect(mismatch([sum], [dot(x.doubles, x.doubles)], within: .sum(of: min(count, 4096))) == nil)
    #expect(operands.damage == nil)
  }
}
