import Foundation

/// How an axis spreads its values.
public enum PlotScale: Sendable {
  case linear
  /// Equal factors are equal lengths; only positive values have a place.
  case logarithmic
}

/// One direction of a plot: what it shows, and its ticks.
///
/// Ticks of a linear axis are multiples of 1, 2 or 5 times a power of ten; those of a logarithmic one powers of ten, with
/// twice and five times of them where there are few.
struct PlotAxis: Sendable {
  let scale: PlotScale
  let lower, upper: Double
  let ticks: [Double]
  let labels: [String]

  /// - Parameters:
  ///   - values: what is to be seen; an infinite, or on a logarithmic axis not positive, one is left out.
  ///   - rounds: whether the axis reaches to the ticks beyond the values.
  ///   - count: about so many ticks.
  init(_ values: some Sequence<Double>, scale: PlotScale, rounds: Bool, count: Int) {
    self.scale = scale
    let shown = values.filter { $0.isFinite && (scale == .linear || $0 > 0) }
    var (low, high) = (shown.min() ?? (scale == .linear ? 0 : 1), shown.max() ?? 1)
    if low == high { (low, high) = Self.widened(low, scale) }
    let ticks = scale == .linear ? Self.multiples(low, high, count) : Self.powers(low, high, count)
    (lower, upper) = rounds ? (min(low, ticks.below), max(high, ticks.above)) : (low, high)
    let slack = 1e-9 * (upper - lower)
    let (first, last) = (lower - slack, upper + slack)
    self.ticks = ticks.all.filter { first <= $0 && $0 <= last }
    labels = self.ticks.map { Self.label($0, step: scale == .linear ? ticks.step : nil) }
  }

  /// Where a value lies: 0 at the lower end, 1 at the upper; nil where it has no place.
  func share(_ value: Double) -> Double? {
    switch scale {
    case .linear: value.isFinite ? (value - lower) / (upper - lower) : nil
    case .logarithmic: value.isFinite && value > 0 ? log(value / lower) / log(upper / lower) : nil
    }
  }

  /// The value at a share, the other way round.
  func value(_ share: Double) -> Double {
    scale == .linear ? lower + share * (upper - lower) : lower * pow(upper / lower, share)
  }

  private static func widened(_ value: Double, _ scale: PlotScale) -> (Double, Double) {
    if scale == .logarithmic { return (value / 2, value * 2) }
    let margin = value == 0 ? 1 : abs(value) / 10
    return (value - margin, value + margin)
  }

  /// Candidates, and the nearest of them outside low…high.
  private struct Ticks {
    let all: [Double]
    let step, below, above: Double
  }

  private static func multiples(_ low: Double, _ high: Double, _ count: Int) -> Ticks {
    let raw = (high - low) / Double(count)
    let power = pow(10, floor(log10(raw)))
    let step = power * ([1, 2, 5].first { $0 * power >= raw * 0.999 } ?? 10)
    // A step that vanishes beside the values would have no end.
    let (first, last) = (floor(low / step + 1e-9), ceil(high / step - 1e-9))
    guard last - first < 1000 else { return Ticks(all: [low, high], step: high - low, below: low, above: high) }
    let all = (0...Int(last - first)).map { (first + Double($0)) * step }
    return Ticks(all: all, step: step, below: first * step, above: last * step)
  }

  private static func powers(_ low: Double, _ high: Double, _ count: Int) -> Ticks {
    let decades = Int(floor(log10(low) + 1e-9))...Int(ceil(log10(high) - 1e-9))
    let wide = log10(high / low)
    let stride = max(1, Int((wide / Double(count)).rounded(.up)))
    let factors: [Double] = wide > 4 ? [1] : wide > 1 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8]
    let all = decades.filter { $0 % stride == 0 }.flatMap { decade in factors.map { $0 * pow(10, Double(decade)) } }
    return Ticks(
      all: all, step: 0, below: all.last { $0 <= low * (1 + 1e-9) } ?? low,
      above: all.first { $0 >= high * (1 - 1e-9) } ?? high)
  }

  /// The shortest text: of a multiple of `step` as many decimals as that has, else four digits.
  static func label(_ value: Double, step: Double? = nil) -> String {
    let size = abs(value)
    if let step, size < 1e6, step >= 1e-5 {
      let decimals = max(0, Int(ceil(-log10(step) - 1e-9)))
      return String(format: "%.\(decimals)f", value == 0 ? 0 : value)
    }
    return String(format: "%.4g", value)
  }
}
