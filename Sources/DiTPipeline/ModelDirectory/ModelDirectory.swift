import DiTDiffusers
import DiTFiles
import DiTModel
import DiTTensor
import Foundation

/// Which of a model directory's weights to use, or of a torch training checkpoint's.
public enum WeightChoice: Hashable, Sendable, RawRepresentable {
  /// The moving average where there is one, else the trained weights.
  case emaPreferred
  /// The moving average: ema.safetensors, what stands under `ema` or another word for it, or a diffusers directory's
  /// transformer_ema/.
  case ema
  /// The trained weights: model.safetensors, what stands under `model` or another word for them, or a diffusers directory's
  /// transformer/.
  case model
  /// What a checkpoint has under this key, such as `model_ema2`; of a model directory the file NAME.safetensors.
  case named(String)

  /// `auto`, `ema`, `model`, or a name; never nil.
  public init?(rawValue: String) {
    switch rawValue {
    case "auto": self = .emaPreferred
    case "ema": self = .ema
    case "model": self = .model
    default: self = .named(rawValue)
    }
  }

  public var rawValue: String {
    switch self {
    case .emaPreferred: "auto"
    case .ema: "ema"
    case .model: "model"
    case .named(let name): name
    }
  }

  /// The choices that every kind of model knows.
  public static let common: [WeightChoice] = [.emaPreferred, .ema, .model]

  /// The state dict of a training checkpoint.
  var tree: TreeChoice {
    switch self {
    case .emaPreferred: .averagePreferred
    case .ema: .average
    case .model: .trained
    case .named(let name): .named([name])
    }
  }

