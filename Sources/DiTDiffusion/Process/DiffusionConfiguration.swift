// The words of config.json's `diffusion` block. Raw values are what people write there.

import DiTKernels

/// How β_t grows with t.
public enum BetaSchedule: String, CaseIterable, Sendable {
  /// β from β_start to β_end in equal steps (Ho et al. 2020).
  case linear
  /// ᾱ(s) ∝ cos²((s + 0.008)/1.008 · π/2), β at most 0.999 (Nichol & Dhariwal 2021, eq. 17). β_start, β_end are unused.
  case cosine
  /// √β from √β_start to √β_end in equal steps (latent diffusion).
  case scaledLinear = "scaled_linear"
}

/// What the network's first C output channels mean: a ``PredictionTarget`` as config.json spells it.
public enum Prediction: String, CaseIterable, Sendable {
  /// The noise ε of x_t = √ᾱ_t x_* + √(1−ᾱ_t) ε (Ho et al. 2020).
  case epsilon
  /// μ_θ itself, the mean of p_θ(x_{t−1} | x_t), of the full schedule.
  case mean
  /// The clean data x_*.
  case x0
  /// v = √ᾱ_t ε − √(1−ᾱ_t) x_* (Salimans & Ho 2022).
  case v
  /// The velocity along a linear path: see ``PredictionTarget/velocity``.
  case velocity
  /// The earlier spelling of ``velocity`` on the path `linear` with the network time `1000s`.
  case flow

  /// What it means.
  public var target: PredictionTarget {
    switch self {
    case .epsilon: .epsilon
    case .mean: .mean
    case .x0: .x0
    case .v: .v
    case .velocity, .flow: .velocity
    }
  }
}

/// The variance σ_t² of the reverse process p_θ(x_{t−1} | x_t). A linear path has none: there it only says how many channels
/// the network's output has, of which the second half is then not read.
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

/// What the loss is made of, beside what a learned variance and λ_seq add.
public enum LossTerms: String, CaseIterable, Sendable {
  /// The squared error.
  case mse
  /// The squared error, and 1 − the cosine of the angle between the channels of each pixel of target and output, both as means
  /// (LightningDiT, Yao et al. 2025).
  case mseAndCosine = "mse+cosine"
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
  /// What the network and every time that a user types or reads count in, on a linear path.
  public var networkTime: LinearTime
  /// What the loss compares; nil is the prediction itself. `velocity` with the prediction `x0` turns x_* and x̂_* alike into
  /// (x_s − ·)/max(s, t_floor) (JiT, Li & He 2025).
  public var lossTarget: Prediction?
  /// What the loss is made of.
  public var loss: LossTerms
  /// How a linear path's times are drawn in training.
  public var timeDistribution: TimeDistribution
  /// ς, the noise's standard deviation at s = 1 of a linear path.
  public var noiseScale: Double
  /// The least s by which x_s − x̂_* is divided where a velocity is made of x̂_*.
  public var timeFloor: Double

  /// Nil where it follows from the prediction.
  private var statedPath: DiffusionPath?

  /// `beta`, or what is stated; `linear` where the prediction is `flow`.
  public var path: DiffusionPath {
    get { statedPath ?? prediction.standardPath }
    set { statedPath = newValue == prediction.standardPath ? nil : newValue }
  }

  /// Whether ``path`` needs to be written down.
  package var statesPath: Bool { statedPath != nil }

  public static let standardFloor = 0.05

  public init(
    steps: Int = 1000, schedule: BetaSchedule = .linear, betaStart: Double = 1e-4, betaEnd: Double = 0.02,
    path: DiffusionPath? = nil, prediction: Prediction = .epsilon, variance: Variance = .learnedRange,
    networkTime: LinearTime = .thousandths, lossTarget: Prediction? = nil, loss: LossTerms = .mse,
    timeDistribution: TimeDistribution = .uniform, noiseScale: Double = 1, timeFloor: Double = standardFloor
  ) {
    self.steps = steps
    self.schedule = schedule
    self.betaStart = betaStart
    self.betaEnd = betaEnd
    self.prediction = prediction
    self.variance = variance
    self.networkTime = networkTime
    self.lossTarget = lossTarget
    self.loss = loss
    self.timeDistribution = timeDistribution
    self.noiseScale = noiseScale
    self.timeFloor = timeFloor
    if let path { self.path = path }
  }
}

extension Prediction {
  /// The path of a configuration that names none.
  fileprivate var standardPath: DiffusionPath { self == .flow ? .linear : .beta }

  /// Whether it is the spelling that says a path and a network time as well.
  package var impliesPath: Bool { self == .flow }
}
