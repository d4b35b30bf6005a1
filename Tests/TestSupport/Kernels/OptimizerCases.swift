import DiTKernels
import DiTTensor

/// Around a vector's length and a chunk's (65,536).
private let counts = [1, 3, 5, 7, 17, 65_535, 131_077]

/// Ten steps of AdamW: each rounds w, m and v a few times, and a wrong power, bias correction, order of decay or place of ε
/// grows with them. ε is as large as the gradients here, so that its place matters.
public struct AdamWCase: KernelCase {
  let count: Int
  var steps = 10

  private static let constants = AdamW(beta1: 0.8, beta2: 0.97, epsilon: 0.1, weightDecay: 0.3)
  private static let scale: Float = 0.4
  private static func rate(_ step: Int) -> Float { 0.02 * Float(step) }

  public var description: String { "\(count), \(steps) steps" }
  public var kernels: Set<String> { ["adamw"] }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    let zeros = [Float](repeating: 0, count: count)
    var inputs = ["w": draw.normal(count), "m": zeros, "v": zeros]
    for step in 1...steps { inputs["g\(step)"] = draw.normal(count) }
    return inputs
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let (w, m, v) = (o.state("w"), o.state("m"), o.state("v"))
    let gradients = (1...steps).map { o.vector("g\($0)") }
    return {
      for (n, gradient) in gradients.enumerated() {
        context.adamW(
          weights: w, firstMoment: m, secondMoment: v, gradient: gradient, gradientScale: Self.scale,
          learningRate: Self.rate(n + 1), step: n + 1, constants: Self.constants)
      }
    }
  }

  /// Of the constants as Float holds them.
  public func expected(_ x: Inputs) -> [Expectation] {
    var (w, m, v) = (x["w"], x["m"], x["v"])
    let c = Self.constants
    let (b1, b2, epsilon) = (Double(c.beta1), Double(c.beta2), Double(c.epsilon))
    var (b1n, b2n) = (1.0, 1.0)
    for step in 1...steps {
      let (gradient, rate) = (x["g\(step)"], Double(Self.rate(step)))
      (b1n, b2n) = (b1n * b1, b2n * b2)
      for i in w.indices {
        let g = gradient[i] * Double(Self.scale)
        w[i] *= 1 - rate * Double(c.weightDecay)
        m[i] = b1 * m[i] + (1 - b1) * g
        v[i] = b2 * v[i] + (1 - b2) * g * g
        w[i] -= rate * (m[i] / (1 - b1n)) / ((v[i] / (1 - b2n)).squareRoot() + epsilon)
      }
    }
    return [.near("w", w, .roundings(40)), .near("m", m, .roundings(40)), .near("v", v, .roundings(40))]
  }

  public static let all = counts.map { AdamWCase(count: $0) }
  public static let measured = [
    KernelSpeed("adamW", .bytes("w, m, v r w, g r", 28 << 24), AdamWCase(count: 1 << 24, steps: 1))
  ]
}

/// Ten steps of e = decay · e + (1 − decay) · w.
public struct AverageCase: KernelCase {
  let count: Int
  var steps = 10

  public var description: String { "\(count), \(steps) steps" }
  public var kernels: Set<String> { ["ema"] }

  private static func decay(_ step: Int) -> Float { min(0.9999, Float(1 + step) / Float(10 + step)) }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    var inputs = ["e": draw.normal(count)]
    for step in 1...steps { inputs["w\(step)"] = draw.normal(count) }
    return inputs
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let (average, weights) = (o.state("e"), (1...steps).map { o.vector("w\($0)") })
    return {
      for (n, w) in weights.enumerated() {
        context.exponentialMovingAverage(average, weights: w, decay: Self.decay(n + 1))
      }
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    var e = x["e"]
    for step in 1...steps {
      let (w, decay) = (x["w\(step)"], Double(Self.decay(step)))
      for i in e.indices { e[i] = decay * e[i] + (1 - decay) * w[i] }
    }
    return [.near("e", e, .roundings(20), scale: max(1, e.largest))]
  }

  public static let all = counts.map { AverageCase(count: $0) }
  public static let measured = [
    KernelSpeed("exponentialMovingAverage", .bytes("e r w, w r", 12 << 24), AverageCase(count: 1 << 24, steps: 1))
  ]
}

/// Σ x², Float sums of at most 4,096 squares, then Double.
public struct SumOfSquaresCase: KernelCase {
  let count: Int

  public var description: String { "\(count)" }
  public var kernels: Set<String> { count > 0 ? ["sum_squares"] : [] }

  public func draw(_ draw: inout Draw) -> [String: [Float]] { ["x": draw.normal(count, deviation: 3)] }

  /// The Double as the sum of two Floats.
  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let (x, sum, rest) = (o.vector("x"), o.output("sum", 1), o.output("rest", 1))
    let sums = DoubleScratch(ComputeContext.normScratch(count))
    return {
      let total = sums.use { context.sumOfSquares(x, scratch: $0.mutableSpan) }
      sum[0] = Float(total)
      rest[0] = Float(total - Double(Float(total)))
    }
  }

  private final class DoubleScratch {
    private var values: [Double]
    init(_ count: Int) { values = [Double](repeating: .nan, count: count) }
    func use(_ body: (inout [Double]) -> Double) -> Double { body(&values) }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let sum = dot(x["x"], x["x"])
    return [.near("sum", [sum], .sum(of: min(count, 4096))), .near("rest", [0], .roundings(1), scale: 2 * sum)]
  }

  public static let all = ([0, 4096, 4097] + counts).map { SumOfSquaresCase(count: $0) }
  public static let measured = [
    KernelSpeed("sumOfSquares", .bytes("g r", 4 << 24), SumOfSquaresCase(count: 1 << 24))
  ]
}
