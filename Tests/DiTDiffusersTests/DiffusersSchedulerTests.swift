// Samplers from a saved diffusers configuration against diffusers' own, with given network outputs and noise:
// Tests/Fixtures/diffusion/schedulers.safetensors.

import DiTDiffusers
import DiTDiffusion
import DiTFiles
import DiTTensor
import TestSupport
import Testing

/// A case of the fixture: `sampler[:eta];key=value;…|S,S,…`.
private struct Case {
  let name: SamplerName
  let eta: Double?
  let saved: DiffusersScheduler
  let counts: [Int]

  init(_ title: String) throws {
    let halves = title.split(separator: "|")
    let words = halves[0].split(separator: ";").map(String.init)
    let sampler = words[0].split(separator: ":").map(String.init)
    name = try #require(SamplerName(rawValue: sampler[0]))
    eta = sampler.count > 1 ? Double(sampler[1]) : nil
    counts = halves.count > 1 ? halves[1].split(separator: ",").compactMap { Int($0) } : []
    var saved = DiffusersScheduler()
    saved.clipSample = false
    for word in words.dropFirst() {
      let pair = word.split(separator: "=").map(String.init)
      let text = pair[1].filter { $0 != "\"" }
      switch pair[0] {
      case "timestep_spacing": saved.timestepSpacing = text
      case "beta_schedule": saved.betaSchedule = text
      case "prediction_type": saved.predictionType = text
      case "steps_offset": saved.stepsOffset = Int(text)
      case "set_alpha_to_one": saved.setAlphaToOne = Bool(text)
      case "clip_sample": saved.clipSample = Bool(text)
      case "clip_sample_range": saved.clipSampleRange = Double(text)
      case "num_train_timesteps": saved.trainSteps = try #require(Int(text))
      case "beta_start": saved.betaStart = Double(text)
      case "beta_end": saved.betaEnd = Double(text)
      case "variance_type": saved.varianceType = text
      case "solver_order": saved.solverOrder = Int(text)
      case "final_sigmas_type": saved.finalSigmasType = text
      case "lower_order_final": saved.lowerOrderFinal = Bool(text)
      case "euler_at_final": saved.eulerAtFinal = Bool(text)
      case "trained_betas":
        saved.trainedBetas = (0..<1000).map { t -> Double in
          let share = Double(t) / 999
          return 1e-4 + 0.0199 * share * share
        }
      default: throw DiTError(option: pair[0], expected: "a key of the fixture", found: text)
      }
    }
    self.saved = saved
  }
}

@Suite("Samplers from a saved diffusers scheduler against diffusers' own") struct DiffusersSchedulerTests {
  private static let shape = BatchShape(samples: 1, channels: 2, height: 1, width: 3)
  /// diffusers rounds each coefficient to float32.
  private static let tolerance = 1e-5

  /// Each step of every case, from diffusers' x before it: max|a−b| / max|b|.
  private func errors(
    _ process: some ReverseProcess, _ fixture: Fixture, _ expected: ArraySlice<Double>
  ) throws -> [Double] {
    let size = Self.shape.count
    let (outputs, noise) = (try fixture.floats("outputs"), try fixture.floats("noise"))
    var x = try fixture.floats("start")
    var memory = [Float](repeating: 0, count: process.memoryArrays * size)
    return process.evaluations.indices.map { e in
      var state = x.mutableSpan
      var kept = memory.mutableSpan
      process.advance(
        e, x: &state, shape: Self.shape, output: outputs.span.extracting(e * size..<(e + 1) * size),
        noise: noise.span.extracting(e * size..<(e + 1) * size), memory: &kept)
      let from = expected.startIndex + e * size
      return relativeError(x.doubles, expected[from..<from + size])
    }
  }

