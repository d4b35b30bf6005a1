// Samplers as diffusers builds them from a saved configuration, `X.from_config(saved)`: the file's keys hold, X's own
// defaults stand for the others. The formulas are those of the samplers here; grids, the level that a step goes to and the
// orders of the multi-step solvers are diffusers'.
//
// - DDIM goes from t to t − ⌊T/S⌋, wherever the next kept step is, and at the end to ᾱ = 1 or ᾱ_0 (set_alpha_to_one)
// - DDPM goes to the next kept step, DPM-Solver++ and UniPC too, at the end to σ = 0 or σ_0 (final_sigmas_type)
// - what is not here is refused by its key; a grid that repeats a step or leaves the chain is refused too (diffusers gives
//   NaN for the first and reads its tables from the wrong end, or fails, for the second)

import DiTDiffusion

extension DiffusersScheduler {
  /// The sampler `name` from this configuration.
  ///
  /// - Parameters:
  ///   - noise: what ``noise(_:)`` gives.
  ///   - rule: nil is the saved spacing, else X's own. leading, trailing and linspace take its place; other rules keep steps
  ///     as ``SamplerName/process(on:_:count:eta:)`` does for any model, every step going to the next kept one.
  ///   - count: S.
  ///   - eta: DDIM's η, 0 when nil.
  /// - Throws: `DiffusionError` naming the option or the key (`scheduler_config.…`).
  public func process(
    _ name: SamplerName, on noise: NoiseSchedule, _ rule: StepSchedule?, count: Int, eta: Double? = nil
  ) throws(DiffusionError) -> any ReverseProcess {
    guard let spacing = try spacing(name, rule) else {
      return try name.process(on: noise, rule ?? .linspace, count: count, eta: eta)
    }
    try name.check(noise.configuration.prediction, eta: eta)
    let steps = try steps(name, on: noise, spacing, count: count)
    switch name {
    case .ddim: return try DDIMSampler(steps, eta: eta ?? 0, clip: clip)
    case .ddpm: return DDPMSampler(steps, deviations: try deviations(steps), clip: clip)
    case .dpmpp:
      return DPMSolverSampler(steps, ExponentialIntegrator(steps, orders: try solverOrders(count)))
    case .unipc: return UniPCSampler(steps, ExponentialIntegrator(steps, orders: try uniPCOrders(count)))
    case .euler, .heun: preconditionFailure("a flow's sampler passed the check of its prediction")
    }
  }

  /// The way back from images to noise: each step of DDIM at η = 0 undone.
  ///
  /// - Throws: `DiffusionError`, as ``process(_:on:_:count:eta:)``, also for other samplers and for `clip_sample`, which
  ///   cannot be undone.
  public func inversion(
    _ name: SamplerName, on noise: NoiseSchedule, _ rule: StepSchedule?, count: Int, eta: Double? = nil
  ) throws(DiffusionError) -> any ReverseProcess {
    guard name == .ddim, eta ?? 0 == 0, let spacing = try spacing(name, rule) else {
      return try name.inversion(on: noise, rule ?? .linspace, count: count, eta: eta)
    }
    guard clip == nil else {
      throw DiffusionError(Self.name("clip_sample"), expected: "false to run backwards", found: "true")
    }
    return DDIMInversion(try steps(name, on: noise, spacing, count: count))
  }

  /// The steps that `name` keeps where no rule is named: the saved spacing, or its own.
  public func schedule(_ name: SamplerName) -> StepSchedule {
    let own = name == .dpmpp || name == .unipc ? DiffusersSpacing.linspace : .leading
    switch timestepSpacing.flatMap(DiffusersSpacing.init) ?? own {
    case .leading: return .leading
    case .trailing: return .trailing
    case .linspace: return .linspace
    }
  }

  // MARK: Steps

  /// nil for a rule that diffusers has not.
  private func spacing(_ name: SamplerName, _ rule: StepSchedule?) throws(DiffusionError) -> DiffusersSpacing? {
    if rule == nil, let saved = timestepSpacing, DiffusersSpacing(rawValue: saved) == nil {
      throw DiffusionError(Self.name("timestep_spacing"), expected: "leading, trailing or linspace", found: saved)
    }
    return DiffusersSpacing(rawValue: (rule ?? schedule(name)).description)
  }

