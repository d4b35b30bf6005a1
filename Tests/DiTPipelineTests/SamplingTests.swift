import DiTDiffusion
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Testing

@Suite("Sampling") struct SamplingTests {
  static let ancestral = SamplingOptions(
    sampler: Sampler(.ddpm, steps: 6), guidance: Guidance(scale: 2.5, interval: 200...800), seed: 5)

  /// The model of the fixtures: its images keep the size of images.
  func digits(threads: Int = 1) throws -> DiT {
    try DiT(contentsOf: networkFixture("digits"), context: ComputeContext(threads: threads, workers: threads))
  }

  /// 50 steps of DDIM without guidance.
  func plain(seed: UInt64) -> SamplingOptions {
    SamplingOptions(sampler: Sampler(.ddim, steps: 50), guidance: Guidance(scale: 1), seed: seed)
  }

  func image(_ samples: Samples, _ index: Int) -> Tensor {
    let shape = Array(samples.images.shape.dropFirst())
    let size = shape.reduce(1, *)
    return Tensor(shape: shape, elements: Array(samples.images.elements[index * size..<(index + 1) * size]))
  }

  /// Image n depends on (seed, n): bit for bit where OpenBLAS has AVX-512 kernels, else to rounding.
  @Test("Image n depends on the seed and n, not on the batch", arguments: [SamplerName.ddim, .ddpm])
  func imagesDoNotDependOnTheBatch(name: SamplerName) throws {
    let model = try digits()
    var options = Self.ancestral
    options.sampler.name = name
    options.sampler.eta = name == .ddim ? 0.7 : nil
    let classes = [3, 1, 4, 1, 5, 9, 2]
    let whole = try model.sample(.classes(classes), options: options)
    options.batch = 3
    let parts = try model.sample(.classes(classes), options: options)
    let fewer = try model.sample(.classes(Array(classes.prefix(5))), options: options)
    let alone = try model.sample(.classes([3]), options: options)
    let differences = [
      Difference(parts.images, whole.images), Difference(image(fewer, 4), image(whole, 4)),
      Difference(image(alone, 0), image(whole, 0)),
    ]
    let isExact = ["Cooperlake", "SkylakeX", "SapphireRapids"].contains(BLASReport.current.core)
    for difference in differences { #expect(difference.relative <= (isExact ? 0 : 1e-4), "\(difference)") }
    #expect(Difference(image(whole, 1), image(whole, 3)).relative > 0.1, "two images of one class must differ")
    options.seed = 6
    let other = try model.sample(.classes([3]), options: options)
    #expect(Difference(image(other, 0), image(whole, 0)).relative > 0.1, "the seed must matter")
  }

  @Test("The start noise is the Philox stream of seed and image index")
  func startNoiseIsTheStream() throws {
    let model = try digits()
    var options = SamplingOptions(sampler: Sampler(.ddpm, steps: 3), guidance: Guidance(scale: 1), seed: 11)
    let drawn = try model.sample(.classes([0, 1, 2]), options: options)
    let noise = (0..<3).flatMap { n -> [Float] in
      var random = Philox(seed: 11, stream: UInt64(n))
      return random.normal(count: 64)
    }
    let start = Tensor(shape: [3, 1, 8, 8], elements: noise)
    #expect(try model.sample(.classes([0, 1, 2]), options: options, start: Start(noise: start)) == drawn)
    options.seed = 12
    #expect(
      try model.sample(.classes([0, 1, 2]), options: options, start: Start(noise: start)) != drawn,
      "later noise has the seed")
  }