  @Test("Every step of every sampler and setting is diffusers' to 1e-5")
  func everyStepIsDiffusers() throws {
    let fixture = try Fixture("schedulers", folder: "diffusion")
    let titles = fixture.names.filter { $0.contains("|") }
    #expect(titles.count == 85)
    var worst = 0.0
    for title in titles {
      let test = try Case(title)
      let noise = try test.saved.noise(.fixedSmall)
      let expected = try fixture.doubles(title)
      var from = 0
      for count in test.counts {
        let process = try test.saved.process(test.name, on: noise, nil, count: count, eta: test.eta)
        let size = count * Self.shape.count
        let errors = try errors(process, fixture, expected[from..<from + size])
        #expect(errors.allSatisfy { $0 <= Self.tolerance }, "\(title), \(count) steps: \(errors)")
        worst = max(worst, errors.max() ?? .infinity)
        from += size
      }
      #expect(from == expected.count, "\(title)")
    }
    #expect(worst > 1e-8, "diffusers' Float32 cannot be that exact: \(worst)")
  }

  /// Our own grids for the same words, and each other spacing, are not diffusers' for any sampler.
  @Test(
    "Samples on another timestep spacing miss diffusers by more than ten times the tolerance",
    arguments: [SamplerName.ddim, .dpmpp, .unipc, .ddpm], [StepSchedule.leading, .trailing, .linspace])
  func anotherGridFails(_ name: SamplerName, _ rule: StepSchedule) throws {
    let fixture = try Fixture("schedulers", folder: "diffusion")
    let title = "\(name.rawValue);timestep_spacing=\"\(rule)\"|1,2,3,5,20,50"
    let saved = try Case(title).saved
    let noise = try saved.noise(.fixedSmall)
    let expected = try fixture.doubles(title)
    let size = Self.shape.count
    let twenty = expected[(1 + 2 + 3 + 5) * size..<(1 + 2 + 3 + 5 + 20) * size]
    func error(_ process: some ReverseProcess) throws -> Double {
      try #require(try errors(process, fixture, twenty).max())
    }
    for other in [StepSchedule.leading, .trailing, .linspace] where other != rule {
      let error = try error(saved.process(name, on: noise, other, count: 20))
      #expect(error > 10 * Self.tolerance, "\(name) on \(other) for \(rule): \(error)")
    }
    #expect(try error(saved.process(name, on: noise, rule, count: 20)) <= Self.tolerance)
    // DDIM and DDPM keep the steps that we keep where the stride is whole or the rule is linspace; the solvers never do.
    if name == .dpmpp || name == .unipc, rule != .trailing {
      let own = try error(name.process(on: noise, rule, count: 20))
      #expect(own > 10 * Self.tolerance, "\(name)'s own \(rule): \(own)")
    }
  }

  @Test("The timesteps are diffusers' for every number of steps")
  func gridsAreDiffusersForEveryCount() throws {
    let fixture = try Fixture("schedulers", folder: "diffusion")
    for steps in [1000, 37] {
      var saved = DiffusersScheduler(trainSteps: steps)
      saved.clipSample = false
      let noise = try saved.noise(.fixedSmall)
      for (kind, names) in [("all", [SamplerName.ddim, .ddpm]), ("upper", [.dpmpp, .unipc])] {
        for rule in [StepSchedule.leading, .trailing, .linspace] {
          let expected = try fixture.integers("grid:\(kind):\(rule):\(steps)")
          for name in names {
            let found = (1...steps).map { count -> Int in
              guard let process = try? saved.process(name, on: noise, rule, count: count) else { return -1 }
              return process.evaluations.enumerated().reduce(0) { $0 + ($1.offset + 1) * $1.element.index }
            }
            let bad = zip(found, expected).enumerated().first { $1.0 != $1.1 }
            #expect(bad == nil, "\(name), \(rule), T = \(steps): S = \((bad?.offset ?? 0) + 1)")
            #expect(found.count { $0 >= 0 } > steps / 2)
          }
        }
      }
    }
  }

