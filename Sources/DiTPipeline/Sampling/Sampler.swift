import DiTDiffusers
import DiTDiffusion
import DiTTensor

/// Which of the T steps are taken, and how: a sampler before it is put on a model's noise schedule.
public struct Sampler: Equatable, Sendable {
  public var name: SamplerName { didSet { unavailableClass = nil } }
  /// The class of the saved diffusers scheduler whose sampler is not here, as long as no sampler is named in its place.
  public private(set) var unavailableClass: String?
  /// S, 1…T; the length of the list with a custom schedule. Heun asks the network 2S−1 times (or 2S, see
  /// ``correctsLastStep``), PNDM S+1 or S+9 times, all others S times; `dopri5` as often as its tolerance makes it, S being
  /// after how many parts of the way it reports.
  public var steps: Int
  /// Which steps are kept; a linear path has an even grid of its own and takes `linspace` alone. Nil is the model's own: what its
  /// config.json says (but not a custom list), else linspace, or what the saved scheduler of a diffusers directory says of this sampler.
  public var schedule: StepSchedule?
  /// DDIM's η, 0…1; nil is the sampler's own (0 for ddim). Samplers without η refuse a value.
  public var eta: Double?
  /// a of a linear path's grid s' = s/(s + a(1−s)) by `euler` and `heun`; 1 is the even grid.
  public var shift = 1.0
  /// Whether `heun` asks at the end of a linear path too, as SiT's code does: a property of a model's family.
  public var correctsLastStep = false
  /// Of `dopri5`; nil is `StepTolerance/standard`. Other samplers refuse one.
  public var tolerance: StepTolerance?

  /// A sampler of `steps` steps; nil is 50, or the length of a custom schedule's list.
  public init(
    _ name: SamplerName, steps: Int? = nil, schedule: StepSchedule? = nil, eta: Double? = nil
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

  /// The sampler of a saved diffusers scheduler, S steps on its own timesteps.
  ///
  /// A class that is not here leaves ``name`` at `ddim` and is refused when it is to be used, unless another name is set.
  init(of saved: DiffusersScheduler, steps: Int) {
    self.init(saved.sampler ?? .ddim, steps: steps)
    if saved.sampler == nil { unavailableClass = saved.className }
  }

  /// Takes another sampler's name, whose η and tolerance are its own; the shift stays where it has one.
  public mutating func use(_ name: SamplerName) {
    if name != self.name {
      (eta, tolerance) = (nil, nil)
      if !name.hasShift { shift = 1 }
    }
    self.name = name  // also the same name is one that is named
  }

  /// Throws where the sampler is that of a class which is not here.
  private func checkAvailable() throws(DiTError) {
    guard let unavailableClass else { return }
    throw DiTError(
      option: "sampler",
      expected:
        "one of \(DiffusionPath.beta.samplers.map(\.rawValue).joined(separator: ", ")), as the saved scheduler's is not here",
      found: unavailableClass)
  }

  /// The sampler on a model's schedule.
  ///
  /// - Parameters:
  ///   - noise: the model's schedule.
  ///   - saved: the scheduler of a model from a diffusers directory, whose samplers are then diffusers'.
  /// - Throws: `DiTError` when S is not in 1…T, a custom list does not fit, η is not in 0…1 or the sampler has none,
  ///   the sampler does not walk the model's path, or the saved scheduler asks for what is not here.
  public func process(
    on noise: NoiseSchedule, saved: DiffusersScheduler? = nil
  ) throws(DiTError) -> any SamplingProcess {
    try checkAvailable()
    try checkTolerance()
    if let saved {
      try name.check(shift: shift, on: noise.process.path)
      return try saved.process(name, on: noise, schedule, count: steps, eta: eta)
    }
    return try name.process(
      on: noise, rule(), count: steps, eta: eta,
      options: FlowOptions(shift: shift, correctsLastStep: correctsLastStep))
  }

  /// How the sampler goes from noise to images.
  ///
  /// - Throws: as ``process(on:saved:)``, and for a tolerance out of its range.
  func method(on noise: NoiseSchedule, saved: DiffusersScheduler?) throws(DiTError) -> SamplingMethod {
    guard name == .dopri5, saved == nil, noise.process.path == .linear else {
      return .steps(try process(on: noise, saved: saved))
    }
    let tolerance = tolerance ?? .standard
    try tolerance.validate()
    try name.check(noise.process.path, eta: eta)
    try name.check(shift: shift, on: noise.process.path)
    return .adaptive(
      AdaptiveSampler(
        process: noise.process, tolerance: tolerance, points: try name.linearSteps(noise, rule(), steps)))
  }

  /// The network's time of each step; of `dopri5` of the parts of the way after which it reports.
  ///
  /// - Throws: as ``process(on:saved:)``.
  public func stepTimes(
    on noise: NoiseSchedule, saved: DiffusersScheduler? = nil
  ) throws(DiTError) -> [NetworkTime] {
    switch try method(on: noise, saved: saved) {
    case .steps(let process): process.stepTimes
    case .inversion(let process): process.stepTimes
    case .adaptive(let sampler): (1...sampler.points).map { sampler.networkTime(Double($0) / Double(sampler.points)) }
    }
  }

  private func checkTolerance() throws(DiTError) {
    guard let tolerance, name != .dopri5 else { return }
    throw DiTError(option: "tolerance", expected: "none with the sampler \(name.rawValue)", found: tolerance.text)
  }

  /// The sampler backwards, from images to noise: DDIM at η = 0, or Euler on a linear path.
  ///
  /// - Throws: `DiTError`, as ``process(on:saved:)``, and for other samplers.
  public func inversion(
    on noise: NoiseSchedule, saved: DiffusersScheduler? = nil
  ) throws(DiTError) -> any ReverseProcess {
    try name.check(shift: shift, on: noise.process.path)
    if let saved { return try saved.inversion(name, on: noise, schedule, count: steps, eta: eta) }
    return try name.inversion(on: noise, rule(), count: steps, eta: eta, shift: shift)
  }

  /// Which steps are kept, where the model has a say.
  public func rule(saved: DiffusersScheduler? = nil) -> StepSchedule {
    schedule ?? saved?.schedule(name) ?? .linspace
  }
}
