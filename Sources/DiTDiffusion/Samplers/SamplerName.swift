/// The samplers by name, as the command line and config.json's `sampling` block write them.
public enum SamplerName: String, CaseIterable, Sendable {
  /// Ancestral sampling: ``DDPMSampler``.
  case ddpm
  /// ``DDIMSampler``.
  case ddim
  /// DPM-Solver++ 2M: ``DPMSolverSampler``.
  case dpmpp
  /// UniPC of order 2: ``UniPCSampler``.
  case unipc
  /// ``FlowEulerSampler``.
  case euler
  /// ``FlowHeunSampler``.
  case heun

  /// Whether it integrates a flow's velocity; the others need a β schedule.
  public var isForFlow: Bool { self == .euler || self == .heun }

  /// What a model is sampled with that names no sampler.
  public static func standard(_ prediction: Prediction) -> SamplerName { prediction == .flow ? .heun : .ddim }

  /// The sampler of that name.
  ///
  /// - Parameters:
  ///   - rule: which steps of a β schedule are kept; a flow has its own even grid, and takes `linspace` alone.
  ///   - count: S; may be nil for a custom schedule.
  ///   - eta: DDIM's η, 0 when nil.
  /// - Throws: `DiffusionError` when the prediction is none of the sampler's, η is not in 0…1 or is given to a sampler
  ///   which has none, or the steps are impossible.
  public func process(
    on schedule: NoiseSchedule, _ rule: StepSchedule, count: Int?, eta: Double? = nil
  ) throws(DiffusionError) -> any ReverseProcess {
    try check(schedule.configuration.prediction, eta: eta)
    switch self {
    case .euler: return FlowEulerSampler(schedule, steps: try Self.flowSteps(schedule, rule, count))
    case .heun: return FlowHeunSampler(schedule, steps: try Self.flowSteps(schedule, rule, count))
    case .ddim: return try DDIMSampler(RespacedSchedule(schedule, rule, count: count), eta: eta ?? 0)
    case .ddpm: return try DDPMSampler(RespacedSchedule(schedule, rule, count: count))
    case .dpmpp: return try DPMSolverSampler(RespacedSchedule(schedule, rule, count: count))
    case .unipc: return try UniPCSampler(RespacedSchedule(schedule, rule, count: count))
    }
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
    guard isForFlow != (prediction == .flow) else { return }
    let fitting = Self.allCases.filter { $0.isForFlow != isForFlow }.map(\.rawValue)
    let reason =
      isForFlow ? "the model's prediction is \(prediction.rawValue), no flow" : "the model's prediction is flow"
    throw DiffusionError("sampler", expected: "\(fitting.joined(separator: ", ")), as \(reason)", found: rawValue)
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
