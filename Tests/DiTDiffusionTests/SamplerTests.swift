import DiTDiffusion
import Testing

private struct Stopped: Error {}

@Suite struct SamplerTests {
  static let shape = BatchShape(samples: 3, channels: 2, height: 1, width: 7)

  private func respaced(_ variance: Variance = .fixedSmall, keeping steps: [Int] = [4, 100, 998]) throws
    -> RespacedSchedule
  {
    try RespacedSchedule(noiseSchedule(.linear, variance), keeping: steps)
  }

  /// One step from seeded x, ε̂ and noise; v is the same everywhere.
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
    sampler.step(index, x: &span, shape: shape, output: output.span, noise: noise.span)
    return x
  }

  @Test func noiseIsNeededWhereItIsRead() throws {
    let chain = try respaced()
    let samplers: [(any ReverseProcess, [Bool])] = [
      (DDPMSampler(chain), [false, true, true]), (try DDIMSampler(chain), [false, false, false]),
      (try DDIMSampler(chain, eta: 0.2), [false, true, true]),
    ]
    for (sampler, expected) in samplers {
      #expect((0..<3).map { sampler.needsNoise(at: $0) } == expected, "\(sampler)")
    }
  }

  /// The last kept step is t = 4, not 0, and reads no noise all the same.
  @Test func theLastStepIsDeterministic() throws {
    let chain = try respaced()
    #expect(step(DDPMSampler(chain), 0) == step(DDPMSampler(chain), 0, noisy: false))
    let ddim = try DDIMSampler(chain, eta: 1)
    #expect(step(ddim, 0) == step(ddim, 0, noisy: false))
    #expect(step(DDPMSampler(chain), 1).allSatisfy { $0.isFinite })
  }

  /// v = −1 is `fixed_small`, v = +1 `fixed_large`, and neither is the other.
  @Test(arguments: [1, 2])
  func learnedRangeEndsAtTheFixedVariances(_ index: Int) throws {
    let learned = DDPMSampler(try respaced(.learnedRange))
    let small = step(DDPMSampler(try respaced(.fixedSmall)), index)
    let large = step(DDPMSampler(try respaced(.fixedLarge)), index)
    #expect(relativeError(step(learned, index, v: -1).doubles, small.doubles) < 2e-7)
    #expect(relativeError(step(learned, index, v: 1).doubles, large.doubles) < 2e-7)
    #expect(relativeError(small.doubles, large.doubles) > 1e-4)
  }

  /// η = 1 has DDPM's posterior mean and variance (Song et al. 2021, section 4.1), whatever the variance half holds.
  @Test(arguments: [0, 1, 2])
  func ddimWithFullNoiseIsDDPM(_ index: Int) throws {
    let ddpm = step(DDPMSampler(try respaced()), index)
    let ddim = step(try DDIMSampler(respaced(.learnedRange), eta: 1), index, v: 123)
    let error = relativeError(ddim.doubles, ddpm.doubles)
    #expect(error < 3e-7, "relative error \(error)")
  }

  @Test(arguments: [0, 1, 2])
  func invertingUndoesAStep(_ index: Int) throws {
    let sampler = try DDIMSampler(respaced(), eta: 0)
    let shape = Self.shape
    var random = Random(seed: 14)
    let start = random.normals(shape.count)
    let output = random.normals(shape.count)
    var x = start
    var span = x.mutableSpan
    sampler.invertStep(index, x: &span, shape: shape, output: output.span)
    #expect(span[0] != start[0])
    sampler.step(index, x: &span, shape: shape, output: output.span, noise: Span())
    let error = relativeError(x.doubles, start.doubles)
    // At index 2 x' is multiplied by √(ᾱ/ᾱ') and back: rounding grows by its inverse, about 150.
    #expect(error < 5e-5, "relative error \(error)")
  }

  /// A step moves a sample by its own ε̂ and noise only.
  @Test func samplesOfABatchAreIndependent() throws {
    let sampler = DDPMSampler(try respaced(.learnedRange))
    let one = BatchShape(samples: 1, channels: 2, height: 1, width: 7)
    var random = Random(seed: 6)
    let start = random.normals(3 * 14)
    let output = random.normals(3 * 28)
    let noise = random.normals(3 * 14)
    var batch = start
    var span = batch.mutableSpan
    sampler.step(2, x: &span, shape: Self.shape, output: output.span, noise: noise.span)
    for n in 0..<3 {
      var single = Array(start[n * 14..<(n + 1) * 14])
      var span = single.mutableSpan
      let noise = noise.span.extracting(n * 14..<(n + 1) * 14)
      sampler.step(2, x: &span, shape: one, output: output.span.extracting(n * 28..<(n + 1) * 28), noise: noise)
      #expect(single == Array(batch[n * 14..<(n + 1) * 14]), "sample \(n)")
    }
  }

  @Test func theLoopWalksDownAndReports() throws {
    let sampler = DDPMSampler(try respaced())
    var x = [Float](repeating: 1, count: Self.shape.count)
    var span = x.mutableSpan
    var log: [String] = []
    let done = sampler.sample(
      &span, shape: Self.shape, predict: { _, step, _ in log.append("predict \(step.timestep)") },
      noise: { step, _ in log.append("noise \(step.index)") },
      progress: { step, _ in
        log.append("done \(step.number)/\(step.count)")
        return true
      })
    #expect(done)
    #expect(
      log == [
        "predict 998", "noise 2", "done 1/3", "predict 100", "noise 1", "done 2/3", "predict 4", "done 3/3",
      ])
  }

  @Test func theLoopStopsWhenAsked() throws {
    let sampler = try DDIMSampler(respaced())
    var x = [Float](repeating: 1, count: Self.shape.count)
    var span = x.mutableSpan
    var predictions = 0
    let done = sampler.sample(
      &span, shape: Self.shape, predict: { _, _, _ in predictions += 1 }, noise: { _, _ in },
      progress: { step, _ in step.number < 2 })
    #expect(!done && predictions == 2)
    let inverted = sampler.invert(
      &span, shape: Self.shape, predict: { _, _, _ in predictions += 1 }, progress: { _, _ in false })
    #expect(!inverted && predictions == 3)
  }

  @Test func errorsOfTheNetworkPass() throws {
    let sampler = try DDIMSampler(respaced())
    var x = [Float](repeating: 1, count: Self.shape.count)
    #expect(throws: Stopped.self) {
      var span = x.mutableSpan
      try sampler.sample(&span, shape: Self.shape, predict: { _, _, _ in throw Stopped() }, noise: { _, _ in })
    }
  }

  @Test(arguments: [-0.1, 1.5, .nan, .infinity])
  func impossibleEtaIsRefused(_ eta: Double) throws {
    let chain = try respaced()
    let error = #expect(throws: DiffusionError.self) { try DDIMSampler(chain, eta: eta) }
    #expect(error?.description == "eta: expected 0…1, found \(eta)")
  }

  @Test func ddpmHasNoEta() throws {
    let chain = try respaced()
    #expect(throws: DiffusionError.self) { try SamplerName.ddpm.sampler(on: chain, eta: 0) }
    #expect(try SamplerName.ddpm.sampler(on: chain) is DDPMSampler)
    #expect(try (SamplerName.ddim.sampler(on: chain, eta: 0.5) as? DDIMSampler)?.eta == 0.5)
  }

  @Test func aWrongOutputTraps() async {
    await #expect(processExitsWith: .failure) {
      let chain = try RespacedSchedule(noiseSchedule(.linear, .learnedRange), keeping: [4, 100])
      var x = [Float](repeating: 0, count: 6)
      let output = [Float](repeating: 0, count: 6)  // learned_range needs 12
      var span = x.mutableSpan
      try DDIMSampler(chain).step(
        1, x: &span, shape: BatchShape(samples: 1, channels: 1, height: 2, width: 3), output: output.span,
        noise: Span())
    }
  }
}
