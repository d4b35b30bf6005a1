// The quantile function of the beta distribution with α = β, which diffusers' `use_beta_sigmas` takes from scipy (0.6, 0.6).

import Foundation

enum BetaQuantile {
  /// x with I_x(a, a) = p.
  ///
  /// - Parameters:
  ///   - p: 0…1.
  ///   - a: above 0.
  static func value(_ p: Double, _ a: Double) -> Double {
    guard p <= 0.5 else { return 1 - value(1 - p, a) }
    guard p > 0 else { return 0 }
    // ∫₀^x t^{a−1} (1−t)^{a−1} dt = p B(a, a).
    let area = p * tgamma(a) * tgamma(a) / tgamma(2 * a)
    var (low, high) = (0.0, 0.5)
    var x = min(0.5, pow(area * a, 1 / a))
    for _ in 0..<100 {
      let excess = integral(x, a) - area
      if excess > 0 { high = x } else { low = x }
      let slope = pow(x * (1 - x), a - 1)
      var next = x - excess / slope
      if !(low...high ~= next) { next = 0.5 * (low + high) }
      if abs(next - x) <= 2e-16 * x { return next }
      x = next
    }
    return x
  }

  /// ∫₀^x t^{a−1} (1−t)^{a−1} dt for x ≤ ½, by the binomial series of the second factor.
  private static func integral(_ x: Double, _ a: Double) -> Double {
    var (sum, term) = (1 / a, 1.0)
    for k in 1...200 {
      term *= (Double(k) - a) / Double(k) * x
      let share = term / (a + Double(k))
      sum += share
      if abs(share) < 1e-17 * sum { break }
    }
    return pow(x, a) * sum
  }
}
