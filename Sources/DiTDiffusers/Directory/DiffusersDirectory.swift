import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor
import Foundation

/// A diffusers DiT pipeline on disk, model_index.json with transformer/, scheduler/ and vae/ beside it; a transformer's
/// directory alone; or a checkpoint of diffusers' training scripts, which has transformer/, transformer_ema/ or both, or the
/// same under the name unet: its parts, each read and checked by itself.
///
/// The network computes what diffusers computes from it (`DiffusersTransformer`). Whether the saved scheduler can be used with it depends on the diffusion process; that is checked where the two become one model. The
/// autoencoder is not opened here.
public struct DiffusersDirectory: Sendable {
  package static let indexFile = "model_index.json"
  package static let schedulerFile = "scheduler/scheduler_config.json"
  package static let configurationFile = "config.json"
  package static let autoencoderName = "vae"
  static let transformerName = "transformer"
  /// The names that training scripts give what they train; the average's end in `_ema`.
  private static let trainedNames = [transformerName, "unet"]
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
  /// What was passed over, one line each.
  public let notes: [String]
  /// The weights, under the published names.
  package let store: any TensorStore

  /// Which of the weights of a directory that has several.
  package enum Choice: Sendable {
    /// A pipeline's transformer/, as diffusers reads it; a checkpoint's average where it has one.
    case standard
    case trained
    case average
  }

  /// Reads the configurations, opens the weights, and compares the embedders of the blocks with each other.
  ///
  /// - Throws: `DiTError` naming the file and the key or tensor, with diffusers' names.
  public init(contentsOf path: String) throws { try self.init(contentsOf: path, .standard) }

  /// - Throws: `DiTError` where there is no average and one is asked for.
  package init(contentsOf path: String, _ choice: Choice) throws {
    let index = try Self.isPipeline(path) ? PipelineIndex(contentsOf: Paths.join(path, Self.indexFile)) : nil
    var directory = path
    if index != nil {
      directory = Paths.join(path, Self.transformerName)
      let average = "\(directory)_ema"
      if choice == .average, Self.isConfigured(average) { directory = average }
    } else if !Self.isConfigured(path) {
      directory = Self.checkpointPart(of: path, choice) ?? path
    }
    let reader = try JSONObjectReader(contentsOf: Paths.join(directory, Self.configurationFile))
    try self.init(path, index, transformer: reader, in: directory, choice)
  }

  /// A transformer's directory alone, whose config.json has been read.
  ///
  /// - Throws: as ``init(contentsOf:_:)``.
  package init(
    transformer path: String, configuration reader: JSONObjectReader, _ choice: Choice = .standard
  ) throws {
    try self.init(path, nil, transformer: reader, in: path, choice)
  }

  /// Whether a training script's name for it says that a directory's weights are an average. Its keys do not: a model that
  /// was trained on from an average keeps them.
  private static func isNamedAverage(_ directory: String) -> Bool {
    let name = Paths.name(of: directory)
    return trainedNames.contains { name == "\($0)_ema" }
  }

  private static func isConfigured(_ directory: String) -> Bool {
    FileStatus.exists(Paths.join(directory, configurationFile))
  }

  /// Whether a directory is a checkpoint of diffusers' training scripts: no model itself, it holds transformers.
  package static func isCheckpoint(_ path: String) -> Bool {
    !isPipeline(path) && !isConfigured(path) && checkpointPart(of: path, .standard) != nil
  }

  /// The directory of a checkpoint's transformer that is chosen; of one that is not there the other.
  private static func checkpointPart(of path: String, _ choice: Choice) -> String? {
    let trained = trainedNames.map { Paths.join(path, $0) }
    let averages = trained.map { "\($0)_ema" }
    return (choice == .trained ? trained + averages : averages + trained).first(where: isConfigured)
  }

  private init(
    _ path: String, _ index: PipelineIndex?, transformer reader: JSONObjectReader, in directory: String,
    _ choice: Choice
  ) throws {
    self.path = path
    mainFile = index?.file ?? reader.file
    let transformer = try DiffusersTransformer(reading: reader)
    let isNamed = Self.isNamedAverage(directory)
    guard choice != .average || isNamed || transformer.isAverage else {
      throw DiTError(
        file: path, .argument("weights"),
        expected: "a moving average: a training checkpoint, a model directory with ema, or transformer_ema/",
        found: "a diffusers directory without one")
    }
    guard choice != .trained || !isNamed else {
      throw DiTError(
        file: path, .argument("weights"), expected: "trained weights", found: "a moving average alone, \(directory)")
    }
    var network = transformer.network
    let store = try DiffusersTransformerStore(
      Self.weights(in: directory), network: network, attentionBias: transformer.hasAttentionBias)
    network.embedders = store.hasSharedEmbedders ? .shared : .perBlock
    self.network = network
    self.store = store
    scheduler =
      index?.hasScheduler == true ? try DiffusersScheduler(contentsOf: Paths.join(path, Self.schedulerFile)) : nil
    var notes = (index?.notes ?? []) + transformer.notes
    classNames = try index?.names(network.numClasses, notes: &notes)
    self.notes = notes
    hasAutoencoder = index?.hasAutoencoder ?? false
    if hasAutoencoder {
      let file = Paths.join(path, "\(Self.autoencoderName)/\(Self.configurationFile)")
      guard FileStatus.exists(file) else { throw DiTError(file: file, .missing) }
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
  /// - Throws: `DiTError` when there is none.
  package static func weights(in directory: String) throws -> any TensorStore {
    for ending in ["safetensors", "bin"] {
      for variant in ["", "fp16.", "bf16."] {
        // diffusers puts the variant before the last part of the name.
        let single = Paths.join(directory, "\(weightsName).\(variant)\(ending)")
        let index = Paths.join(directory, "\(weightsName).\(ending).index.\(variant)json")
        if FileStatus.exists(index) {
          return try ChosenTree(.averagePreferred, of: shards(index)).store
        }
        if FileStatus.exists(single) {
          return try StateDictFile(contentsOf: single).store
        }
      }
    }
    throw DiTError(file: Paths.join(directory, "\(weightsName).safetensors"), .missing)
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
