import DiTKernels
import DiTTensor

/// Around a vector's length and a chunk's (65,536).
private let counts = [1, 3, 5, 7, 17, 65_535, 131_077]

/// Ten steps of AdamW and two averages: each rounds w, m, v and e a few times, and a wrong power, bias correction, order of
/// decay or place of ε grows with them. ε is as large as the gradients here, so that its place matters.
public struct AdamWCase: KernelCase {
  let count: Int
  var steps = 10
  var averages = 2

  private static let constants = AdamW(beta1: 0.8, beta2: 0.97, epsilon: 0.1, weightDecay: 0.3)
  private static let scale: Float = 0.4
  private static func rate(_ step: Int) -> Float { 0.02 * Float(step) }
  private static func decay(_ average: Int, _ step: Int) -> Float {
    average == 0 ? min(0.9999, Float(1 + step) / Float(10 + step)) : 0.7
  }

  public var description: String { "\(count), \(steps) steps, \(averages) averages" }
  public var kernels: Set<String> { averages > 0 ? ["adamw", "ema"] : ["adamw"] }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    let zeros = [Float](repeating: 0, count: count)
    var inputs = ["w": draw.normal(count), "m": zeros, "v": zeros]
    for step in 1...steps { inputs["g\(step)"] = draw.normal(count) }
    for average in 0..<averages { inputs["e\(average)"] = draw.normal(count) }
    return inputs
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let (w, m, v) = (o.state("w"), o.state("m"), o.state("v"))
    let gradients = (1...steps).map { o.vector("g\($0)") }
    let averages = (0..<averages).map { o.state("e\($0)") }
    return {
      for (n, gradient) in gradients.enumerated() {
        context.adamW(
          weights: w, firstMoment: m, secondMoment: v, gradient: gradient, gradientScale: Self.scale,
          learningRate: Self.rate(n + 1), step: n + 1, constants: Self.constants,
          averages: averages.enumerated().map { MovingAverage($1, decay: Self.decay($0, n + 1)) })
      }
    }
  }

  /// Of the constants as Float holds them.
  public func expected(_ x: Inputs) -> [Expectation] {
    var (w, m, v) = (x["w"], x["m"], x["v"])
    var e = (0..<averages).map { x["e\($0)"] }
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
        for average in e.indices {
          let decay = Double(Self.decay(average, step))
          e[average][i] = decay * e[average][i] + (1 - decay) * w[i]
        }
      }
    }
    let averages = e.indices.map {
      Expectation.near("e\($0)", e[$0], .roundings(40), scale: max(1, e[$0].largest))
    }
    return [.near("w", w, .roundings(40)), .near("m", m, .roundings(40)), .near("v", v, .roundings(40))] + averages
  }

  public static let all = counts.map { AdamWCase(count: $0) } + [AdamWCase(count: 4099, averages: 0)]
  public static let measured = [
    KernelSpeed("adamW", .bytes("w, m, v r w, g r", 28 << 24), AdamWCase(count: 1 << 24, steps: 1, averages: 0)),
    KernelSpeed(
      "adamW, average", .bytes("w, m, v, e r w, g r", 36 << 24), AdamWCase(count: 1 << 24, steps: 1, averages: 1)),
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
