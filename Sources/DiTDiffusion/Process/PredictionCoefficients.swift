// What the network's output means, in one place. Whatever it predicts, ε̂, x̂_* and μ_θ are affine in (x_t, output):
//
//   quantity = noised · x_t + output · out
//
// Letters: α = √ᾱ_t, σ = √(1−ᾱ_t), v = α ε − σ x_*; μ_θ = c₁ x̂_* + c₂ x_t = a x_t − b ε̂ with the full schedule's
// coefficients. Everything in Double.

/// The conversions of a network's output at (x_t, t) to ε̂, x̂_* and μ_θ, for all T steps.
///
/// |         | ε̂                | x̂_*                | μ_θ                     |
/// |---------|------------------|--------------------|-------------------------|
/// | epsilon | out              | (x_t − σ out)/α    | a x_t − b out           |
/// | mean    | (a x_t − out)/b  | (out − c₂ x_t)/c₁  | out                     |
/// | x0      | (x_t − α out)/σ  | out                | c₂ x_t + c₁ out         |
/// | v       | σ x_t + α out    | α x_t − σ out      | (c₂ + c₁ α) x_t − c₁σ out |
///
/// All are finite, because a schedule has 0 < ᾱ_t < 1. Where α is small (high t) 1/α enlarges an error of ε̂ or of the
/// mean; where σ is small (low t) 1/σ enlarges one of x̂_*, and 1/b (about 10² at low t) one of the mean. A linear path has no
/// posterior: what outputs mean there is ``DiffusionProcess/clean(at:)`` and ``DiffusionProcess/velocity(s:)``.
public struct PredictionCoefficients: Equatable, Sendable {
  public let prediction: PredictionTarget
  private let tables: PosteriorTables

  /// - Precondition: the schedule's path has a posterior.
  public init(_ schedule: NoiseSchedule) {
    precondition(schedule.configuration.path.hasPosterior, Self.noPosterior)
    prediction = schedule.configuration.prediction.target
    tables = schedule.tables
  }

  private static let noPosterior = "a linear path has no posterior mean"

  /// ε̂ = noised·x_t + output·out.
  ///
  /// - Parameter t: 0…T−1.
  public func epsilon(at t: Int) -> (noised: Double, output: Double) {
    let (signal, spread) = levels(t)
    switch prediction {
    case .epsilon: return (0, 1)
    case .x0: return (1 / spread, -signal / spread)
    case .v: return (spread, signal)
    case .mean:
      let (ofNoised, ofEpsilon) = tables.meanCoefficients(t)
      return (ofNoised / ofEpsilon, -1 / ofEpsilon)
    case .velocity: preconditionFailure(Self.noPosterior)
    }
  }

  /// x̂_* = noised·x_t + output·out.
  ///
  /// - Parameter t: 0…T−1.
  public func clean(at t: Int) -> (noised: Double, output: Double) {
    let (signal, spread) = levels(t)
    switch prediction {
    case .epsilon: return (1 / signal, -spread / signal)
    case .x0: return (0, 1)
    case .v: return (signal, -spread)
    case .mean:
      let ofClean = tables.posteriorCleanCoefficient[t]
      return (-tables.posteriorNoisedCoefficient[t] / ofClean, 1 / ofClean)
    case .velocity: preconditionFailure(Self.noPosterior)
    }
  }

  /// μ_θ, the mean of p_θ(x_{t−1} | x_t), = noised·x_t + output·out.
  ///
  /// - Parameter t: 0…T−1; at t = 0 μ_θ is x̂_*.
  public func mean(at t: Int) -> (noised: Double, output: Double) {
    switch prediction {
    case .epsilon:
      let (ofNoised, ofEpsilon) = tables.meanCoefficients(t)
      return (ofNoised, -ofEpsilon)
    case .mean: return (0, 1)
    case .x0, .v:
      let ofClean = tables.posteriorCleanCoefficient[t]
      let (noised, output) = clean(at: t)
      return (tables.posteriorNoisedCoefficient[t] + ofClean * noised, ofClean * output)
    case .velocity: preconditionFailure(Self.noPosterior)
    }
  }

  /// α and σ.
  private func levels(_ t: Int) -> (signal: Double, spread: Double) {
    let bar = tables.alphasCumprod[t]
    return (bar.squareRoot(), (1 - bar).squareRoot())
  }
}
