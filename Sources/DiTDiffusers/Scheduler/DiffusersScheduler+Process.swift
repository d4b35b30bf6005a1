// Samplers as diffusers builds them from a saved configuration, `X.from_config(saved)`: the file's keys hold, X's own
// defaults stand for the others. The formulas are those of the samplers here; grids, the level that a step goes to and the
// orders of the multi-step solvers are diffusers'.
//
// - DDIM and PNDM go from t to t − ⌊T/S⌋, wherever the next kept step is, and at the end to ᾱ = 1 or ᾱ_0 (set_alpha_to_one)
// - the others go to the next kept step, at the end to σ = 0 or σ_0 (final_sigmas_type)
// - what is not here is refused by its key; a grid that repeats a step where a solver divides by it, or leaves the chain, is
//   refused too (diffusers gives NaN for the first and reads its tables from the wrong end, or fails, for the second)

import DiTDiffusion
import DiTTensor
import Foundation

extension DiffusersScheduler {
  /// The sampler `name` from this configuration.
  ///
  /// - Parameters:
  ///   - name: which sampler.
  ///   - noise: what ``noise(_:)`` gives; β are `name`'s own.
  ///   - rule: nil is the saved spacing, else X's own. leading, trailing and linspace take its place; other rules keep steps
  ///     as `SamplerName/process(on:_:count:eta:)` does for any model, every step going to the next kept one.
  ///   - count: S.
  ///   - eta: DDIM's η, 0 when nil.
  /// - Throws: `DiTError` naming the option or the key (`scheduler_config.…`).
  public func process(
    _ name: SamplerName, on noise: NoiseSchedule, _ rule: StepSchedule?, count: Int, eta: Double? = nil
  ) throws(DiTError) -> any SamplingProcess {
    try name.check(noise.configuration.path, eta: eta)
    try checkPrediction(name)
    // The first four samplers keep the bits that they had before σ could be spread.
    let isSpread = try spread(name) != .none
    let fused = isSpread || ![.ddim, .ddpm, .dpmpp, .unipc].contains(name)
    let noise = try self.noise(noise.variance, for: name, fused: fused)
    guard let spacing = try spacing(name, rule) else {
      let rule = rule ?? .linspace
      try checkSignal(noise, try rule.timesteps(count: count, betas: noise.betas))
      return try name.process(on: noise, rule, count: count, eta: eta)
    }
    guard 1...noise.steps ~= count else {
      throw DiTError(option: "steps", expected: "1…\(noise.steps)", found: "\(count)")
    }
    let limit = try limit(name)
    switch name {
    case .ddim: return try DDIMSampler(try steps(name, on: noise, spacing, count: count), eta: eta ?? 0, limit: limit)
    case .ddpm:
      let steps = try steps(name, on: noise, spacing, count: count)
      let (deviations, ranges) = try deviations(steps)
      return DDPMSampler(steps, deviations: deviations, ranges: ranges, limit: limit)
    case .pndm: return try pndm(on: noise, spacing, count: count)
    case .dpmpp:
      let (solver, orders) = (try solver(), try solverOrders(count))
      let grid = try upperGrid(name, on: noise, spacing, count: count)
      return try finite(
        MultistepSampler(grid, .dpm(solver), orders: orders, limit: limit, drawsNoise: solver.isStochastic), spacing,
        name,
        count)
    case .deis:
      let orders = try deisOrders(count)
      let grid = try upperGrid(name, on: noise, spacing, count: count)
      return try finite(MultistepSampler(grid, .deis, orders: orders, limit: limit), spacing, name, count)
    case .unipc:
      let (kind, orders) = (try uniPCKind(), try uniPCOrders(count))
      let grid = try upperGrid(name, on: noise, spacing, count: count)
      let integrator = ExponentialIntegrator(
        grid, orders: orders, kind: kind, uncorrected: Set(disableCorrector ?? []))
      guard integrator.isFinite else { throw repeated(spacing, name, count) }
      return UniPCSampler(grid, integrator, form: kind.form, limit: limit)
    case .euler, .eulerAncestral:
      let (grid, scale) = try realGrid(name, on: noise, spacing, count: count)
      let isAncestral = name == .eulerAncestral
      return try finite(
        MultistepSampler(grid, .euler(isAncestral: isAncestral), drawsNoise: isAncestral, startScale: scale), spacing,
        name,
        count)
    case .heun:
      let (grid, scale) = try realGrid(name, on: noise, spacing, count: count)
      return HeunSampler(grid, limit: limit, startScale: scale)
    case .meanflow, .sde, .dopri5: preconditionFailure("\(name) walks no β path")  // refused by check
    }
  }

