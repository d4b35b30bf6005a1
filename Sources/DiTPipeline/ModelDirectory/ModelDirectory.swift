import DiTDiffusers
import DiTFiles
import DiTModel
import Foundation

/// Which of a model directory's weights to use, or of a torch training checkpoint's.
public enum WeightChoice: String, CaseIterable, Sendable {
  /// The moving average where there is one, else the trained weights.
  case emaPreferred = "auto"
  /// The moving average: ema.safetensors, what stands under `ema` or another word for it, or a diffusers directory's
  /// transformer_ema/.
  case ema
  /// The trained weights: model.safetensors, what stands under `model` or another word for them, or a diffusers directory's
  /// transformer/.
  case model

  /// The state dict of a training checkpoint.
  var tree: TreeChoice {
    switch self {
    case .emaPreferred: .averagePreferred
    case .ema: .average
    case .model: .trained
    }
  }

  /// Which of a diffusers directory's.
  var ofDiffusers: DiffusersDirectory.Choice {
    switch self {
    case .emaPreferred: .standard
    case .ema: .average
    case .model: .trained
    }
  }
}

/// A model on disk: config.json with model.safetensors, ema.safetensors or both beside it.
public struct ModelDirectory: Sendable {
  public static let configurationFile = "config.json"
  public static let modelFile = "model.safetensors"
  public static let emaFile = "ema.safetensors"
  /// The directory of an autoencoder that came with the model.
  public static let autoencoderName = "vae"

  public let path: String
  let checked: CheckedConfiguration

  public var configuration: ModelConfiguration { checked.model }

  /// Reads config.json; weights are opened when asked for.
  ///
  /// - Throws: `FileError`, ``ConfigurationFileError``.
  public init(contentsOf path: String) throws {
    try self.init(path, configuration: JSONObjectReader(contentsOf: Paths.join(path, Self.configurationFile)))
  }

  /// The directory whose config.json has been read.
  init(_ path: String, configuration reader: JSONObjectReader) throws(ConfigurationFileError) {
    self.path = path
    checked = try CheckedConfiguration(reading: reader)
  }

  /// The file that holds the chosen weights.
  ///
  /// - Throws: `FileError` when there is none.
  public func weightsPath(_ choice: WeightChoice = .emaPreferred) throws(FileError) -> String {
    let names =
      switch choice {
      case .emaPreferred: [Self.emaFile, Self.modelFile]
      case .ema: [Self.emaFile]
      case .model: [Self.modelFile]
      }
    let paths = names.map { Paths.join(path, $0) }
    for path in paths where FileStatus.exists(path) { return path }
    throw FileError(path: paths.last ?? path, reason: .missing)
  }

  /// The chosen weights, mapped.
  ///
  /// - Throws: `FileError`, `SafetensorsError`, `StateDictMismatch`.
  public func weights(_ choice: WeightChoice = .emaPreferred) throws -> Weights {
    try Weights(contentsOf: weightsPath(choice), configuration: configuration.network)
  }

  /// Writes a model directory, made if need be. Each file appears complete or not at all, config.json last, and none before
  /// all are on the disk: where it is full the directory is as before.
  ///
  /// An ema.safetensors or model.safetensors that is there and not written anew belongs to another model: it is removed.
  ///
  /// - Parameter dtype: F32, BF16 or F16.
  /// - Throws: `FileError`.
  /// - Precondition: weights are of this configuration.
  public static func write(
    _ configuration: ModelConfiguration, model: Weights?, ema: Weights?, as dtype: Dtype = .f32, to path: String
  ) throws {
    try Directory.create(path)
    let table = ParameterTable(configuration.network)
    for weights in [model, ema].compactMap(\.self) {
      precondition(weights.table == table, "weights of another configuration")
    }
    let modelFile = try model?.stage(for: Paths.join(path, Self.modelFile), as: dtype)
    let emaFile = try ema?.stage(for: Paths.join(path, Self.emaFile), as: dtype)
    if let file = consume modelFile { try file.commit() }
    if let file = consume emaFile { try file.commit() }
    for (weights, name) in [(model, Self.modelFile), (ema, Self.emaFile)] where weights == nil {
      try Directory.remove(Paths.join(path, name))
    }
    try configuration.write(to: Paths.join(path, configurationFile))
  }
}
