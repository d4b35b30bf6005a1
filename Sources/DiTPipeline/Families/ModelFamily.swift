import DiTDiffusion
import DiTModel

/// What a family of networks has in common: a preset of config.json's keys, the names of its tensors, and how it is sampled.
/// config.json's `family`; any key can be set otherwise.
public enum ModelFamily: String, CaseIterable, Sendable {
  /// The published DiT (Peebles & Xie 2023): the defaults of all keys.
  case dit
  /// SiT (Ma et al. 2024): DiT's network, which says the velocity from noise to data of a linear path.
  case sit
  /// REPA (Yu et al. 2025) and REPA-E (Leng et al. 2025): SiT's network, trained beside an encoder's features; its time runs the
  /// other way.
  case repa
  /// LightningDiT (Yao et al. 2025): SiT's process with RMSNorm, SwiGLU and rotation, over the latents of VA-VAE.
  case lightningdit
  /// JiT (Li & He 2025): clean pictures predicted from pixels, without an autoencoder.
  case jit
  /// Pixel MeanFlow (Lu et al. 2026): pictures from pixels in one pass, which is told the guidance.
  case pmf

  /// The network of the family's parts; sizes are the published DiT's.
  func network(_ network: DiTConfiguration = DiTConfiguration()) -> DiTConfiguration {
    var network = network
    switch self {
    case .dit: break
    case .sit, .repa: network.learnSigma = false
    case .lightningdit:
      network.learnSigma = false
      (network.inChannels, network.inputHeight, network.inputWidth, network.patchSize) = (32, 16, 16, 1)
      (network.norm, network.mlp, network.position) = (.rms, .swiglu, .sincosRope)
    case .jit:
      network = Self.overPixels(network)
      network.position = .sincosRope
      network.bias.patchBottleneck = false
      network.inContextTokens = 32
    case .pmf:
      network = Self.overPixels(network)
      network.position = .learnedRope
      network.conditioning = .tokens
      network.tokenGroups = TokenGroups(classes: 8, omega: 4, tMin: 2, tMax: 2, time: 4)
      network.residualGates = .vector
      (network.bias.qkv, network.bias.proj, network.bias.mlp) = (false, false, false)
    }
    return network
  }

  /// What JiT and pMF share.
  private static func overPixels(_ network: DiTConfiguration) -> DiTConfiguration {
    var network = network
    network.inChannels = 3
    network.learnSigma = false
    (network.norm, network.mlp, network.qkNorm) = (.rms, .swiglu, true)
    network.patchBottleneck = 128
    return network
  }

  /// The process that the family's networks are trained for.
  ///
  /// - Parameter noiseScale: ς.
  func diffusion(variance: Variance, noiseScale: Double = 1) -> DiffusionConfiguration {
    switch self {
    case .dit: DiffusionConfiguration(variance: variance)
    case .sit: DiffusionConfiguration(path: .linear, prediction: .velocity, variance: variance, networkTime: .oneMinusS)
    case .repa: DiffusionConfiguration(path: .linear, prediction: .velocity, variance: variance, networkTime: .s)
    case .lightningdit:
      DiffusionConfiguration(
        path: .linear, prediction: .velocity, variance: variance, networkTime: .oneMinusS, loss: .mseAndCosine,
        timeDistribution: .logitNormal(mean: 0, deviation: 1))
    case .jit:
      DiffusionConfiguration(
        path: .linear, prediction: .x0, variance: variance, networkTime: .oneMinusS, lossTarget: .velocity,
        timeDistribution: .logitNormal(mean: -0.8, deviation: 0.8), noiseScale: noiseScale)
    case .pmf:
      DiffusionConfiguration(
        path: .linear, prediction: .x0, variance: variance, networkTime: .s, noiseScale: noiseScale)
    }
  }

  /// How its authors sample a network of these sizes; nil where that is ``SamplingConfiguration/standard(_:_:_:)``.
  func sampling(_ network: DiTConfiguration) -> SamplingConfiguration? {
    let size = PublishedSize.all.first { $0.family == self && $0.has(network) }
    switch self {
    case .dit: return nil
    case .sit:
      return SamplingConfiguration(
        sampler: transport(.sde, steps: 250), guidance: Guidance(scale: network.hasUnconditional ? 1.5 : 1))
    case .repa:
      return SamplingConfiguration(
        sampler: Sampler(.sde, steps: 250, schedule: .linspace),
        guidance: Guidance(scale: network.hasUnconditional ? 1.8 : 1, interval: 0...0.7, ends: .closedByStep))
    case .lightningdit:
      var sampler = transport(.euler, steps: 249)
      sampler.shift = 0.3
      return SamplingConfiguration(
        sampler: sampler,
        guidance: Guidance(
          scale: network.hasUnconditional ? 6.7 : 1, interval: 0.125...1, channels: min(3, network.inChannels)))
    case .jit:
      let scale = network.hasUnconditional ? size?.guidance ?? 3 : 1
      return SamplingConfiguration(
        sampler: Sampler(.heun, steps: 50, schedule: .linspace),
        guidance: Guidance(scale: scale, interval: 0.1...1, ends: .jit))
    case .pmf:
      return SamplingConfiguration(
        sampler: Sampler(.meanflow, steps: 1, schedule: .linspace),
        guidance: Guidance(scale: size?.guidance ?? 7.5, interval: size?.interval ?? 0.1...0.8))
    }
  }

  /// A sampler of SiT's transport, whose ODEs torchdiffeq walks: its Heun asks at the end too.
  private func transport(_ name: SamplerName, steps: Int) -> Sampler {
    var sampler = Sampler(name, steps: steps, schedule: .linspace)
    sampler.correctsLastStep = true
    return sampler
  }

  /// The family in a few words.
  public var summary: String {
    switch self {
    case .dit: "DiT, the published network"
    case .sit: "SiT, DiT's network as a flow"
    case .repa: "REPA, SiT's network in a time that runs from data to noise"
    case .lightningdit: "LightningDiT, a flow over VA-VAE's latents"
    case .jit: "JiT, clean pictures predicted from pixels"
    case .pmf: "pMF, pixel MeanFlow: pictures in one pass that is told the guidance"
    }
  }
}