  @Test("The cumulative alphas are diffusers' for every beta schedule")
  func alphasAreDiffusers() throws {
    let fixture = try Fixture("schedulers", folder: "diffusion")
    let titles = fixture.names.filter { $0.hasPrefix("alphas:") }
    #expect(titles.count == 4)
    for title in titles {
      let saved = try Case(String(title.dropFirst("alphas:".count))).saved
      let noise = try saved.noise(.fixedSmall)
      let found = stride(from: 0, to: noise.steps, by: 37).map { noise.alphasCumprod[$0] }
      // A β that another vector width rounds the other way moves all later ᾱ by 6e-8.
      let error = elementwiseError(found, try fixture.doubles(title))
      #expect(error < 5e-7, "\(title): \(error)")
    }
  }

  /// Keys that are absent are the sampler's own, not those of the class that was saved.
  @Test("Keys absent from the file take the sampler's own defaults")
  func absentKeysAreTheSamplersOwn() throws {
    var saved = DiffusersScheduler()
    #expect(saved.schedule(.ddim) == .leading && saved.schedule(.ddpm) == .leading)
    #expect(saved.schedule(.pndm) == .leading)
    for name in [SamplerName.dpmpp, .unipc, .deis, .euler, .eulerAncestral, .heun] {
      #expect(saved.schedule(name) == .linspace)
    }
    saved.timestepSpacing = "trailing"
    #expect(DiffusionPath.beta.samplers.allSatisfy { saved.schedule($0) == .trailing })
    // clip_sample's own default is true, for those samplers that know it.
    let noise = try saved.noise(.fixedSmall)
    var clipped = saved
    clipped.clipSample = true
    var free = saved
    free.clipSample = false
    let process = try saved.process(.ddim, on: noise, nil, count: 5) as? DDIMSampler
    #expect(process == (try clipped.process(.ddim, on: noise, nil, count: 5) as? DDIMSampler))
    #expect(process != (try free.process(.ddim, on: noise, nil, count: 5) as? DDIMSampler))
  }

  /// diffusers 0.42.1 itself gives no numbers there: it takes the root of log β.
  @Test("fixed_large_log is the deviation that it is the logarithm of, fixed_large's")
  func logarithmOfLargeVarianceIsLargeVariance() throws {
    var saved = DiffusersScheduler()
    let noise = try saved.noise(.fixedSmall)
    let processes = try ["fixed_large_log", "fixed_large", "fixed_small"].map { type in
      saved.varianceType = type
      return try #require(try saved.process(.ddpm, on: noise, nil, count: 5) as? DDPMSampler)
    }
    #expect(processes[0] == processes[1] && processes[0] != processes[2])
  }

