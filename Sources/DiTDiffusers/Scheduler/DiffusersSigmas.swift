// The levels σ = √((1−ᾱ)/ᾱ) that diffusers' σ schedulers join, and the timesteps that they tell the network, as their
// `set_timesteps` computes them: tables in float32, what follows from them in Double, σ rounded to float32 at the end.

import DiTDiffusion
import Foundation

/// How σ are spread between their ends.
enum SigmaSpread: Equatable {
  /// Those of the timesteps.
  case none
  /// Even in σ^{1/7} (Karras et al. 2022, eq. 5).
  case karras
  /// Even in log σ.
  case exponential
  /// Even in log σ, of DPM-Solver++'s `use_lu_lambdas` (Lu et al. 2022b), which lets no key set the ends.
  case lu
  /// By the quantiles of a beta distribution.
  case beta

  /// From `high` down to `low`.
  func sigmas(from high: Double, to low: Double, count: Int) -> [Double] {
    let ramp = evenly(from: 0, to: 1, count: count)
    switch self {
    case .karras:
      let (ofHigh, ofLow) = (pow(high, 1 / 7.0), pow(low, 1 / 7.0))
      return ramp.map { pow(ofHigh + $0 * (ofLow - ofHigh), 7) }
    case .exponential, .lu: return evenly(from: log(high), to: log(low), count: count).map { exp($0) }
    case .beta: return ramp.map { low + BetaQuantile.value(1 - $0, 0.6) * (high - low) }
    case .none: preconditionFailure("σ of timesteps are not spread")
    }
  }
}

/// np.linspace.
func evenly(from start: Double, to end: Double, count: Int) -> [Double] {
  guard count > 1 else { return [start] }
  let stride = (end - start) / Double(count - 1)
  return (0..<count).map { $0 == count - 1 ? end : Double($0) * stride + start }
}

/// σ of the T training steps.
struct SigmaTable {
  /// In float32, as logarithms too.
  let sigmas: [Double]
  let logarithms: [Double]

  init(alphasCumprod: [Double]) {
    let values = alphasCumprod.map { ((1 - Float($0)) / Float($0)).squareRoot() }
    sigmas = values.map { Double($0) }
    logarithms = values.map { Double(Float(log(Double($0)))) }
  }

  /// σ between two training steps, linear in the timestep; that of the nearest outside of them.
  func sigma(at time: Double) -> Double {
    let low = Int(time.rounded(.down))
    guard low >= 0 else { return sigmas[0] }
    guard low < sigmas.count - 1 else { return sigmas[sigmas.count - 1] }
    return (sigmas[low + 1] - sigmas[low]) * (time - Double(low)) + sigmas[low]
  }

  /// The timestep between two training steps that σ is that of, linear in log σ; the nearest outside of them.
  func time(of sigma: Double) -> Double {
    guard logarithms.count > 1 else { return 0 }
    let value = log(max(sigma, 1e-10))
    // The last step whose log σ is not above; σ ascends.
    var (first, end) = (0, logarithms.count)
    while first < end {
      let middle = (first + end) / 2
      if logarithms[middle] <= value { first = middle + 1 } else { end = middle }
    }
    let low = min(max(first - 1, 0), logarithms.count - 2)
    let (below, above) = (logarithms[low], logarithms[low + 1])
    let share = (below - value) / Double(Float(below) - Float(above))
    let weight = min(1, max(0, share))
    return (1 - weight) * Double(low) + weight * Double(low + 1)
  }
}
