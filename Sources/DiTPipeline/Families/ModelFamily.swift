import DiTDiffusion
import DiTModel

/// What a family of networks has in common: a preset of config.json's keys, the names of its tensors, and how it is sampled.
/// config.json's `family`; any key can be set otherwise.
public enum ModelFamily: String, CaseIterable, Sendable {
  /// The published DiT (Peebles & Xie 2023): the defaults of all keys.
  case dit
  /// JiT (Li & He 2025): clean pictures predicted from pixels, without an autoencoder.
  case jit
  /// Pixel MeanFlow (Lu et al. 2026): pictures from pixels in one pass, which is told the guidance.
  case pmf

  /// The network of the family's parts; sizes are the published DiT's.
  func network(_ network: DiTConfiguration = DiTConfiguration()) -> DiTConfiguration {
    var network = network
    guard self != .dit else { return network }
    network.inChannels = 3
    network.learnSigma = false
    (network.norm, network.mlp, network.qkNorm) = (.rms, .swiglu, true)
    network.patchBottleneck = 128
    switch self {
    case .dit: break
    case .jit:
      network.position = .sincosRope
      network.bias.patchBottleneck = false
      network.inContextTokens = 32
    case .pmf:
      network.position = .learnedRope
      network.conditioning = .tokens
      network.tokenGroups = TokenGroups(classes: 8, omega: 4, tMin: 2, tMax: 2, time: 4)
      network.residualGates = .vector
      (network.bias.qkv, network.bias.proj, network.bias.mlp) = (false, false, false)
    }
    return network
  }

  /// The process that the family's networks are trained for.
  ///
  /// - Parameter noiseScale: ς.
  func diffusion(variance: Variance, noiseScale: Double = 1) -> DiffusionConfiguration {
    switch self {
    case .dit: DiffusionConfiguration(variance: variance)
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

  /// The family in a few words.
  public var summary: String {
    switch self {
    case .dit: "DiT, the published network"
    case .jit: "JiT, clean pictures predicted from pixels"
    case .pmf: "pMF, pixel MeanFlow: pictures in one pass that is told the guidance"
    }
  }
}
