import DiTDiffusion
import DiTTensor
import TestSupport
import Testing

private struct Stopped: Error {}

@Suite("Samplers step by step") struct SamplerTests {
  static let shape = BatchShape(samples: 3, channels: 2, height: 1, width: 7)

  private func respaced(_ variance: Variance = .fixedSmall, keeping steps: [Int] = [4, 100, 998]) throws
    -> RespacedSchedule
  {
    try RespacedSchedule(noiseSchedule(.linear, variance), keeping: steps)
  }

  /// The step at a kept index from seeded x, ε̂ and noise; v is the same everywhere.
  private func step(_ sampler: some ReverseProcess, _ index: Int, v: Float = 0, noisy: Bool = true) -> [Float] {
    var random = Random(seed: 2)
    let shape = Self.shape
    var x = random.normals(shape.count)
    let epsilon = random.normals(shape.count)
    let noise = noisy ? random.normals(shape.count) : []
    var output = [Float](repeating: v, count: shape.outputCount(sampler.variance))
    let stride = output.count / shape.samples
    for i in 0..<shape.count {
      output[i / shape.elementsPerSample * stride + i % shape.elementsPerSample] = epsilon[i]
    }
    var span = x.mutableSpan
    var memory = MutableSpan<Float>()
    sampler.advance(
      sampler.stepCount - 1 - index, x: &span, shape: shape, output: output.span, noise: noise.span, memory: &memory)
    return x
  }

  @Test("A sampler says it needs noise exactly at the steps that read it")
  func noiseIsNeededWhereItIsRead() throws {
    let chain = try respaced()
    let samplers: [(any ReverseProcess, [Bool])] = [
      (DDPMSampler(chain), [true, true, false]), (try DDIMSampler(chain), [false, false, false]),
      (try DDIMSampler(chain, eta: 0.2), [true, true, false]),
    ]
    for (sampler, expected) in samplers {
      #expect((0..<3).map { sampler.needsNoise(at: $0) } == expected, "\(sampler)")
    }
  }

  /// The last kept step is t = 4, not 0, and reads no noise all the same.
  @Test("The last step reads no noise")
  func theLastStepIsDeterministic() throws {
    let chain = try respaced()
    #expect(step(DDPMSampler(chain), 0) == step(DDPMSampler(chain), 0, noisy: false))
    let ddim = try DDIMSampler(chain, eta: 1)
    #expect(step(ddim, 0) == step(ddim, 0, noisy: false))
    #expect(step(DDPMSampler(chain), 1).allSatisfy { $0.isFinite })
  }

  /// v = −1 is `fixed_small`, v = +1 `fixed_large`, and neither is the other.
  @Test("Learned variances at -1 and +1 are fixed_small and fixed_large", arguments: [1, 2])
  func learnedRangeEndsAtTheFixedVariances(_ index: Int) throws {
    let learned = DDPMSampler(try respaced(.learnedRange))
    let small = step(DDPMSampler(try respaced(.fixedSmall)), index)
    let large = step(DDPMSampler(try respaced(.fixedLarge)), index)
    #expect(relativeError(step(learned, index, v: -1).doubles, small.doubles) < 2e-7)
    #expect(relativeError(step(learned, index, v: 1).doubles, large.doubles) < 2e-7)
    #expect(relativeError(small.doubles, large.doubles) > 1e-4)
  }

  /// η = 1 has DDPM's posterior mean and variance (Song et al. 2021, section 4.1), whatever the variance half holds.
  @Test("DDIM with eta 1 is DDPM", arguments: [0, 1, 2])
  func ddimWithFullNoiseIsDDPM(_ index: Int) throws {
    let ddpm = step(DDPMSampler(try respaced()), index)
    let ddim = step(try DDIMSampler(respaced(.learnedRange), eta: 1), index, v: 123)
    let error = relativeError(ddim.doubles, ddpm.doubles)
    #expect(error < 3e-7, "relative error \(error)")
  }

