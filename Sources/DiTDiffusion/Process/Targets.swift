/// What the network is trained to say, as an affine function of (x_*, ε).
struct Targets: Sendable {
  private let prediction: Prediction
  private let tables: PosteriorTables
  /// nil for a flow.
  private let coefficients: PredictionCoefficients?

  init(_ schedule: NoiseSchedule) {
    prediction = schedule.configuration.prediction
    tables = schedule.tables
    coefficients = prediction == .flow ? nil : PredictionCoefficients(schedule)
  }

  /// The target clean·x_* + noise·ε at one level.
  struct Target {
    let clean: Double
    let noise: Double
    /// κ, the factor of the squared error.
    var scale = 1.0

    @inline(__always)
    func value(_ x: Float, _ epsilon: Float) -> Double {
      clean * Double(x) + noise * Double(epsilon)
    }
  }

  /// `epsilon`: ε · `x0`: x_* · `v`: α ε − σ x_* · `flow`: ε − x_* · `mean`: μ̃ = √ᾱ_{t−1} x_* + c₂ σ ε, κ = 1/b².
  func target(_ level: NoiseLevel) -> Target {
    switch prediction {
    case .epsilon: return Target(clean: 0, noise: 1)
    case .x0: return Target(clean: 1, noise: 0)
    case .v: return Target(clean: -level.spread, noise: level.signal)
    case .flow: return Target(clean: -1, noise: 1)
    case .mean:
      let t = level.time.index
      let ofEpsilon = tables.meanCoefficients(t).epsilon
      return Target(
        clean: tables.alphasCumprodPrevious[t].squareRoot(),
        noise: tables.posteriorNoisedCoefficient[t] * level.spread, scale: 1 / (ofEpsilon * ofEpsilon))
    }
  }

  /// What multiplies the output in μ_θ. Not for a flow.
  func ofOutputInMean(_ t: Int) -> Double {
    guard let coefficients else { preconditionFailure("a flow has no posterior mean") }
    return coefficients.mean(at: t).output
  }
}
