import DiTDiffusion

/// Which of the T steps are taken, and how: a sampler before it is put on a model's noise schedule.
public struct Sampler: Equatable, Sendable {
  public var name: SamplerName
  /// S, 1…T; the length of the list with a custom schedule.
  public var steps: Int
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

  /// The kept steps, ascending.
  ///
  /// - Throws: `DiffusionError` when S is not in 1…T, or a custom list does not fit.
  public func timesteps(of noise: NoiseSchedule) throws(DiffusionError) -> [Int] {
    try schedule.timesteps(count: steps, of: noise.steps)
  }

  /// The sampler on a model's schedule.
  ///
  /// - Throws: `DiffusionError`, as ``timesteps(of:)`` and when η is not in 0…1 or the sampler has none.
  public func process(on noise: NoiseSchedule) throws(DiffusionError) -> any ReverseProcess {
    try name.sampler(on: RespacedSchedule(noise, schedule, count: steps), eta: eta)
  }
}
