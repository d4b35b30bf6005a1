import DiTDiffusion
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Testing

/// Image to image and inpainting on whole models, of every path.
@Suite("Editing images") struct EditingTests {
  private static let beta: [SamplerName] = [.ddim, .ddpm, .dpmpp, .unipc, .deis, .euler, .eulerAncestral, .heun, .pndm]

  private func digits() throws -> DiT {
    try DiT(contentsOf: networkFixture("digits"), context: ComputeContext(threads: 1, workers: 1))
  }

  /// A small network on a linear path.
  private func flow() throws -> DiT {
    let model = try randomModel(
      DiTConfiguration(
        inputHeight: 4, inputWidth: 4, patchSize: 2, inChannels: 2, hiddenSize: 24, depth: 2, numHeads: 2,
        numClasses: 3,
        learnSigma: false))
    var configuration = model.configuration
    configuration.diffusion = DiffusionConfiguration(path: .linear, prediction: .velocity, variance: .fixedSmall)
    configuration.sampling.sampler = Sampler(.heun)
    return try DiT(configuration: configuration, weights: model.network.weights, context: model.context)
  }

  /// An image for each of `count`, (count, C, H, W).
  private func images(_ model: DiT, _ count: Int) -> Tensor {
    let c = model.configuration.network
    var random = Philox(seed: 3, stream: 9)
    return Tensor(
      shape: [count, c.inChannels, c.inputHeight, c.inputWidth],
      elements: random.normal(count: count * c.inChannels * c.inputHeight * c.inputWidth).map { max(-1, min(1, $0)) })
  }

  private func cases() throws -> [(model: DiT, name: SamplerName)] {
    let (digits, flow) = (try digits(), try flow())
    return Self.beta.map { (digits, $0) } + [.euler, .heun, .sde, .dopri5].map { (flow, $0) }
  }

  private func options(_ name: SamplerName, steps: Int = 6) -> SamplingOptions {
    SamplingOptions(sampler: Sampler(name, steps: steps), guidance: Guidance(scale: 1.5), seed: 4)
  }

  @Test("Strength 1 is plain sampling to the bit, strength 0 the image, and between them it is neither")
  func strengthsEnd() throws {
    for (model, name) in try cases() {
      let (options, image) = (options(name), images(model, 2))
      let plain = try model.sample(.classes([1, 2]), options: options)
      func edited(_ strength: Double) throws -> Samples {
        try model.sample(.classes([1, 2]), options: options, start: .image(image, strength: strength))
      }
      #expect(try edited(1) == plain, "\(name)")
      #expect(try edited(0).images == image && edited(0.1).images == image, "\(name): no step of six is taken")
      let (little, much) = (try edited(0.35).images, try edited(0.9).images)
      #expect(little != image && much != plain.images && little != much, "\(name)")
      func distance(_ a: Tensor) -> Float { zip(a.elements, image.elements).reduce(0) { $0 + abs($1.0 - $1.1) } }
      if ![.ddpm, .eulerAncestral, .sde].contains(name) {  // which draw what they move by
        #expect(distance(little) < distance(much), "\(name): less strength leaves more of the image")
      }
    }
  }

  /// The noise of a start is that of plain sampling, and image n does not depend on the others.
  @Test("An image's start is its own, drawn or given, whatever runs beside it")
  func startsAreEachImages() throws {
    let (model, image) = (try digits(), images(try digits(), 3))
    var options = options(.ddpm)
    let noise = Tensor(
      shape: [3, 1, 8, 8],
      elements: (0..<3).flatMap { n -> [Float] in
        var random = Philox(seed: 4, stream: UInt64(n))
        return random.normal(count: 64)
      })
    func sample(_ classes: [Int], _ start: Start) throws -> Tensor {
      try model.sample(.classes(classes), options: options, start: start).images
    }
    let whole = try sample([3, 1, 4], .image(image, strength: 0.5))
    #expect(try sample([3, 1, 4], .image(image, strength: 0.5, noise: noise)) == whole)
    options.batch = 2
    #expect(Difference(try sample([3, 1, 4], .image(image, strength: 0.5)), whole).relative < 1e-4)
    #expect(Difference(try sample([3], .image(image.prefix(1), strength: 0.5)), whole.prefix(1)).relative < 1e-4)
    let shared = try sample([3, 1, 4], .image(image.prefix(1), strength: 0.5))
    #expect(Difference(shared.prefix(1), whole.prefix(1)).relative < 1e-4, "one image for all")
    #expect(Difference(shared.range(1..<2), whole.range(1..<2)).relative > 0.01)
  }

