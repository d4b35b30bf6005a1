import DiTDiffusion
import DiTModel
import DiTPipeline
import DiTTensor
import Testing

/// Diffusion-aware models loaded and sampled: windows and temperatures follow the step, and images keep to themselves.
@Suite("Sampling diffusion-aware models") struct AttentionTests {
  private static let variants = [
    AttentionConfiguration(temperature: .sqrtBeta), AttentionConfiguration(mask: .soft, window: .signal),
    AttentionConfiguration(temperature: .inverseSqrtBeta, mask: .hard, window: .noise, distance: .grid),
  ]

  private func model(_ attention: AttentionConfiguration, threads: Int = 1) throws -> DiT {
    var network = smallNetwork
    network.attention = attention
    return try randomModel(network, threads: threads)
  }

  /// Steps of one run have their own windows, from one table of modulations, and an image depends on no other.
  @Test("An image's window and temperature do not depend on the other images", arguments: variants)
  func imagesKeepToThemselves(_ attention: AttentionConfiguration) throws {
    let classes = Array(0..<min(3, smallNetwork.numClasses))
    var options = SamplingOptions(sampler: Sampler(.dpmpp, steps: 6), guidance: Guidance(scale: 2), seed: 5)
    let whole = try model(attention).sample(.classes(classes), options: options)
    options.batch = 1
    let parts = try model(attention, threads: 2).sample(.classes(classes), options: options)
    #expect(Difference(parts.images, whole.images).relative < 1e-5)
  }

  /// The hoisted modulation gives what a single call at that time gives.
  @Test("A sampling step gives what a single prediction at that time gives", arguments: variants)
  func hoistedIsWhatACallGives(_ attention: AttentionConfiguration) throws {
    let model = try model(attention)
    let c = model.configuration.network
    let noise = normal([1, c.inChannels, c.inputHeight, c.inputWidth], seed: 8)
    let step = try model.sample(
      .classes([1]),
      options: SamplingOptions(
        sampler: Sampler(.ddim, steps: 1, schedule: .custom([400])), guidance: Guidance(scale: 1)),
      start: Start(noise: noise))
    let output = try model.predict(images: noise, times: [400], labels: [1])
    let alpha = model.schedule.alphasCumprod[400]
    let clean = zip(noise.elements, output.elements).map {
      Float((Double($0) - (1 - alpha).squareRoot() * Double($1)) / alpha.squareRoot())
    }
    #expect(Difference(step.images, Tensor(shape: noise.shape, elements: clean)).relative < 1e-5)
    let plain = try self.model(AttentionConfiguration(mask: attention.mask)).predict(
      images: noise, times: [400], labels: [1])
    #expect(Difference(plain, output).relative > 1e-3, "the words must matter")
  }
}
