import DiTDiffusers
import DiTDiffusion
import DiTKernels
import DiTModel
import DiTPipeline
import Foundation
import TestSupport
import Testing

/// What `--fast` takes for a model.
@Suite("Fast settings") struct FastSamplingTests {
  private func model(
    _ diffusion: DiffusionConfiguration, scale: Double = 4, interval: ClosedRange<Double>? = nil
  ) throws -> ModelConfiguration {
    let network = DiTConfiguration(
      inputHeight: 4, inputWidth: 4, patchSize: 2, inChannels: 1, hiddenSize: 8, depth: 1, numHeads: 2, numClasses: 3,
      learnSigma: false)
    var sampling = SamplingConfiguration.standard(network, diffusion)
    sampling.guidance.scale = scale
    sampling.guidance.interval = interval
    sampling.guidance.channels = 1
    return ModelConfiguration(network: network, diffusion: diffusion, sampling: sampling)
  }

  @Test("The published DiT's: ten steps of UniPC, guided from 80 to 570 with the model's scale")
  func published() throws {
    let fast = try model(DiffusionConfiguration(schedule: .linear)).fastSampling()
    #expect(fast.sampler == Sampler(.unipc, steps: 10, schedule: .quadratic))
    let interval = try #require(fast.guidance.interval)
    #expect(abs(interval.lowerBound - 80) <= 2 && abs(interval.upperBound - 570) <= 2, "\(interval)")
    #expect(fast.guidance.scale == 4 && fast.guidance.channels == 1 && fast.guidance.every == 1)
  }

  @Test("The last step of a cosine schedule is left out where ε is divided by its signal, and fewer than ten are all")
  func cosine() throws {
    #expect(try model(DiffusionConfiguration(schedule: .cosine)).fastSampling().sampler.schedule == .leading)
    let clean = DiffusionConfiguration(schedule: .cosine, prediction: .x0)
    #expect(try model(clean).fastSampling().sampler.schedule == .quadratic)
    #expect(
      try model(DiffusionConfiguration(steps: 8, schedule: .linear, betaEnd: 0.002)).fastSampling().sampler.steps == 8)
  }

  @Test("A linear path's: Heun, guided at the same noise, whichever way its time runs")
  func linear() throws {
    for (time, low, high) in [(LinearTime.oneMinusS, 1 / 6.1, 1 / 1.27), (.s, 0.27 / 1.27, 5.1 / 6.1)] {
      let diffusion = DiffusionConfiguration(path: .linear, prediction: .velocity, networkTime: time)
      let fast = try model(diffusion).fastSampling()
      #expect(fast.sampler == Sampler(.heun, steps: 12, schedule: .linspace))
      let interval = try #require(fast.guidance.interval)
      #expect(abs(interval.lowerBound - low) < 1e-9 && abs(interval.upperBound - high) < 1e-9, "\(time): \(interval)")
    }
  }

  @Test("A model's own interval stays, and without guidance there is none")
  func ownInterval() throws {
    let diffusion = DiffusionConfiguration(schedule: .linear)
    #expect(try model(diffusion, interval: 100...300).fastSampling().guidance.interval == 100...300)
    #expect(try model(diffusion, scale: 1).fastSampling().guidance.interval == nil)
  }

  @Test("Only guidance above 1 has an interval, whoever said its scale")
  func scales() throws {
    let diffusion = DiffusionConfiguration(schedule: .linear)
    let unguided = try model(diffusion, scale: 1).fastSampling(scale: 3)
    #expect(unguided.guidance.scale == 3 && unguided.guidance.interval != nil)
    for scale in [0, 0.5, 1] {
      #expect(try model(diffusion).fastSampling(scale: scale).guidance.interval == nil)
    }
  }

  @Test("A run that begins with a picture has even steps, so that its strength is a share of the times")
  func picture() throws {
    let diffusion = DiffusionConfiguration(schedule: .linear)
    #expect(try model(diffusion).fastSampling(beginsWithPicture: true).sampler.schedule == .leading)
  }

  @Test("A saved scheduler's own β decide")
  func savedScheduler() throws {
    func fast(_ keys: String) throws -> SamplingConfiguration {
      let text =
        "{\"_class_name\": \"DDIMScheduler\", \"beta_schedule\": \"linear\", \"num_train_timesteps\": 1000\(keys)}"
      let network = DiTConfiguration(
        inputHeight: 4, inputWidth: 4, patchSize: 2, inChannels: 1, hiddenSize: 8, depth: 1, numHeads: 2, numClasses: 3,
        learnSigma: false)
      let directory = try TemporaryDirectory()
      try text.write(toFile: directory("scheduler_config.json"), atomically: true, encoding: .utf8)
      let scheduler = try DiffusersScheduler(contentsOf: directory("scheduler_config.json"))
      return try ModelConfiguration(network: network, scheduler: scheduler).fastSampling()
    }
    let plain = try fast("")
    #expect(plain.sampler.schedule == .quadratic && plain.guidance.interval != nil)
    let zero = try fast(", \"rescale_betas_zero_snr\": true")
    #expect(zero.sampler.schedule == .leading && zero.guidance.interval != plain.guidance.interval)
  }
}
