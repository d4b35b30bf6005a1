import DiTDiffusion
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import TestSupport
import Testing

/// Whole runs and losses of small networks of SiT's, REPA's and LightningDiT's form (Scripts/fixtures/transport.py, which
/// Scripts/check_published.py compares with the families' own code).
@Suite("Samples and losses of SiT, REPA and LightningDiT are those of their own code") struct TransportSampleTests {
  private static let tolerance = 1e-4
  /// What each run of the fixture is made with, beyond its family's own sampling.
  private static let runs: [(name: String, sampler: Sampler, guidance: Guidance)] = {
    let (sit, repa) = (Guidance(scale: 1.5), Guidance(scale: 1.8, interval: 0...0.7, ends: .closedByStep))
    func sampler(
      _ name: SamplerName, _ steps: Int, shift: Double = 1, corrects: Bool = false, tolerance: StepTolerance? = nil
    ) -> Sampler {
      var sampler = Sampler(name, steps: steps)
      (sampler.shift, sampler.correctsLastStep, sampler.tolerance) = (shift, corrects, tolerance)
      return sampler
    }
    return [
      ("sit:euler", sampler(.euler, 5), sit), ("sit:euler3", sampler(.euler, 5), Guidance(scale: 4, channels: 3)),
      ("sit:heun", sampler(.heun, 4, corrects: true), sit), ("sit:sde", sampler(.sde, 6), sit),
      ("sit:dopri5", sampler(.dopri5, 50), sit),
      (
        "sit:dopri5x", sampler(.dopri5, 50, tolerance: StepTolerance(relative: 1e-5, absolute: 1e-5)),
        Guidance(scale: 1)
      ),
      ("repa:euler", sampler(.euler, 10), repa), ("repa:heun", sampler(.heun, 10), repa),
      ("repa:sde", sampler(.sde, 13), repa),
      (
        "lightningdit:euler", sampler(.euler, 9, shift: 0.3),
        Guidance(scale: 6.7, interval: 0.125...1, channels: 3)
      ),
    ]
  }()

  private static func network(_ family: ModelFamily) -> DiTConfiguration {
    var c = DiTConfiguration(
      inputHeight: 8, inputWidth: 8, patchSize: 2, inChannels: 4, hiddenSize: 24, depth: 2, numHeads: 2, mlpRatio: 4,
      numClasses: 4, learnSigma: family == .sit)
    guard family == .lightningdit else { return c }
    (c.inputHeight, c.inputWidth, c.patchSize, c.inChannels) = (4, 4, 1, 5)
    (c.norm, c.mlp, c.position) = (.rms, .swiglu, .sincosRope)
    return c
  }

  private static func family(_ run: String) throws -> ModelFamily {
    try #require(run.split(separator: ":").first.flatMap { ModelFamily(rawValue: String($0)) })
  }

  /// - Parameters:
  ///   - isSmooth: whether the output layer is an eighth, as in the adaptive runs.
  ///   - process: nil is the family's.
  private static func model(
    _ family: ModelFamily, isSmooth: Bool = false, process: DiffusionConfiguration? = nil
  ) throws -> DiT {
    let network = network(family)
    let table = ParameterTable(network)
    let slices = table.parameters.map { parameter in
      guard parameter.name != "pos_embed" else {
        let slice = MutableFloatSlice(zeros: parameter.count)
        parameter.initialize(slice, network, seed: 0, stream: 0)
        return slice.reading
      }
      let factor: Float = isSmooth && parameter.name.hasPrefix("final_layer.linear.") ? 0.125 : 1
      return FloatSlice(drawnWeights(parameter.name, parameter.shape, seed: 20_261_129).map { factor * $0 })
    }
    return try DiT(
      configuration: ModelConfiguration(network: network, diffusion: process, family: family),
      weights: Weights(table, slices: slices),
      context: ComputeContext(threads: 1, workers: 1, instructionSet: .portable))
  }

  private static func fixture() throws -> Fixture { try Fixture("parts/transport") }

  /// A run from the fixture's noise, the noise of an SDE's steps included.
  private static func sample(_ model: DiT, _ family: ModelFamily, _ options: SamplingOptions) throws -> [Float] {
    let (fixture, c) = (try fixture(), model.configuration.network)
    let (noise, labels) = (
      try fixture.floats("\(family.rawValue).noise"), try fixture.integers("\(family.rawValue).labels")
    )
    let start = Tensor(shape: [2, c.inChannels, c.inputHeight, c.inputWidth], elements: noise)
    guard options.sampler.name == .sde else {
      return try model.sample(.classes(labels), options: options, start: Start(noise: start)).images.elements
    }
    let (process, noises) = (
      try model.process(options.sampler), try fixture.floats("\(family.rawValue).noises")
    )
    var x = noise
    var elements = x.mutableSpan
    let shape = BatchShape(
      samples: 2, channels: c.inChannels, height: c.inputHeight, width: c.inputWidth)
    try process.run(&elements, shape: shape, model, labels, options.guidance, noises)
    return x
  }

