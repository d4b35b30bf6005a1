import DiTEngine
import DiTFiles
import DiTPictures

extension TrainingData {
  /// The data that `--data` names.
  ///
  /// - Throws: ``Failure`` (64) for what is neither data that ship with the tool, nor a file or folder of data; and what
  ///   reading them throws.
  init(option data: String) throws {
    let shipped = ShippedResources.DataSet.named(data)
    if let shipped, shipped != .fashion {
      self = .file(try Dataset(contentsOf: shipped.images()))
    } else if let content = try TrainingData(contentsOf: shipped?.images() ?? data) {
      self = content
    } else {
      throw Failure.usage(
        "--data",
        expected: "digits, emoji, fashion, a .safetensors file, a folder or tar archives of pictures, or an IDX file",
        found: FileStatus.exists(data) ? data : "\(data), where there is nothing")
    }
  }
}
