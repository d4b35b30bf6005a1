import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor
import Foundation

/// A diffusers DiT pipeline on disk, model_index.json with transformer/, scheduler/ and vae/ beside it, or a transformer's
/// directory alone.
///
/// What it computes is what diffusers computes from it (``DiTConfiguration/init(diffusers:attentionBias:)``), sampled as
/// its saved scheduler says; without one as a published model. Its autoencoder is not opened here.
public struct DiffusersDirectory: Sendable {
  static let indexFile = "model_index.json"
  static let schedulerFile = "scheduler/scheduler_config.json"
  static let weightsName = "diffusion_pytorch_model"
  /// Of diffusers, as written files name it: the one that these files were checked with.
  static let version = "0.42.1"

  public let path: String
  public let configuration: ModelConfiguration
  private let store: DiffusersTransformerStore

  /// Reads the configurations, opens the weights, and compares the embedders of the blocks with each other.
  ///
  /// - Throws: `FileError`, ``ConfigurationFileError`` naming the file and the key, `ShardIndexError`,
  ///   `SafetensorsError`, `TorchFileError`, `StateDictMismatch` with diffusers' names.
  public init(contentsOf path: String) throws {
    self.path = path
    let index = try Self.isPipeline(path) ? PipelineIndex(contentsOf: ModelDirectory.join(path, Self.indexFile)) : nil
    let transformer = index == nil ? path : ModelDirectory.join(path, "transformer")
    var attentionBias = true
    let reader = try JSONObjectReader(
      contentsOf: ModelDirectory.join(transformer, ModelDirectory.configurationFile))
    var network = try DiTConfiguration(diffusers: reader, attentionBias: &attentionBias)
    store = try DiffusersTransformerStore(
      Self.weights(in: transformer), network: network, attentionBias: attentionBias)
    network.embedders = store.hasSharedEmbedders ? .shared : .perBlock

    var configuration = ModelConfiguration(network: network)
    if index?.hasScheduler == true {
      configuration = try Self.scheduled(network, ModelDirectory.join(path, Self.schedulerFile))
    }
    configuration.classNames = try index?.names(network.numClasses)
    if index?.hasAutoencoder == true {
      let file = ModelDirectory.join(path, "vae/\(ModelDirectory.configurationFile)")
      guard FileManager.default.fileExists(atPath: file) else { throw FileError(path: file, reason: .missing) }
      configuration.autoencoder = ModelDirectory.autoencoderName
    }
    try configuration.validate(file: ModelDirectory.join(path, index == nil ? "config.json" : Self.indexFile))
    self.configuration = configuration
  }

  /// The weights, under the published names.
  ///
  /// - Throws: as reading a tensor does.
  public func weights() throws -> Weights { try Weights(store, configuration: configuration.network) }

  /// Whether a directory is one of diffusers': it has model_index.json, or a config.json that names a class.
  public static func isOne(_ path: String) -> Bool {
    if isPipeline(path) { return true }
    let file = ModelDirectory.join(path, ModelDirectory.configurationFile)
    guard var reader = try? JSONObjectReader(contentsOf: file) else { return false }
    return reader.value("_class_name") != nil
  }

  private static func isPipeline(_ path: String) -> Bool {
    FileManager.default.fileExists(atPath: ModelDirectory.join(path, indexFile))
  }

  private static func scheduled(_ network: DiTConfiguration, _ file: String) throws -> ModelConfiguration {
    let scheduler = try DiffusersScheduler(
      reading: JSONObjectReader(JSONValue(contentsOf: file, fromPython: true), file: file))
    do {
      let configuration = try ModelConfiguration(network: network, scheduler: scheduler)
      try configuration.validate(file: file)
      return configuration
    } catch let error as DiffusionError {
      throw ConfigurationFileError(
        file: file, key: error.schedulerKey ?? error.name, expected: error.expected, found: error.found)
    } catch let error as ConfigurationFileError {
      // The section's name belongs to config.json.
      let section = "\(ModelConfiguration.schedulerKey)."
      let key = error.key.hasPrefix(section) ? String(error.key.dropFirst(section.count)) : error.key
      throw ConfigurationFileError(file: file, key: key, problem: error.problem)
    }
  }

  // MARK: Weights

