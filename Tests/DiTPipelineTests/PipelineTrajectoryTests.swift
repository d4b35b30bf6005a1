import DiTDiffusion
import DiTKernels
import DiTPipeline
import DiTTensor
import Testing

/// Whole runs from given noise against PyTorch in Double: Tests/Fixtures/network/digits/trajectory.safetensors.
@Suite("Whole sampling runs against PyTorch in Double") struct TrajectoryTests {
  @Test("DDIM's samples are PyTorch's to 1e-4, in sub-batches", arguments: [1, 4])
  func ddimAgrees(guidance: Int) throws {
    let file = try open("digits/trajectory.safetensors")
    let model = try DiT(contentsOf: networkFixture("digits"))
    let options = SamplingOptions(
      sampler: Sampler(.ddim, steps: 10), guidance: Guidance(scale: Double(guidance)), batch: 2)
    var times: [Int] = []
    let samples = try model.sample(
      .classes(file.integers("classes").values), options: options, start: Start(noise: file.tensor("start"))
    ) { progress in
      if progress.images.contains(0) { times.append(progress.time.index) }
      return true
    }
    #expect(samples.isComplete)
    #expect(times == (try file.integers("ddim.timesteps").values))
    let difference = try Difference(samples.images, file.tensor("ddim.guidance\(guidance).samples"))
    #expect(difference.relative <= 1e-4, "ddim, guidance \(guidance): \(difference)")
  }

  @Test("Every state of DDIM is PyTorch's to 1e-4", arguments: [1, 4])
  func everyDDIMStateAgrees(guidance: Int) throws {
    let file = try open("digits/trajectory.safetensors")
    let model = try DiT(contentsOf: networkFixture("digits"))
    let options = SamplingOptions(sampler: Sampler(.ddim, steps: 10), guidance: Guidance(scale: Double(guidance)))
    var states: [Float] = []
    _ = try model.sample(
      .classes(file.integers("classes").values), options: options, start: Start(noise: file.tensor("start"))
    ) {
      states += $0.x.elements
      return true
    }
    let expected = try file.tensor("ddim.guidance\(guidance).states")
    let difference = Difference(Tensor(shape: expected.shape, elements: states), expected)
    #expect(difference.relative <= 1e-4, "\(difference)")
  }

  /// The fixture brings its own noise, so the run is driven by hand: one step at a time from the fixture's state before.
  @Test("DDPM with given noise gives PyTorch's samples to 1e-4", arguments: [1, 4])
  func ddpmAgrees(guidance: Int) throws {
    let file = try open("digits/trajectory.safetensors")
    let model = try DiT(contentsOf: networkFixture("digits"))
    let process = DDPMSampler(try RespacedSchedule(model.schedule, .linspace, count: 25))
    let classes = try file.integers("classes").values
    let noise = try file.tensor("ddpm.noise").elements
    let shape = BatchShape(samples: 3, channels: 1, height: 8, width: 8)
    var x = try file.tensor("start").elements
    var times: [Int] = []
    let guidanceRule = Guidance(scale: Double(guidance))
    for (taken, time) in process.evaluations.enumerated() {
      let images = Tensor(shape: [3, 1, 8, 8], elements: x)
      let t = time.index
      times.append(t)
      let conditional = try model.predict(
        images: images, times: [Float](repeating: Float(t), count: 3), labels: classes)
      let unconditional = try model.predict(
        images: images, times: [Float](repeating: Float(t), count: 3), labels: [10, 10, 10])
      var output = conditional.elements
      var target = output.mutableSpan
      if guidance != 1 {
        guidanceRule.combine(
          conditional: conditional.elements.span, unconditional: unconditional.elements.span, shape: shape,
          into: &target)
      }
      var state = x.mutableSpan
      var memory = MutableSpan<Float>()
      process.advance(
        taken, x: &state, shape: shape, output: output.span,
        noise: noise.span.extracting(taken * shape.count..<(taken + 1) * shape.count), memory: &memory)
    }
    #expect(times == (try file.integers("ddpm.timesteps").values))
    let difference = try Difference(
      Tensor(shape: [3, 1, 8, 8], elements: x), file.tensor("ddpm.guidance\(guidance).samples"))
    #expect(difference.relative <= 1e-4, "ddpm, guidance \(guidance): \(difference)")
  }
}
