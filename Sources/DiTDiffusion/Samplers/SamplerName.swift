import DiTTensor

/// The samplers by name, as the command line and config.json's `sampling` block write them.
public enum SamplerName: String, CaseIterable, Sendable {
  /// Ancestral sampling: ``DDPMSampler``.
  case ddpm
  /// ``DDIMSampler``.
  case ddim
  /// DPM-Solver++ 2M, a ``MultistepSampler``.
  case dpmpp
  /// UniPC of order 2: ``UniPCSampler``.
  case unipc
  /// Euler: a ``MultistepSampler`` on a β path, ``FlowEulerSampler`` on a linear one.
  case euler
  /// ``HeunSampler`` on a β path, ``FlowHeunSampler`` on a linear one.
  case heun
  /// Euler with new noise in each step, a ``MultistepSampler``.
  case eulerAncestral = "euler_ancestral"
  /// ``PNDMSampler``.
  case pndm
  /// DEIS of order 2, a ``MultistepSampler``.
  case deis
  /// ``MeanFlowSampler``, of networks that are told the length of the step and guidance.
  case meanflow
  /// ``SDESampler``: Euler–Maruyama with new noise in each step of a linear path.
  case sde
  /// ``DormandPrince``: steps of a linear path as long as a tolerance allows, found while sampling.
  case dopri5

  /// The sampler of that name.
  ///
  /// - Parameters:
  ///   - schedule: the model's.
  ///   - rule: which steps of a β path are kept; a linear one has its own even grid, and takes `linspace` alone; `pndm`, whose
  ///     weights are those of even steps, takes leading, trailing and linspace.
  ///   - count: S; may be nil for a custom schedule.
  ///   - eta: DDIM's η, 0 when nil.
  ///   - options: of a linear path.
  /// - Throws: `DiTError` when the path is none of the sampler's, η is not in 0…1 or is given to a sampler
  ///   which has none, the steps are impossible, or they are not known beforehand, as those of `dopri5`.
  public func process(
    on schedule: NoiseSchedule, _ rule: StepSchedule, count: Int?, eta: Double? = nil,
    options: FlowOptions = FlowOptions()
  ) throws(DiTError) -> any SamplingProcess {
    let process = schedule.process
    try check(process.path, eta: eta)
    try check(shift: options.shift, on: process.path)
    switch process.path {
    case .beta: return try onBeta(schedule, rule, count: count, eta: eta)
    case .linear:
      let steps = try linearSteps(schedule, rule, count)
      switch self {
      case .euler: return FlowEulerSampler(process, steps: steps, shift: options.shift)
      case .meanflow: return MeanFlowSampler(process, steps: steps)
      case .sde: return SDESampler(process, steps: steps)
      case .dopri5:
        throw DiTError(
          option: "sampler",
          expected: "one whose steps are known beforehand: \(Self.words(path: .linear) { $0 != .dopri5 })",
          found: rawValue)
      default: return FlowHeunSampler(process, steps: steps, options)
      }
    }
  }

  private func onBeta(
    _ schedule: NoiseSchedule, _ rule: StepSchedule, count: Int?, eta: Double?
  ) throws(DiTError) -> any SamplingProcess {
    if self == .pndm, ![.leading, .trailing, .linspace].contains(rule) {
      throw DiTError(
        option: "schedule", expected: "leading, trailing or linspace, as pndm's weights are those of even steps",
        found: "\(rule)")
    }
    let kept = try RespacedSchedule(schedule, rule, count: count)
    let grid = SolverGrid(kept)
    switch self {
    case .ddim: return try DDIMSampler(kept, eta: eta ?? 0)
    case .ddpm: return DDPMSampler(kept)
    case .dpmpp: return MultistepSampler(grid, .dpm(DPMSolver()))
    case .unipc: return UniPCSampler(kept)
    case .deis: return MultistepSampler(grid, .deis)
    case .euler: return MultistepSampler(grid, .euler(isAncestral: false))
    case .eulerAncestral: return MultistepSampler(grid, .euler(isAncestral: true), drawsNoise: true)
    case .heun: return HeunSampler(grid)
    case .pndm: return Self.pndm(schedule, kept)
    case .meanflow, .sde, .dopri5: preconditionFailure("\(self) walks no β path")  // refused by check
    }
  }

