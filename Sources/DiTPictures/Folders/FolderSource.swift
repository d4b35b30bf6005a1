import DiTImaging
import DiTTensor
import DiTTraining

/// The pictures of a folder at a model's input size, decoded on demand.
struct FolderSource: ImageSource {
  struct File: Sendable {
    /// Relative to the folder.
    let path: String
    /// Nil where the file could not be looked at.
    let stamp: FileStamp?
  }

  let name: String
  let channels, height, width: Int
  let limits: ImageLimits
  let files: [File]
  /// Of the files' paths, sizes, heads and tails; see ``FileHeadAndTail/add(to:)``.
  let digest: UInt64

  var count: Int { files.count }
  /// C·H·W.
  var sampleBytes: Int { channels * height * width }

  /// Decodes, resizes by area and cuts from the middle, converts to gray or RGB.
  func read(_ index: Int, into pixels: inout MutableSpan<UInt8>) throws(DiTError) {
    let path = "\(name)/\(files[index].path)"
    guard let stamp = FileStamp(path) else { throw DiTError(data: path, nil, .unusable("is no longer there")) }
    guard stamp == files[index].stamp else {
      throw DiTError(data: path, nil, .unusable("has changed since training began"))
    }
    let image = try decoded(path)
    let area = height * width
    for channel in 0..<channels {
      for i in 0..<area { pixels[channel * area + i] = image.pixels[i * channels + channel] }
    }
  }

  /// The picture at `path` as training sees it, (H, W, C).
  private func decoded(_ path: String) throws(DiTError) -> Image {
    do throws(DiTError) {
      return try Image(contentsOf: path, limits: limits, fittedTo: (width: width, height: height))
        .converted(toChannels: channels)
    } catch {
      throw error.of(.data)
    }
  }
}
