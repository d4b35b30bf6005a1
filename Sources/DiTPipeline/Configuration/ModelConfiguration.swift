import DiTDiffusion
import DiTFiles
import DiTModel

/// All that config.json says about a model: its network, its diffusion process, and how it is sampled by default.
public struct ModelConfiguration: Equatable, Sendable {
  public var network: DiTConfiguration
  public var diffusion: DiffusionConfiguration
  public var sampling: SamplingConfiguration
  /// One name a class, or nil.
  public var classNames: [String]?
  /// The directory of the autoencoder whose latents the model makes, as seen from the model's own; nil where there is none.
  public var autoencoder: String?
  /// The saved scheduler of the diffusers directory that the model comes from: samplers are then built as diffusers builds
  /// them. Nil for all other models.
  public var diffusersScheduler: DiffusersScheduler?

  /// - Parameters:
  ///   - diffusion: nil is the published process, its variance learned_range, or fixed_large without `learnSigma`.
  ///   - sampling: nil is ``SamplingConfiguration/standard(_:_:_:)``.
  public init(
    network: DiTConfiguration, diffusion: DiffusionConfiguration? = nil, sampling: SamplingConfiguration? = nil,
    classNames: [String]? = nil
  ) {
    let diffusion = diffusion ?? DiffusionConfiguration(variance: .standard(network))
    self.network = network
    self.diffusion = diffusion
    self.sampling = sampling ?? .standard(network, diffusion)
    self.classNames = classNames
  }

  /// A network of a diffusers directory with its saved scheduler, from which the diffusion process and the default
  /// sampling follow.
  ///
  /// - Throws: `DiffusionError` naming the scheduler's key, for a schedule or prediction that is not here.
  public init(
    network: DiTConfiguration, scheduler: DiffusersScheduler, classNames: [String]? = nil
  ) throws(DiffusionError) {
    let diffusion = try scheduler.diffusion(.standard(network))
    self.init(
      network: network, diffusion: diffusion, sampling: .standard(network, diffusion, scheduler),
      classNames: classNames)
    diffusersScheduler = scheduler
  }

  /// β_t and ᾱ_t of all T steps: the diffusion process's, with a saved scheduler its numbers.
  ///
  /// - Throws: `DiffusionError`.
  public func noise() throws(DiffusionError) -> NoiseSchedule {
    if let diffusersScheduler { return try diffusersScheduler.noise(diffusion.variance) }
    return try NoiseSchedule(diffusion)
  }

  /// One of the twelve published models, `DiT-S/2` … `DiT-XL/8`, or of the six over pixels, `DiT-Base/8` …
  /// `DiT-Large/32`; nil for any other name.
  public init?(published name: String) {
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
  /// - Throws: ``ConfigurationFileError``.
  public func validate(file: String, path: String = "") throws(ConfigurationFileError) {
    func dotted(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }
    do throws(ConfigurationError) {
      try network.validate()
    } catch {
      throw ConfigurationFileError(file: file, key: dotted(error.key), problem: error.problem)
    }
    let noise: NoiseSchedule
    do throws(DiffusionError) {
      noise = try self.noise()
    } catch {
      throw ConfigurationFileError(
        file: file, key: dotted(Self.key(of: error)), expected: error.expected, found: error.found)
    }
    try checkScheduler(file: file, path: path)
    guard (diffusion.variance == .learnedRange) == network.learnSigma else {
      let expected =
        network.learnSigma ? "learned_range, as learn_sigma is true" : "a fixed variance, as learn_sigma is false"
      throw ConfigurationFileError(
        file: file, key: dotted("diffusion.variance"), expected: expected, found: diffusion.variance.rawValue)
    }
    do throws(DiffusionError) {
      try sampling.validate(network, noise, saved: diffusersScheduler)
    } catch {
      throw ConfigurationFileError(
        file: file, key: dotted("sampling.\(Self.key(error))"), expected: error.expected, found: error.found)
    }
    if let classNames, classNames.count != network.numClasses {
      throw ConfigurationFileError(
        file: file, key: dotted("class_names"), expected: "\(network.numClasses) names, as num_classes says",
        found: "\(classNames.count)")
    }
  }

  /// Throws unless the diffusion process is that of the saved scheduler.
  private func checkScheduler(file: String, path: String) throws(ConfigurationFileError) {
    guard let saved = diffusersScheduler else { return }
    func failure(_ key: String, _ expected: String, _ found: String) -> ConfigurationFileError {
      ConfigurationFileError(
        file: file, key: (path.isEmpty ? "" : "\(path).") + "\(Self.schedulerKey).\(key)", expected: expected,
        found: found)
    }
    if saved.sampler == nil {
      let classes = SamplerName.allCases.compactMap(\.diffusersClass).joined(separator: ", ")
      throw failure("_class_name", "one of \(classes)", saved.className)
    }
    if saved.trainSteps != diffusion.steps {
      throw failure("num_train_timesteps", "\(diffusion.steps), as diffusion.steps says", "\(saved.trainSteps)")
    }
    if (try? saved.diffusion(diffusion.variance).prediction) != diffusion.prediction {
      throw failure(
        "prediction_type", "what diffusion.prediction says, \(diffusion.prediction.rawValue)", saved.predictionType)
    }
  }

  /// config.json's section for the saved scheduler.
  static let schedulerKey = "diffusers_scheduler"

  /// The key of an error about the noise.
  private static func key(of error: DiffusionError) -> String {
    error.schedulerKey.map { "\(schedulerKey).\($0)" } ?? error.name
  }

  /// The key of the `sampling` block that an error is about.
  private static func key(_ error: DiffusionError) -> String {
    switch error.name {
    case "custom schedule": "schedule"
    case "guidance channels": "guidance_channels"
    default: error.name
    }
  }
}

extension Variance {
  /// What a configuration means that names no variance.
  static func standard(_ network: DiTConfiguration) -> Variance { network.learnSigma ? .learnedRange : .fixedLarge }
}