  /// How far a run is from the fixture's, largest difference.
  private static func error(
    _ name: String, _ change: (inout Sampler, inout Guidance) -> Void = { _, _ in },
    process: DiffusionConfiguration? = nil
  ) throws -> Double {
    var run = try #require(runs.first { $0.name == name })
    change(&run.sampler, &run.guidance)
    let family = try family(name)
    let model = try model(family, isSmooth: run.sampler.name == .dopri5, process: process)
    let found = try sample(model, family, SamplingOptions(sampler: run.sampler, guidance: run.guidance))
    return zip(found, try fixture().floats(name)).map { abs(Double($0) - Double($1)) }.max() ?? .infinity
  }

  @Test("Given noise, weights and steps, the samples are theirs to 1e-4", arguments: runs.map(\.name))
  func samplesAreTheirs(_ run: String) throws {
    let error = try Self.error(run)
    #expect(error <= Self.tolerance, "\(run) is off by \(error)")
  }

  @Test("Every other convention misses by more than ten times that")
  func othersMiss() throws {
    var reversed = DiffusionConfiguration(
      path: .linear, prediction: .velocity, variance: .learnedRange, networkTime: .s)
    let misses: [(String, Double)] = [
      ("sit, time reversed", try Self.error("sit:euler", process: reversed)),
      ("sit, guidance on three channels", try Self.error("sit:euler") { $1.channels = 3 }),
      ("sit, guidance on four channels", try Self.error("sit:euler3") { $1.channels = 4 }),
      ("sit, the last step Euler's", try Self.error("sit:heun") { sampler, _ in sampler.correctsLastStep = false }),
      ("sit, a shift", try Self.error("sit:euler") { sampler, _ in sampler.shift = 0.3 }),
      ("lightningdit, no shift", try Self.error("lightningdit:euler") { sampler, _ in sampler.shift = 1 }),
      (
        "lightningdit, diffusers' shift", try Self.error("lightningdit:euler") { sampler, _ in sampler.shift = 1 / 0.3 }
      ),
      ("lightningdit, all channels", try Self.error("lightningdit:euler") { $1.channels = nil }),
      ("lightningdit, guided everywhere", try Self.error("lightningdit:euler") { $1.interval = nil }),
      ("repa, Heun's second evaluation by its own time", try Self.error("repa:heun") { $1.ends = .closed }),
      ("repa, guided everywhere", try Self.error("repa:sde") { $1.interval = nil }),
    ]
    reversed.variance = .fixedLarge
    reversed.networkTime = .oneMinusS
    let other = try Self.error("repa:euler", process: reversed)
    for (name, error) in misses + [("repa, time reversed", other)] {
      #expect(error >= 10 * Self.tolerance, "\(name) is off by \(error) alone")
    }
  }

  @Test("dopri5 asks as often as torchdiffeq, image by image, and image n does not depend on the others")
  func adaptiveSteps() throws {
    let (model, fixture) = (try Self.model(.sit, isSmooth: true), try Self.fixture())
    let start = Tensor(shape: [2, 4, 8, 8], elements: try fixture.floats("sit.noise"))
    let labels = try fixture.integers("sit.labels")
    var last = SamplingProgressRecord()
    func run(_ options: SamplingOptions, _ images: Range<Int>) throws -> Tensor {
      last = SamplingProgressRecord()
      let part = Tensor(
        shape: [images.count, 4, 8, 8],
        elements: Array(start.elements[images.lowerBound * 256..<images.upperBound * 256]))
      return try model.sample(.classes(Array(labels[images])), options: options, start: Start(noise: part)) {
        progress in
        last.steps.append(progress.step)
        last.evaluated = progress.evaluatedImages
        last.estimates.append(progress.estimate)
        return true
      }.images
    }
    for (name, sampler, guidance) in Self.runs where sampler.name == .dopri5 {
      let options = SamplingOptions(sampler: sampler, guidance: guidance)
      let both = try run(options, 0..<2)
      let asked = try fixture.integers("\(name).evaluations").reduce(0, +) * (guidance.scale == 1 ? 1 : 2)
      #expect(last.evaluated == asked, "\(name): \(last.evaluated) evaluations of \(asked)")
      #expect(last.steps.last == 50 && last.steps == last.steps.sorted() && Set(last.steps).count == last.steps.count)
      #expect(try run(options, 1..<2).elements == Array(both.elements.suffix(256)))
      // The end of an interval is also that of a last step which goes beyond it.
      var everywhere = options
      everywhere.guidance.interval = 0...1
      #expect(try run(everywhere, 1..<2).elements == Array(both.elements.suffix(256)))
      // At the end the clean image is the sample.
      let estimate = try #require(last.estimates.last ?? nil)
      #expect(zip(estimate.elements, both.elements.suffix(256)).allSatisfy { abs($0 - $1) < 1e-6 })
    }
  }

