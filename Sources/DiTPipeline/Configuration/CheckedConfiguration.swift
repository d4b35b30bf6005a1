import DiTDiffusers
import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor

/// A configuration whose parts are usable and agree with each other, and the noise schedule that the check has built.
package struct CheckedConfiguration: Sendable {
  package let model: ModelConfiguration
  /// β_t and ᾱ_t of all T steps.
  package let schedule: NoiseSchedule

  /// Checks `model`; parameters and errors as in ``ModelConfiguration/validate(file:path:)``.
  package init(_ model: ModelConfiguration, file: String, path: String = "") throws(DiTError) {
    self.model = model
    func dotted(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }
    do throws(DiTError) {
      try model.network.validate()
    } catch {
      throw error.about(file: file, .key(dotted(error.name)))
    }
    do throws(DiTError) {
      schedule = try model.noise()
    } catch {
      throw error.about(file: file, .key(dotted(Self.key(of: error))), .configuration)
    }
    try Self.checkScheduler(model, file: file, path: path)
    guard !model.network.isToldGuidance || model.diffusion.path == .linear else {
      throw DiTError(
        file: file, key: dotted("diffusion.path"), expected: "linear, as token_groups tell the network a step's length",
        found: model.diffusion.path.rawValue)
    }
    guard (model.diffusion.variance == .learnedRange) == model.network.learnSigma else {
      let expected =
        model.network.learnSigma ? "learned_range, as learn_sigma is true" : "a fixed variance, as learn_sigma is false"
      throw DiTError(
        file: file, key: dotted("diffusion.variance"), expected: expected, found: model.diffusion.variance.rawValue)
    }
    do throws(DiTError) {
      try model.sampling.validate(model.network, schedule, saved: model.diffusersScheduler)
    } catch {
      throw error.about(file: file, .key(dotted("sampling.\(error.name)")), .configuration)
    }
    if let statistics = model.latentStatistics, statistics.mean.count != model.network.inChannels {
      throw DiTError(
        file: file, key: dotted("latent_statistics"),
        expected: "\(model.network.inChannels) channels, as in_channels says",
        found: "\(statistics.mean.count)")
    }
    if let classNames = model.classNames, classNames.count != model.network.numClasses {
      throw DiTError(
        file: file, key: dotted("class_names"), expected: "\(model.network.numClasses) names, as num_classes says",
        found: "\(classNames.count)")
    }
  }

  /// Throws unless the diffusion process is that of the saved scheduler.
  private static func checkScheduler(
    _ model: ModelConfiguration, file: String, path: String
  ) throws(DiTError) {
    let diffusion = model.diffusion
    guard let saved = model.diffusersScheduler else { return }
    func failure(_ key: String, _ expected: String, _ found: String) -> DiTError {
      DiTError(
        file: file, key: (path.isEmpty ? "" : "\(path).") + "\(ModelConfiguration.schedulerKey).\(key)",
        expected: expected,
        found: found)
    }
    if saved.trainSteps != diffusion.steps {
      throw failure("num_train_timesteps", "\(diffusion.steps), as diffusion.steps says", "\(saved.trainSteps)")
    }
    guard diffusion.path == .beta else {
      throw DiTError(
        file: file, key: (path.isEmpty ? "" : "\(path).") + "diffusion.path",
        expected: "beta, as \(ModelConfiguration.schedulerKey) says", found: diffusion.path.rawValue)
    }
    if (try? saved.diffusion(diffusion.variance).prediction) != diffusion.prediction {
      throw failure(
        "prediction_type", "what diffusion.prediction says, \(diffusion.prediction.rawValue)", saved.predictionType)
    }
  }

  /// The key of an error about the noise.
  private static func key(of error: DiTError) -> String {
    error.schedulerKey.map { "\(ModelConfiguration.schedulerKey).\($0)" } ?? error.name
  }
}