  /// What is not here is refused by its key, and only by the samplers that read it.
  @Test("Settings that are not supported are refused by key, by the samplers that read them")
  func unknownRequestsAreRefusedByKey() throws {
    let cases: [(String, [SamplerName], (inout DiffusersScheduler) -> Void)] = [
      (
        "dynamic_thresholding_ratio", [.ddim, .ddpm, .dpmpp, .unipc, .deis],
        { ($0.thresholding, $0.dynamicThresholdingRatio) = (true, 1.5) }
      ),
      (
        "sample_max_value", [.ddim, .ddpm, .dpmpp, .unipc, .deis],
        { ($0.thresholding, $0.sampleMaxValue) = (true, 0) }
      ),
      ("timestep_spacing", DiffusionPath.beta.samplers, { $0.timestepSpacing = "karras" }),
      ("steps_offset", DiffusionPath.beta.samplers, { ($0.stepsOffset, $0.timestepSpacing) = (700, "leading") }),
      (
        "use_exponential_sigmas", [.dpmpp, .unipc, .deis, .euler, .heun],
        { ($0.useKarrasSigmas, $0.useExponentialSigmas) = (true, true) }
      ),
      ("use_flow_sigmas", [.dpmpp, .unipc, .deis], { $0.useFlowSigmas = true }),
      ("solver_order", [.dpmpp, .unipc, .deis], { $0.solverOrder = 0 }),
      ("solver_order", [.unipc], { $0.solverOrder = 4 }),
      ("final_sigmas_type", [.dpmpp, .unipc, .euler], { $0.finalSigmasType = "one" }),
      ("final_sigmas_type", [.dpmpp], { $0.algorithmType = "dpmsolver" }),
      ("algorithm_type", [.deis], { $0.algorithmType = "sde-dpmsolver++" }),
      ("solver_type", [.dpmpp, .unipc, .deis], { $0.solverType = "rk45" }),
      ("lambda_min_clipped", [.dpmpp], { $0.lambdaMinClipped = 50 }),
      ("variance_type", [.dpmpp, .ddpm], { $0.varianceType = "learned_range" }),
      ("variance_type", [.dpmpp, .ddpm], { $0.varianceType = "learned" }),
      ("final_sigmas_type", [.unipc], { $0.predictX0 = false }),
      ("lower_order_final", [.unipc], { $0.lowerOrderFinal = false }),
      ("use_dynamic_shifting", [.unipc], { $0.useDynamicShifting = true }),
      ("shift_terminal", [.unipc], { $0.shiftTerminal = 0.1 }),
      ("solver_p", [.unipc], { $0.unread = [JSONMember("solver_p", .object([]))] }),
      ("interpolation_type", [.euler], { $0.interpolationType = "cubic" }),
      ("timestep_type", [.euler], { ($0.predictionType, $0.timestepType) = ("v_prediction", "continuous") }),
      ("prediction_type", [.eulerAncestral, .pndm], { $0.predictionType = "sample" }),
      (
        "prediction_type", DiffusionPath.beta.samplers.filter { $0 != .euler },
        { $0.predictionType = "original_sample" }
      ),
      (
        "beta_schedule", DiffusionPath.beta.samplers.filter { $0 != .heun },
        { ($0.className, $0.betaSchedule) = ("HeunDiscreteScheduler", "exp") }
      ),
      (
        "rescale_betas_zero_snr", [.ddim, .ddpm],
        { ($0.timestepSpacing, $0.rescaleBetasZeroSNR) = ("trailing", true) }
      ),
    ]
    for (key, refusers, change) in cases {
      var saved = DiffusersScheduler()
      change(&saved)
      let noise = try saved.noise(.fixedSmall)
      for name in DiffusionPath.beta.samplers {
        var found: String?
        do throws(DiTError) {
          _ = try saved.process(name, on: noise, nil, count: 10)
        } catch {
          found = error.schedulerKey
        }
        #expect(found == (refusers.contains(name) ? key : nil), "\(key), \(name)")
      }
    }
  }

  /// σ spread over cosine β lie so near T − 1 that timesteps repeat: DPM-Solver++ cuts them off, UniPC rounds them.
  @Test("Karras sigmas repeat timesteps as diffusers' do, and every step goes to the next level")
  func spreadSigmasRepeatTimesteps() throws {
    var saved = DiffusersScheduler(betaSchedule: "squaredcos_cap_v2")
    saved.useKarrasSigmas = true
    func times(_ name: SamplerName, _ count: Int) throws -> [Int] {
      try saved.process(name, on: saved.noise(.fixedSmall), nil, count: count).evaluations.map(\.index)
    }
    #expect(try times(.dpmpp, 10) == [998, 998, 998, 998, 997, 995, 983, 894, 259, 0])
    #expect(try times(.unipc, 10).prefix(5) == [999, 999, 999, 998, 998])
    saved.betaSchedule = "linear"
    #expect(try Set(times(.dpmpp, 78)).count == 78 && Set(times(.dpmpp, 79)).count == 78)
    #expect(try times(.dpmpp, 100).suffix(4) == [2, 1, 1, 0])
  }