  @Test("A DDIM step undoes an inversion step", arguments: [0, 1, 2])
  func invertingUndoesAStep(_ index: Int) throws {
    let chain = try respaced()
    let shape = Self.shape
    var random = Random(seed: 14)
    let start = random.normals(shape.count)
    let output = random.normals(shape.count)
    var x = start
    var span = x.mutableSpan
    var memory = MutableSpan<Float>()
    DDIMInversion(chain).advance(
      index, x: &span, shape: shape, output: output.span, noise: Span(), memory: &memory)
    #expect(span[0] != start[0])
    try DDIMSampler(chain).advance(
      2 - index, x: &span, shape: shape, output: output.span, noise: Span(), memory: &memory)
    let error = relativeError(x.doubles, start.doubles)
    // At index 2 x' is multiplied by √(ᾱ/ᾱ') and back: rounding grows by its inverse, about 150.
    #expect(error < 5e-5, "relative error \(error)")
  }

  /// A whole run moves a sample by its own outputs and noise only. (dopri5 has steps of its own for each image.)
  @Test(
    "A sample of a batch does not depend on the other samples", arguments: SamplerName.allCases.filter { $0 != .dopri5 }
  )
  func samplesOfABatchAreIndependent(_ name: SamplerName) throws {
    let isLinear = DiffusionPath.linear.samplers.contains(name)
    let noise = try noiseSchedule(.linear, isLinear ? .fixedSmall : .learnedRange, prediction: isLinear ? .flow : .v)
    let sampler = try name.process(on: noise, .linspace, count: 5)
    let outputs = (0..<9).map { e in
      var random = Random(seed: UInt64(100 + e))
      return random.normals(Self.shape.outputCount(sampler.variance))
    }
    var random = Random(seed: 6)
    let start = random.normals(Self.shape.count)
    let normals = random.normals(Self.shape.count)
    /// The images of `range` run together.
    func run(_ range: Range<Int>) -> [Float] {
      let shape = BatchShape(samples: range.count, channels: 2, height: 1, width: 7)
      let size = shape.elementsPerSample
      var x = Array(start[range.lowerBound * size..<range.upperBound * size])
      var span = x.mutableSpan
      sampler.sample(
        &span, shape: shape,
        predict: { _, step, output in
          let first = range.lowerBound * output.count / range.count
          for i in output.indices { output[i] = outputs[step.evaluation][first + i] }
        },
        noise: { _, noise in for i in noise.indices { noise[i] = normals[range.lowerBound * size + i] } })
      return x
    }
    let whole = run(0..<3)
    #expect(whole == run(0..<2) + run(2..<3) && whole != start && whole.allSatisfy { $0.isFinite })
  }