  /// PNDM without Runge-Kutta steps, every step going to the next kept one and the last to clean data.
  private static func pndm(_ schedule: NoiseSchedule, _ steps: RespacedSchedule) -> PNDMSampler {
    let coefficients = steps.coefficients
    let kept = Array(steps.timesteps.reversed())
    let plan = PNDMPlan(
      alphaBar: { $0 < 0 ? 1 : schedule.alphasCumprod[$0] }, mixesVelocities: false,
      reading: { t in
        let (noised, output) = coefficients.epsilon(at: t)
        return Reading(noised: noised, output: output)
      },
      clean: { t in
        let (noised, output) = coefficients.clean(at: t)
        return Reading(noised: noised, output: output)
      })
    return plan.withoutRungeKutta(
      kept: kept, next: kept.dropFirst() + [-1], again: kept[0], variance: schedule.variance)
  }

  /// The way from images back to the noise from which this sampler would make them.
  ///
  /// - Throws: `DiTError` as ``process(on:_:count:eta:options:)``; also for samplers without an inverse: all but `ddim`
  ///   (η = 0), and on a linear path `euler`.
  public func inversion(
    on schedule: NoiseSchedule, _ rule: StepSchedule, count: Int?, eta: Double? = nil, shift: Double = 1
  ) throws(DiTError) -> any ReverseProcess {
    let process = schedule.process
    let invertible = process.path.invertibleSampler
    guard self == invertible else {
      throw DiTError(option: "sampler", expected: "\(invertible.rawValue) to run backwards", found: rawValue)
    }
    guard (eta ?? 0) == 0 else {
      throw DiTError(option: "eta", expected: "0 to run backwards", found: "\(eta ?? 0)")
    }
    try check(shift: shift, on: process.path)
    switch process.path {
    case .beta: return try DDIMInversion(RespacedSchedule(schedule, rule, count: count))
    case .linear: return FlowEulerInversion(process, steps: try linearSteps(schedule, rule, count), shift: shift)
    }
  }

  /// Throws unless it walks the path and η is its own.
  package func check(_ path: DiffusionPath, eta: Double?) throws(DiTError) {
    guard path.samplers.contains(self) else {
      throw DiTError(
        option: "sampler", expected: "\(Self.words(path: path)), as the model's path is \(path.rawValue)",
        found: rawValue)
    }
    if self != .ddim, let eta {
      throw DiTError(option: "eta", expected: "none with the sampler \(rawValue)", found: "\(eta)")
    }
  }

  /// Whether its steps on a linear path can be moved towards noise.
  package var hasShift: Bool { [.euler, .heun].contains(self) }

  /// Throws unless a is a number that the sampler's grid can be shifted by.
  package func check(shift: Double, on path: DiffusionPath) throws(DiTError) {
    guard shift != 1 else { return }
    guard path == .linear else {
      throw DiTError(option: "shift", expected: "none, as the model's path is \(path.rawValue)", found: "\(shift)")
    }
    guard hasShift else {
      throw DiTError(option: "shift", expected: "none with the sampler \(rawValue)", found: "\(shift)")
    }
    guard (1e-3...1e3).contains(shift) else {
      throw DiTError(option: "shift", expected: "0.001 to 1000", found: "\(shift)")
    }
  }

  private static func words(path: DiffusionPath, where isNamed: (SamplerName) -> Bool = { _ in true }) -> String {
    path.samplers.filter(isNamed).map(\.rawValue).joined(separator: ", ")
  }

  /// S of a linear path, which has no steps to choose.
  package func linearSteps(
    _ schedule: NoiseSchedule, _ rule: StepSchedule, _ count: Int?
  ) throws(DiTError) -> Int {
    guard rule == .linspace else {
      throw DiTError(
        option: "schedule", expected: "linspace, as a linear path has an even grid of its own", found: "\(rule)")
    }
    let least = self == .sde ? 2 : 1
    guard let count, least...max(least, schedule.steps) ~= count else {
      throw DiTError(option: "steps", expected: "\(least)…\(schedule.steps)", found: count.map { "\($0)" } ?? "none")
    }
    return count
  }
}
