// Euler's method on dx̄/dσ = ε̂, x̄ = x/signal the sample whose noise has the deviation σ (Karras et al. 2022, eq. 4), and its
// ancestral form (k-diffusion's), which goes down to σ_d and adds noise of deviation σ_u, σ_d² + σ_u² = σ'²,
// σ_u² = σ'² (σ² − σ'²)/σ².
//
// - x̄' = (σ_d/σ) x̄ + (1 − σ_d/σ) x̂_* + σ_u z; here x = signal·x̄, what the network sees, so the factors are those of DDIM
// - matches diffusers' EulerDiscreteScheduler (no churn) and EulerAncestralDiscreteScheduler; their end is x̄, also where σ' > 0

/// Which Euler.
package enum EulerWeights {
  /// The weights of every step, of x̂_*.
  package static func weights(_ grid: SolverGrid, isAncestral: Bool) -> [MultistepWeights] {
    (0..<grid.count).map { e in
      let (from, to) = (grid.levels[e], grid.levels[e + 1])
      let (sigma, next) = (from.sigma, to.sigma)
      let up = isAncestral ? (next * next * (sigma * sigma - next * next) / (sigma * sigma)).squareRoot() : 0
      let down = isAncestral ? (next * next - up * up).squareRoot() : next
      let step = MultistepWeights(noised: down / sigma / from.signal, current: 1 - down / sigma, noise: up)
      return e == grid.count - 1 ? step : step.scaled(to.signal)
    }
  }
}
