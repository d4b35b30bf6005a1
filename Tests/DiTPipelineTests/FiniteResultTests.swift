import DiTDiffusion
import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation
import Testing

/// Pictures, latents and noise are never made of numbers that are not finite.
@Suite("Inputs and results that are not finite") struct FiniteResultTests {
  private func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "accepted"
    } catch {
      return "\(error)"
    }
  }

  private func poisoned(_ tensor: Tensor, _ index: Int, _ value: Float) -> Tensor {
    var tensor = tensor
    tensor.elements[index] = value
    return tensor
  }

  @Test(
    "Noise, images and x that hold NaN or infinity are refused by tensor and image", arguments: [Float.nan, -.infinity])
  func inputs(bad: Float) throws {
    let model = try randomModel(smallNetwork)
    let images = normal([3, 3, 6, 10], seed: 1)
    let broken = poisoned(images, 2 * 180 + 7, bad)
    let options = SamplingOptions(sampler: Sampler(.ddim, steps: 2), guidance: Guidance(scale: 1))
    let expected = "expected finite numbers, found \(bad) in image 2"
    #expect(
      message { _ = try model.sample(.classes([0, 1, 2]), options: options, start: Start(noise: broken)) }
        == "noise: \(expected)")
    #expect(message { _ = try model.invert(broken, options: options) } == "images: \(expected)")
    #expect(
      message { _ = try model.predict(images: broken, times: [1, 2, 3], labels: [0, 1, 2]) } == "x: \(expected)")
    for (clean, noise, name) in [(broken, images, "x0"), (images, broken, "noise")] {
      #expect(
        message { _ = try model.loss(clean: clean, times: [1, 2, 3], labels: [0, 1, 2], noise: noise) }
          == "\(name): \(expected)")
      #expect(
        message { _ = try model.lossAndGradients(clean: clean, times: [1, 2, 3], labels: [0, 1, 2], noise: noise) }
          == "\(name): \(expected)")
    }
  }

  @Test("Context images and embeddings that are not finite are refused by name")
  func sequences() throws {
    var network = smallNetwork
    network.sequence = .image(height: 6, width: 10)
    let model = try randomModel(network)
    let options = SamplingOptions(sampler: Sampler(.ddim, steps: 1), guidance: Guidance(scale: 1))
    let context = poisoned(normal([2, 3, 6, 10], seed: 2), 180, .infinity)
    #expect(
      message { _ = try model.sample(.context(context, classes: [0, 1]), options: options) }
        == "context: expected finite numbers, found inf in image 1")
    let embeddings = [Tensor(zeros: [2, 24]), poisoned(Tensor(zeros: [2, 24]), 3, .nan)]
    #expect(
      message { _ = try model.sample(.embeddings(embeddings, classes: [0, 1]), options: options) }
        == "embeddings: expected finite numbers, found nan in those of image 1")
  }

  /// Softmax makes finite numbers of a NaN in q or k: the result alone does not tell.
  @Test("Weights that hold NaN or infinity are refused by file and tensor, also where the result would not show it")
  func weights() throws {
    let folder = try TemporaryDirectory()
    let weights = randomWeights(smallNetwork)
    for parameter in weights.table.parameters {
      let flat = weights.flattened()
      flat[parameter.range][parameter.count - 1] = -.infinity
      let path = folder("model.safetensors")
      try Weights(weights.table, flat: flat.reading).write(to: path)
      #expect(
        message { _ = try Weights(contentsOf: path, configuration: smallNetwork) }
          == "\(path): tensor \(parameter.name): expected finite numbers, found -inf at element \(parameter.count - 1)")
    }
  }

  /// Beyond Float's range q·k is infinite, and the exponential's clamp would make weights of it.
  @Test(
    "Logits of attention that overflow are an error, not an even attention",
    arguments: [Numerics(gemm: .blas), Numerics(gemm: .packed), Numerics(precision: .bf16, gemm: .packed)])
  func overflowingLogits(numerics: Numerics) throws {
    let weights = randomWeights(smallNetwork)
    let flat = weights.flattened()
    let parameter = try #require(weights.table.parameter(named: "blocks.1.attn.qkv.weight"))
    let qkv = flat[parameter.range]
    for i in 0..<2 * smallNetwork.hiddenSize * smallNetwork.hiddenSize { qkv[i] *= 1e25 }  // q and k, not v
    let model = try DiT(
      configuration: ModelConfiguration(network: smallNetwork), weights: Weights(weights.table, flat: flat.reading),
      context: ComputeContext(threads: 1), numerics: numerics)
    let error = #expect(throws: DiTError.self) {
      try model.predict(images: normal([1, 3, 6, 10], seed: 5), times: [3], labels: [1])
    }
    #expect(error?.description == "output: expected finite numbers, found nan in image 0: overflow")
  }

  @Test(
    "Arithmetic that overflows while sampling is an error of its own, before a step of it is shown",
    arguments: [SamplerName.ddim, .ddpm, .dpmpp, .unipc])
  func overflow(name: SamplerName) throws {
    let model = try randomModel(smallNetwork)
    var shown = 0
    // Above Float's range, whatever clipping makes of it afterwards.
    let options = SamplingOptions(
      sampler: Sampler(name, steps: 3), guidance: Guidance(scale: 1e39, interval: 0...600), batch: 2)
    let error = #expect(throws: DiTError.self) {
      _ = try model.sample(.classes([0, 1, 2]), options: options) { _ in
        shown += 1
        return true
      }
    }
    #expect(shown >= 1 && shown < 3, "\(shown) steps")
    #expect(
      error?.description.contains("in image 0 at step \(shown + 1) of 3 under guidance 1e+39") == true,
      "\(String(describing: error))")
  }

  @Test("A sub-batch's overflow is said with the image's number in the whole run")
  func imageNumber() throws {
    let model = try randomModel(smallNetwork)
    let start = poisoned(normal([5, 3, 6, 10], seed: 3), 3 * 180, 3e38)
    let options = SamplingOptions(sampler: Sampler(.ddim, steps: 2), guidance: Guidance(scale: 1), batch: 2)
    let error = #expect(throws: DiTError.self) {
      _ = try model.sample(.classes([0, 1, 2, 3, 0]), options: options, start: Start(noise: start))
    }
    #expect(error?.overflow?.image == 3, "\(String(describing: error))")
  }

  @Test("A forward pass, a loss or an inversion that overflows is an error")
  func otherResults() throws {
    let model = try randomModel(smallNetwork)
    let large = Tensor(shape: [1, 3, 6, 10], elements: [Float](repeating: 3e38, count: 180))
    let ordinary = normal([1, 3, 6, 10], seed: 4)
    let plain = SamplingOptions(sampler: Sampler(.ddim, steps: 3), guidance: Guidance(scale: 1))
    let calls: [() throws -> Void] = [
      { _ = try model.predict(images: large, times: [3], labels: [1]) },
      { _ = try model.loss(clean: large, times: [3], labels: [1], noise: ordinary) },
      { _ = try model.lossAndGradients(clean: ordinary, times: [3], labels: [1], noise: large) },
      { _ = try model.invert(large, classes: [1], options: plain) },
    ]
    for (number, call) in calls.enumerated() {
      let error = #expect(throws: DiTError.self) { try call() }
      #expect(error?.kind == .numbers && error?.overflow?.image == 0, "call \(number): \(error.map { "\($0)" } ?? "")")
    }
  }
}
