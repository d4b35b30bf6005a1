import DiTDiffusion
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import TestSupport
import Testing

/// Whole runs of small networks of JiT's and pMF's form from given noise (Scripts/fixtures/family_samples.py, which
/// Scripts/check_published.py compares with the families' own sampling code).
@Suite("Samples of JiT's and pMF's form are those of their own code") struct FamilySampleTests {
  static let tolerance = 1e-4
  /// FAMILY:SAMPLER:STEPS:NOISE_SCALE.
  static let runs = [
    "jit:euler:4:1", "jit:heun:4:1", "jit:heun:10:1", "jit:heun:30:1", "jit:euler:50:1", "jit:heun:50:1",
    "jit:euler:4:2",
    "jit:heun:50:2", "pmf:meanflow:1:1", "pmf:meanflow:3:1", "pmf:meanflow:3:2",
  ]

  /// What a family does, each of which a test changes.
  struct Conventions {
    var networkTime: LinearTime
    var timeFloor = 0.05
    var guidance: Guidance
  }

  static let jit = Conventions(
    networkTime: .oneMinusS, guidance: Guidance(scale: 2.9, interval: 0.1...1, ends: .jit))
  static let pmf = Conventions(networkTime: .s, guidance: Guidance(scale: 7.5, interval: 0.1...0.8))

  static func network(_ family: String) -> DiTConfiguration {
    var c = DiTConfiguration(
      inputHeight: 8, inputWidth: 8, patchSize: 2, inChannels: 3, hiddenSize: 24, depth: 3, numHeads: 2, mlpRatio: 4,
      numClasses: 4, learnSigma: false)
    (c.norm, c.mlp, c.mlpHidden, c.qkNorm) = (.rms, .swiglu, 45, true)
    (c.position, c.patchBottleneck, c.inContextTokens, c.inContextStart) = (.sincosRope, 5, 4, 1)
    c.bias.patchBottleneck = false
    guard family == "pmf" else { return c }
    (c.hiddenSize, c.depth, c.numHeads, c.numClasses, c.mlpHidden) = (20, 2, 1, 3, 27)
    (c.position, c.patchBottleneck, c.inContextTokens, c.inContextStart) = (.learnedRope, 7, 0, 0)
    (c.conditioning, c.residualGates) = (.tokens, .vector)
    c.tokenGroups = TokenGroups(classes: 3, omega: 2, tMin: 1, tMax: 1, time: 2)
    c.bias = Biases()
    (c.bias.qkv, c.bias.proj, c.bias.mlp) = (false, false, false)
    return c
  }

  static func model(_ family: String, _ conventions: Conventions? = nil, noiseScale: Double = 1) throws -> DiT {
    let (network, conventions) = (network(family), conventions ?? (family == "jit" ? jit : pmf))
    let table = ParameterTable(network)
    let slices = table.parameters.map { parameter in
      guard parameter.name == "pos_embed", !network.position.isLearned else {
        return FloatSlice(drawnWeights(parameter.name, parameter.shape, seed: 20_261_130))
      }
      let slice = MutableFloatSlice(zeros: parameter.count)
      parameter.initialize(slice, network, seed: 0, stream: 0)
      return slice.reading
    }
    let diffusion = DiffusionConfiguration(
      path: .linear, prediction: .x0, variance: .fixedLarge, networkTime: conventions.networkTime,
      noiseScale: noiseScale, timeFloor: conventions.timeFloor)
    return try DiT(
      configuration: ModelConfiguration(network: network, diffusion: diffusion),
      weights: Weights(table, slices: slices),
      context: ComputeContext(threads: 1, workers: 1, instructionSet: .portable))
  }

  /// How far a run of these conventions is from the fixture's, largest difference.
  static func error(
    _ run: String, against name: String? = nil, _ conventions: Conventions? = nil, sampler: SamplerName? = nil
  ) throws -> Double {
    let words = run.split(separator: ":").map { String($0) }
    let fixture = try Fixture("parts/samples")
    let noiseScale = try #require(Double(words[3]))
    let model = try model(words[0], conventions, noiseScale: noiseScale)
    let named = try #require(SamplerName(rawValue: words[1]))
    let options = SamplingOptions(
      sampler: Sampler(sampler ?? named, steps: Int(words[2])),
      guidance: conventions?.guidance ?? (words[0] == "jit" ? jit : pmf).guidance)
    let start = Tensor(shape: try fixture.shape("noise"), elements: try fixture.floats("noise"))
    let samples = try model.sample(
      .classes(try fixture.integers("labels")), options: options, start: Start(noise: start))
    return zip(samples.images.elements, try fixture.floats(name ?? run)).map { abs(Double($0) - Double($1)) }.max()
      ?? .infinity
  }

  @Test("Given noise, weights and steps, the samples are theirs to 1e-4", arguments: runs)
  func samplesAreTheirs(_ run: String) throws {
    let error = try Self.error(run)
    #expect(error <= Self.tolerance, "\(run) is off by \(error)")
  }