  @Test("Samples and gradients are the same bytes at any number of threads")
  func sameBytesAtAnyThreadCount() throws {
    let classes = [0, 1, 2, 3, 4]
    let one = try digits(threads: 1).sample(.classes(classes), options: Self.ancestral)
    let two = try digits(threads: 2).sample(.classes(classes), options: Self.ancestral)
    let three = try digits(threads: 3).sample(.classes(classes), options: Self.ancestral)
    #expect(one == two && one == three)
    let gradients = try [1, 2].map { threads in
      try randomModel(smallNetwork, threads: threads).lossAndGradients(
        clean: normal([3, 3, 6, 10], seed: 1), times: [0, 500, 999], labels: [0, 4, 2],
        noise: normal([3, 3, 6, 10], seed: 2)
      ).flat.array
    }
    #expect(gradients[0] == gradients[1])
  }

  @Test("Guidance 1 is the conditional pass, and intervals switch guidance on and off")
  func guidanceOneIsTheConditionalPass() throws {
    let model = try digits()
    let sampler = Sampler(.ddim, steps: 4)
    func sample(_ guidance: Guidance) throws -> Samples {
      try model.sample(.classes([3, 7]), options: SamplingOptions(sampler: sampler, guidance: guidance, seed: 1))
    }
    // By hand, from single predictions.
    var x = try #require(try sample(Guidance(scale: 1)).images.elements.isEmpty ? nil : startNoise(2, 64, seed: 1))
    let process = try DDIMSampler(RespacedSchedule(model.schedule, .linspace, count: 4))
    for (evaluation, time) in process.evaluations.enumerated() {
      let t = time.value
      let output = try model.predict(
        images: Tensor(shape: [2, 1, 8, 8], elements: x), times: [t, t], labels: [3, 7])
      var span = x.mutableSpan
      var memory = MutableSpan<Float>()
      process.advance(
        evaluation, x: &span, shape: BatchShape(samples: 2, channels: 1, height: 8, width: 8),
        output: output.elements.span, noise: Span(), memory: &memory)
    }
    let expected = Tensor(shape: [2, 1, 8, 8], elements: x)
    let plain = try sample(Guidance(scale: 1)).images
    #expect(Difference(plain, expected).relative <= 1e-5, "\(Difference(plain, expected))")
    #expect(try sample(Guidance(scale: 3, interval: 1000...2000)).images == plain, "an interval without steps")
    #expect(try sample(Guidance(scale: 3, interval: 0...999)) == sample(Guidance(scale: 3)))
    #expect(try sample(Guidance(scale: 3, interval: 300...400)) != sample(Guidance(scale: 3)))
    #expect(try Difference(sample(Guidance(scale: 3)).images, plain).relative > 1e-3)
  }

  private func startNoise(_ count: Int, _ size: Int, seed: UInt64) -> [Float] {
    (0..<count).flatMap { n -> [Float] in
      var random = Philox(seed: seed, stream: UInt64(n))
      return random.normal(count: size)
    }
  }

  /// Scale 0 is the null class's image.
  @Test("Guidance 0 samples the null class")
  func guidanceZeroIsTheNullClass() throws {
    let model = try digits()
    let sampler = Sampler(.ddim, steps: 4)
    let zero = try model.sample(
      .classes([3, 7]), options: SamplingOptions(sampler: sampler, guidance: Guidance(scale: 0), seed: 1))
    let null = try model.sample(
      .none(count: 2), options: SamplingOptions(sampler: sampler, guidance: Guidance(scale: 1), seed: 1))
    #expect(null.labels == [10, 10])
    #expect(Difference(zero.images, null.images).relative <= 1e-4, "\(Difference(zero.images, null.images))")
  }

  @Test("Unconditional models are sampled by count and refuse classes")
  func unconditionalModelsAreSampledByCount() throws {
    let model = try DiT(contentsOf: networkFixture("unconditional"))
    #expect(model.samplingOptions.guidance.scale == 1)
    let options = SamplingOptions(sampler: Sampler(.ddpm, steps: 3), guidance: Guidance(scale: 1))
    let samples = try model.sample(.none(count: 4), options: options)
    #expect(samples.images.shape == [4, 2, 3, 5] && samples.labels.isEmpty)
    let error = #expect(throws: DiTError.self) { try model.sample(.classes([0]), options: options) }
    #expect(error?.argument == "classes")
  }

