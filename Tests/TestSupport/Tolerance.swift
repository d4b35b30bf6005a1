/// How far a Float result may lie from the truth, as a share of the expected tensor's largest magnitude, and why.
///
/// One rounding to Float is wrong by at most 2⁻²⁴ of the result; `ulp` below is twice that.
public struct Tolerance: Sendable, CustomStringConvertible {
  /// The policy.
  public let name: String
  /// The largest |found − expected| over the scale.
  public let relative: Double

  private static let ulp = 0x1p-23

  private init(_ name: String, _ relative: Double) {
    self.name = name
    self.relative = relative
  }

  public var description: String { "\(name), \(relative)" }

  /// A fixed number of roundings, all in one direction.
  public static func roundings(_ count: Int) -> Tolerance {
    Tolerance("\(count) roundings", Double(count) * ulp / 2)
  }

  /// A sum of `terms` random terms in Float: partial sums grow as √terms, so do, against the result, the roundings that
  /// random signs leave. A product in half precision or a lost term is out by orders of magnitude.
  public static func sum(of terms: Int) -> Tolerance {
    Tolerance("a sum of \(terms) terms", (4 + Double(terms).squareRoot()) * ulp)
  }

  /// Softmax weights: a logit of magnitude `largest` is rounded to largest · 2⁻²⁴, several times over while its product
  /// is summed, and e^δ − 1 ≈ δ is the relative error of a weight.
  public static func softmax(largest: Double, terms: Int) -> Tolerance {
    Tolerance("softmax of logits up to \(largest)", (8 + Double(terms).squareRoot() + 2 * largest) * ulp)
  }

  /// LayerNorm of rows whose mean is `offset` standard deviations: the mean, and x − mean, are rounded at that size.
  /// E[x²] − E[x]² instead would lose offset² ulps.
  public static func normalized(offset: Double, terms: Int) -> Tolerance {
    Tolerance("a row with its mean at \(offset) deviations", (8 + Double(terms).squareRoot() + 2 * offset) * ulp)
  }

  /// Numbers rounded to bf16 on the way to a sum: one rounding is wrong by at most 2⁻⁸ of its number.
  public static func bf16(_ roundings: Double) -> Tolerance {
    Tolerance("\(roundings) roundings to bf16", roundings * 0x1p-8)
  }

  /// Steps of int8, of which 255 make a row's range.
  public static func steps(_ count: Double) -> Tolerance { Tolerance("\(count) of 255 steps", count / 255) }

  /// What the engine promises of a network's output: twenty times what torch's own Float32 misses Double by.
  public static let networkOutput = Tolerance("the promise for outputs", 1e-5)

  /// What the engine promises of a parameter's gradient.
  public static let networkGradient = Tolerance("the promise for gradients", 1e-4)

  /// Two orders of the same Float arithmetic through a whole network (torch's Float32 misses Double by up to 4.5e-7).
  public static let networkReordered = Tolerance("the same network in another order", 3e-6)

  /// Double against Double, through a whole network.
  public static let double = Tolerance("Double arithmetic", 1e-11)

  /// Central differences of a whole Float network's loss: a rounding error of 3e-7 of the loss over a step that changes
  /// it by a percent, and the third-order term of that step.
  public static let floatDifferences = Tolerance("central differences in Float", 2e-2)
}

/// nil when every element is within `tolerance` of the expected one, else the first that is not, and the largest errors.
///
/// - Parameter scales: what the tolerance is a share of, element by element; by default max|expected| for all.
public func mismatch(
  _ found: [Float], _ expected: [Double], within tolerance: Tolerance, scales: [Double]? = nil
) -> String? {
  mismatch(found.map(Double.init), expected, within: tolerance, scales: scales)
}

public func mismatch(
  _ found: [Double], _ expected: [Double], within tolerance: Tolerance, scales: [Double]? = nil
) -> String? {
  guard found.count == expected.count else { return "expected \(expected.count) elements, found \(found.count)" }
  let largest = expected.reduce(0) { max($0, abs($1)) }
  let errors = zip(found, expected).map { abs($0 - $1) }
  let limits = (scales ?? expected.map { _ in largest }).map { $0 * tolerance.relative }
  // Written so that a NaN, found or expected, is bad.
  guard let bad = errors.indices.first(where: { !(errors[$0] <= limits[$0]) }) else { return nil }
  let worst = errors.contains { $0.isNaN } ? Double.nan : errors.reduce(0, max)
  return "at \(bad) of \(found.count): expected \(expected[bad]), found \(found[bad]); max error \(worst), relative "
    + "\(worst / largest); allowed: \(tolerance)"
}

/// nil when two lists have the same elements bit by bit (so 0 ≠ −0 and NaN = NaN), else where they first differ.
public func bitDifference(_ found: [Float], _ expected: [Float]) -> String? {
  guard found.count == expected.count else { return "expected \(expected.count) elements, found \(found.count)" }
  guard let i = found.indices.first(where: { found[$0].bitPattern != expected[$0].bitPattern }) else { return nil }
  return "at \(i) of \(found.count): expected \(expected[i]), found \(found[i])"
}

/// The same over named lists; the message begins with the name.
public func bitDifference(_ found: [(String, [Float])], _ expected: [(String, [Float])]) -> String? {
  guard found.map(\.0) == expected.map(\.0) else { return "other names: \(found.map(\.0))" }
  for (a, b) in zip(found, expected) {
    if let difference = bitDifference(a.1, b.1) { return "\(a.0) \(difference)" }
  }
  return nil
}

/// max|a − b| / max|b|, infinite where the counts differ or a value is not finite: `max` alone would pass over a NaN.
public func relativeError<Value: BinaryFloatingPoint>(
  _ found: some Collection<Value>, _ expected: some Collection<Value>
) -> Value {
  guard found.count == expected.count, !expected.isEmpty else { return .infinity }
  let differences = zip(found, expected).map { abs($0 - $1) }
  guard differences.allSatisfy(\.isFinite) else { return .infinity }
  let scale = expected.reduce(0) { max($0, abs($1)) }
  let worst = differences.reduce(0, max)
  return scale > 0 ? worst / scale : worst
}

/// The largest |a − b| / |b| of any element: for tables that span many powers of ten.
public func elementwiseError(_ found: [Double], _ expected: [Double]) -> Double {
  guard found.count == expected.count, !expected.isEmpty else { return .infinity }
  return zip(found, expected).map { relativeError([$0], [$1]) }.max() ?? .infinity
}
