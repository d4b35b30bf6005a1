// Where a solver evaluates the network and which levels of noise its steps join. A level is σ = spread/signal of
// x = signal·x_* + spread·ε with signal² + spread² = 1, so that it needs no training index.

import Foundation

/// A quantity that is affine in x and the network's output: noised·x + output·out.
package struct Reading: Equatable, Sendable {
  package let noised: Double
  package let output: Double

  package init(noised: Double, output: Double) {
    self.noised = noised
    self.output = output
  }
}

/// A level of noise.
package struct SolverLevel: Equatable, Sendable {
  let signal: Double
  let spread: Double
  /// λ = log(signal/spread); ∞ for clean data.
  let logRatio: Double

  /// That of ᾱ.
  init(alphaBar: Double) {
    signal = alphaBar.squareRoot()
    spread = (1 - alphaBar).squareRoot()
    logRatio = 0.5 * log(alphaBar / (1 - alphaBar))
  }

  /// That of σ = √((1−ᾱ)/ᾱ).
  init(sigma: Double) {
    signal = 1 / (sigma * sigma + 1).squareRoot()
    spread = sigma * signal
    logRatio = -log(sigma)
  }

  /// σ.
  var sigma: Double { spread / signal }
}

/// S evaluations from the noisiest down, with S + 1 levels.
package struct SolverGrid: Equatable, Sendable {
  package let times: [NetworkTime]
  let levels: [SolverLevel]
  /// x̂_* and ε̂ at each evaluation.
  let clean: [Reading]
  let epsilon: [Reading]
  package let variance: Variance

  private init(_ grid: SolverGrid, droppingFirst dropped: Int) {
    times = Array(grid.times.dropFirst(dropped))
    levels = Array(grid.levels.dropFirst(dropped))
    clean = Array(grid.clean.dropFirst(dropped))
    epsilon = Array(grid.epsilon.dropFirst(dropped))
    variance = grid.variance
  }

  /// The evaluations from a step on.
  ///
  /// - Precondition: `step` in 0…S−1.
  func starting(at step: Int) -> SolverGrid {
    precondition(0..<count ~= step, "step \(step) of \(count)")
    return SolverGrid(self, droppingFirst: step)
  }

  func level(beforeStep step: Int) -> (signal: Double, spread: Double) { (levels[step].signal, levels[step].spread) }

  /// S.
  package var count: Int { times.count }

  /// The kept steps, every step going to the next one and the last to clean data, or to where the schedule says.
  package init(_ schedule: RespacedSchedule) {
    let bars = schedule.tables.alphasCumprod.reversed() + [schedule.tables.alphasCumprodPrevious[0]]
    let kept = schedule.timesteps.reversed()
    times = schedule.evaluations
    levels = bars.map { SolverLevel(alphaBar: $0) }
    clean = kept.map { schedule.coefficients.clean(at: $0) }.map { Reading(noised: $0.noised, output: $0.output) }
    epsilon = kept.map { schedule.coefficients.epsilon(at: $0) }.map { Reading(noised: $0.noised, output: $0.output) }
    variance = schedule.variance
  }

  /// Levels that need not be those of training steps.
  ///
  /// - Parameters:
  ///   - times: S of them.
  ///   - sigmas: S + 1; the last may be 0.
  ///   - prediction: epsilon, x0 or v.
  package init(times: [NetworkTime], sigmas: [Double], prediction: PredictionTarget, variance: Variance) {
    precondition(sigmas.count == times.count + 1, "\(sigmas.count) levels for \(times.count) steps")
    self.times = times
    self.variance = variance
    levels = sigmas.map { SolverLevel(sigma: $0) }
    let evaluated = levels.dropLast()
    switch prediction {
    case .epsilon:
      clean = evaluated.map { Reading(noised: 1 / $0.signal, output: -$0.spread / $0.signal) }
      epsilon = evaluated.map { _ in Reading(noised: 0, output: 1) }
    case .x0:
      clean = evaluated.map { _ in Reading(noised: 0, output: 1) }
      epsilon = evaluated.map { Reading(noised: 1 / $0.spread, output: -$0.signal / $0.spread) }
    case .v:
      clean = evaluated.map { Reading(noised: $0.signal, output: -$0.spread) }
      epsilon = evaluated.map { Reading(noised: $0.spread, output: $0.signal) }
    case .mean, .velocity: preconditionFailure("\(prediction) has no meaning at a level between training steps")
    }
  }
}
