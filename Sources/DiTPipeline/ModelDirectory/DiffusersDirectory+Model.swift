import DiTDiffusers
import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor

// A diffusers directory as a model of this engine, and back.

extension DiffusersDirectory {
  /// What config.json would say of the model: sampled as its saved scheduler says; without one as a published model.
  ///
  /// - Throws: ``ConfigurationFileError`` naming the scheduler's file and key, where the scheduler cannot be used.
  public var configuration: ModelConfiguration {
    get throws(ConfigurationFileError) { try checked().model }
  }

  /// The weights, under the published names.
  ///
  /// - Throws: as reading a tensor does.
  public func weights() throws -> Weights { try Weights(store, configuration: network) }

  func checked() throws(ConfigurationFileError) -> CheckedConfiguration {
    let file = Paths.join(path, Self.schedulerFile)
    var model = ModelConfiguration(network: network)
    if let scheduler {
      do throws(DiffusionError) {
        model = try ModelConfiguration(network: network, scheduler: scheduler)
      } catch {
        throw ConfigurationFileError(
          file: file, key: error.schedulerKey ?? error.name, expected: error.expected, found: error.found)
      }
    }
    model.classNames = classNames
    if hasAutoencoder { model.autoencoder = ModelDirectory.autoencoderName }
    do throws(ConfigurationFileError) {
      return try CheckedConfiguration(model, file: mainFile)
    } catch {
      // The section's name belongs to config.json.
      let section = "\(ModelConfiguration.schedulerKey)."
      guard error.key.hasPrefix(section) else { throw error }
      throw ConfigurationFileError(
        file: file, key: String(error.key.dropFirst(section.count)), problem: error.problem)
    }
  }

  /// Whether a config.json is that of a diffusers transformer: it names a class.
  static func isTransformer(_ configuration: JSONObjectReader) -> Bool {
    var reader = configuration
    return reader.value("_class_name") != nil
  }
}

extension DiffusersExport {
  /// - Parameters:
  ///   - vae: the autoencoder's directory, if any.
  ///   - name: what errors call the model.
  /// - Precondition: `weights` belong to the configuration's network.
  /// - Throws: ``ModelFileError`` naming the key of config.json that diffusers cannot express.
  public init(
    _ configuration: ModelConfiguration, weights: Weights, vae: String?, name: String
  ) throws(ModelFileError) {
    let sampler = configuration.sampling.sampler
    let model = Model(
      network: configuration.network, diffusion: configuration.diffusion, saved: configuration.diffusersScheduler,
      sampler: sampler.name, schedule: sampler.schedule, classNames: configuration.classNames)
    try self.init(model, weights: weights, vae: vae, name: name)
  }
}
