import Foundation

/// One line of a table.
struct Row: Encodable {
  let section, work: String
  /// What was measured, by a name that ends in its unit.
  let values: [String: Double]
}

/// A cell of a table: what is read, and the numbers behind it.
struct Field {
  let title, text: String
  let values: [String: Double]

  init(_ title: String, _ text: String, _ values: [String: Double]) {
    self.title = title
    self.text = text
    self.values = values
  }

  /// One number, with three digits.
  init(_ title: String, _ key: String, _ value: Double) {
    self.init(title, threeDigits(value), [key: value])
  }
}

extension Field {
  /// The median and the spread, in milliseconds.
  static func time(_ time: Measurement) -> [Field] {
    let (fastest, slowest) = (time.fastest * 1e3, time.slowest * 1e3)
    return [
      Field("ms (median)", "ms", time.median * 1e3),
      Field(
        "fastest–slowest", "\(threeDigits(fastest))–\(threeDigits(slowest))",
        ["fastest_ms": fastest, "slowest_ms": slowest]),
    ]
  }

  /// The rate of so many operations, and its share of a peak in GFLOP/s.
  static func rate(_ operations: Double, _ time: Measurement, peak: Double) -> [Field] {
    let rate = operations / time.median * 1e-9
    return [
      Field("GFLOP/s", "gflops", rate),
      Field("share of peak", "\(threeDigits(100 * rate / peak)) %", ["peak_share": rate / peak]),
    ]
  }

  static func bytes(_ title: String, _ key: String, _ count: Int) -> Field {
    Field("\(title), MB", threeDigits(Double(count) * 1e-6), ["\(key)_bytes": Double(count)])
  }
}

/// A readable number: three significant digits, or all digits of a whole number.
func threeDigits(_ value: Double) -> String {
  guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
  let decimals = abs(value) >= 100 ? 0 : abs(value) >= 10 ? 1 : abs(value) >= 1 ? 2 : 3
  let scale = pow(10, Double(decimals))
  let rounded = (value * scale).rounded() / scale
  return rounded == rounded.rounded() ? "\(Int(rounded))" : "\(rounded)"
}
