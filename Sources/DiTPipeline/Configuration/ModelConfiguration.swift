import DiTAutoencoder
import DiTDiffusers
import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor

/// All that config.json says about a model: its network, its diffusion process, and how it is sampled by default.
public struct ModelConfiguration: Equatable, Sendable {
  public var network: DiTConfiguration
  public var diffusion: DiffusionConfiguration
  public var sampling: SamplingConfiguration
  /// What supplied the defaults.
  public var family: ModelFamily
  /// One name per class, or nil.
  public var classNames: [String]?
  /// The directory of the autoencoder whose latents the model makes, as seen from the model's own; nil where there is none.
  public var autoencoder: String?
  /// What the model's latents are standardized by, in place of the autoencoder's own scaling: z = (m − mean)/std in each
  /// channel. Nil is the autoencoder's.
  public var latentStatistics: LatentStatistics?
  /// The saved scheduler of the diffusers directory that the model comes from: samplers are then built as diffusers builds
  /// them. Nil for all other models.
  public var diffusersScheduler: DiffusersScheduler?

  /// - Parameters:
  ///   - network: the parts and sizes.
  ///   - diffusion: nil is the family's process; of the published DiT's its variance is learned_range, or fixed_large without
  ///     `learnSigma`.
  ///   - sampling: nil is how the family's authors sample, else ``SamplingConfiguration/standard(_:_:_:)``.
  ///   - classNames: one per class; nil: classes are numbers.
  ///   - family: whose presets, names and files it has.
  public init(
    network: DiTConfiguration, diffusion: DiffusionConfiguration? = nil, sampling: SamplingConfiguration? = nil,
    classNames: [String]? = nil, family: ModelFamily = .dit
  ) {
    let diffusion = diffusion ?? family.diffusion(variance: .standard(network))
    self.network = network
    self.diffusion = diffusion
    self.sampling = sampling ?? family.sampling(network) ?? .standard(network, diffusion)
    self.family = family
    self.classNames = classNames
  }

  /// A network of a diffusers directory with its saved scheduler, from which the diffusion process and the default
  /// sampling follow.
  ///
  /// - Throws: `DiTError` naming the scheduler's key, for a schedule or prediction that is not here.
  public init(
    network: DiTConfiguration, scheduler: DiffusersScheduler, classNames: [String]? = nil
  ) throws(DiTError) {
    let diffusion = try scheduler.diffusion(.standard(network))
    self.init(
      network: network, diffusion: diffusion, sampling: .standard(network, diffusion, scheduler),
      classNames: classNames)
    diffusersScheduler = scheduler
  }

  /// β_t and ᾱ_t of all T steps: the diffusion process's, with a saved scheduler its numbers.
  ///
  /// - Throws: `DiTError`.
  public func noise() throws(DiTError) -> NoiseSchedule {
    if let diffusersScheduler { return try diffusersScheduler.noise(diffusion.variance) }
    return try NoiseSchedule(diffusion)
  }

  /// One of the twelve published models, `DiT-S/2` … `DiT-XL/8`, of the six over pixels, `DiT-Base/8` … `DiT-Large/32`, or of
  /// ``PublishedSize/all``; nil for any other name.
  public init?(published name: String) {
    if let size = PublishedSize.all.first(where: { $0.name == name }) {
      self = size.model
      return
    }
    guard let network = DiTConfiguration.named(name) else { return nil }
    self.init(network: network)
  }

  /// A class's name; nil where classes have none.
  public func className(_ index: Int) -> String? {
    guard let classNames, classNames.indices.contains(index) else { return nil }
    return classNames[index]
  }

  /// Throws unless each part is usable and they agree with each other.
  ///
  /// - Parameters:
  ///   - file: the file that errors name.
  ///   - path: the dotted name of the section that holds this configuration; empty at the root.
  /// - Throws: `DiTError`.
  public func validate(file: String, path: String = "") throws(DiTError) {
    _ = try CheckedConfiguration(self, file: file, path: path)
  }

  /// config.json's section for the saved scheduler.
  static let schedulerKey = "diffusers_scheduler"
}

extension Variance {
  /// What a configuration means that names no variance.
  static func standard(_ network: DiTConfiguration) -> Variance { network.learnSigma ? .learnedRange : .fixedLarge }
}
