import DiTDiffusion
import DiTModel
import DiTPipeline
import Testing

@Suite("Sampling timesteps and their noise levels") struct SamplingTimestepsTests {
  private func timesteps(_ model: ModelConfiguration, _ sampler: Sampler) throws -> SamplingTimesteps {
    let noise = try model.noise()
    let times = try sampler.process(on: noise).stepTimes
    return SamplingTimesteps(noise, times.reversed(), rule: "\(sampler.rule())", network: model.network)
  }

  @Test("Rows ascend in t, with the schedule's β and ᾱ and strides down to clean data")
  func rows() throws {
    let model = ModelConfiguration(network: smallNetwork)
    let noise = try model.noise()
    let found = try timesteps(model, Sampler(.ddim, schedule: .custom([3, 10, 999])))
    #expect(found.rows.map(\.t) == [3, 10, 999] && found.rows.map(\.stride) == [4, 7, 989])
    #expect(found.total == 1000 && found.linearTime == nil && found.rule == "custom:3,10,999")
    for row in found.rows {
      #expect(row.beta == noise.betas[row.t] && row.alphaBar == noise.alphasCumprod[row.t])
      #expect(row.alpha * row.alpha - row.alphaBar < 1e-15 && row.attention == nil)
    }
  }

  @Test("Diffusion-aware attention has a scale, and with a mask a window that narrows with the signal")
  func attention() throws {
    var network = smallNetwork
    network.attention = AttentionConfiguration(temperature: .sqrtBeta, mask: .soft, window: .signal)
    let model = ModelConfiguration(network: network)
    let rows = try timesteps(model, Sampler(.ddim, schedule: .custom([0, 999]))).rows
    let tokens = 3 * 5
    #expect(rows.map { $0.attention?.window } == [tokens, 1])
    // √β_t, whatever the head size.
    for row in rows {
      let scale = try #require(row.attention?.scale)
      #expect(abs(Double(scale) / row.beta.squareRoot() - 1) < 1e-6)
    }
    network.attention = AttentionConfiguration(temperature: .sqrtBeta)
    let unmasked = try timesteps(ModelConfiguration(network: network), Sampler(.ddim, schedule: .custom([5]))).rows
    #expect(unmasked[0].attention != nil && unmasked[0].attention?.window == nil)
  }

  @Test("A flow's rows have s on an even grid")
  func flow() throws {
    var network = smallNetwork
    network.learnSigma = false
    let model = ModelConfiguration(
      network: network, diffusion: DiffusionConfiguration(prediction: .flow, variance: .fixedLarge))
    let found = try timesteps(model, Sampler(.euler, steps: 4))
    #expect(found.linearTime == .thousandths && found.rows.map(\.s) == [0.25, 0.5, 0.75, 1])
    #expect(found.rows.map(\.t) == [249, 499, 749, 999])
  }
}
