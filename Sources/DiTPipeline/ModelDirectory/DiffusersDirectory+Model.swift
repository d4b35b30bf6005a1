import DiTDiffusers
import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor

// A diffusers directory as a model of this engine, and back.

extension DiffusersDirectory {
  /// What config.json would say of the model: sampled as its saved scheduler says; without one as a published model.
  ///
  /// - Throws: `DiTError` naming the scheduler's file and key, where the scheduler cannot be used.
  public var configuration: ModelConfiguration {
    get throws(DiTError) { try checked().model }
  }

  /// The weights, under the published names.
  ///
  /// - Throws: as reading a tensor does.
  public func weights() throws -> Weights { try Weights(store, configuration: network) }

  func checked() throws(DiTError) -> CheckedConfiguration {
    let file = Paths.join(path, Self.schedulerFile)
    var model = ModelConfiguration(network: network)
    if let scheduler {
      do throws(DiTError) {
        model = try ModelConfiguration(network: network, scheduler: scheduler)
      } catch {
        throw error.about(file: file, .key(error.schedulerKey ?? error.name), .configuration)
      }
    }
    model.classNames = classNames
    if hasAutoencoder { model.autoencoder = ModelDirectory.autoencoderName }
    do throws(DiTError) {
      return try CheckedConfiguration(model, file: mainFile)
    } catch {
      // The section's name belongs to config.json.
      let section = "\(ModelConfiguration.schedulerKey)."
      guard let key = error.key, key.hasPrefix(section) else { throw error }
      throw error.about(file: file, .key(String(key.dropFirst(section.count))))
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
  ///   - configuration: of the model.
  ///   - weights: all tensors of the network.
  ///   - vae: the autoencoder's directory, if any.
  ///   - name: what errors call the model.
  /// - Precondition: `weights` belong to the configuration's network.
  /// - Throws: `DiTError` naming the key of config.json that diffusers cannot express.
  public init(
    _ configuration: ModelConfiguration, weights: Weights, vae: String?, name: String
  ) throws(DiTError) {
    let sampler = configuration.sampling.sampler
    let model = Model(
      network: configuration.network, diffusion: configuration.diffusion, saved: configuration.diffusersScheduler,
      sampler: sampler.name, schedule: sampler.schedule, classNames: configuration.classNames)
    try self.init(model, weights: weights, vae: vae, name: name)
  }
}
