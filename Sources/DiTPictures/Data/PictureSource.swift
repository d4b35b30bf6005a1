import DiTFiles
import DiTImaging
import DiTTensor
import DiTTraining

/// A picture of a ``PictureListing``: a file, or a part of one.
struct PictureEntry: Sendable {
  /// What errors call it, behind the listing's name.
  let path: String
  /// The file that holds it.
  let file: String
  /// Its bytes in the file; nil for all of them.
  var range: Range<Int>?
}

/// Pictures at a model's input size, decoded on demand.
struct PictureSource: ImageSource {
  struct File: Sendable {
    let entry: PictureEntry
    /// Nil where the file could not be looked at.
    let stamp: FileStamp?
  }

  let name: String
  let channels, height, width: Int
  let limits: ImageLimits
  let files: [File]
  /// Of the pictures' paths, sizes, heads and tails; see ``FileHeadAndTail/add(to:)``.
  let digest: UInt64

  var count: Int { files.count }
  /// C·H·W.
  var sampleBytes: Int { channels * height * width }

  /// Decodes, resizes by area and cuts from the middle, converts to gray or RGB.
  func read(_ index: Int, into pixels: inout MutableSpan<UInt8>) throws(DiTError) {
    let entry = files[index].entry
    let path = "\(name)/\(entry.path)"
    guard let stamp = FileStamp(entry.file) else { throw DiTError(data: path, nil, .unusable("is no longer there")) }
    guard stamp == files[index].stamp else {
      throw DiTError(data: path, nil, .unusable("has changed since training began"))
    }
    let image = try decoded(entry, path)
    let area = height * width
    for channel in 0..<channels {
      for i in 0..<area { pixels[channel * area + i] = image.pixels[i * channels + channel] }
    }
  }

  /// The picture as training sees it, (H, W, C).
  private func decoded(_ entry: PictureEntry, _ path: String) throws(DiTError) -> Image {
    let size = (width: width, height: height)
    do throws(DiTError) {
      guard let range = entry.range else {
        return try Image(contentsOf: entry.file, limits: limits, fittedTo: size).converted(toChannels: channels)
      }
      let bytes = try RegularFile(path: entry.file).bytes(range)
      do throws(DiTError) {
        return try Image(encoded: bytes, limits: limits, fittedTo: size).converted(toChannels: channels)
      } catch {
        throw error.at(path)
      }
    } catch {
      throw error.of(.data)
    }
  }
}