  @Test("Euler starts from noise times the sigma of the steps taken")
  func eulerStartsFromTheStepsTaken() throws {
    var saved = DiffusersScheduler()
    saved.timestepSpacing = "leading"
    let noise = try saved.noise(.fixedSmall)
    // √(σ_max² + 1) of ten leading steps is 60.83; of all 1000 it would be 157.41.
    let level = (noise.alphasCumprod[900]).squareRoot()
    let leading = try saved.process(.euler, on: noise, nil, count: 10)
    #expect(abs(leading.startScale / level - 60.8305) < 1e-3)
    saved.timestepSpacing = "trailing"
    let trailing = try saved.process(.euler, on: noise, nil, count: 10)
    #expect(abs(trailing.startScale / noise.alphasCumprod[999].squareRoot() - 157.407) < 1e-2)
    #expect(try saved.process(.ddim, on: noise, nil, count: 10).startScale == 1)
  }

  /// DDIM keeps ε̂ as it was when x̂_* is clipped; DDPM's mean has the clipped x̂_* alone.
  @Test("DDIM at eta 1 is DDPM with fixed_small only where nothing is clipped")
  func ddimIsDDPMOnlyWithoutClipping() throws {
    let shape = BatchShape(samples: 1, channels: 1, height: 2, width: 4)
    var random = Draw(seed: 6)
    let (start, output, normals) = (random.normal(8), random.normal(8), random.normal(8))
    for clips in [false, true] {
      var saved = DiffusersScheduler()
      saved.clipSample = clips
      let noise = try saved.noise(.fixedSmall)
      func step(_ name: SamplerName, _ eta: Double?, _ evaluation: Int) throws -> [Double] {
        var x = start
        var state = x.mutableSpan
        var memory = MutableSpan<Float>()
        try saved.process(name, on: noise, nil, count: 1000, eta: eta).advance(
          evaluation, x: &state, shape: shape, output: output.span, noise: normals.span, memory: &memory)
        return x.doubles
      }
      let differing = try (0..<1000).count { e in
        try relativeError(step(.ddim, 1, e), step(.ddpm, nil, e)) > 1e-5
      }
      #expect(clips ? differing >= 990 : differing == 0, "\(differing) steps differ")
    }
  }

