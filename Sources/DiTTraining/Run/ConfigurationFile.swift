import DiTFiles
import DiTPipeline
import DiTTensor

/// A training configuration file: `{ "model": {…}, "training": {…}, "sampling": {…} }`, each part optional.
public struct ConfigurationFile {
  /// A config.json's contents; nil where the file has none. Where neither it nor `sampling` says how to sample, that is
  /// `SamplingConfiguration.recommended`.
  public private(set) var model: ModelConfiguration?
  /// Nil where the file has none.
  public let training: TrainingConfiguration?
  private let sampling: JSONObjectReader?
  /// Whether the file says how many virtual ranks there are.
  public let statesVirtualRanks: Bool

  /// Reads and checks a file.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - classes: the data's, with which the model's must agree, and from which they are taken where it names none.
  ///   - defaults: of keys that `training` leaves out.
  /// - Throws: `DiTError` where the file cannot be read, for a key that is not known and a value that cannot be used.
  public init(
    contentsOf path: String, classes: DataClasses? = nil, defaults: TrainingConfiguration? = nil
  ) throws {
    var root = try JSONObjectReader(contentsOf: path)
    model = try root.value("model").map { value in
      let reader = try JSONObjectReader(classes?.completed(value) ?? value, file: path, path: "model")
      var model = try ModelConfiguration(reading: reader)
      if !Self.statesSampling(value) { model.sampling = .recommended(model.network, model.diffusion) }
      try classes?.check(model, file: path)
      return model
    }
    let section = try root.object("training")
    statesVirtualRanks = section?.peek("virtual_ranks") != nil
    training = try section.map {
      try TrainingConfiguration(reading: $0, defaults: defaults ?? TrainingConfiguration())
    }
    sampling = try root.object("sampling")
    try root.finish()
    if var model {
      try applySampling(to: &model)
      try model.validate(file: path, path: "model")
      self.model = model
    }
  }

  private static func statesSampling(_ model: JSONValue) -> Bool {
    if case .object(let members) = model { members.contains { $0.key == "sampling" } } else { false }
  }

  /// Gives a model the file's `sampling` part, where there is one.
  ///
  /// - Throws: `DiTError`.
  public func applySampling(to model: inout ModelConfiguration) throws {
    if let sampling { model.sampling = try SamplingConfiguration(reading: sampling, defaults: model.sampling) }
  }
}