  /// The way back from images to noise: each step of DDIM at η = 0 undone.
  ///
  /// - Throws: `DiTError`, as ``process(_:on:_:count:eta:)``, also for other samplers and for `clip_sample` and
  ///   `thresholding`, which cannot be undone.
  public func inversion(
    _ name: SamplerName, on noise: NoiseSchedule, _ rule: StepSchedule?, count: Int, eta: Double? = nil
  ) throws(DiTError) -> any ReverseProcess {
    guard name == .ddim, eta ?? 0 == 0, let spacing = try spacing(name, rule) else {
      return try name.inversion(on: noise, rule ?? .linspace, count: count, eta: eta)
    }
    try checkPrediction(name)
    if let limit = try limit(name) {
      let key = if case .range = limit { "clip_sample" } else { "thresholding" }
      throw DiTError(scheduler: key, expected: "false to run backwards", found: "true")
    }
    return DDIMInversion(
      try steps(name, on: try self.noise(noise.variance, for: name), spacing, count: count))
  }

  /// The steps that `name` keeps where no rule is named: the saved spacing, or its own.
  public func schedule(_ name: SamplerName) -> StepSchedule {
    let own = [.ddim, .ddpm, .pndm].contains(name) ? DiffusersSpacing.leading : .linspace
    switch timestepSpacing.flatMap(DiffusersSpacing.init) ?? own {
    case .leading: return .leading
    case .trailing: return .trailing
    case .linspace: return .linspace
    }
  }

  // MARK: Checks

  /// Throws unless the class reads the prediction.
  private func checkPrediction(_ name: SamplerName) throws(DiTError) {
    switch name {
    case .euler:
      try require(
        "prediction_type", predictionType, in: ["epsilon", "sample", "original_sample", "v_prediction"])
    case .eulerAncestral, .pndm: try require("prediction_type", predictionType, in: ["epsilon", "v_prediction"])
    default: try require("prediction_type", predictionType, in: ["epsilon", "sample", "v_prediction"])
    }
  }

  /// Throws where ε̂ would be divided by a signal of 0.
  private func checkSignal(_ noise: NoiseSchedule, _ timesteps: [Int]) throws(DiTError) {
    guard noise.configuration.prediction == .epsilon else { return }
    for t in timesteps where noise.alphasCumprod[t] == 0 {
      throw DiTError(
        scheduler: "rescale_betas_zero_snr",
        expected:
          "false, or a prediction other than epsilon, or steps without t = \(t), where nothing of the image is left",
        found: "true")
    }
  }

  /// nil for a rule that diffusers has not.
  func spacing(_ name: SamplerName, _ rule: StepSchedule?) throws(DiTError) -> DiffusersSpacing? {
    if rule == nil, let saved = timestepSpacing, DiffusersSpacing(rawValue: saved) == nil {
      throw DiTError(scheduler: "timestep_spacing", expected: "leading, trailing or linspace", found: saved)
    }
    return DiffusersSpacing(rawValue: (rule ?? schedule(name)).description)
  }

  /// Throws unless every weight is a number.
  private func finite(
    _ sampler: MultistepSampler, _ spacing: DiffusersSpacing, _ name: SamplerName, _ count: Int
  ) throws(DiTError) -> MultistepSampler {
    guard sampler.isFinite else { throw repeated(spacing, name, count) }
    return sampler
  }

  /// That a grid has a step of length 0, or one step too many.
  func repeated(_ spacing: DiffusersSpacing, _ name: SamplerName, _ count: Int) -> DiTError {
    DiTError(
      option: "steps",
      expected: "a number for which diffusers' \(spacing.rawValue) steps of \(name.rawValue) are distinct",
      found: "\(count)")
  }

  /// How far from 0 x̂_* may lie, where the class reads that; nil is anywhere.
  private func limit(_ name: SamplerName) throws(DiTError) -> CleanLimit? {
    if [.ddim, .ddpm, .dpmpp, .unipc, .deis].contains(name), thresholding ?? false {
      let (ratio, maximum) = (dynamicThresholdingRatio ?? 0.995, sampleMaxValue ?? 1)
      guard 0...1 ~= ratio else {
        throw DiTError(scheduler: "dynamic_thresholding_ratio", expected: "0…1", found: "\(ratio)")
      }
      guard maximum > 0 else {
        throw DiTError(scheduler: "sample_max_value", expected: "a value above 0", found: "\(maximum)")
      }
      return .threshold(ratio: ratio, maximum: maximum)
    }
    switch name {
    case .ddim, .ddpm: return clipSample ?? true ? .range(clipSampleRange ?? 1) : nil
    case .heun: return clipSample ?? false ? .range(clipSampleRange ?? 1) : nil
    default: return nil
    }
  }

  // MARK: DDIM, DDPM and PNDM