  @Test("Every other convention misses JiT's samples by more than ten times that")
  func othersMiss() throws {
    func missed(_ run: String, _ change: (inout Conventions) -> Void) throws -> Double {
      var conventions = Self.jit
      change(&conventions)
      return try Self.error(run, conventions)
    }
    let errors = [
      ("guidance 2.8", try missed("jit:heun:4:1") { $0.guidance.scale = 2.8 }),
      ("guidance 2.8, 50 steps", try missed("jit:heun:50:1") { $0.guidance.scale = 2.8 }),
      ("t = 1 noise", try missed("jit:heun:4:1") { $0.networkTime = .s }),
      ("a time of 1000", try missed("jit:heun:4:1") { $0.networkTime = .thousandths }),
      ("no floor", try missed("jit:heun:50:1") { $0.timeFloor = 1e-9 }),
      ("closed ends", try missed("jit:heun:10:1") { $0.guidance.ends = .closed }),
      ("guided everywhere", try missed("jit:heun:50:1") { $0.guidance.interval = nil }),
      ("Euler for Heun", try Self.error("jit:heun:50:1", sampler: .euler)),
      ("noise of another scale", try Self.error("jit:heun:50:2", against: "jit:heun:50:1")),
      ("columns first", try Self.error("jit:heun:4:1", against: "jit.columns")),
    ]
    for (name, error) in errors { #expect(error >= 10 * Self.tolerance, "\(name) is off by \(error) alone") }
    // A step of 30 that should be at 0.1 is above it in Float32, and guided: not with an end just above that.
    let late = try missed("jit:heun:30:1") { $0.guidance.interval = 0.10001...1 }
    #expect(late >= 10 * Self.tolerance, "the fourth time of 30 steps is not told apart: \(late)")
  }

  /// Heun's four steps ask at 0, ¼, ¼, ½, ½, ¾, ¾.
  @Test(
    "An evaluation outside the interval is not run twice, each of Heun's two by its own time",
    arguments: [
      (nil, 14), (0.0...1, 14), (0.1...1, 13), (0.25...1, 11), (0.3...0.6, 9), (0.5...0.75, 7), (0.1...0.25, 7),
    ] as [(ClosedRange<Double>?, Int)])
  func guidedRows(_ interval: ClosedRange<Double>?, _ rows: Int) throws {
    let model = try Self.model("jit")
    var evaluated: [Int] = []
    let options = SamplingOptions(
      sampler: Sampler(.heun, steps: 4), guidance: Guidance(scale: 2.9, interval: interval, ends: .jit), batch: 2)
    _ = try model.sample(.classes([0, 1, 2]), options: options) { progress in
      evaluated.append(progress.evaluatedImages)
      return true
    }
    // Two images at once, then the third.
    #expect(evaluated.count == 8 && evaluated[3] == 2 * rows && evaluated[7] == 3 * rows, "\(evaluated)")
  }

  @Test("Every other convention misses pMF's samples by more than ten times that")
  func othersMissPMF() throws {
    func missed(_ change: (inout Conventions) -> Void) throws -> Double {
      var conventions = Self.pmf
      change(&conventions)
      return try Self.error("pmf:meanflow:3:1", conventions)
    }
    let errors = [
      ("ω 6.5", try missed { $0.guidance.scale = 6.5 }),
      ("t_min 0", try missed { $0.guidance.interval = 0...0.8 }),
      ("t_max 0.7", try missed { $0.guidance.interval = 0.1...0.7 }),
      ("lengths in thousandths", try missed { $0.networkTime = .thousandths }),
      ("one step for three", try Self.error("pmf:meanflow:1:1", against: "pmf:meanflow:3:1")),
    ]
    for (name, error) in errors { #expect(error >= 10 * Self.tolerance, "\(name) is off by \(error) alone") }
  }

  // MARK: A network that is told guidance

  @Test("One step leaves the network's own image, and forward's u is that of the step")
  func oneStepIsThePrediction() throws {
    let model = try Self.model("pmf", noiseScale: 2)
    let x = normal([2, 3, 8, 8], seed: 3)
    let step = StepInputs(lengths: [1, 1], scales: [7.5, 7.5], starts: [0.1, 0.1], ends: [0.8, 0.8])
    let noised = Tensor(shape: x.shape, elements: x.elements.map { 2 * $0 })
    let image = try model.predict(images: noised, times: [1, 1], labels: [1, 2], step: step)
    let options = SamplingOptions(sampler: Sampler(.meanflow, steps: 1), guidance: Self.pmf.guidance)
    #expect(try model.sample(.classes([1, 2]), options: options, start: Start(noise: x)).images == image)

    let early = try model.predict(images: noised, times: [0.25, 0.01], labels: [1, 2], step: step)
    #expect(early == image, "t itself is not told")
    let u = model.meanVelocity(of: early, images: noised, times: [0.25, 0.01])
    for i in u.elements.indices {
      let divisor: Float = i < u.elements.count / 2 ? 0.25 : 0.05
      #expect(abs(u.elements[i] - (noised.elements[i] - early.elements[i]) / divisor) < 1e-4)
    }
    var other = step
    other.lengths[1] = 0.5
    let shorter = try model.predict(images: noised, times: [1, 1], labels: [1, 2], step: other)
    let half = image.elements.count / 2
    #expect(shorter.elements.prefix(half) == image.elements.prefix(half))
    #expect(shorter.elements.suffix(half) != image.elements.suffix(half))
  }

  @Test("An interval that is left out is the configuration's; image n does not depend on the batch")
  func standardInterval() throws {
    let model = try Self.model("pmf")
    #expect(model.samplingOptions.sampler == Sampler(.meanflow, steps: 1, schedule: .linspace))
    #expect(model.samplingOptions.guidance == Guidance(scale: 4, interval: 0...1))
    var configuration = model.configuration
    configuration.sampling.guidance = Self.pmf.guidance
    let own = try DiT(configuration: configuration, weights: model.network.weights, context: model.context)
    let start = normal([3, 3, 8, 8], seed: 5)
    func images(_ model: DiT, _ guidance: Guidance, batch: Int? = nil) throws -> Tensor {
      let options = SamplingOptions(sampler: Sampler(.meanflow, steps: 2), guidance: guidance, batch: batch)
      return try model.sample(.classes([0, 1, 2]), options: options, start: Start(noise: start)).images
    }
    let expected = try images(own, Self.pmf.guidance)
    #expect(try images(own, Guidance(scale: 7.5)) == expected)
    #expect(try images(model, Guidance(scale: 7.5)) == images(own, Guidance(scale: 7.5, interval: 0...1)))
    #expect(try images(model, Guidance(scale: 7.5)) != expected)
    #expect(try Difference(images(own, Self.pmf.guidance, batch: 2), expected).relative <= 1e-5)
    // ω = 1 is told too; and the null class needs no guidance of 1.
    let nothing = SamplingOptions(sampler: Sampler(.meanflow, steps: 1), guidance: Guidance(scale: 3))
    #expect(try own.sample(.none(count: 2), options: nothing).labels == [3, 3])
  }

  @Test("What does not fit a network that is told guidance, or one that is not, is refused by name")
  func refusals() throws {
    let (told, plain) = (try Self.model("pmf"), try Self.model("jit"))
    func error(_ model: DiT, _ sampler: SamplerName, _ guidance: Guidance) -> String? {
      let options = SamplingOptions(sampler: Sampler(sampler, steps: 2), guidance: guidance)
      do {
        _ = try model.sample(.classes([0]), options: options)
        return nil
      } catch { return "\(error)" }
    }
    for name in [SamplerName.euler, .heun] {
      #expect(
        error(told, name, Guidance(scale: 2))
          == "sampler: expected meanflow, as token_groups tell the network guidance and a step's length, "
          + "found \(name.rawValue)")
    }
    #expect(error(plain, .meanflow, Guidance(scale: 2))?.hasPrefix("sampler: expected another one") == true)
    for (guidance, key) in [
      (Guidance(scale: 0.99), "guidance: expected a finite ω"),
      (Guidance(scale: .infinity), "guidance: expected a finite"),
      (Guidance(scale: 2, interval: 0.1...1.1), "guidance_interval: expected times in 0…1"),
      (Guidance(scale: 2, interval: -0.1...1), "guidance_interval: expected times in 0…1"),
      (Guidance(scale: 2, channels: 2), "guidance_channels: expected none"),
    ] {
      #expect(error(told, .meanflow, guidance)?.hasPrefix(key) == true, "\(guidance)")
    }
    #expect(error(told, .meanflow, Guidance(scale: 1, interval: 0...1)) == nil)

    let x = normal([1, 3, 8, 8], seed: 1)
    func refused(_ model: DiT, _ step: StepInputs?) -> String? {
      do {
        _ = try model.predict(images: x, times: [1], labels: [0], step: step)
        return nil
      } catch { return "\(error)" }
    }
    let good = StepInputs(lengths: [1], scales: [2], starts: [0], ends: [1])
    #expect(refused(told, good) == nil)
    #expect(refused(told, nil)?.hasPrefix("h: expected a step's length") == true)
    #expect(refused(plain, good)?.hasPrefix("h: expected none") == true)
    for (name, edit) in [
      ("h", { $0.lengths = [1.5] }), ("h", { $0.lengths = [] }), ("w", { $0.scales = [0.5] }),
      ("w", { $0.scales = [.infinity] }), ("w", { $0.scales = [] }), ("t_min", { $0.starts = [-1] }),
      ("t_max", { $0.ends = [.nan] }), ("t_max", { $0.ends = [1, 1] }),
    ] as [(String, (inout StepInputs) -> Void)] {
      var step = good
      edit(&step)
      #expect(refused(told, step)?.hasPrefix("\(name): expected ") == true, "\(step)")
    }
    // Neither losses nor runs backwards tell a network more than its time.
    for attempt in [
      { _ = try told.invert(x, classes: [0]) },
      { _ = try told.loss(clean: x, times: [0.5], labels: [0], noise: x) },
    ] as [() throws -> Void] {
      let error = #expect(throws: DiTError.self) { try attempt() }
      #expect(error?.name == "token_groups" && error?.found == "4 numbers for each image")
    }
  }
}