  @Test("Progress counts images and steps, and returning false stops with what there is")
  func progressCountsAndStops() throws {
    let model = try digits()
    let options = SamplingOptions(sampler: Sampler(.ddim, steps: 4), guidance: Guidance(scale: 1), seed: 3, batch: 2)
    var seen: [String] = []
    let whole = try model.sample(.classes([0, 1, 2]), options: options) {
      seen.append(
        "\($0.images) \($0.step)/\($0.steps) t=\($0.time.index) \($0.completedSteps)/\($0.totalSteps) of \($0.count)")
      return true
    }
    #expect(
      seen == [
        "0..<2 1/4 t=999 1/8 of 3", "0..<2 2/4 t=666 2/8 of 3", "0..<2 3/4 t=333 3/8 of 3", "0..<2 4/4 t=0 4/8 of 3",
        "2..<3 1/4 t=999 5/8 of 3", "2..<3 2/4 t=666 6/8 of 3", "2..<3 3/4 t=333 7/8 of 3", "2..<3 4/4 t=0 8/8 of 3",
      ])
    #expect(whole.isComplete && whole.labels == [0, 1, 2])
    var last: Tensor?
    let stopped = try model.sample(.classes([0, 1, 2]), options: options) { progress in
      last = progress.x
      return progress.completedSteps < 2
    }
    #expect(!stopped.isComplete)
    #expect(Array(stopped.images.elements.prefix(128)) == last?.elements, "as they were at the stop")
    #expect(Array(stopped.images.elements.suffix(64)) == Array(startNoise(3, 64, seed: 3).suffix(64)))