  /// Which of those of the diffusers directory at `path`.
  ///
  /// - Throws: `DiTError` for a name, as it has none.
  func ofDiffusers(_ path: String) throws(DiTError) -> DiffusersDirectory.Choice {
    switch self {
    case .emaPreferred: return .standard
    case .ema: return .average
    case .model: return .trained
    case .named(let name):
      throw DiTError(
        file: path, .argument("weights"), expected: "auto, ema or model, as it is a diffusers directory", found: name)
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
  /// - Throws: `DiTError`.
  public init(contentsOf path: String) throws {
    try self.init(path, configuration: Self.readConfiguration(in: path))
  }

  /// config.json, not checked yet.
  ///
  /// - Throws: `DiTError`, which says of a folder without one what it should have.
  static func readConfiguration(in path: String) throws -> JSONObjectReader {
    let file = Paths.join(path, configurationFile)
    guard try FileStatus(path: file) != nil else {
      throw DiTError(
        file: path, nil,
        expected: "\(configurationFile) and weights in it, as in a run's folder or one of its checkpoints",
        found: "no \(configurationFile)")
    }
    return try JSONObjectReader(contentsOf: file)
  }

  /// The directory whose config.json has been read.
  init(_ path: String, configuration reader: JSONObjectReader) throws(DiTError) {
    self.path = path
    checked = try CheckedConfiguration(reading: reader)
  }

  /// The file that holds the chosen weights.
  ///
  /// - Throws: `DiTError` when there is none.
  public func weightsPath(_ choice: WeightChoice = .emaPreferred) throws(DiTError) -> String {
    let names =
      switch choice {
      case .emaPreferred: [Self.emaFile, Self.modelFile]
      case .ema: [Self.emaFile]
      case .model: [Self.modelFile]
      case .named(let name): [name + Self.averageEnding]
      }
    let paths = names.map { Paths.join(path, $0) }
    for path in paths where FileStatus.exists(path) { return path }
    throw DiTError(file: paths.last ?? path, .missing)
  }

  /// The chosen weights, mapped.
  ///
  /// - Throws: `DiTError`.
  public func weights(_ choice: WeightChoice = .emaPreferred) throws -> Weights {
    try Weights(contentsOf: weightsPath(choice), configuration: configuration.network)
  }

  /// What the file of a further moving average is called, without its ending: `ema-0.9996`.
  package static func averageName(_ decay: Double) -> String { "ema-\(decay)" }

  private static let averageEnding = ".safetensors"

  /// The weights of a further moving average, mapped: those of ema-DECAY.safetensors, which training with several
  /// `ema_decays` leaves beside ema.safetensors.
  ///
  /// - Throws: `DiTError`.
  public func weights(averagedWith decay: Double) throws -> Weights {
    let file = Paths.join(path, Self.averageName(decay) + Self.averageEnding)
    return try Weights(contentsOf: file, configuration: configuration.network)
  }

  /// Writes a model directory, made if need be. Each file appears complete or not at all, config.json last, and none before
  /// all are on the disk: where it is full the directory is as before.
  ///
  /// An ema.safetensors, ema-DECAY.safetensors or model.safetensors that is there and not written anew belongs to another
  /// model: it is removed.
  ///
  /// - Parameters:
  ///   - configuration: becomes config.json.
  ///   - model: the trained weights; nil: none are written.
  ///   - ema: their moving average; nil: none is written.
  ///   - furtherAverages: moving averages beside `ema`, with their decays.
  ///   - dtype: F32, BF16 or F16.
  ///   - path: the directory.
  /// - Throws: `DiTError`.
  /// - Precondition: weights are of this configuration.
  public static func write(
    _ configuration: ModelConfiguration, model: Weights?, ema: Weights?,
    furtherAverages: [(decay: Double, weights: Weights)] = [], as dtype: Dtype = .f32, to path: String
  ) throws {
    let further = furtherAverages.map { average in (decay: average.decay, weights: { average.weights }) }
    try write(
      configuration, model: model.map { model in { model } }, ema: ema.map { ema in { ema } }, furtherAverages: further,
      as: dtype, to: path)
  }

  /// The same of weights that are asked for when their turn comes, in the order of the parameters, so that they may take each
  /// other's memory.
  package static func write(
    _ configuration: ModelConfiguration, model: (() throws -> Weights)?, ema: (() throws -> Weights)?,
    furtherAverages: [(decay: Double, weights: () throws -> Weights)], as dtype: Dtype = .f32, to path: String
  ) throws {
    try write(configuration, model: model, ema: ema, furtherAverages: furtherAverages, to: path) { weights, path in
      try weights.stage(for: path, as: dtype)
    }
  }

  /// The same of files that `stage` writes.
  static func write(
    _ configuration: ModelConfiguration, model: (() throws -> Weights)?, ema: (() throws -> Weights)?,
    furtherAverages: [(decay: Double, weights: () throws -> Weights)], to path: String,
    stage: (_ weights: Weights, _ path: String) throws -> AtomicFile
  ) throws {
    try Directory.create(path)
    let further = furtherAverages.map { (name: averageName($0.decay) + averageEnding, weights: Optional($0.weights)) }
    let files = [(name: Self.modelFile, weights: model), (name: Self.emaFile, weights: ema)] + further
    try write(files[...], of: ParameterTable(configuration.network), to: path, stage)
    for (name, weights) in files where weights == nil { try Directory.remove(Paths.join(path, name)) }
    let stale = try Directory.names(path).filter { name in
      averageDecay(name) != nil && !further.contains { $0.name == name }
    }
    for name in stale { try Directory.remove(Paths.join(path, name)) }
    try configuration.write(to: Paths.join(path, configurationFile))
  }

  /// Stages the files in order, then puts all of them in their places.
  private static func write(
    _ files: ArraySlice<(name: String, weights: (() throws -> Weights)?)>, of table: ParameterTable, to path: String,
    _ stage: (_ weights: Weights, _ path: String) throws -> AtomicFile
  ) throws {
    guard let (name, weights) = files.first else { return }
    guard let weights = try weights?() else { return try write(files.dropFirst(), of: table, to: path, stage) }
    precondition(weights.table == table, "weights of another configuration")
    let file = try stage(weights, Paths.join(path, name))
    try write(files.dropFirst(), of: table, to: path, stage)
    try file.commit()
  }

  /// The decay of a file that is called ema-DECAY.safetensors; nil for any other.
  static func averageDecay(_ name: String) -> Double? {
    guard name.hasPrefix("ema-"), name.hasSuffix(averageEnding) else { return nil }
    let decay = Double(name.dropFirst(4).dropLast(averageEnding.count))
    return decay.flatMap { averageName($0) + averageEnding == name ? $0 : nil }
  }

  /// Whether there is a config.json of a model here, and not that of a diffusers transformer.
  static func isModel(_ path: String) -> Bool {
    let reader = try? JSONObjectReader(contentsOf: Paths.join(path, configurationFile))
    return reader.map { !DiffusersDirectory.isTransformer($0) } ?? false
  }
}
