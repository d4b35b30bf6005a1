// How data become noise: the first of the two choices that make a process (the second is what the network predicts).

/// The path from clean data to noise, as config.json's `path` writes it.
public enum DiffusionPath: String, CaseIterable, Sendable {
  /// x_t = √ᾱ_t x_* + √(1−ᾱ_t) ε at whole training indices t of a β schedule.
  case beta
  /// x_s = (1−s) x_* + s·ς·ε at real s in 0…1 (Liu et al. 2023; Lipman et al. 2023): flow matching, interpolants. The β
  /// schedule plays no part in it, except that diffusion-aware attention looks its β and ᾱ up at a training index.
  case linear

  /// What a network can be trained to say on this path.
  public var targets: [PredictionTarget] {
    switch self {
    case .beta: [.epsilon, .mean, .x0, .v]
    case .linear: [.x0, .velocity]
    }
  }

  /// Whether times are training indices rather than real numbers.
  public var hasWholeTimes: Bool { self == .beta }

  /// Whether there is a chain x_T → … → x_0 with a posterior q(x_{t−1} | x_t, x_*): what a learned variance, L_seq and
  /// keeping some of the steps need.
  public var hasPosterior: Bool { self == .beta }

  /// The samplers that walk this path.
  public var samplers: [SamplerName] {
    switch self {
    case .beta: SamplerName.allCases.filter { ![.meanflow, .sde, .dopri5].contains($0) }
    case .linear: [.euler, .heun, .sde, .dopri5, .meanflow]
    }
  }

  /// What a model is sampled with that names no sampler.
  public var standardSampler: SamplerName { self == .beta ? .ddim : .heun }

  /// The one sampler that can be run backwards.
  public var invertibleSampler: SamplerName { self == .beta ? .ddim : .euler }
}

/// What a network says, or what its loss compares: the second choice of a process.
public enum PredictionTarget: String, CaseIterable, Sendable {
  /// The noise ε (Ho et al. 2020).
  case epsilon
  /// μ_θ, the mean of p_θ(x_{t−1} | x_t), of the full schedule.
  case mean
  /// The clean data x_*.
  case x0
  /// v = √ᾱ_t ε − √(1−ᾱ_t) x_* (Salimans & Ho 2022).
  case v
  /// The derivative of x_s by the network's time: ς·ε − x_* for `s` and `1000s` (there divided by 1000), x_* − ς·ε for `1-s`.
  case velocity
}

/// How a linear path's times are drawn in training, as config.json's `time_distribution` writes it.
public enum TimeDistribution: Equatable, Sendable {
  /// s uniform in (0, 1].
  case uniform
  /// The network's time is sigmoid(m + d·N(0,1)), times 1000 for `1000s` (Esser et al. 2024): `{"logit_normal": [m, d]}`.
  case logitNormal(mean: Double, deviation: Double)
}