  @Test("What a mask keeps is exactly as it was given, and the rest is painted to it")
  func knownPixelsAreExact() throws {
    for (model, name) in try cases() where name != .dopri5 {
      let (image, c) = (images(model, 2), model.configuration.network)
      let area = c.inputHeight * c.inputWidth
      let mask = Tensor(
        shape: [1, 1, c.inputHeight, c.inputWidth], elements: (0..<area).map { $0 < area / 2 ? 0 : 1 })
      let inpainting = Inpainting(image: image, mask: mask)
      for start in [Start.noise, .image(image, strength: 0.5)] {
        let plain = try model.sample(.classes([1, 2]), options: options(name), start: start).images
        let found = try model.sample(
          .classes([1, 2]), options: options(name), start: start, inpainting: inpainting
        ).images
        for i in found.elements.indices where mask.elements[i % area] == 0 {
          #expect(found.elements[i] == image.elements[i], "\(name): element \(i)")
        }
        let painted = found.elements.indices.filter { mask.elements[$0 % area] == 1 }
        #expect(painted.contains { found.elements[$0] != plain.elements[$0] }, "\(name): the known part is seen")
      }
    }
  }

  @Test("A mask of ones changes nothing, one of zeros gives the image, and a half mixes both")
  func masksEnd() throws {
    let (model, image) = (try digits(), images(try digits(), 2))
    let options = options(.dpmpp)
    func sample(_ mask: Float) throws -> Tensor {
      try model.sample(
        .classes([1, 2]), options: options,
        inpainting: Inpainting(
          image: image, mask: Tensor(shape: [1, 1, 8, 8], elements: [Float](repeating: mask, count: 64)))
      ).images
    }
    #expect(try sample(1) == model.sample(.classes([1, 2]), options: options).images)
    #expect(try sample(0) == image)
    let half = try sample(0.5)
    #expect(half != image)
    // No step is taken: the mask holds all the same, between two images.
    let other = Tensor(shape: [2, 1, 8, 8], elements: image.elements.map { -$0 })
    let upper = Tensor(shape: [1, 1, 8, 8], elements: (0..<64).map { $0 < 32 ? 0 : 1 })
    let untouched = try model.sample(
      .classes([1, 2]), options: options, start: .image(other, strength: 0.1),
      inpainting: Inpainting(image: image, mask: upper)
    ).images
    for i in untouched.elements.indices {
      #expect(untouched.elements[i] == (i % 64 < 32 ? image : other).elements[i])
    }
    #expect(try model.stepTimes(options.sampler, start: .image(other, strength: .nan)).isEmpty, "no trap")
  }

  @Test("Conditions are what the overloads took")
  func conditions() throws {
    let model = try digits()
    let options = options(.ddim, steps: 3)
    #expect(
      try model.sample(.names(["2", "5"]), options: options) == model.sample(.classes([2, 5]), options: options))
    #expect(try model.sample(.classes([2])) == model.sample(.classes([2]), options: model.samplingOptions))
    #expect(try model.sample(.none(count: 1)).labels == [10], "nothing to guide to by the model's own options")
    #expect(throws: DiTError.self) { try model.sample(.none(count: 1), options: options) }
  }

  @Test("What cannot be edited is refused by name")
  func refusals() throws {
    let (model, flow) = (try digits(), try flow())
    let image = images(model, 1)
    let mask = Tensor(shape: [1, 1, 8, 8], elements: [Float](repeating: 1, count: 64))
    func message(_ body: () throws -> Samples) -> String {
      do {
        _ = try body()
        return "accepted"
      } catch {
        return "\(error)"
      }
    }
    func start(_ image: Tensor, _ strength: Double) -> String {
      message { try model.sample(.classes([1, 2]), options: options(.ddim), start: .image(image, strength: strength)) }
    }
    func paint(_ image: Tensor, _ mask: Tensor) -> String {
      message {
        try model.sample(.classes([1]), options: options(.ddim), inpainting: Inpainting(image: image, mask: mask))
      }
    }
    #expect(start(image, 1.5) == "strength: expected 0…1, found 1.5")
    #expect(start(image, -0.1) == "strength: expected 0…1, found -0.1")
    #expect(start(image, .nan) == "strength: expected 0…1, found nan")
    #expect(
      start(Tensor(zeros: [3, 1, 8, 8]), 0.5)
        == "image: expected shape [2, 1, 8, 8] or [1, 1, 8, 8], found [3, 1, 8, 8]")
    var broken = image
    broken.elements[7] = .infinity
    #expect(start(broken, 0.5).hasPrefix("image: expected finite numbers, found "))
    #expect(paint(Tensor(zeros: [1, 1, 8, 9]), mask).hasPrefix("image: expected shape [1, 1, 8, 8], found"))
    #expect(paint(image, Tensor(zeros: [1, 1, 8, 9])) == "mask: expected shape [1, 1, 8, 8], found [1, 1, 8, 9]")
    var wrong = mask
    wrong.elements[3] = 1.25
    #expect(paint(image, wrong) == "mask: expected numbers in 0…1, found 1.25")
    let flowImage = images(flow, 1)
    let ones = Tensor(shape: [1, 1, 4, 4], elements: [Float](repeating: 1, count: 16))
    #expect(
      message {
        try flow.sample(
          .classes([1]), options: options(.dopri5), inpainting: Inpainting(image: flowImage, mask: ones))
      } == "sampler: expected one whose steps are known beforehand, for a mask, found dopri5")
    #expect(message { try model.sample(.names(["nothing"])) }.hasPrefix("classes: expected"))
  }
}