    struct Interruption: Error {}
    #expect(throws: Interruption.self) {
      try model.sample(.classes([0]), options: options) { _ in throw Interruption() }
    }
  }

  /// The modulation is computed for chunks of steps (of 1, 2 and all 5 here): their length must not show.
  @Test("Modulation tables of any chunk length give each step's own modulation", arguments: [1, 20_000, 1 << 28])
  func modulationTablesHoldEveryStep(maximumBytes: Int) throws {
    let model = try randomModel(smallNetwork)
    let times = [999, 512, 77, 33, 0].map { NetworkTime($0) }
    let table = ModulationTable(
      model.network, inputs: times.map(\.value), labels: [0, 2, 4], maximumBytes: maximumBytes)
    for (evaluation, time) in times.enumerated().reversed() {
      let row = table.row(ofEvaluation: evaluation)
      let direct = Modulation(
        smallNetwork, rows: 3, values: MutableFloatSlice(zeros: Modulation.elements(smallNetwork, rows: 3)))
      model.network.modulate(
        times: [Float](repeating: time.value, count: 3), labels: [0, 2, 4], into: direct)
      let copied = Modulation(
        smallNetwork, rows: 3, values: MutableFloatSlice(zeros: Modulation.elements(smallNetwork, rows: 3)))
      copied.copyRows([row, row + 1, row + 2], from: table.modulation)
      let x = normal([3, 3, 6, 10], seed: 4)
      let outputs = [direct, copied].map { modulation -> Tensor in
        let workspace = InferenceWorkspace(model.network, samples: 3)
        let output = MutableFloatSlice(zeros: 3 * smallNetwork.outputElements)
        model.network.forward(
          output: output.mutableSpan, images: x.elements.span, modulation: modulation, samples: 3,
          workspace: workspace)
        return Tensor(shape: [output.count], elements: output.array)
      }
      #expect(
        Difference(outputs[1], outputs[0]).relative <= 1e-5,
        "evaluation \(evaluation): \(Difference(outputs[1], outputs[0]))")
    }
  }

  /// Many small steps: running backwards and forwards again comes back.
  @Test("Inversion is undone by sampling with the same steps")
  func invertingIsUndoneBySampling() throws {
    let model = try digits()
    let options = SamplingOptions(sampler: Sampler(.ddim, steps: 200), guidance: Guidance(scale: 1), batch: 2)
    let images = try model.sample(.classes([3, 8, 1]), options: plain(seed: 2)).images
    let noise = try model.invert(images, classes: [3, 8, 1], options: options)
    #expect(noise.isComplete)
    let again = try model.sample(.classes([3, 8, 1]), options: options, start: Start(noise: noise.images))
    let difference = Difference(again.images, images)
    #expect(difference.relative <= 0.05, "\(difference)")
    #expect(Difference(noise.images, images).relative > 0.3, "noise is not the image")
    let byDefault = try model.invert(images)
    #expect(byDefault.labels == [10, 10, 10])
    let short = try model.invert(
      images, classes: nil, options: SamplingOptions(sampler: Sampler(.ddim, steps: 10), guidance: Guidance(scale: 1)))
    #expect(byDefault == short, "config.json says 10 steps, linspace")
  }

  @Test("Concurrent sampling with one model gives the same samples")
  func severalThreadsShareAModel() async throws {
    let model = try digits(threads: 2)
    let expected = try (0..<4).map { try model.sample(.classes([$0]), options: plain(seed: UInt64($0))) }
    let found = try await withThrowingTaskGroup(of: (Int, Samples).self) { group in
      for index in 0..<4 {
        group.addTask { (index, try model.sample(.classes([index]), options: plain(seed: UInt64(index)))) }
      }
      return try await group.reduce(into: [Int: Samples]()) { $0[$1.0] = $1.1 }
    }
    for index in 0..<4 { #expect(found[index] == expected[index]) }
  }

  @Test("The documented call with classes, guidance, sampler and progress works")
  func documentedCallSite() throws {
    let model = try digits()
    var options = model.samplingOptions
    options.sampler = Sampler(.ddim, steps: 20, schedule: .trailing)
    options.guidance = Guidance(scale: 4, interval: 100...700)
    let samples = try model.sample(.classes([2, 3]), options: options) { progress in progress.step < 15 }
    #expect(!samples.isComplete && samples.images.shape == [2, 1, 8, 8])
    #expect(try model.sample(.classes([2])) == model.sample(.classes([2]), options: model.samplingOptions))
  }

  @Test("A sampler that does not say which steps are kept keeps the model's, but for a list, whose steps are counted")
  func modelsOwnSchedule() throws {
    let plain = try digits()
    var configuration = plain.configuration
    for (schedule, expected) in [
      (StepSchedule.leading, StepSchedule.leading), (.trailing, .trailing), (.custom([0, 500, 999]), .linspace),
    ] {
      configuration.sampling.sampler = Sampler(.ddpm, steps: 3, schedule: schedule)
      let model = try DiT(configuration: configuration, weights: plain.network.weights, context: plain.context)
      let times = try model.stepTimes(Sampler(.ddim, steps: 10))
      #expect(try times == plain.stepTimes(Sampler(.ddim, steps: 10, schedule: expected)), "\(schedule)")
    }
    #expect("\(plain)".hasPrefix("DiT of 1×8×8, 10 classes, ") && !"\(plain)".contains("\n"))
  }

  /// Every kind of random number: the start, and a step's noise.
  @Test("A share of a run's images are those of the whole run, bit for bit; torch's generator has no shares")
  func shares() throws {
    let model = try digits()
    let classes = [3, 1, 4, 1, 5, 9, 2]
    let whole = try model.sample(.classes(classes), options: Self.ancestral)
    for count in [2, 3] {
      for index in 0..<count {
        var options = Self.ancestral
        options.share = ImageShare(index: index, of: count)
        let numbers = options.share.numbers(of: classes.count)
        let part = try model.sample(.classes(numbers.map { classes[$0] }), options: options)
        for (place, number) in numbers.enumerated() {
          #expect(Difference(image(part, place), image(whole, number)).relative < 1e-5, "\(number)")
        }
        #expect(part.labels == numbers.map { whole.labels[$0] })
      }
    }
    var torch = Self.ancestral
    (torch.random, torch.share) = (.torch, ImageShare(index: 0, of: 2))
    let error = #expect(throws: DiTError.self) { try model.sample(.classes([1]), options: torch) }
    #expect(error?.option == "rng")
    let read = ["0/1", "2/3", "3/3", "-1/2", "1/0", "1", "1/2/3", "", "a/b", " 1/2"].map { ImageShare($0) }
    #expect(read == [.whole, ImageShare(index: 2, of: 3)] + [ImageShare?](repeating: nil, count: 8))
  }

  @Test("Wrong sampling options are refused by name")
  func wrongOptionsAreNamed() throws {
    let model = try digits()
    let noNull = try DiT(contentsOf: networkFixture("nonull"))
    func message(_ model: DiT, _ classes: [Int], _ options: SamplingOptions, start: Tensor? = nil) -> String {
      do {
        _ = try model.sample(.classes(classes), options: options, start: Start(noise: start))
        return "accepted"
      } catch {
        return "\(error)"
      }
    }
    func options(_ steps: Int = 4, _ guidance: Guidance = .init(scale: 1), eta: Double? = nil) -> SamplingOptions {
      SamplingOptions(sampler: Sampler(.ddim, steps: steps, eta: eta), guidance: guidance)
    }
    #expect(message(model, [10], options()) == "classes: expected 0…9, found 10")
    #expect(message(model, [-1], options()) == "classes: expected 0…9, found -1")
    #expect(message(model, [], options()) == "count: expected at least one image, found 0")
    #expect(message(model, [1], options(0)) == "steps: expected 1…1000, found 0")
    #expect(message(model, [1], options(-3)) == "steps: expected 1…1000, found -3")
    #expect(message(model, [1], options(1001)) == "steps: expected 1…1000, found 1001")
    #expect(message(model, [1], options(4, .init(scale: .nan))) == "guidance: expected a finite scale, found nan")
    #expect(message(model, [1], options(4, .init(scale: 2, channels: 2))) == "guidance_channels: expected 1…1, found 2")
    #expect(message(model, [1], options(eta: 1.5)) == "eta: expected 0…1, found 1.5")
    #expect(
      message(noNull, [1], options(4, .init(scale: 2)))
        == "guidance: expected 1, as the model has no null class, found 2.0")
    #expect(message(noNull, [1], options(2)) == "accepted")
    #expect(
      message(model, [1], options(), start: Tensor(zeros: [2, 1, 8, 8]))
        == "noise: expected shape [1, 1, 8, 8], found [2, 1, 8, 8]")
    var batch = options()
    batch.batch = 0
    #expect(message(model, [1], batch) == "batch: expected at least 1, found 0")

    let images = Tensor(zeros: [1, 1, 8, 8])
    let ddpm = SamplingOptions(sampler: Sampler(.ddpm, steps: 4), guidance: Guidance(scale: 1))
    let cases: [(DiTError.Part, () throws -> Void)] = [
      (.argument("classes"), { _ = try noNull.sample(.none(count: 1), options: options()) }),
      (.argument("count"), { _ = try model.sample(.none(count: 0), options: options()) }),
      (.option("guidance"), { _ = try model.sample(.none(count: 1), options: options(4, .init(scale: 2))) }),
      (.option("sampler"), { _ = try model.invert(images, classes: [1], options: ddpm) }),
      (.option("eta"), { _ = try model.invert(images, classes: [1], options: options(eta: 0.5)) }),
      (.argument("classes"), { _ = try model.invert(images, classes: [11], options: options()) }),
      (.argument("images"), { _ = try model.invert(Tensor(zeros: [1, 1, 8, 9]), classes: [1], options: options()) }),
    ]
    for (part, call) in cases {
      let error = #expect(throws: DiTError.self) { try call() }
      #expect(error?.subject.part == part && error?.exitStatus == 64, "\(error.map { "\($0)" } ?? "")")
    }
  }
}