  @Test("The loop predicts, draws noise and reports for each step, from the noisiest down")
  func theLoopWalksDownAndReports() throws {
    let sampler = DDPMSampler(try respaced())
    var x = [Float](repeating: 1, count: Self.shape.count)
    var span = x.mutableSpan
    var log: [String] = []
    let done = sampler.sample(
      &span, shape: Self.shape, predict: { _, step, _ in log.append("predict \(step.time.index)") },
      noise: { step, _ in log.append("noise \(step.evaluation)") },
      progress: { step, _ in
        log.append("done \(step.number)/\(step.count)")
        return true
      })
    #expect(done)
    #expect(
      log == [
        "predict 998", "noise 0", "done 1/3", "predict 100", "noise 1", "done 2/3", "predict 4", "done 3/3",
      ])
  }

  @Test("The loop stops when the progress callback returns false")
  func theLoopStopsWhenAsked() throws {
    let sampler = try DDIMSampler(respaced())
    var x = [Float](repeating: 1, count: Self.shape.count)
    var span = x.mutableSpan
    var predictions = 0
    let done = sampler.sample(
      &span, shape: Self.shape, predict: { _, _, _ in predictions += 1 }, noise: { _, _ in },
      progress: { step, _ in step.number < 2 })
    #expect(!done && predictions == 2)
    let inverted = DDIMInversion(sampler.schedule).sample(
      &span, shape: Self.shape, predict: { _, _, _ in predictions += 1 }, noise: { _, _ in },
      progress: { _, _ in false })
    #expect(!inverted && predictions == 3)
  }

  @Test("An error thrown by the network passes through the sampler")
  func errorsOfTheNetworkPass() throws {
    let sampler = try DDIMSampler(respaced())
    var x = [Float](repeating: 1, count: Self.shape.count)
    #expect(throws: Stopped.self) {
      var span = x.mutableSpan
      try sampler.sample(&span, shape: Self.shape, predict: { _, _, _ in throw Stopped() }, noise: { _, _ in })
    }
  }

  @Test("An eta outside 0...1 is refused", arguments: [-0.1, 1.5, .nan, .infinity])
  func impossibleEtaIsRefused(_ eta: Double) throws {
    let chain = try respaced()
    let error = #expect(throws: DiTError.self) { try DDIMSampler(chain, eta: eta) }
    #expect(error?.description == "eta: expected 0…1, found \(eta)")
  }

  @Test(
    "Samplers, etas and schedules that do not fit the prediction are refused",
    arguments: [
      (
        SamplerName.ddpm, Prediction.epsilon, "linspace", 0.0 as Double?,
        "eta: expected none with the sampler ddpm, found 0.0"
      ),
      (.unipc, .x0, "linspace", 0.5, "eta: expected none with the sampler unipc, found 0.5"),
      (.heun, .flow, "linspace", 1, "eta: expected none with the sampler heun, found 1.0"),
      (
        .ddim, .flow, "linspace", nil,
        "sampler: expected euler, heun, sde, dopri5, meanflow, as the model's path is linear, found ddim"
      ),
      (
        .euler, .v, "linspace", 0.5, "eta: expected none with the sampler euler, found 0.5"
      ),
      (
        .pndm, .v, "quadratic", nil,
        "schedule: expected leading, trailing or linspace, as pndm's weights are those of even steps, found quadratic"
      ),
      (
        .deis, .flow, "linspace", nil,
        "sampler: expected euler, heun, sde, dopri5, meanflow, as the model's path is linear, found deis"
      ),
      (
        .heun, .flow, "jump:1", nil,
        "schedule: expected linspace, as a linear path has an even grid of its own, found jump:1.0"
      ),
    ])
  func impossibleSamplersAreRefused(
    _ name: SamplerName, _ prediction: Prediction, _ rule: String, _ eta: Double?, _ message: String
  ) throws {
    let schedule = try noiseSchedule(.linear, .fixedSmall, prediction: prediction)
    let error = #expect(throws: DiTError.self) {
      try name.process(on: schedule, StepSchedule(parsing: rule), count: 7, eta: eta)
    }
    #expect(error?.description == message)
  }

  @Test("A flow takes 1 to T steps and cannot be respaced")
  func flowsTakeTheStepsThatAChainHas() throws {
    let schedule = try noiseSchedule(.linear, .fixedSmall, prediction: .flow)
    for count in [0, 1001, nil] {
      #expect(throws: DiTError.self) { try SamplerName.euler.process(on: schedule, .linspace, count: count) }
    }
    #expect(try SamplerName.heun.process(on: schedule, .linspace, count: 1000).evaluations.count == 1999)
    #expect(throws: DiTError.self) { try RespacedSchedule(schedule, keeping: [1, 2]) }
  }

  @Test("Only DDIM inverts a diffusion chain, and only Euler a flow")
  func onlyOneSamplerRunsBackwards() throws {
    let (chain, flow) = (try noiseSchedule(), try noiseSchedule(.linear, .fixedSmall, prediction: .flow))
    for name in SamplerName.allCases {
      #expect(((try? name.inversion(on: chain, .linspace, count: 5)) != nil) == (name == .ddim), "\(name)")
      #expect(((try? name.inversion(on: flow, .linspace, count: 5)) != nil) == (name == .euler), "\(name)")
    }
    let error = #expect(throws: DiTError.self) {
      try SamplerName.ddim.inversion(on: chain, .linspace, count: 5, eta: 0.5)
    }
    #expect(error?.description == "eta: expected 0 to run backwards, found 0.5")
  }

  @Test("A network output of the wrong size ends the process")
  func aWrongOutputTraps() async {
    await #expect(processExitsWith: .failure) {
      let chain = try RespacedSchedule(noiseSchedule(.linear, .learnedRange), keeping: [4, 100])
      var x = [Float](repeating: 0, count: 6)
      let output = [Float](repeating: 0, count: 6)  // learned_range needs 12
      var span = x.mutableSpan
      var memory = MutableSpan<Float>()
      try DDIMSampler(chain).advance(
        0, x: &span, shape: BatchShape(samples: 1, channels: 1, height: 2, width: 3), output: output.span,
        noise: Span(), memory: &memory)
    }
  }
}
