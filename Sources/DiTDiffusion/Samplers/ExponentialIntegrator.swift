// UniPC's steps in λ = log(α/σ) (Zhao et al. 2023). With z = −h and the network as a data prediction, or z = h and as a noise
// prediction,
//
//   x_t = (σ_t/σ_s) x_s − α_t (e^z − 1) m_s − α_t B Σ_k ρ_k (m_k − m_s)/r_k,      α and σ change places for noise,
//
// where r_k says where λ_k lies in units of h, and ρ makes the step exact for polynomials (their eqs. 5 to 9):
//
//   Σ_k ρ_k r_k^{i−1} = i! z φ_{i+1}(z)/B(z),      B = z ("bh1") or e^z − 1 ("bh2").

import Foundation

/// UniPC's predictor and corrector for every step.
package struct ExponentialIntegrator: Equatable, Sendable {
  /// What differs between UniPC's kinds.
  package struct Kind: Equatable, Sendable {
    package var form = MultistepForm.data
    /// Whether B is z, else e^z − 1.
    package var isFirst = false

    package init(form: MultistepForm = .data, isFirst: Bool = false) {
      self.form = form
      self.isFirst = isFirst
    }
  }

  private let orders: [Int]?
  private let kind: Kind
  private let uncorrected: Set<Int>
  let predictors: [MultistepWeights]
  /// Of the step that led to each evaluation; nil where x is not corrected.
  let correctors: [Corrector?]

  /// x at step e once more: last·x_{e−1} + current·m_e + previous·m_{e−1} + older·m_{e−2} + oldest·m_{e−3}.
  struct Corrector: Equatable, Sendable {
    var last: Double
    var current: Double
    var previous: Double
    var older = 0.0
    var oldest = 0.0

    var isFinite: Bool { (last + current + previous + older + oldest).isFinite }
  }

  /// - Parameters:
  ///   - orders: 1 to 3 a step, at most one more than the steps before it; nil is 1 for the first, which has no history, and
  ///     the last, where λ ends at ∞, else 2.
  ///   - uncorrected: the steps after which x is not corrected.
  package init(_ grid: SolverGrid, orders: [Int]? = nil, kind: Kind = Kind(), uncorrected: Set<Int> = []) {
    (self.orders, self.kind, self.uncorrected) = (orders, kind, uncorrected)
    let orders = orders ?? (0..<grid.count).map { $0 == 0 || $0 == grid.count - 1 ? 1 : 2 }
    precondition(orders.count == grid.count, "\(orders.count) orders for \(grid.count) steps")
    let steps = Steps(levels: grid.levels, kind: kind)
    predictors = (0..<grid.count).map { steps.predictor($0, order: orders[$0]) }
    correctors = (0..<grid.count).map { e in
      e == 0 || uncorrected.contains(e - 1) ? nil : steps.corrector(e, order: orders[e - 1])
    }
  }

  /// The steps from one on, begun without history.
  ///
  /// - Parameter rest: the grid from that step on.
  func starting(at step: Int, on rest: SolverGrid) -> ExponentialIntegrator {
    ExponentialIntegrator(
      rest, orders: orders.map { MultistepSolver.restarted($0, at: step) }, kind: kind,
      uncorrected: Set(uncorrected.filter { $0 >= step }.map { $0 - step }))
  }

  /// Whether no step divides by a step of length 0.
  package var isFinite: Bool { predictors.allSatisfy(\.isFinite) && correctors.allSatisfy { $0?.isFinite ?? true } }

  private struct Steps {
    let levels: [SolverLevel]
    let kind: Kind

    /// x_s's factor, α_t B, and z of the step from one level to the next.
    private func step(_ e: Int) -> (ratio: Double, gain: Double, factor: Double, z: Double) {
      let (from, to) = (levels[e], levels[e + 1])
      let h = to.logRatio - from.logRatio
      let (z, scale) = kind.form == .data ? (-h, to.signal) : (h, to.spread)
      let ratio = kind.form == .data ? to.spread / from.spread : to.signal / from.signal
      return (ratio, -scale * expm1(z), -scale * (kind.isFirst ? z : expm1(z)), z)
    }

    /// UniP; of order 2 ρ is ½.
    func predictor(_ e: Int, order: Int) -> MultistepWeights {
      let (ratio, gain, factor, z) = step(e)
      var weights = MultistepWeights(noised: ratio, current: gain)
      guard order > 1 else { return weights }
      let h = abs(z)
      if order == 2 {
        let slope = 0.5 * factor * h / (levels[e].logRatio - levels[e - 1].logRatio)
        weights.current += slope
        weights.previous = -slope
        return weights
      }
      let places = (1...2).map { (levels[e - $0].logRatio - levels[e].logRatio) / h }
      let rho = solve(places, z)
      weights.current -= factor * (rho[0] / places[0] + rho[1] / places[1])
      weights.previous = factor * rho[0] / places[0]
      weights.older = factor * rho[1] / places[1]
      return weights
    }

    /// UniC for the step that led to e ≥ 1, of that step's order.
    func corrector(_ e: Int, order: Int) -> Corrector {
      let (ratio, gain, factor, z) = step(e - 1)
      guard order > 1 else {
        return Corrector(last: ratio, current: 0.5 * factor, previous: gain - 0.5 * factor)
      }
      let h = abs(z)
      if order == 2, kind == Kind() {
        // ρ solves ρ₀ + ρ₁ = φ₂/φ₁, r ρ₀ + ρ₁ = 2 φ₃/φ₁ at −h, r where m_{e−2} lies in units of h.
        let phi = Self.phi(z)
        let r = (levels[e - 2].logRatio - levels[e - 1].logRatio) / h
        let rho0 = (phi.two - 2 * phi.three) / phi.one / (1 - r)
        let rho1 = phi.two / phi.one - rho0
        return Corrector(
          last: ratio, current: gain * rho1, previous: gain * (1 - rho0 / r - rho1), older: gain * rho0 / r)
      }
      let places = (1..<order).map { (levels[e - 1 - $0].logRatio - levels[e - 1].logRatio) / h } + [1]
      let rho = solve(places, z)
      let shares = zip(rho, places).map { factor * $0 / $1 }
      return Corrector(
        last: ratio, current: shares[order - 1], previous: gain - shares.reduce(0, +), older: shares[0],
        oldest: order > 2 ? shares[1] : 0)
    }

    /// ρ of the places r.
    private func solve(_ places: [Double], _ z: Double) -> [Double] {
      let phi = Self.phi(z)
      let scale = kind.isFirst ? 1 : phi.one
      let wanted = [phi.two, 2 * phi.three, 6 * phi.four].prefix(places.count).map { $0 / scale }
      // Lagrange: ρ_k is the functional r^{i−1} ↦ wanted_i, of the polynomial that is 1 at r_k and 0 at the other places.
      return places.indices.map { k in
        var polynomial = [1.0]
        for (j, place) in places.enumerated() where j != k {
          var next = [Double](repeating: 0, count: polynomial.count + 1)
          for (power, coefficient) in polynomial.enumerated() {
            next[power + 1] += coefficient / (places[k] - place)
            next[power] -= coefficient * place / (places[k] - place)
          }
          polynomial = next
        }
        return zip(polynomial, wanted).reduce(0) { $0 + $1.0 * $1.1 }
      }
    }

    /// φ_k(z) = Σ_j z^j/(j+k)!, k = 1…4; near 0 by the series, because the closed forms cancel.
    private static func phi(_ z: Double) -> (one: Double, two: Double, three: Double, four: Double) {
      var sum = 1.0
      for j in stride(from: 18, to: 0, by: -1) { sum = 1 + sum * z / Double(j + 4) }
      guard abs(z) < 1 else {
        let one = expm1(z) / z
        let two = (one - 1) / z
        let three = (two - 0.5) / z
        return (one, two, three, (three - 1.0 / 6) / z)
      }
      let four = sum / 24
      sum = 1.0
      for j in stride(from: 18, to: 0, by: -1) { sum = 1 + sum * z / Double(j + 3) }
      let three = sum / 6
      let two = 0.5 + z * three
      return (1 + z * two, two, three, four)
    }
  }
}
