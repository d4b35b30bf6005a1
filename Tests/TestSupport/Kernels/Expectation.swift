import DiTTensor

/// What one result of a kernel must be.
public struct Expectation: Sendable {
  public enum Oracle: Sendable {
    /// Numbers, before they are rounded to the result's format, and how near. Scales: see ``mismatch(_:_:within:scales:)``.
    case near([Double], Tolerance, scales: [Double]?)
    /// These bits.
    case bits([Float])
    /// The bits of another result.
    case same(String)
  }

  /// The result's name.
  public let name: String
  public let oracle: Oracle

  /// The results that this speaks of.
  public var names: [String] {
    if case .same(let other) = oracle { [name, other] } else { [name] }
  }

  static func near(
    _ name: String, _ values: [Double], _ tolerance: Tolerance, scales: [Double]? = nil
  ) -> Expectation {
    Expectation(name: name, oracle: .near(values, tolerance, scales: scales))
  }

  /// Numbers whose errors are all shares of the same magnitude.
  static func near(_ name: String, _ values: [Double], _ tolerance: Tolerance, scale: Double) -> Expectation {
    near(name, values, tolerance, scales: [Double](repeating: scale, count: values.count))
  }

  static func bits(_ name: String, _ values: [Float]) -> Expectation {
    Expectation(name: name, oracle: .bits(values))
  }

  static func same(_ name: String, as other: String) -> Expectation {
    Expectation(name: name, oracle: .same(other))
  }

  /// nil when the result is as expected.
  ///
  /// - Parameters:
  ///   - values: in place of the expected numbers.
  ///   - tolerance: in place of the case's own, then a share of the largest magnitude.
  public func problem(
    in run: KernelRun, values other: [Double]? = nil, tolerance own: Tolerance? = nil
  ) -> String? {
    guard let found = run[name] else { return "no result \(name)" }
    let problem =
      switch oracle {
      case .near(let values, let tolerance, let scales):
        found.format == .bf16
          ? mismatch(
            bf16: found.values, other ?? values, within: own ?? tolerance, scales: own == nil ? scales : nil)
          : mismatch(
            found.values, other ?? values, within: own ?? tolerance, scales: own == nil ? scales : nil)
      case .bits(let values): bitDifference(found.values, values)
      case .same(let other): bitDifference(found.values, run[other]?.values ?? [])
      }
    return problem.map { "\(name) \($0)" }
  }

  /// nil when the result of another level is nearly the same.
  public func difference(_ run: KernelRun, _ other: KernelRun) -> String? {
    guard case .near = oracle else { return nil }
    guard let found = run[name], let expected = other[name]?.values.doubles else { return "no result \(name)" }
    return found.format == .bf16
      ? mismatch(found.values, expected, within: .bf16(2)) : problem(in: run, values: expected)
  }
}

extension [Double] {
  /// max |x|
  var largest: Double { reduce(0) { Swift.max($0, abs($1)) } }
}

/// a + b, element by element.
func sum(_ a: [Double], _ b: [Double]) -> [Double] { zip(a, b).map { $0 + $1 } }
