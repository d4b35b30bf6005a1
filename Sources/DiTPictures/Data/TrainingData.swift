import DiTPipeline
import DiTTensor
import DiTTraining

/// Training data from a safetensors file or a folder of pictures. A folder's pictures are not read before the model says
/// at what size they are needed.
public enum TrainingData: Sendable {
  case file(Dataset)
  case folder(ImageFolder)

  /// The data at `path`; nil where that is neither a `.safetensors` file nor a folder.
  ///
  /// - Throws: `DiTError`, and what opening a file throws.
  public init?(contentsOf path: String) throws {
    if path.lowercased().hasSuffix(".safetensors") {
      self = .file(try Dataset(contentsOf: path))
    } else if ImageFolder.isFolder(path) {
      self = .folder(try ImageFolder(path))
    } else {
      return nil
    }
  }

  /// What the data say of their classes.
  public var classes: DataClasses {
    switch self {
    case .file(let data): DataClasses(data)
    case .folder(let folder):
      DataClasses(
        source: folder.path, names: folder.classNames, statedCount: folder.classNames?.count ?? 0,
        count: folder.classNames?.count)
    }
  }

  /// The data at the model's input size, and notes for the user, one per line.
  ///
  /// - Throws: `DiTError`, also for a folder and a model whose input is not a picture.
  public func dataset(
    for model: ModelConfiguration, _ training: TrainingConfiguration
  ) throws(DiTError) -> (data: Dataset, notes: [String]) {
    switch self {
    case .file(let data): return (data, [data.note].compactMap(\.self))
    case .folder(let folder):
      let network = model.network
      guard model.samplesArePixels else {
        throw DiTError(
          data: folder.path, .entry("pictures"),
          .unusable("expected a model of 1 or 3 channels, found in_channels \(network.inChannels)"))
      }
      let (data, notes) = try folder.dataset(
        channels: network.inChannels, height: network.inputHeight, width: network.inputWidth,
        options: ImageFolderOptions(
          brokenImages: training.brokenImages, cacheBytes: training.cacheMegabytes << 20))
      return (data, folder.notes + notes)
    }
  }
}

extension ImageFolder {
  /// Whether there is a folder at `path`.
  public static func isFolder(_ path: String) -> Bool { FileStamp.isFolder(path) }
}
