import DiTDiffusion
import DiTTensor
import Foundation
import TestSupport
import Testing

@Suite("Noise schedules") struct NoiseScheduleTests {
  @Test("The betas of each schedule are diffusers' to Float precision", arguments: BetaSchedule.allCases)
  func betasAreDiffusers(_ name: BetaSchedule) throws {
    let found = try noiseSchedule(name).betas
    let error = elementwiseError(found, try Fixture("schedules").values("\(name.rawValue).diffusers"))
    // Float32 spacing is 1.2e-7; a β of 1e-4 taken as 1 − (1 − β) in Float would lose four more digits.
    #expect(error < 1e-6, "\(name): relative error \(error)")
  }

  /// T = 250: also the scaling of β_start and β_end by 1000/T.
  @Test("Every table of a noise schedule follows its definition", arguments: BetaSchedule.allCases)
  func tablesAreTheirDefinitions(_ name: BetaSchedule) throws {
    let fixture = try Fixture("schedules")
    let tables = try noiseSchedule(name, steps: 250).tables
    let pairs: [(String, [Double])] = [
      ("betas", tables.betas), ("alphas_cumprod", tables.alphasCumprod),
      ("posterior_variance", tables.posteriorVariance), ("posterior_log_variance", tables.posteriorLogVariance),
      ("fixed_large_log_variance", tables.fixedLargeLogVariance),
      ("clean_coefficient", tables.posteriorCleanCoefficient),
      ("noised_coefficient", tables.posteriorNoisedCoefficient),
    ]
    for (key, found) in pairs {
      let error = elementwiseError(found, try fixture.values("\(name.rawValue).250.\(key)"))
      #expect(error < 1e-11, "\(name) \(key): relative error \(error)")
    }
    #expect(tables.alphasCumprodPrevious == [1] + tables.alphasCumprod.dropLast())
  }

  @Test("The first and last beta are the configured ones, scaled by 1000/T")
  func endsAreTheConfiguredOnes() throws {
    let betas = try noiseSchedule().betas
    #expect(betas.first == 1e-4 && betas.last == 0.02)
    #expect(try noiseSchedule(.cosine).betas.last == 0.999)
    // T = 2000: half of each.
    let halved = try noiseSchedule(steps: 2000).betas
    #expect(halved.first == 0.5e-4 && halved.last == 0.01)
  }

  @Test("Respacing that keeps every step changes no beta")
  func keepingEveryStepChangesNothing() throws {
    let full = try noiseSchedule(.cosine)
    let respaced = try RespacedSchedule(full, .linspace, count: 1000)
    #expect(respaced.timesteps == Array(0..<1000))
    let error = elementwiseError(respaced.tables.betas, full.betas)
    #expect(error < 1e-9, "relative error \(error)")
  }

  @Test("Respaced betas rebuild the cumulative alphas of the kept steps")
  func respacedBetasRebuildTheKeptProducts() throws {
    let full = try noiseSchedule()
    let respaced = try RespacedSchedule(full, keeping: [3, 10, 500, 998])
    var product = 1.0
    let rebuilt = respaced.tables.betas.map { beta in
      product *= 1 - beta
      return product
    }
    let error = elementwiseError(rebuilt, [3, 10, 500, 998].map { full.alphasCumprod[$0] })
    #expect(error < 1e-12, "relative error \(error)")
  }

  @Test("A chain of one kept step has finite tables")
  func oneKeptStepHasFiniteTables() throws {
    let tables = try RespacedSchedule(noiseSchedule(), .linspace, count: 1).tables
    #expect(tables.posteriorLogVariance[0].isFinite && tables.fixedLargeLogVariance[0].isFinite)
    #expect(tables.posteriorVariance == [0])
  }

  @Test("Adding noise follows the formula at each sample's own level")
  func noisingFollowsTheFormulaPerSample() throws {
    let schedule = try noiseSchedule()
    var random = Random(seed: 1)
    let clean = random.normals(3 * 7)
    let noise = random.normals(3 * 7)
    let timesteps = [0, 999, 412]
    var noised = [Float](repeating: .nan, count: 21)
    var span = noised.mutableSpan
    schedule.addNoise(clean: clean.span, noise: noise.span, levels: timesteps.map(schedule.level), into: &span)
    let expected = (0..<21).map { i in
      let bar = schedule.alphasCumprod[timesteps[i / 7]]
      return bar.squareRoot() * Double(clean[i]) + (1 - bar).squareRoot() * Double(noise[i])
    }
    let error = relativeError(noised.doubles, expected)
    #expect(error < 1e-7, "relative error \(error)")
  }

  @Test(
    "Impossible diffusion configurations are refused by key",
    arguments: [
      (DiffusionConfiguration(steps: 0), "diffusion.steps: expected 1…1000000, found 0"),
      (DiffusionConfiguration(steps: -5), "diffusion.steps: expected 1…1000000, found -5"),
      (DiffusionConfiguration(steps: .max), "diffusion.steps: expected 1…1000000, found \(Int.max)"),
      (
        DiffusionConfiguration(steps: 20),
        "diffusion.beta_end: expected a value whose product with 1000/20 lies inside (0, 1), found 0.02 (1.0)"
      ),
      (
        DiffusionConfiguration(schedule: .scaledLinear, betaStart: 0),
        "diffusion.beta_start: expected a value whose product with 1000/1000 lies inside (0, 1), found 0.0 (0.0)"
      ),
      (
        DiffusionConfiguration(betaEnd: .nan),
        "diffusion.beta_end: expected a value whose product with 1000/1000 lies inside (0, 1), found nan (nan)"
      ),
      (
        DiffusionConfiguration(betaStart: 0.9, betaEnd: 0.9),
        "diffusion.beta_end: expected a product of 1−β over 1000 steps above 0, found 0.9"
      ),
    ])
  func impossibleConfigurationsAreRefused(_ configuration: DiffusionConfiguration, _ message: String) throws {
    let error = #expect(throws: DiTError.self) { try NoiseSchedule(configuration) }
    #expect(error?.description == message)
  }

  /// 21 is the first T that the published β_end allows; a cosine schedule has no such limit.
  @Test("The shortest chains that the betas allow work")
  func theShortestChainsWork() throws {
    #expect(try noiseSchedule(steps: 21).betas.last == 0.02 * (1000 / 21.0))
    #expect(try noiseSchedule(.cosine, steps: 1).betas == [0.999])
  }

  @Test("The words of the configuration are the documented ones")
  func configurationWordsAreTheDocumentedOnes() {
    #expect(BetaSchedule.allCases.map(\.rawValue) == ["linear", "cosine", "scaled_linear"])
    #expect(Variance.allCases.map(\.rawValue) == ["fixed_small", "fixed_large", "learned_range"])
    #expect(Prediction.allCases.map(\.rawValue) == ["epsilon", "mean", "x0", "v", "velocity", "flow"])
    #expect(
      SamplerName.allCases.map(\.rawValue) == [
        "ddpm", "ddim", "dpmpp", "unipc", "euler", "heun", "euler_ancestral", "pndm", "deis",
        "meanflow", "sde", "dopri5",
      ])
    #expect(Variance.allCases.map { $0.outputChannels(4) } == [4, 4, 8])
  }
}