  /// The tensors of a model of diffusers, in one file or several: an index where there is one, else a single file;
  /// safetensors before torch's, full precision before a half-precision variant.
  ///
  /// - Throws: `FileError` when there is none.
  package static func weights(in directory: String) throws -> any TensorStore {
    for ending in ["safetensors", "bin"] {
      for variant in ["", "fp16.", "bf16."] {
        // diffusers puts the variant before the last part of the name.
        let single = ModelDirectory.join(directory, "\(weightsName).\(variant)\(ending)")
        let index = ModelDirectory.join(directory, "\(weightsName).\(ending).index.\(variant)json")
        if FileManager.default.fileExists(atPath: index) { return try shards(index) }
        if FileManager.default.fileExists(atPath: single) {
          return try StateDictFile.open(contentsOf: single, sections: [])
        }
      }
    }
    throw FileError(path: ModelDirectory.join(directory, "\(weightsName).safetensors"), reason: .missing)
  }

  private static func shards(_ path: String) throws -> ShardedTensors {
    var reader = try JSONObjectReader(contentsOf: path)
    _ = reader.value("metadata")  // sizes, which the files themselves tell
    guard let value = reader.value("weight_map") else {
      throw reader.failure("weight_map", expected: "an object", found: "nothing")
    }
    guard case .object(let members) = value else {
      throw reader.failure("weight_map", expected: "an object", found: value.summary)
    }
    try reader.finish()
    var map: [(tensor: String, file: String)] = []
    for member in members {
      guard case .string(let file) = member.value else {
        throw reader.failure(
          "weight_map.\(member.key)", expected: "a file name", found: member.value.summary)
      }
      map.append((member.key, file))
    }
    return try ShardedTensors(index: path, map: map)
  }
}

// MARK: - model_index.json

/// What a pipeline consists of.
private struct PipelineIndex {
  let hasScheduler, hasAutoencoder: Bool
  private let labels: [JSONMember]
  private let file: String

  init(contentsOf path: String) throws {
    var reader = try JSONObjectReader(contentsOf: path)
    file = path
    let name = try reader.string("_class_name")
    guard name == "DiTPipeline" else {
      throw reader.failure("_class_name", expected: "\"DiTPipeline\"", found: name.map { "\"\($0)\"" } ?? "nothing")
    }
    for key in ["_diffusers_version", "_name_or_path"] { _ = reader.value(key) }
    guard try Self.part("transformer", of: DiTConfiguration.diffusersClasses, &reader) else {
      throw reader.failure("transformer", expected: "[\"diffusers\", \"DiTTransformer2DModel\"]", found: "nothing")
    }
    hasAutoencoder = try Self.part("vae", of: ["AutoencoderKL"], &reader)
    hasScheduler = try Self.part("scheduler", of: nil, &reader)  // its own file says which
    reader.remove("id2label", if: .null)
    let value = reader.value("id2label") ?? .object([])
    guard case .object(let labels) = value else {
      throw reader.failure("id2label", expected: "an object", found: value.summary)
    }
    self.labels = labels
    try reader.finish()
  }

  /// Whether a part is there: `["diffusers", class]`; not where it is left out or `[null, null]`.
  private static func part(
    _ key: String, of classes: [String]?, _ reader: inout JSONObjectReader
  ) throws(ConfigurationFileError) -> Bool {
    guard let value = reader.value(key), value != .null, value != .array([.null, .null]) else { return false }
    let expected = classes.map { $0.joined(separator: " or ") } ?? "a class"
    guard case .array(let pair) = value, pair.count == 2, pair[0] == .string("diffusers"),
      case .string(let name) = pair[1], classes?.contains(name) ?? true
    else {
      var found = value.summary
      if case .array(let pair) = value { found = "[\(pair.map(\.summary).joined(separator: ", "))]" }
      throw reader.failure(key, expected: "[\"diffusers\", \(expected)]", found: found)
    }
    return true
  }

  /// One name a class, its number where `id2label` has none; nil where it has none at all.
  func names(_ classes: Int) throws(ConfigurationFileError) -> [String]? {
    guard !labels.isEmpty else { return nil }
    var names = (0..<classes).map { "\($0)" }
    for label in labels {
      guard let id = Int(label.key), 0..<classes ~= id else {
        throw ConfigurationFileError(
          file: file, key: "id2label.\(label.key)", expected: "a class, 0…\(classes - 1)", found: label.key)
      }
      guard case .string(let name) = label.value else {
        throw ConfigurationFileError(
          file: file, key: "id2label.\(label.key)", expected: "a string", found: label.value.summary)
      }
      names[id] = name
    }
    return names
  }
}