  /// What a run has reported.
  private struct SamplingProgressRecord {
    var steps: [Int] = []
    var evaluated = 0
    var estimates: [Tensor?] = []
  }

  @Test("A tolerance that float32 cannot keep, and settings that a sampler has not, are refused by name")
  func refusals() throws {
    let model = try Self.model(.sit)
    func error(_ name: SamplerName, steps: Int = 4, _ change: (inout Sampler) -> Void) -> String? {
      var sampler = Sampler(name, steps: steps)
      change(&sampler)
      do {
        _ = try model.sample(.classes([0]), options: SamplingOptions(sampler: sampler, guidance: Guidance(scale: 1)))
        return nil
      } catch { return "\(error)" }
    }
    #expect(
      error(.dopri5) { $0.tolerance = StepTolerance(relative: 0, absolute: 1e-12) }?.hasPrefix("tolerance: ") == true)
    #expect(error(.dopri5) { $0.tolerance = StepTolerance(relative: 2, absolute: 1) }?.contains("RTOL in 0…1") == true)
    #expect(
      error(.euler) { $0.tolerance = .standard } == "tolerance: expected none with the sampler euler, found 0.001,1e-06"
    )
    #expect(error(.sde) { $0.shift = 0.3 } == "shift: expected none with the sampler sde, found 0.3")
    #expect(error(.dopri5) { $0.shift = 0.3 } == "shift: expected none with the sampler dopri5, found 0.3")
    #expect(error(.euler) { $0.shift = 0 } == "shift: expected 0.001 to 1000, found 0.0")
    #expect(error(.sde, steps: 1) { _ in } == "steps: expected 2…1000, found 1")
    #expect(error(.sde, steps: 2) { _ in } == nil)
    #expect(throws: DiTError.self) { try model.process(Sampler(.dopri5, steps: 4)) }
    #expect(try model.stepTimes(Sampler(.dopri5, steps: 4)).map(\.value) == [0.25, 0.5, 0.75, 1])
    #expect(
      error(.ddim) { _ in }?.contains("euler, heun, sde, dopri5, meanflow, as the model's path is linear") == true)
    let chain = try NoiseSchedule(DiffusionConfiguration())
    let onBeta = #expect(throws: DiTError.self) {
      try SamplerName.euler.process(on: chain, .linspace, count: 5, options: FlowOptions(shift: 0.3))
    }
    #expect(onBeta?.description == "shift: expected none, as the model's path is beta, found 0.3")
    for word in ["1e-3", "1e-3,1e-6,1", "a,b", "-1,1e-6", "1e-3,0", "nan,1e-6"] {
      #expect(throws: DiTError.self, "\(word)") { try StepTolerance(parsing: word) }
    }
    #expect(try StepTolerance(parsing: "1e-3,1e-6") == .standard)
  }

  // MARK: Losses

  @Test(
    "The loss and all its gradients are their program's, at both ends of time and for a dropped label",
    arguments: [ModelFamily.sit, .lightningdit])
  func losses(_ family: ModelFamily) throws {
    let (fixture, name) = (try Self.fixture(), "\(family.rawValue).loss")
    func gradients(_ model: DiT) throws -> LossGradients {
      let shape = try fixture.shape("\(name).x0")
      return try model.lossAndGradients(
        clean: Tensor(shape: shape, elements: fixture.floats("\(name).x0")), times: fixture.floats("\(name).t"),
        labels: fixture.integers("\(name).y"), noise: Tensor(shape: shape, elements: fixture.floats("\(name).noise")))
    }
    func difference(_ values: [Double], _ key: String) throws -> Difference {
      Difference(
        Tensor(shape: [values.count], elements: values.map(Float.init)),
        Tensor(shape: [values.count], elements: try fixture.floats("\(name).\(key)")))
    }
    let model = try Self.model(family)
    let found = try gradients(model)
    #expect(try difference(found.report.losses.map(\.loss), "loss").relative <= 1e-5)
    #expect(try difference(found.report.losses.map(\.mse), "mse").relative <= 1e-5)
    if family == .lightningdit {
      #expect(try difference(found.report.losses.compactMap(\.cosine), "cosine").relative <= 1e-5)
    } else {
      #expect(found.report.losses.allSatisfy { $0.cosine == nil })
    }
    let expected = Set(fixture.names.filter { $0.hasPrefix("\(name).grad.") })
    #expect(Set(found.named.map { "\(name).grad.\($0.name)" }) == expected)
    for (parameter, tensor) in found.named {
      let stored = Tensor(shape: tensor.shape, elements: try fixture.floats("\(name).grad.\(parameter)"))
      let difference = Difference(tensor, stored)
      #expect(difference.relative <= 1e-4, "\(parameter): \(difference)")
    }
    // Without the cosine, or with the other direction, it is far from that.
    var other = model.configuration.diffusion
    other.loss = .mse
    other.networkTime = family == .sit ? .s : .oneMinusS
    let missed = try gradients(Self.model(family, process: other))
    #expect(try difference(missed.report.losses.map(\.loss), "loss").relative > 1e-2)
  }

  @Test("The cosine term is 0 where the output points as the target, 2 where it points away, and is no mse's for x0")
  func cosineTerm() throws {
    let process = DiffusionConfiguration(
      path: .linear, prediction: .velocity, variance: .fixedLarge, networkTime: .oneMinusS, loss: .mseAndCosine)
    let loss = TrainingLoss(try NoiseSchedule(process))
    let shape = BatchShape(samples: 1, channels: 3, height: 1, width: 2)
    let (clean, noise): ([Float], [Float]) = ([1, 0, 2, 0.5, -1, 3], [0, 1, 0, 0, 0, 0])
    func value(_ factor: Float) -> SampleLoss {
      let output = zip(clean, noise).map { factor * ($0 - $1) }
      var losses = [SampleLoss.zero]
      var values = losses.mutableSpan
      loss.evaluate(
        output: output.span, clean: clean.span, noise: noise.span, levels: [loss.process.level(atNetworkTime: 0.5)],
        shape: shape, losses: &values)
      return losses[0]
    }
    for (factor, cosine) in [(Float(2), 0.0), (0.5, 0), (-1, 2), (0, 1)] {
      let found = value(factor)
      #expect(abs((found.cosine ?? -1) - cosine) < 1e-12, "\(factor): \(found)")
      #expect(abs(found.loss - found.mse - cosine) < 1e-12)
    }
    var x0 = process
    x0.prediction = .x0
    let error = #expect(throws: DiTError.self) { try NoiseSchedule(x0) }
    #expect(error?.name == "diffusion.loss")
  }
}

