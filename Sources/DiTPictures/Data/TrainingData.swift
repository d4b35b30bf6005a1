import DiTPipeline
import DiTTensor
import DiTTraining

/// Training data from a safetensors file or from pictures (``PictureSets``), which are not read before the model says at what size
/// they are needed.
public enum TrainingData: Sendable {
  case file(Dataset)
  case pictures(any PictureSet)

  /// The data at `path`; nil where there are none of these.
  ///
  /// - Throws: `DiTError`, and what opening a file throws.
  public init?(contentsOf path: String) throws {
    if path.lowercased().hasSuffix(".safetensors") {
      self = .file(try Dataset(contentsOf: path))
    } else if let (pictures, _) = try PictureSets.open(path) {
      self = .pictures(pictures)
    } else {
      return nil
    }
  }

  /// What the data say of their classes.
  public var classes: DataClasses {
    switch self {
    case .file(let data): DataClasses(data)
    case .pictures(let pictures): pictures.classes
    }
  }

  /// The data at the model's input size, and notes for the user, one per line.
  ///
  /// - Throws: `DiTError`, also for pictures and a model whose input is not a picture.
  public func dataset(
    for model: ModelConfiguration, _ training: TrainingConfiguration
  ) throws(DiTError) -> (data: Dataset, notes: [String]) {
    switch self {
    case .file(let data): return (data, [data.note].compactMap(\.self))
    case .pictures(let pictures):
      let network = model.network
      guard model.samplesArePixels else {
        throw DiTError(
          data: pictures.path, .entry("pictures"),
          .unusable("expected a model of 1 or 3 channels, found in_channels \(network.inChannels)"))
      }
      let (data, notes) = try pictures.dataset(
        channels: network.inChannels, height: network.inputHeight, width: network.inputWidth,
        options: PictureOptions(brokenImages: training.brokenImages, cacheBytes: training.cacheMegabytes << 20))
      return (data, pictures.notes + notes)
    }
  }
}

extension ImageFolder {
  /// Whether there is a folder at `path`.
  public static func isFolder(_ path: String) -> Bool { FileStamp.isFolder(path) }
}
