import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor
import Foundation

/// A diffusers DiT pipeline on disk, model_index.json with transformer/, scheduler/ and vae/ beside it, or a transformer's
/// directory alone: its parts, each read and checked by itself.
///
/// The network computes what diffusers computes from it (``DiTConfiguration/init(diffusers:attentionBias:)``). Whether the
/// saved scheduler can be used with it depends on the diffusion process; that is checked where the two become one model. The
/// autoencoder is not opened here.
public struct DiffusersDirectory: Sendable {
  package static let indexFile = "model_index.json"
  package static let schedulerFile = "scheduler/scheduler_config.json"
  package static let configurationFile = "config.json"
  package static let autoencoderName = "vae"
  static let transformerName = "transformer"
  static let weightsName = "diffusion_pytorch_model"
  /// Of diffusers, as written files name it: the one that these files were checked with.
  static let version = "0.42.1"

  public let path: String
  public let network: DiTConfiguration
  /// The saved scheduler; nil for a transformer alone, or a pipeline without one.
  public let scheduler: DiffusersScheduler?
  /// One name per class; nil where model_index.json has none.
  public let classNames: [String]?
  /// Whether there is an autoencoder in `vae/`.
  public let hasAutoencoder: Bool
  /// The file that errors about the whole name: model_index.json, or the transformer's config.json.
  package let mainFile: String
  /// The weights, under the published names.
  package let store: any TensorStore

  /// Reads the configurations, opens the weights, and compares the embedders of the blocks with each other.
  ///
  /// - Throws: `FileError`, ``ConfigurationFileError`` naming the file and the key, `ShardIndexError`,
  ///   `SafetensorsError`, `TorchFileError`, `StateDictMismatch` with diffusers' names.
  public init(contentsOf path: String) throws {
    let index = try Self.isPipeline(path) ? PipelineIndex(contentsOf: Paths.join(path, Self.indexFile)) : nil
    let directory = index == nil ? path : Paths.join(path, Self.transformerName)
    let reader = try JSONObjectReader(contentsOf: Paths.join(directory, Self.configurationFile))
    try self.init(path, index, transformer: reader, in: directory)
  }

  /// A transformer's directory alone, whose config.json has been read.
  package init(transformer path: String, configuration reader: JSONObjectReader) throws {
    try self.init(path, nil, transformer: reader, in: path)
  }

  private init(
    _ path: String, _ index: PipelineIndex?, transformer reader: JSONObjectReader, in directory: String
  ) throws {
    self.path = path
    mainFile = index?.file ?? reader.file
    var attentionBias = true
    var network = try DiTConfiguration(diffusers: reader, attentionBias: &attentionBias)
    let store = try DiffusersTransformerStore(
      Self.weights(in: directory), network: network, attentionBias: attentionBias)
    network.embedders = store.hasSharedEmbedders ? .shared : .perBlock
    self.network = network
    self.store = store
    scheduler =
      index?.hasScheduler == true ? try DiffusersScheduler(contentsOf: Paths.join(path, Self.schedulerFile)) : nil
    classNames = try index?.names(network.numClasses)
    hasAutoencoder = index?.hasAutoencoder ?? false
    if hasAutoencoder {
      let file = Paths.join(path, "\(Self.autoencoderName)/\(Self.configurationFile)")
      guard FileStatus.exists(file) else { throw FileError(path: file, reason: .missing) }
    }
  }

  /// Whether a directory holds a pipeline: it has model_index.json.
  package static func isPipeline(_ path: String) -> Bool {
    FileStatus.exists(Paths.join(path, indexFile))
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
        let single = Paths.join(directory, "\(weightsName).\(variant)\(ending)")
        let index = Paths.join(directory, "\(weightsName).\(ending).index.\(variant)json")
        if FileStatus.exists(index) { return try shards(index) }
        if FileStatus.exists(single) {
          return try StateDictFile.open(contentsOf: single, sections: [])
        }
      }
    }
    throw FileError(path: Paths.join(directory, "\(weightsName).safetensors"), reason: .missing)
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