extension ReverseProcess {
  /// A run with given noise for its steps, (S−1, N, C, H, W).
  fileprivate func run(
    _ x: inout MutableSpan<Float>, shape: BatchShape, _ model: DiT, _ labels: [Int], _ guidance: Guidance,
    _ noises: [Float]
  ) throws {
    let guided = guidance.decidingTimes(self).map { guidance.isActive(at: $0) }
    let c = model.configuration.network
    let imageShape = [shape.samples, shape.channels, shape.height, shape.width]
    try sample(
      &x, shape: shape,
      predict: { x, step, output in
        let images = Tensor(shape: imageShape, elements: x.indices.map { x[$0] })
        func predict(_ labels: [Int]) throws -> [Float] {
          try model.predict(
            images: images, times: [Float](repeating: step.time.value, count: shape.samples), labels: labels
          ).elements
        }
        let conditional = try predict(labels)
        // The output has a second half where the network has one, which nothing reads.
        let stride = output.count / shape.samples
        var mixed = conditional
        if guided[step.evaluation] {
          let unconditional = try predict([Int](repeating: c.numClasses, count: shape.samples))
          var span = mixed.mutableSpan
          guidance.combine(
            conditional: conditional.span, unconditional: unconditional.span, shape: shape, into: &span)
        }
        let size = shape.elementsPerSample
        for n in 0..<shape.samples {
          for i in 0..<size { output[n * stride + i] = mixed[n * size + i] }
        }
      },
      noise: { step, noise in
        for i in noise.indices { noise[i] = noises[step.evaluation * shape.count + i] }
      })
  }
}