  /// The timesteps from the noisiest down.
  func kept(
    _ name: SamplerName, of steps: Int, _ spacing: DiffusersSpacing, count: Int, last: Int? = nil
  ) throws(DiTError) -> [Int] {
    let isUpper = [.dpmpp, .unipc, .deis].contains(name)
    let offset = stepsOffset ?? 0
    guard -steps...steps ~= offset else { throw outside(steps, count, offset) }
    let kept = spacing.timesteps(count: count, of: steps, last: last ?? steps, offset: offset, omitsLowest: isUpper)
    guard kept.count == count, kept.last ?? -1 >= 0 || offset < 0,
      isUpper || zip(kept, kept.dropFirst()).allSatisfy(>)
    else { throw repeated(spacing, name, count) }
    guard kept.allSatisfy({ 0..<steps ~= $0 }) else { throw outside(steps, count, offset) }
    return kept
  }

  private func outside(_ steps: Int, _ count: Int, _ offset: Int) -> DiTError {
    DiTError(
      scheduler: "steps_offset", expected: "one that keeps \(count) steps in 0…\(steps - 1)", found: "\(offset)")
  }

  private func steps(
    _ name: SamplerName, on noise: NoiseSchedule, _ spacing: DiffusersSpacing, count: Int
  ) throws(DiTError) -> RespacedSchedule {
    let kept = try kept(name, of: noise.steps, spacing, count: count)
    try checkSignal(noise, kept)
    let bars = noise.alphasCumprod
    let stride = noise.steps / count
    let final = name == .ddim && !(setAlphaToOne ?? true) ? bars[0] : 1
    let next =
      name == .ddim
      ? kept.map { $0 >= stride ? bars[$0 - stride] : final } : kept.dropFirst().map { bars[$0] } + [final]
    return RespacedSchedule(noise, keeping: kept.reversed(), previous: next.reversed())
  }

  /// DDPM's σ at each kept step; 0 draws nothing. With learned_range the ends of log σ² instead: its half of the output
  /// chooses between them.
  private func deviations(
    _ steps: RespacedSchedule
  ) throws(DiTError) -> ([Double], ranges: [DDPMSampler.LogRange]?) {
    let tables = steps.tables
    let type = varianceType ?? "fixed_small"
    if type == "learned_range" {
      guard steps.variance == .learnedRange else {
        throw DiTError(
          scheduler: "variance_type", expected: "a fixed one, as the model's output has no variance half", found: type)
      }
      let ranges = tables.betas.indices.map { i in
        DDPMSampler.LogRange(low: log(max(tables.posteriorVariance[i], 1e-20)), high: log(tables.betas[i]))
      }
      return (steps.timesteps.map { $0 > 0 ? 1 : 0 }, ranges)
    }
    // diffusers takes the root of fixed_large_log's log β, which is no number. GLIDE, whose name it is, means exp(½ log β):
    // fixed_large.
    let isLarge = type == "fixed_large" || type == "fixed_large_log"
    guard isLarge || type == "fixed_small" || type == "fixed_small_log" else {
      throw DiTError(
        scheduler: "variance_type",
        expected: "fixed_small, fixed_small_log, fixed_large, fixed_large_log or learned_range", found: type)
    }
    let deviations = steps.timesteps.indices.map { i -> Double in
      guard steps.timesteps[i] > 0 else { return 0 }
      // diffusers floors β̃ at 1e-20 where it vanishes: far below the last place of any sample.
      return (isLarge ? tables.betas[i] : tables.posteriorVariance[i]).squareRoot()
    }
    return (deviations, nil)
  }

  private func pndm(
    on noise: NoiseSchedule, _ spacing: DiffusersSpacing, count: Int
  ) throws(DiTError) -> PNDMSampler {
    let kept = try kept(.pndm, of: noise.steps, spacing, count: count)
    let stride = noise.steps / count
    let bars = noise.alphasCumprod
    let final = setAlphaToOne ?? false ? 1 : bars[0]
    let coefficients = PredictionCoefficients(noise)
    let plan = PNDMPlan(
      alphaBar: { $0 < 0 ? final : bars[$0] }, mixesVelocities: noise.configuration.prediction == .v,
      reading: { _ in Reading(noised: 0, output: 1) },
      clean: { t in
        let (noised, output) = coefficients.clean(at: t)
        return Reading(noised: noised, output: output)
      })
    if skipPRKSteps ?? false {
      let again = count > 1 ? kept[1] + stride : 0
      guard again < noise.steps else { throw repeated(spacing, .pndm, count) }
      return plan.withoutRungeKutta(
        kept: kept, next: kept.map { $0 - stride }, again: again, variance: noise.variance)
    }
    guard count >= 4 else {
      throw DiTError(
        option: "steps",
        expected:
          "at least 4, or skip_prk_steps true in the saved scheduler, as pndm begins with three Runge-Kutta steps",
        found: "\(count)")
    }
    guard (1...3).allSatisfy({ kept[$0] + stride / 2 < noise.steps }) else { throw repeated(spacing, .pndm, count) }
    return plan.withRungeKutta(kept: kept, half: stride / 2, stride: stride, variance: noise.variance)
  }
}
