import DiTKernels
import DiTTensor
import TestSupport
import Testing

/// AdamW's constants.
@Suite("AdamW's defaults") struct OptimizerTests {
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
    let (w, m, v) = (MutableFloatSlice(zeros: 5), MutableFloatSlice(zeros: 5), MutableFloatSlice(zeros: 5))
    context.adamW(
      weights: w, firstMoment: m, secondMoment: v, gradient: FloatSlice(gradient), gradientScale: 1,
      learningRate: 1e-3, step: 1, constants: constants)
    // m̂ = g and √v̂ = |g|, which ε, a thousandth of 1e-5, is added to.
    let expected = gradient.doubles.map { -1e-3 * $0 / (abs($0) + 1e-8) }
    #expect(mismatch(w.array, expected, within: .roundings(16)) == nil)
  }
}