  private func steps(
    _ name: SamplerName, on noise: NoiseSchedule, _ spacing: DiffusersSpacing, count: Int
  ) throws(DiffusionError) -> RespacedSchedule {
    guard 1...noise.steps ~= count else {
      throw DiffusionError("steps", expected: "1…\(noise.steps)", found: "\(count)")
    }
    try require("thresholding", thresholding, in: [false])
    let isMultistep = name == .dpmpp || name == .unipc
    let offset = stepsOffset ?? 0
    let kept = spacing.timesteps(count: count, of: noise.steps, offset: offset, omitsLowest: isMultistep)
    guard kept.count == count, kept.last ?? -1 >= 0 || offset < 0, zip(kept, kept.dropFirst()).allSatisfy(>) else {
      throw DiffusionError(
        "steps", expected: "a number for which diffusers' \(spacing.rawValue) steps of \(name.rawValue) are distinct",
        found: "\(count)")
    }
    guard kept.allSatisfy({ 0..<noise.steps ~= $0 }) else {
      throw DiffusionError(
        Self.name("steps_offset"), expected: "one that keeps \(count) steps in 0…\(noise.steps - 1)", found: "\(offset)"
      )
    }
    let bars = noise.alphasCumprod
    let final = try final(name, bars[0])
    let stride = noise.steps / count
    let next =
      name == .ddim
      ? kept.map { $0 >= stride ? bars[$0 - stride] : final } : kept.dropFirst().map { bars[$0] } + [final]
    return RespacedSchedule(noise, keeping: kept.reversed(), previous: next.reversed())
  }

  /// ᾱ at the end of the last step.
  private func final(_ name: SamplerName, _ lowest: Double) throws(DiffusionError) -> Double {
    switch name {
    case .ddim: return setAlphaToOne ?? true ? 1 : lowest
    case .dpmpp, .unipc:
      try require("final_sigmas_type", finalSigmasType, in: ["zero", "sigma_min"])
      return endsClean ? 1 : lowest
    default: return 1
    }
  }

  private var endsClean: Bool { finalSigmasType ?? "zero" == "zero" }

  // MARK: DDIM and DDPM

  /// How far from 0 x̂_* may lie; nil is anywhere.
  private var clip: Double? { clipSample ?? true ? clipSampleRange ?? 1 : nil }

  /// DDPM's σ at each kept step; 0 draws nothing. The learned half of an output is not read: diffusers' DiT pipeline drops
  /// it.
  private func deviations(_ steps: RespacedSchedule) throws(DiffusionError) -> [Double] {
    try require("variance_type", varianceType, in: ["fixed_small", "fixed_small_log", "fixed_large"])
    let tables = steps.tables
    return steps.timesteps.indices.map { i in
      guard steps.timesteps[i] > 0 else { return 0 }
      // diffusers floors β̃ at 1e-20 where it vanishes: far below the last place of any sample.
      return (varianceType == "fixed_large" ? tables.betas[i] : tables.posteriorVariance[i]).squareRoot()
    }
  }

  // MARK: Multi-step solvers

  /// The order of a solver whose σ are those of the training steps.
  private func checkSolver() throws(DiffusionError) -> Int {
    for (key, value) in [
      ("use_karras_sigmas", useKarrasSigmas), ("use_exponential_sigmas", useExponentialSigmas),
      ("use_beta_sigmas", useBetaSigmas), ("use_lu_lambdas", useLuLambdas), ("use_flow_sigmas", useFlowSigmas),
    ] {
      try require(key, value, in: [false])
    }
    try require("solver_order", solverOrder, in: [1, 2])
    return solverOrder ?? 2
  }

  /// DPM-Solver++'s order at each step from the first.
  private func solverOrders(_ count: Int) throws(DiffusionError) -> [Int] {
    let order = try checkSolver()
    // diffusers reads other solvers' words as its own default.
    try require("algorithm_type", algorithmType, in: ["dpmsolver++", "deis"])
    try require("solver_type", solverType, in: ["midpoint", "logrho", "bh1", "bh2"])
    if let lambdaMinClipped {
      throw DiffusionError(Self.name("lambda_min_clipped"), expected: "-Infinity", found: "\(lambdaMinClipped)")
    }
    if let varianceType, varianceType.hasPrefix("learned") {
      throw DiffusionError(
        Self.name("variance_type"), expected: "none, as diffusers then reads three channels", found: varianceType)
    }
    let isLowAtEnd = endsClean || eulerAtFinal ?? false || (lowerOrderFinal ?? true && count < 15)
    return (0..<count).map { $0 == 0 || ($0 == count - 1 && isLowAtEnd) ? 1 : order }
  }

  /// UniPC's.
  private func uniPCOrders(_ count: Int) throws(DiffusionError) -> [Int] {
    let order = try checkSolver()
    try require("solver_type", solverType, in: ["bh2", "midpoint", "heun", "logrho"])
    try require("predict_x0", predictX0, in: [true])
    try require("disable_corrector", disableCorrector, in: [[]])
    // An order above 1 through σ = 0 divides by an infinite step.
    if endsClean { try require("lower_order_final", lowerOrderFinal, in: [true]) }
    let isLowAtEnd = lowerOrderFinal ?? true
    return (0..<count).map { min(order, $0 + 1, isLowAtEnd ? count - $0 : order) }
  }
}
