// DPM-Solver and DPM-Solver++ (Lu et al. 2022a, 2022b), multi-step, of order 1 to 3, and their SDE forms.
//
// Letters: λ = log(α/σ), h = λ_t − λ_s > 0. With the data prediction
//
//   x_t = (σ_t/σ_s) x_s + σ_t ∫ e^λ x̂_*(λ) dλ,      with the noise prediction  x_t = (α_t/α_s) x_s − α_t ∫ e^{−λ} ε̂(λ) dλ,
//
// and m(λ) is a polynomial through the last outputs: m_s + D₁ (λ−λ_s)/h + D₂ ((λ−λ_s)/h)²/2, its slope D₁ and curvature D₂ by
// divided differences. The SDE's factors are those of 2h in the data form and twice those of h in the noise form.
//
// Order 2 has two rules: "midpoint" takes the slope's integral as half of the constant's (h/2 at the middle), "heun" takes it
// exactly. Order 3 is always exact.

import Foundation

/// Which DPM-Solver.
package struct DPMSolver: Equatable, Sendable {
  package enum Rule: Equatable, Sendable {
    case midpoint, exact
  }

  package var form = MultistepForm.data
  package var isStochastic = false
  package var rule = Rule.midpoint

  package init(form: MultistepForm = .data, isStochastic: Bool = false, rule: Rule = .midpoint) {
    self.form = form
    self.isStochastic = isStochastic
    self.rule = rule
  }

  /// The weights of every step.
  ///
  /// - Parameter orders: 1 to 3 a step, at most one more than the steps before it; nil is 1 for the first, which has no
  ///   history, and the last, where λ ends at ∞, else 2.
  package func weights(_ grid: SolverGrid, orders: [Int]? = nil) -> [MultistepWeights] {
    let orders = orders ?? (0..<grid.count).map { $0 == 0 || $0 == grid.count - 1 ? 1 : 2 }
    precondition(orders.count == grid.count, "\(orders.count) orders for \(grid.count) steps")
    return (0..<grid.count).map { weights(grid.levels, $0, order: orders[$0]) }
  }

  private func weights(_ levels: [SolverLevel], _ e: Int, order: Int) -> MultistepWeights {
    let (from, to) = (levels[e], levels[e + 1])
    let h = to.logRatio - from.logRatio
    let integrals = integrals(from, to, h)
    var step = MultistepWeights(noised: integrals.noised, current: integrals.constant, noise: integrals.noise)
    guard order > 1 else { return step }
    let below = from.logRatio - levels[e - 1].logRatio
    if order == 2 {
      let slope = (rule == .midpoint ? 0.5 * integrals.constant : integrals.slope) * h / below
      step.current += slope
      step.previous = -slope
      return step
    }
    // D₁ and D₂ as weights of the two differences m_e − m_{e−1} and m_{e−1} − m_{e−2}, each over its own share of h.
    let (r0, r1) = (below / h, (levels[e - 1].logRatio - levels[e - 2].logRatio) / h)
    let bend = integrals.curvature / (r0 + r1)
    let first = (integrals.slope * (1 + r0 / (r0 + r1)) + bend) / r0
    let second = -(integrals.slope * r0 / (r0 + r1) + bend) / r1
    step.current += first
    step.previous = second - first
    step.older = -second
    return step
  }

  /// What multiplies x, m_s, D₁, D₂ and noise.
  private func integrals(
    _ from: SolverLevel, _ to: SolverLevel, _ h: Double
  ) -> (noised: Double, constant: Double, slope: Double, curvature: Double, noise: Double) {
    switch (form, isStochastic) {
    case (.data, false):
      let gain = -expm1(-h)
      return (
        to.spread / from.spread, to.signal * gain, to.signal * (1 - gain / h),
        to.signal * (0.5 - (h - gain) / (h * h)), 0
      )
    case (.data, true):
      let (gain, twice) = (-expm1(-2 * h), 2 * h)
      return (
        to.spread / from.spread * exp(-h), to.signal * gain, to.signal * (1 - gain / twice),
        to.signal * ((gain - twice) / (twice * twice) - 0.5), to.spread * gain.squareRoot()
      )
    case (.noise, let isStochastic):
      let gain = expm1(h)
      let factor = (isStochastic ? -2 : -1) * to.spread
      return (
        to.signal / from.signal, factor * gain, factor * (gain / h - 1), factor * ((gain - h) / (h * h) - 0.5),
        isStochastic ? to.spread * expm1(2 * h).squareRoot() : 0
      )
    }
  }
}
