// DEIS (Zhang & Chen 2023), tAB in log ρ: multi-step, deterministic, one evaluation per step.
//
// - ρ = σ/α: x_t/α_t = x_s/α_s + ∫_{ρ_s}^{ρ_t} ε̂ dρ, ε̂ the Lagrange polynomial in u = log ρ through the last outputs
// - matches diffusers' DEISMultistepScheduler, whose float32 coefficients cancel where steps are short

import Foundation

package enum DEISWeights {
  /// The weights of every step, of ε̂.
  ///
  /// - Parameter orders: 1 to 3 a step; nil as of DPM-Solver.
  package static func weights(_ grid: SolverGrid, orders: [Int]? = nil) -> [MultistepWeights] {
    let orders = orders ?? (0..<grid.count).map { $0 == 0 || $0 == grid.count - 1 ? 1 : 2 }
    precondition(orders.count == grid.count, "\(orders.count) orders for \(grid.count) steps")
    return (0..<grid.count).map { e in
      let (from, to) = (grid.levels[e], grid.levels[e + 1])
      // u from u_s = 0 to −h; with ρ = ρ_s e^u.
      let integrals = integrals(from.logRatio - to.logRatio)
      let factor = to.signal * from.sigma
      var step = MultistepWeights(noised: to.signal / from.signal, current: factor * integrals.constant)
      guard orders[e] > 1 else { return step }
      let a = from.logRatio - grid.levels[e - 1].logRatio
      if orders[e] == 2 {
        // (u − a)/(0 − a) and u/a.
        step.current = factor * (integrals.constant - integrals.linear / a)
        step.previous = factor * integrals.linear / a
        return step
      }
      let b = from.logRatio - grid.levels[e - 2].logRatio
      step.current =
        factor * (integrals.constant - (1 / a + 1 / b) * integrals.linear + integrals.square / (a * b))
      step.previous = factor * (integrals.square - b * integrals.linear) / (a * (a - b))
      step.older = factor * (integrals.square - a * integrals.linear) / (b * (b - a))
      return step
    }
  }

  /// ∫₀^z e^u uᵏ du for k = 0, 1, 2; near 0 by the series, because the closed forms cancel. z = −∞ is clean data.
  private static func integrals(_ z: Double) -> (constant: Double, linear: Double, square: Double) {
    guard z > -.infinity else { return (-1, 1, -2) }
    guard abs(z) < 1 else {
      let constant = expm1(z)
      let linear = z * exp(z) - constant
      return (constant, linear, z * z * exp(z) - 2 * linear)
    }
    var (term, linear, square) = (z, 0.0, 0.0)  // z^{j+1}/j!
    for j in 0..<20 {
      linear += term * z / Double(j + 2)
      square += term * z * z / Double(j + 3)
      term *= z / Double(j + 1)
    }
    return (expm1(z), linear, square)
  }
}
