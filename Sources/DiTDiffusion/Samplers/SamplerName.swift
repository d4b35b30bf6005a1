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
  /// Euler: a ``MultistepSampler`` on a β path, ``FlowEulerSampler`` for a flow.
  case euler
  /// ``HeunSampler`` on a β path, ``FlowHeunSampler`` for a flow.
  case heun
  /// Euler with new noise in each step, a ``MultistepSampler``.
  case eulerAncestral = "euler_ancestral"
  /// ``PNDMSampler``.
  case pndm
  /// DEIS of order 2, a ``MultistepSampler``.
  case deis

  /// Whether it integrates a flow's velocity too; the others need a β schedule.
  public var isForFlow: Bool { self == .euler || self == .heun }

  /// What a model is sampled with that names no sampler.
  public static func standard(_ prediction: Prediction) -> SamplerName { prediction == .flow ? .heun : .ddim }

  /// The sampler of that name.
  ///
  /// - Parameters:
  ///   - rule: which steps of a β schedule are kept; a flow has its own even grid, and takes `linspace` alone; `pndm`, whose
  ///     weights are those of even steps, takes leading, trailing and linspace.
  ///   - count: S; may be nil for a custom schedule.
  ///   - eta: DDIM's η, 0 when nil.
  /// - Throws: `DiffusionError` when the prediction is none of the sampler's, η is not in 0…1 or is given to a sampler
  ///   which has none, or the steps are impossible.
  public func process(
    on schedule: NoiseSchedule, _ rule: StepSchedule, count: Int?, eta: Double? = nil
  ) throws(DiffusionError) -> any ReverseProcess {
    try check(schedule.configuration.prediction, eta: eta)
    if schedule.configuration.isFlow {
      let steps = try Self.flowSteps(schedule, rule, count)
      return self == .euler ? FlowEulerSampler(schedule, steps: steps) : FlowHeunSampler(schedule, steps: steps)
    }
    if self == .pndm, ![.leading, .trailing, .linspace].contains(rule) {
      throw DiffusionError(
        "schedule", expected: "leading, trailing or linspace, as pndm's weights are those of even steps",
        found: "\(rule)")
    }
    let kept = try RespacedSchedule(schedule, rule, count: count)
    let grid = SolverGrid(kept)
    switch self {
    case .ddim: return try DDIMSampler(kept, eta: eta ?? 0)
    case .ddpm: return DDPMSampler(kept)
    case .dpmpp: return MultistepSampler(grid, DPMSolver().weights(grid), .data)
    case .unipc: return UniPCSampler(kept)
    case .deis: return MultistepSampler(grid, DEISWeights.weights(grid), .noise)
    case .euler: return MultistepSampler(grid, EulerWeights.weights(grid, isAncestral: false), .data)
    case .eulerAncestral:
      return MultistepSampler(grid, EulerWeights.weights(grid, isAncestral: true), .data, drawsNoise: true)
    case .heun: return HeunSampler(grid)
    case .pndm: return Self.pndm(schedule, kept)
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
  /// - Throws: `DiffusionError` as ``process(on:_:count:eta:)``; also for samplers without an inverse: all but `ddim`
  ///   (η = 0) and, for a flow, `euler`.
  public func inversion(
    on schedule: NoiseSchedule, _ rule: StepSchedule, count: Int?, eta: Double? = nil
  ) throws(DiffusionError) -> any ReverseProcess {
    let isFlow = schedule.configuration.isFlow
    let invertible: SamplerName = isFlow ? .euler : .ddim
    guard self == invertible else {
      throw DiffusionError("sampler", expected: "\(invertible.rawValue) to run backwards", found: rawValue)
    }
    guard (eta ?? 0) == 0 else {
      throw DiffusionError("eta", expected: "0 to run backwards", found: "\(eta ?? 0)")
    }
    if isFlow { return FlowEulerInversion(schedule, steps: try Self.flowSteps(schedule, rule, count)) }
    return try DDIMInversion(RespacedSchedule(schedule, rule, count: count))
  }

  /// Throws unless it integrates the prediction and η is its own.
  package func check(_ prediction: Prediction, eta: Double?) throws(DiffusionError) {
    try check(prediction)
    if self != .ddim, let eta {
      throw DiffusionError("eta", expected: "none with the sampler \(rawValue)", found: "\(eta)")
    }
  }

  private func check(_ prediction: Prediction) throws(DiffusionError) {
    guard prediction == .flow, !isForFlow else { return }
    let fitting = Self.allCases.filter(\.isForFlow).map(\.rawValue).joined(separator: ", ")
    throw DiffusionError("sampler", expected: "\(fitting), as the model's prediction is flow", found: rawValue)
  }

  /// S of a flow, which has no steps to choose.
  private static func flowSteps(
    _ schedule: NoiseSchedule, _ rule: StepSchedule, _ count: Int?
  ) throws(DiffusionError) -> Int {
    guard rule == .linspace else {
      throw DiffusionError("schedule", expected: "linspace, as a flow has an even grid of its own", found: "\(rule)")
    }
    guard let count, 1...schedule.steps ~= count else {
      throw DiffusionError("steps", expected: "1…\(schedule.steps)", found: count.map { "\($0)" } ?? "none")
    }
    return count
  }
}
