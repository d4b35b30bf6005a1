import DiTDiffusers
import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor

/// config.json's `sampling` block: what a program does that is told nothing else.
public struct SamplingConfiguration: Equatable, Sendable {
  public var sampler: Sampler
  public var guidance: Guidance

  public init(sampler: Sampler, guidance: Guidance) {
    self.sampler = sampler
    self.guidance = guidance
  }

  /// 50 steps (T where that is fewer) of DDIM on `linspace`, or of Heun on a linear path, with guidance 4, or 1 where nothing is
  /// dropped in training. With a saved scheduler of diffusers its own sampler on its own steps, as diffusers' pipeline. A network
  /// that is told guidance takes one step of MeanFlow, with ω = 4 at all times as far as it is told them.
  public static func standard(
    _ network: DiTConfiguration, _ diffusion: DiffusionConfiguration, _ saved: DiffusersScheduler? = nil
  ) -> SamplingConfiguration {
    if network.isToldGuidance {
      let hasScale = network.tokenGroups?.omega ?? 0 > 0
      let times = 0...(diffusion.path == .linear ? diffusion.networkTime.greatest : 1)
      return SamplingConfiguration(
        sampler: Sampler(.meanflow, steps: 1, schedule: .linspace),
        guidance: Guidance(scale: hasScale ? 4 : 1, interval: network.isToldInterval ? times : nil))
    }
    let steps = max(1, min(50, diffusion.steps))
    return SamplingConfiguration(
      sampler: saved.map { Sampler(of: $0, steps: steps) }
        ?? Sampler(diffusion.path.standardSampler, steps: steps, schedule: .linspace),
      guidance: Guidance(scale: network.hasUnconditional ? 4 : 1))
  }

  /// What serves best on the digits (Documentation/JumpSampling.md), for models that are trained here and say nothing of
  /// sampling: 20 steps (T where that is fewer) of DPM-Solver++ on `jump:0.5`; guidance, and a linear path, as `standard(_:_:)`.
  ///
  /// Where ε or μ is predicted on a cosine schedule the steps are `leading`, which leaves out T−1: there x̂_* is the network's
  /// output times 2·10⁴.
  public static func recommended(
    _ network: DiTConfiguration, _ diffusion: DiffusionConfiguration
  ) -> SamplingConfiguration {
    var sampling = standard(network, diffusion)
    guard diffusion.path.samplers.contains(.dpmpp) else { return sampling }
    let divides = diffusion.schedule == .cosine && [.epsilon, .mean].contains(diffusion.prediction)
    sampling.sampler = Sampler(
      .dpmpp, steps: max(1, min(20, diffusion.steps)), schedule: divides ? .leading : .jump(exponent: 0.5))
    return sampling
  }

  /// A `sampling` section; keys left out are those of `defaults`. Finishes the reader.
  ///
  /// - Throws: `DiTError`. Whether the values fit a model is for ``ModelConfiguration/validate(file:path:)``.
  public init(
    reading reader: JSONObjectReader, defaults: SamplingConfiguration
  ) throws(DiTError) {
    var reader = reader
    self = defaults
    if let name = try reader.word("sampler", SamplerName.self) {
      sampler.use(name)
    }
    let steps = try reader.integer("steps", in: 1...NoiseSchedule.maximumSteps)
    if let word = try reader.string("schedule") {
      do throws(DiTError) {
        sampler.schedule = try StepSchedule(parsing: word)
      } catch {
        throw reader.attributing(error, to: "schedule")
      }
    }
    if let steps {
      sampler.steps = steps
    } else if case .custom(let list) = sampler.schedule {
      sampler.steps = list.count
    }
    if let eta = try reader.number("eta") { sampler.eta = eta }
    if let shift = try reader.number("shift") { sampler.shift = shift }
    if let tolerance = try reader.numbers("tolerance") {
      guard tolerance.count == 2 else {
        throw reader.failure(
          "tolerance", expected: "[RTOL, ATOL]", found: "\(tolerance.count) numbers")
      }
      sampler.tolerance = StepTolerance(relative: tolerance[0], absolute: tolerance[1])
    }
    if let scale = try reader.number("guidance") { guidance.scale = scale }
    if reader.peek("guidance_interval") == .null {
      reader.remove("guidance_interval", if: .null)
      guidance.interval = nil
    }
    if let ends = try reader.numbers("guidance_interval") {
      guard ends.count == 2, 0 <= ends[0], ends[0] <= ends[1] else {
        throw reader.failure(
          "guidance_interval", expected: "[LO, HI] with 0 ≤ LO ≤ HI",
          found: "[\(ends.map(Guidance.text).joined(separator: ", "))]")
      }
      guidance.interval = ends[0]...ends[1]
    }
    if reader.peek("guidance_channels") == .null {
      reader.remove("guidance_channels", if: .null)
      guidance.channels = nil
    }
    if let channels = try reader.integer("guidance_channels", in: 1...Int.max) { guidance.channels = channels }
    try reader.finish()
  }

