import DiTDiffusion

/// Which of the T steps are taken, and how: a sampler before it is put on a model's noise schedule.
public struct Sampler: Equatable, Sendable {
  public var name: SamplerName
  /// S, 1…T; the length of the list with a custom schedule. Heun asks the network 2S−1 times, all others S times.
  public var steps: Int
  /// Which steps are kept; a flow has an even grid of its own and takes `linspace` alone.
  public var schedule: StepSchedule
  /// DDIM's η, 0…1; nil is the sampler's own (0 for ddim). Samplers without η refuse a value.
  public var eta: Double?

  /// A sampler of `steps` steps; nil is 50, or the length of a custom schedule's list.
  public init(
    _ name: SamplerName = .ddim, steps: Int? = nil, schedule: StepSchedule = .linspace, eta: Double? = nil
  ) {
    self.name = name
    self.schedule = schedule
    self.eta = eta
    if case .custom(let list) = schedule {
      self.steps = steps ?? list.count
    } else {
      self.steps = steps ?? 50
    }
  }

  /// The sampler on a model's schedule.
  ///
  /// - Throws: `DiffusionError` when S is not in 1…T, a custom list does not fit, η is not in 0…1 or the sampler has none,
  ///   or the model predicts what the sampler does not integrate.
  public func process(on noise: NoiseSchedule) throws(DiffusionError) -> any ReverseProcess {
    try name.process(on: noise, schedule, count: steps, eta: eta)
  }

  /// The sampler backwards, from images to noise: DDIM at η = 0, or Euler of a flow.
  ///
  /// - Throws: `DiffusionError`, as ``process(on:)``, and for other samplers.
  public func inversion(on noise: NoiseSchedule) throws(DiffusionError) -> any ReverseProcess {
    try name.inversion(on: noise, schedule, count: steps, eta: eta)
  }
}
