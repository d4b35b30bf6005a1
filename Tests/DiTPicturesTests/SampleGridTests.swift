import DiTDiffusion
import DiTDistributed
import DiTImaging
import DiTKernels
import DiTModel
import DiTPictures
import DiTPipeline
import DiTTensor
import DiTTraining
import TestSupport
import Testing

@Suite("Grids of a model's samples") struct SampleGridTests {
  /// 1×8×8, ten classes.
  private let digits: DiT

  init() throws { digits = try DiT(contentsOf: Fixture.path("digits"), context: ComputeContext(threads: 1)) }

  private func images(_ count: Int, channels: Int = 1) -> Tensor {
    var random = Philox(seed: 4)
    return Tensor(shape: [count, channels, 4, 6], elements: random.normal(count: count * channels * 24))
  }

  @Test("Images are labeled by class name, by number without names, and null is the null class")
  func names() {
    var model = digits.configuration
    model.classNames = nil
    #expect(SampleGrid(model).names([3, 0, 10]) == ["3", "0", "null"])
    model.classNames = (0..<10).map { "class \($0)" }
    #expect(SampleGrid(model).names([3, 10]) == ["class 3", "null"])
  }

  @Test("One row per class; an incomplete last class keeps its row; without labels a compact grid")
  func layout() {
    let (grid, images) = (SampleGrid(digits.configuration, countPerClass: 3), images(6))
    let pictures = Image.pictures(of: images)
    let whole = grid.picture(images, labels: [2, 2, 2, 7, 7, 7])
    #expect(whole == ImageGrid(pictures, classNames: ["2", "7"]).rendered())
    let cut = grid.picture(images.prefix(4), labels: [2, 2, 2, 7])
    #expect(
      cut == ImageGrid(Array(pictures.prefix(4)), columns: 3, group: 3, rowLabels: ["2", "7"]).rendered())
    let bare = grid.picture(images, labels: [])
    #expect(bare == ImageGrid(pictures, columns: ImageGrid.compactColumns(for: 6)).rendered())
  }

  @Test("A collection keeps floats clipped to [−1, 1], or pictures, and adds to them")
  func collection() {
    let images = images(5, channels: 3)
    var floats = ImageCollection(as: .floats)
    floats.append(images.prefix(2))
    floats.append(images.range(2..<5))
    #expect(floats.count == 5 && floats.pictures.isEmpty)
    #expect(floats.tensor == Tensor(shape: [5, 3, 4, 6], elements: images.elements.map { min(1, max(-1, $0)) }))
    let pictures = ImageCollection(images, as: .pictures)
    #expect(pictures.pictures == Image.pictures(of: images) && pictures.count == 5 && pictures.shape == [3, 4, 6])
    let expected = Image(planes: Array(images.elements[72..<144]), channels: 3, height: 4, width: 6)
    #expect(pictures.pictures[1] == expected)
  }

  @Test("A trainer's grid is that of samples from its averaged weights; latents have none")
  func trainerGrid() throws {
    let data = try Dataset(
      Tensor(shape: [6, 1, 4, 6], elements: images(6).elements.map { max(-1, min(1, $0)) }),
      labels: (0..<6).map { $0 % 3 }, name: "data")
    let trainer = try trainer(data)
    for _ in 0..<3 { _ = try trainer.step() }
    let (picture, settings) = try #require(try trainer.sampleGrid(count: 2, software: "test"))
    let dit = try trainer.averagedModel()
    let samples = try dit.sample(.classes([0, 1]), options: dit.samplingOptions)
    #expect(picture == SampleGrid(trainer.model).picture(samples.images, labels: [0, 1]))
    #expect(settings.metadata["Classes"] == "0,1" && settings.metadata["Software"] == "test")
    #expect(settings.metadata["Seed"] == "0" && settings.metadata["Precision"] == "fp32")
    let latent = try DiT(contentsOf: Fixture.path("latent"), context: ComputeContext(threads: 1))
    #expect(digits.configuration.samplesArePixels && !latent.configuration.samplesArePixels)
  }
}

/// Ranks are threads.
@Suite("Grids of a run of several processes") struct SharedGridTests {
  private static func trainer(channels: Int, _ group: any Communicator) throws -> Trainer {
    var network = DiTConfiguration(
      inputHeight: 4, inputWidth: 4, patchSize: 2, inChannels: channels, hiddenSize: 32, depth: 1, numHeads: 2,
      numClasses: 3, learnSigma: false)
    network.classDropoutProb = 0.1
    var training = TrainingConfiguration()
    (training.steps, training.batch, training.virtualRanks, training.warmupSteps) = (4, 6, 3, 1)
    (training.validationModulus, training.emaDecays) = (0, [0.9, 0.5])
    var random = Philox(seed: 4)
    let images = random.normal(count: 6 * channels * 16).map { max(-1, min(1, $0)) }
    let data = try Dataset(
      Tensor(shape: [6, channels, 4, 4], elements: images), labels: (0..<6).map { $0 % 3 },
      kind: channels == 1 ? .images : .latents, name: "data")
    let model = ModelConfiguration(
      network: network, diffusion: DiffusionConfiguration(variance: .fixedLarge))
    return try Trainer(
      model: model, training: training, data: data, context: ComputeContext(threads: 1, workers: 1), group: group)
  }