  /// The block: the three keys that are always there, and the optional ones that are set.
  public var json: JSONValue { json(beside: nil) }

  /// - Parameter standard: what keys that are left out mean, a family's: where it sets a key that is not set here, that is
  ///   written too.
  func json(beside standard: SamplingConfiguration?) -> JSONValue {
    // A sampler that is not here follows from the saved scheduler again.
    var members =
      sampler.unavailableClass == nil ? [JSONMember("sampler", .string(sampler.name.rawValue))] : []
    members.append(JSONMember("steps", .integer(sampler.steps)))
    if let schedule = sampler.schedule { members.append(JSONMember("schedule", .string(schedule.description))) }
    members.append(JSONMember("guidance", .real(guidance.scale)))
    if let eta = sampler.eta { members.append(JSONMember("eta", .real(eta))) }
    if sampler.shift != 1 || (standard?.sampler.shift ?? 1) != 1 && sampler.name.hasShift {
      members.append(JSONMember("shift", .real(sampler.shift)))
    }
    if let tolerance = sampler.tolerance {
      members.append(JSONMember("tolerance", .array([.real(tolerance.relative), .real(tolerance.absolute)])))
    }
    if let interval = guidance.interval {
      members.append(
        JSONMember("guidance_interval", .array([.real(interval.lowerBound), .real(interval.upperBound)])))
    }
    if guidance.interval == nil, standard?.guidance.interval != nil {
      members.append(JSONMember("guidance_interval", .null))
    }
    if let channels = guidance.channels { members.append(JSONMember("guidance_channels", .integer(channels))) }
    if guidance.channels == nil, standard?.guidance.channels != nil {
      members.append(JSONMember("guidance_channels", .null))
    }
    return .object(members)
  }

  /// The sampler that runs backwards, with the block's steps and schedule: DDIM, or Euler on a linear path.
  public func inversion(_ diffusion: DiffusionConfiguration) -> Sampler {
    var inversion = Sampler(diffusion.path.invertibleSampler, steps: sampler.steps, schedule: sampler.schedule)
    if diffusion.path == .linear, sampler.name.hasShift { inversion.shift = sampler.shift }
    return inversion
  }

  /// Throws unless a model with these parts can be sampled so. Whether the sampler can be had from a saved scheduler is
  /// asked when it is used: another one may.
  func validate(
    _ network: DiTConfiguration, _ noise: NoiseSchedule, saved: DiffusersScheduler?
  ) throws(DiTError) {
    try network.check(sampler.name)
    if saved == nil {
      _ = try sampler.method(on: noise, saved: nil)
    } else {
      guard 1...noise.steps ~= sampler.steps else {
        throw DiTError(option: "steps", expected: "1…\(noise.steps)", found: "\(sampler.steps)")
      }
      _ = try sampler.schedule?.timesteps(count: sampler.steps, betas: noise.betas)
      try sampler.name.check(noise.configuration.path, eta: sampler.eta)
      try sampler.name.check(shift: sampler.shift, on: noise.configuration.path)
    }
    try guidance.validate(network, noise.process)
  }
}

extension Guidance {
  /// Throws unless a network can be guided so in a process.
  func validate(_ network: DiTConfiguration, _ process: DiffusionProcess) throws(DiTError) {
    guard !network.isToldGuidance else { return try validate(toldTo: network, process) }
    try validate(channels: network.inChannels)
    try validate(process)
    guard scale == 1 || network.hasUnconditional else {
      let reason =
        network.numClasses == 0
        ? "no classes" : network.sequence == nil ? "no null class" : "no unconditional prediction"
      throw DiTError(option: "guidance", expected: "1, as the model has \(reason)", found: "\(scale)")
    }
  }
}
