// The words of config.json's `diffusion` block. Raw values are what people write there.

/// How β_t grows with t.
public enum BetaSchedule: String, CaseIterable, Sendable {
  /// β from β_start to β_end in equal steps (Ho et al. 2020).
  case linear
  /// ᾱ(s) ∝ cos²((s + 0.008)/1.008 · π/2), β at most 0.999 (Nichol & Dhariwal 2021, eq. 17). β_start, β_end are unused.
  case cosine
  /// √β from √β_start to √β_end in equal steps (latent diffusion).
  case scaledLinear = "scaled_linear"
}

/// What the network's first C output channels mean. ``PredictionCoefficients`` converts them.
public enum Prediction: String, CaseIterable, Sendable {
  /// The noise ε of x_t = √ᾱ_t x_* + √(1−ᾱ_t) ε (Ho et al. 2020).
  case epsilon
  /// μ_θ itself, the mean of p_θ(x_{t−1} | x_t), of the full schedule.
  case mean
  /// The clean data x_*.
  case x0
  /// v = √ᾱ_t ε − √(1−ᾱ_t) x_* (Salimans & Ho 2022).
  case v
  /// The velocity ε − x_* of a rectified flow x_s = (1−s) x_* + s ε (Liu et al. 2023). See ``FlowSchedule``.
  case flow
}

/// The variance σ_t² of the reverse process p_θ(x_{t−1} | x_t).
public enum Variance: String, CaseIterable, Sendable {
  /// β̃_t, the posterior's own variance; at t = 0, where that is 0, β̃_1.
  case fixedSmall = "fixed_small"
  /// β_t; at t = 0 β̃_1.
  case fixedLarge = "fixed_large"
  /// exp(f log β_t + (1−f) log β̃_t), f = (v+1)/2, v the second half of the output channels, per element.
  case learnedRange = "learned_range"

  /// Output channels C' of a network with C input channels: 2C for `learned_range`, else C.
  public func outputChannels(_ channels: Int) -> Int { self == .learnedRange ? 2 * channels : channels }
}

/// The forward process and how the network describes its reverse. The defaults are the published DiT's.
public struct DiffusionConfiguration: Equatable, Sendable {
  /// T, the number of diffusion steps.
  public var steps: Int
  public var schedule: BetaSchedule
  /// β_0 and β_{T−1} as stated for T = 1000; both are multiplied by 1000/T.
  public var betaStart: Double
  public var betaEnd: Double
  public var prediction: Prediction
  public var variance: Variance

  /// Whether the prediction is a flow's velocity, so that times are real and β plays no part in training and sampling.
  public var isFlow: Bool { prediction == .flow }

  public init(
    steps: Int = 1000, schedule: BetaSchedule = .linear, betaStart: Double = 1e-4, betaEnd: Double = 0.02,
    prediction: Prediction = .epsilon, variance: Variance = .learnedRange
  ) {
    self.steps = steps
    self.schedule = schedule
    self.betaStart = betaStart
    self.betaEnd = betaEnd
    self.prediction = prediction
    self.variance = variance
  }
}
