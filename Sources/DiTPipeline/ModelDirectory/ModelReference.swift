import DiTDiffusers
import DiTFiles
import DiTModel
import DiTTensor
import Foundation

/// What a word that stands for a model means: a model directory, a diffusers directory, a state dict, or a published name.
public enum ModelReference: Equatable, Sendable {
  /// A directory with config.json: a model's, or a transformer's alone as diffusers writes it.
  case directory(String)
  /// A pipeline's directory as diffusers writes it, with model_index.json.
  case diffusers(String)
  /// A safetensors file or a torch `.pt` with the published names (plain, or a training checkpoint); sizes are read from
  /// its shapes.
  case stateDict(String)
  /// `DiT-S/2` … `DiT-XL/8`, `DiT-Base/8` … `DiT-Large/32`: a configuration without weights.
  case published(String)

  /// Reads the word. A published name wins over a path of that spelling, which can be written `./DiT-S/2`.
  ///
  /// - Throws: `FileError` when it is not a published name and there is nothing at that path.
  public init(_ argument: String) throws(FileError) {
    if DiTConfiguration.named(argument) != nil {
      self = .published(argument)
      return
    }
    guard !argument.isEmpty, FileStatus.exists(argument) else {
      throw FileError(path: argument, reason: .missing)
    }
    let isDirectory = FileStatus.exists(Paths.join(argument, "."))
    self =
      !isDirectory
      ? .stateDict(argument) : DiffusersDirectory.isPipeline(argument) ? .diffusers(argument) : .directory(argument)
  }

  /// The configuration; weights are not read, but for those of a diffusers directory that say whether its blocks share
  /// their embedders.
  ///
  /// - Parameter heads: where a state dict's shapes cannot tell; anything else must agree with it.
  /// - Throws: `FileError`, `SafetensorsError`, `TorchFileError`, `ShardIndexError`, `StateDictMismatch`, ``ConfigurationFileError``, ``ModelFileError``.
  public func configuration(heads: Int? = nil) throws -> ModelConfiguration {
    try open(heads: heads).configuration.model
  }

  /// The configuration and the weights; these are nil for a published name.
  ///
  /// - Throws: as ``configuration(heads:)``, and `StateDictMismatch`.
  public func load(
    _ choice: WeightChoice = .emaPreferred, heads: Int? = nil
  ) throws -> (configuration: ModelConfiguration, weights: Weights?) {
    let model = try open(choice, heads: heads)
    return (model.configuration.model, try model.weights())
  }

  /// A model whose configuration has been read and checked.
  struct Opened {
    let configuration: CheckedConfiguration
    /// Reads the weights; nil for a published name.
    let weights: () throws -> Weights?
  }

  /// Reads and checks the configuration, once.
  ///
  /// - Throws: as ``configuration(heads:)``.
  func open(_ choice: WeightChoice = .emaPreferred, heads: Int?) throws -> Opened {
    switch self {
    case .directory(let path):
      let file = Paths.join(path, ModelDirectory.configurationFile)
      let reader = try JSONObjectReader(contentsOf: file)
      if DiffusersDirectory.isTransformer(reader) {
        return try Self.opened(DiffusersDirectory(transformer: path, configuration: reader), choice, heads)
      }
      let directory = try ModelDirectory(path, configuration: reader)
      try Self.check(directory.checked, heads: heads, file)
      return Opened(configuration: directory.checked) { try directory.weights(choice) }
    case .diffusers(let path):
      return try Self.opened(DiffusersDirectory(contentsOf: path), choice, heads)
    case .stateDict(let path):
      let file = try Self.open(path, choice)
      let configuration = try CheckedConfiguration(stateDict: file, heads: heads)
      return Opened(configuration: configuration) { try Weights(file, configuration: configuration.model.network) }
    case .published(let name):
      guard let model = ModelConfiguration(published: name) else { throw FileError(path: name, reason: .missing) }
      let configuration = try CheckedConfiguration(model, file: name)
      try Self.check(configuration, heads: heads, name)
      return Opened(configuration: configuration) { nil }
    }
  }

  private static func opened(
    _ directory: DiffusersDirectory, _ choice: WeightChoice, _ heads: Int?
  ) throws -> Opened {
    guard choice != .ema else {
      throw ModelFileError(
        file: directory.path, item: "weights", expected: "a training checkpoint or a model directory with ema",
        found: "a diffusers directory")
    }
    let configuration = try directory.checked()
    try check(configuration, heads: heads, directory.path)
    return Opened(configuration: configuration) { try directory.weights() }
  }

  /// The state dict at `path`, of a training checkpoint the one that is chosen.
  ///
  /// A plain state dict is what `model` and the default ask for, whatever it was averaged over; it has no other.
  private static func open(_ path: String, _ choice: WeightChoice) throws -> any TensorStore {
    let file = try StateDictFile.open(contentsOf: path, sections: choice.sections)
    if choice == .ema, (file as? TorchFile)?.section == nil {
      throw ModelFileError(
        file: path, item: "weights", expected: "a training checkpoint or a model directory with ema",
        found: "a plain state dict")
    }
    return file
  }

  private static func check(
    _ configuration: CheckedConfiguration, heads: Int?, _ file: String
  ) throws(ModelFileError) {
    let own = configuration.model.network.numHeads
    guard heads == nil || heads == own else {
      throw ModelFileError(file: file, item: "heads", expected: "\(own), as the model has", found: "\(heads ?? 0)")
    }
  }
}