  @Test("DPM-Solver++ with a learned variance, which diffusers cuts at three channels, is refused for epsilon alone")
  func learnedVarianceOfDPMSolverIsRefused() throws {
    var saved = DiffusersScheduler()
    saved.varianceType = "learned_range"
    let error = #expect(throws: DiTError.self) {
      _ = try saved.process(.dpmpp, on: saved.noise(.learnedRange), nil, count: 10)
    }
    #expect(error?.schedulerKey == "variance_type" && error?.expected?.contains("3 channels") == true)
    saved.predictionType = "v_prediction"
    _ = try saved.process(.dpmpp, on: saved.noise(.learnedRange), nil, count: 10)
  }

  /// Keys on which all samplers stand.
  @Test("Impossible noise schedules are refused by key")
  func impossibleSchedulesAreRefusedByKey() throws {
    let cases: [(String, (inout DiffusersScheduler) -> Void)] = [
      ("prediction_type", { $0.predictionType = "flow_prediction" }),
      ("beta_schedule", { $0.betaSchedule = "sigmoid" }), ("beta_schedule", { $0.betaSchedule = "square" }),
      ("rescale_betas_zero_snr", { ($0.trainSteps, $0.rescaleBetasZeroSNR) = (1, true) }),
      ("num_train_timesteps", { $0.trainSteps = 0 }), ("num_train_timesteps", { $0.trainSteps = 1 << 40 }),
      ("beta_start", { $0.betaStart = -1 }), ("beta_end", { $0.betaEnd = 1 }), ("beta_end", { $0.betaEnd = .nan }),
      ("beta_end", { $0.betaEnd = 0.999 }), ("trained_betas", { $0.trainedBetas = [0.1, 0.2] }),
      ("trained_betas", { ($0.trainedBetas, $0.trainSteps) = ([0.1, 1.5], 2) }),
      ("trained_betas", { ($0.trainedBetas, $0.trainSteps) = ([1e-9, 0.5], 2) }),
    ]
    for (index, (key, change)) in cases.enumerated() {
      var saved = DiffusersScheduler()
      change(&saved)
      do {
        _ = try saved.noise(.fixedSmall)
        Issue.record("case \(index), \(key): accepted")
      } catch {
        #expect(error.schedulerKey == key, "case \(index): \(error)")
      }
    }
  }

  @Test("Step counts for which diffusers' grid repeats or exceeds steps are refused")
  func impossibleStepsAreRefused() throws {
    let saved = DiffusersScheduler()
    let noise = try saved.noise(.fixedSmall)
    // Too many, grids that repeat a step, and the trailing grids of diffusers with one step more than asked for.
    for (name, rule, count) in [
      (SamplerName.ddim, StepSchedule.leading, 0), (.ddim, .leading, 1001), (.dpmpp, .linspace, 1000),
      (.unipc, .leading, 1000), (.ddim, .trailing, 61), (.dpmpp, .trailing, 103),
    ] {
      let error = #expect(throws: DiTError.self) {
        _ = try saved.process(name, on: noise, rule, count: count)
      }
      #expect(error?.name == "steps", "\(name), \(rule), \(count)")
    }
    #expect(throws: DiTError.self) { _ = try saved.process(.dpmpp, on: noise, nil, count: 10, eta: 0.5) }
    for count in [1, 2, 3] {  // three steps by Runge-Kutta come first
      #expect(throws: DiTError.self) { _ = try saved.process(.pndm, on: noise, nil, count: count) }
    }
  }

  /// quadratic, jump and custom are ours: the next kept step follows.
  @Test("quadratic, jump and custom steps use this library's own samplers")
  func otherRulesAreOurs() throws {
    let saved = DiffusersScheduler()
    let noise = try saved.noise(.fixedSmall)
    let ours = try SamplerName.ddim.process(on: noise, .quadratic, count: 10) as? DDIMSampler
    #expect(ours != nil)
    #expect(try saved.process(.ddim, on: noise, .quadratic, count: 10) as? DDIMSampler == ours)
  }

  /// DDIM undone on diffusers' levels, where they do not meet (1000 is no multiple of 7).
  @Test("Inversion undoes DDIM on diffusers' levels, step by step")
  func inversionUndoesEachStep() throws {
    var saved = DiffusersScheduler()
    (saved.clipSample, saved.stepsOffset) = (false, 1)
    let noise = try saved.noise(.fixedSmall)
    let shape = BatchShape(samples: 1, channels: 1, height: 2, width: 4)
    var random = Draw(seed: 4)
    let (start, outputs) = (random.normal(shape.count), random.normal(7 * shape.count))
    var x = start
    let there = try saved.process(.ddim, on: noise, nil, count: 7)
    let back = try saved.inversion(.ddim, on: noise, nil, count: 7)
    #expect(there.evaluations.map(\.index) == [853, 711, 569, 427, 285, 143, 1])
    #expect(back.evaluations == there.evaluations.reversed())
    func go(_ process: any ReverseProcess, _ order: [Int]) {
      for (e, at) in order.enumerated() {
        var state = x.mutableSpan
        var memory = MutableSpan<Float>()
        process.advance(
          e, x: &state, shape: shape, output: outputs.span.extracting(at * shape.count..<(at + 1) * shape.count),
          noise: Span<Float>(), memory: &memory)
      }
    }
    go(there, Array(0..<7))
    #expect(relativeError(x.doubles, start.doubles) > 0.5)
    go(back, Array((0..<7).reversed()))
    #expect(relativeError(x.doubles, start.doubles) < 1e-5)
    saved.clipSample = true
    #expect(throws: DiTError.self) { _ = try saved.inversion(.ddim, on: noise, nil, count: 7) }
    #expect(throws: DiTError.self) { _ = try saved.inversion(.dpmpp, on: noise, nil, count: 7) }
  }
}
