// What DPM-Solver++ and UniPC share: the probability flow in λ = log(α/σ) with the network as a data prediction,
//
//   x_t = (σ_t/σ_s) x_s + σ_t ∫_{λ_s}^{λ_t} e^λ x̂_*(λ) dλ
//
// whose linear part is exact (Lu et al. 2022b, eq. 8), and x̂_* is a polynomial in λ through the last outputs.

import Foundation

/// The kept steps from the noisiest down, then clean data (or where the last step ends), as α, σ and λ; steps are counted
/// e = 0…S−1.
package struct ExponentialIntegrator: Equatable, Sendable {
  private let signals: [Double]
  private let spreads: [Double]
  private let logRatios: [Double]
  /// Of each step.
  private let orders: [Int]
  /// x̂_* = noised·x + output·out at each step.
  let clean: [Linear]

  struct Linear: Equatable, Sendable {
    let noised: Double
    let output: Double
  }

  /// A step to the next level: noised·x + current·m_e + previous·m_{e−1}, m the data predictions.
  struct Predictor: Equatable, Sendable {
    var noised: Double
    var current: Double
    var previous = 0.0
  }

  /// x at step e once more: last·x_{e−1} + current·m_e + previous·m_{e−1} + older·m_{e−2}.
  struct Corrector: Equatable, Sendable {
    var last: Double
    var current: Double
    var previous: Double
    var older = 0.0
  }

  /// - Parameter orders: 1 or 2 a step; nil is 1 for the first, which has no history, and the last, where λ ends at ∞, else
  ///   2.
  package init(_ schedule: RespacedSchedule, orders: [Int]? = nil) {
    let bars = schedule.tables.alphasCumprod.reversed() + [schedule.tables.alphasCumprodPrevious[0]]
    signals = bars.map { $0.squareRoot() }
    spreads = bars.map { (1 - $0).squareRoot() }
    logRatios = bars.map { 0.5 * log($0 / (1 - $0)) }  // ∞ for clean data
    self.orders = orders ?? (0..<schedule.count).map { $0 == 0 || $0 == schedule.count - 1 ? 1 : 2 }
    precondition(self.orders.count == schedule.count, "\(self.orders.count) orders for \(schedule.count) steps")
    clean = schedule.timesteps.reversed().map {
      let (noised, output) = schedule.coefficients.clean(at: $0)
      return Linear(noised: noised, output: output)
    }
  }

  /// S.
  var count: Int { clean.count }

  /// 2M's step with x̂_* linear through m_e and m_{e−1}, its slope taken at the middle; the last step is m_e itself.
  func predictor(_ e: Int) -> Predictor {
    let h = logRatios[e + 1] - logRatios[e]
    let gain = -signals[e + 1] * expm1(-h)
    var step = Predictor(noised: spreads[e + 1] / spreads[e], current: gain)
    if orders[e] == 2 {
      let slope = 0.5 * gain * h / (logRatios[e] - logRatios[e - 1])
      step.current += slope
      step.previous = -slope
    }
    return step
  }

  /// UniC with B(h) = e^{−h} − 1 for the step that led to e ≥ 1 (Zhao et al. 2023, eq. 9), of that step's order.
  func corrector(_ e: Int) -> Corrector {
    let h = logRatios[e] - logRatios[e - 1]
    let gain = -signals[e] * expm1(-h)
    let ratio = spreads[e] / spreads[e - 1]
    guard orders[e - 1] == 2 else { return Corrector(last: ratio, current: 0.5 * gain, previous: 0.5 * gain) }
    // ρ solves ρ₀ + ρ₁ = φ₂/φ₁, r ρ₀ + ρ₁ = 2 φ₃/φ₁ at −h, r where m_{e−2} lies in units of h.
    let phi = Self.phi(-h)
    let r = (logRatios[e - 2] - logRatios[e - 1]) / h
    let rho0 = (phi.two - 2 * phi.three) / phi.one / (1 - r)
    let rho1 = phi.two / phi.one - rho0
    return Corrector(
      last: ratio, current: gain * rho1, previous: gain * (1 - rho0 / r - rho1), older: gain * rho0 / r)
  }

  /// φ_k(z) = Σ_j z^j/(j+k)!, k = 1…3; near 0 by the series, because the closed forms cancel.
  private static func phi(_ z: Double) -> (one: Double, two: Double, three: Double) {
    guard abs(z) < 1 else {
      let one = expm1(z) / z
      let two = (one - 1) / z
      return (one, two, (two - 0.5) / z)
    }
    var sum = 1.0
    for j in stride(from: 18, to: 0, by: -1) { sum = 1 + sum * z / Double(j + 3) }
    let three = sum / 6
    let two = 0.5 + z * three
    return (1 + z * two, two, three)
  }
}
