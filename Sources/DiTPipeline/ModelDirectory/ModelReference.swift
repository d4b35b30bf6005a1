import DiTFiles
import DiTModel
import DiTTensor
import Foundation

/// What a word that stands for a model means: a model directory, a diffusers directory, a state dict, or a published name.
public enum ModelReference: Equatable, Sendable {
  /// A directory with config.json.
  case directory(String)
  /// A pipeline's or a transformer's directory as diffusers writes it.
  case diffusers(String)
  /// A safetensors file or a torch `.pt` with the published names (plain, or a training checkpoint); sizes are read from
  /// its shapes.
  case stateDict(String)
  /// `DiT-S/2` … `DiT-XL/8`, `DiT-Base/8` … `DiT-Large/32`: a configuration without weights.
  case published(String)

  /// Reads the word. A published name wins over a path of that spelling, which can be written `./DiT-S/2`.
  ///
  /// - Throws: `FileError` when it is no published name and there is nothing at that path.
  public init(_ argument: String) throws(FileError) {
    if DiTConfiguration.named(argument) != nil {
      self = .published(argument)
      return
    }
    guard !argument.isEmpty, FileManager.default.fileExists(atPath: argument) else {
      throw FileError(path: argument, reason: .missing)
    }
    let isDirectory = FileManager.default.fileExists(atPath: ModelDirectory.join(argument, "."))
    self =
      !isDirectory
      ? .stateDict(argument) : DiffusersDirectory.isOne(argument) ? .diffusers(argument) : .directory(argument)
  }

  /// The configuration; weights are not read, but for those of a diffusers directory that say whether its blocks share
  /// their embedders.
  ///
  /// - Parameter heads: where a state dict's shapes cannot tell; anything else must agree with it.
  /// - Throws: `FileError`, `SafetensorsError`, `TorchFileError`, `ShardIndexError`, `StateDictMismatch`, ``ConfigurationFileError``, ``ModelFileError``.
  public func configuration(heads: Int? = nil) throws -> ModelConfiguration {
    switch self {
    case .directory(let path):
      let configuration = try ModelDirectory(contentsOf: path).configuration
      return try Self.check(configuration, heads: heads, ModelDirectory.join(path, ModelDirectory.configurationFile))
    case .diffusers(let path):
      return try Self.check(DiffusersDirectory(contentsOf: path).configuration, heads: heads, path)
    case .stateDict(let path):
      return try Self.configuration(Self.open(path, .emaPreferred), heads: heads)
    case .published(let name):
      guard let configuration = ModelConfiguration(published: name) else {
        throw FileError(path: name, reason: .missing)
      }
      return try Self.check(configuration, heads: heads, name)
    }
  }

  /// The configuration and the weights; these are nil for a published name.
  ///
  /// - Throws: as ``configuration(heads:)``, and `StateDictMismatch`.
  public func load(
    _ choice: WeightChoice = .emaPreferred, heads: Int? = nil
  ) throws -> (configuration: ModelConfiguration, weights: Weights?) {
    switch self {
    case .directory(let path):
      return (try configuration(heads: heads), try ModelDirectory(contentsOf: path).weights(choice))
    case .diffusers(let path):
      guard choice != .ema else {
        throw ModelFileError(
          file: path, item: "weights", expected: "a training checkpoint or a model directory with ema",
          found: "a diffusers directory")
      }
      let directory = try DiffusersDirectory(contentsOf: path)
      return (try Self.check(directory.configuration, heads: heads, path), try directory.weights())
    case .stateDict(let path):
      let file = try Self.open(path, choice)
      let configuration = try Self.configuration(file, heads: heads)
      return (configuration, try Weights(file, configuration: configuration.network))
    case .published:
      return (try configuration(heads: heads), nil)
    }
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

  private static func configuration(_ file: some TensorStore, heads: Int?) throws(ModelFileError) -> ModelConfiguration
  {
    try ModelConfiguration(stateDict: file, heads: heads)
  }

  private static func check(
    _ configuration: ModelConfiguration, heads: Int?, _ file: String
  ) throws(ModelFileError) -> ModelConfiguration {
    let own = configuration.network.numHeads
    guard heads == nil || heads == own else {
      throw ModelFileError(file: file, item: "heads", expected: "\(own), as the model has", found: "\(heads ?? 0)")
    }
    return configuration
  }
}
