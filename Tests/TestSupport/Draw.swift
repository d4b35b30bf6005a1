import DiTKernels
import DiTTensor

/// Seeded inputs. Every call takes the next stream, so that adding a draw does not move the others.
public struct Draw {
  private let seed: UInt64
  private var stream: UInt64 = 0

  public init(seed: UInt64) {
    self.seed = seed
  }

  /// N(mean, deviation²).
  public mutating func normal(_ count: Int, deviation: Float = 1, mean: Float = 0) -> [Float] {
    stream += 1
    var random = Philox(seed: seed, stream: stream)
    return random.normal(count: count).map { mean + deviation * $0 }
  }

  /// Whole numbers in 0 ..< limit.
  public mutating func indices(_ count: Int, below limit: Int) -> [Int] {
    stream += 1
    var random = Philox(seed: seed, stream: stream)
    return (0..<count).map { _ in Int.random(in: 0..<limit, using: &random) }
  }
}

extension InstructionSet {
  /// The levels that this machine can run, narrowest first.
  public static var runnable: [InstructionSet] {
    Array(allCases.prefix { $0 != supported }) + [supported]
  }
}

extension [Float] {
  /// The same numbers, exactly.
  public var doubles: [Double] { map(Double.init) }
}

/// Σ aᵢ bᵢ: the scalar loss whose gradient with respect to b is a.
public func dot(_ a: [Double], _ b: [Double]) -> Double {
  precondition(a.count == b.count, "\(a.count) and \(b.count) elements")
  var sum = 0.0
  for i in a.indices { sum += a[i] * b[i] }
  return sum
}

/// ∂f/∂xᵢ by central differences in Double: (f(x + h) − f(x − h)) / 2h, in error by h²f‴/6 + 2⁻⁵³f/h, which for the
/// default step and values of order 1 is 1e-10.
public func centralDifferences(
  at x: [Double], indices: [Int]? = nil, step: Double = 1e-5, of f: ([Double]) -> Double
) -> [Double] {
  var x = x
  return (indices ?? Array(x.indices)).map { i in
    let value = x[i]
    x[i] = value + step
    let above = f(x)
    x[i] = value - step
    let below = f(x)
    x[i] = value
    return (above - below) / (2 * step)
  }
}