  @Test(
    "Each process makes its share; the first has the picture of one process, also where there are fewer images than processes"
  )
  func shares() throws {
    let alone = try Self.trainer(channels: 1, SingleProcess())
    _ = try alone.step()
    let expected = try #require(try alone.sampleGrid(count: 2, software: "test"))
    let found = try LocalGroup(3).run { group in
      let trainer = try Self.trainer(channels: 1, group)
      _ = try trainer.step()
      return try trainer.sampleGrid(count: 2, software: "test").map { ($0.picture, $0.settings) }
    }
    #expect(found[0]?.0 == expected.picture && found[0]?.1.metadata == expected.settings.metadata)
    #expect(found[1] == nil && found[2] == nil)
  }

  @Test("A run of latents, which have no grid, goes on at the same step on all")
  func latents() throws {
    let alone = try Self.trainer(channels: 4, SingleProcess())
    for _ in 0..<3 { _ = try alone.step() }
    let expected = alone.weights.array
    let found = try LocalGroup(3).run { group in
      let trainer = try Self.trainer(channels: 4, group)
      for _ in 0..<3 {
        _ = try trainer.step()
        #expect(try trainer.sampleGrid(software: "test") == nil)
      }
      return trainer.weights.array
    }
    for weights in found { #expect(weights == expected) }
  }
}

@Suite("Sampling as it goes") struct SamplingProgressPictureTests {
  private let scratch: Scratch
  private let digits: DiT
  private static let steps = 25

  init() throws {
    scratch = try Scratch()
    digits = try DiT(contentsOf: Fixture.path("digits"), context: ComputeContext(threads: 1))
  }

  private func sample(
    _ dit: DiT, _ classes: [Int], batch: Int? = nil, _ progress: (SamplingProgress) -> Void
  ) throws -> Samples {
    let options = SamplingOptions(
      sampler: Sampler(.ddim, steps: Self.steps), guidance: Guidance(scale: 1), seed: 3, batch: batch)
    return try dit.sample(.classes(classes), options: options) {
      progress($0)
      return true
    }
  }

  @Test("A trajectory holds every step of every sub-batch; its grid ends with the sample")
  func trajectory() throws {
    let times = try digits.process(Sampler(.ddim, steps: Self.steps)).stepTimes
    var trajectory = Trajectory(count: 3, of: digits.configuration, times: times)
    var seen: [Int: [Float]] = [:]
    let samples = try sample(digits, [1, 2, 3], batch: 2) { progress in
      trajectory.record(progress)
      seen[progress.step, default: []] += progress.x.elements
    }
    let (states, timesteps) = (trajectory.tensors(2)[0], trajectory.tensors(3)[1])
    #expect(states.name == "states" && states.shape == [Self.steps, 2, 1, 8, 8] && timesteps.shape == [Self.steps])
    let shown = (1...12).map { Self.steps * $0 / 12 - 1 }
    let images = (0..<3).flatMap { n in
      shown.map { step in
        Image(planes: Array(seen[step + 1]![n * 64..<(n + 1) * 64]), channels: 1, height: 8, width: 8)
      }
    }
    let expected = ImageGrid(
      images, columns: 12, rowLabels: ["a", "b", "c"], columnLabels: shown.map { "t = \(times[$0].index)" })
    #expect(trajectory.grid(3, labels: ["a", "b", "c"]).rendered() == expected.rendered())
    #expect(expected.images[11] == Image.pictures(of: samples.images)[0])
  }

  @Test("The preview shows the first step, then one per interval, and last the samples")
  func preview() throws {
    let path = scratch("p.png")
    var preview = try SamplingPreview(path, for: digits.configuration, software: "test", interval: .seconds(10))
    let start = ContinuousClock.now
    var shown: [Int] = []
    let samples = try sample(digits, [4, 5]) { progress in
      try? scratch.remove("p.png")
      preview.show(progress, now: start + .seconds(3 * progress.step))
      guard let picture = try? Image(contentsOf: path) else { return }
      shown.append(progress.step)
      let expected = progress.step == Self.steps ? progress.x : progress.estimate
      #expect(expected.map { SamplingPreview.picture($0) } == picture, "step \(progress.step)")
    }
    #expect(shown == [1, 5, 9, 13, 17, 21, 25] && preview.problem == nil)
    #expect(try Image(contentsOf: path) == SamplingPreview.picture(samples.images))
  }

  @Test("A preview that cannot be written says why and ends nothing; six channels cannot be shown")
  func failures() throws {
    var preview = try SamplingPreview(scratch("none/p.png"), for: digits.configuration, software: "test")
    _ = try sample(digits, [4]) { preview.show($0) }
    #expect(preview.problem?.contains("none/p.png") == true)
    var model = digits.configuration
    model.network.inChannels = 6
    #expect(throws: DiTError(argument: "preview", expected: "a model of 1, 3 or 4 channels", found: "one of 6")) {
      try SamplingPreview(scratch("p.png"), for: model, software: "test")
    }
  }

  @Test("A latent's colors are a linear map of its four channels")
  func latentColors() {
    let latent: [Float] = [1, 0, 0, 0.5, 0, 1, -1, 0]  // (4, 1, 2): the channels (1, 0, 0, −1) beside (0, ½, 1, 0)
    let planes = LatentColors.planes(latent.span, area: 2)
    let expected: [Float] = [0.5632, -0.1204, 0.4913, 0.4249, 1.0404, 0.3896]  // red, green, blue
    #expect(zip(planes, expected).allSatisfy { abs($0 - $1) < 1e-6 } && planes.count == 6, "\(planes)")
  }
}
