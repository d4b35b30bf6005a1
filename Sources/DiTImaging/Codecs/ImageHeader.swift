import DiTTensor

/// What a file says of its image before it is decoded.
public struct ImageHeader: Equatable, Sendable {
  /// PNG, JPEG or WebP.
  public let format: ImageFormat
  /// Pixels in a row, after Exif's orientation.
  public let width: Int
  /// Rows, after Exif's orientation.
  public let height: Int
  /// Samples a pixel: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha. Decoding composites alpha on white, so an
  /// ``Image`` has 1 or 3.
  public let channels: Int

  /// The header of a file, reading no more of it than that takes: 64 KiB mostly, the heads of all chunks of a PNG, and all of
  /// a WebP with Exif data, which stand behind the pixels.
  ///
  /// Checks the file's size against `limits`, not the image's.
  /// - Throws: `DiTError` that names the file.
  public init(ofFile path: String, limits: ImageLimits = ImageLimits()) throws(DiTError) {
    do {
      let file = try ImageFile.open(path, limits: limits)
      if try ImageFormat(of: ImageFile.bytes(of: file, upTo: 64)) == .png {
        self = try PNGCodec.header(of: PNGSource(file))
        _ = file.size  // open until here
        return
      }
      var prefix = 1 << 16
      while true {  // a profile or a preview may stand before the size
        if let header = try Self.header(ofFile: path, limits: limits, prefix: prefix) {
          self = header
          return
        }
        prefix *= 8
      }
    } catch {
      throw error.at(path)
    }
  }

  /// The header, nil when it does not lie within the file's first `prefix` bytes.
  private static func header(
    ofFile path: String, limits: ImageLimits, prefix: Int
  ) throws(DiTError) -> ImageHeader? {
    let (bytes, size) = try ImageFile.contents(of: path, limits: limits, prefix: prefix)
    do throws(DiTError) {
      return try ImageHeader(of: bytes)
    } catch {
      guard error.isTruncatedImage, prefix < size else { throw error }
      return nil
    }
  }

  /// The header of an image in memory; a beginning of a file that holds it is enough.
  public init(of data: [UInt8]) throws(DiTError) {
    switch try ImageFormat(of: data) {
    case .png: self = try PNGCodec.header(of: PNGSource(data))
    case .jpeg: self = try JPEGCodec.header(of: data)
    case .webp: self = try WebPCodec.header(of: data)
    }
  }

  /// - Parameter stored: width and height before orientation.
  init(format: ImageFormat, stored: (width: Int, height: Int), channels: Int, orientation: Orientation) {
    self.format = format
    (width, height) = orientation.isTransposed ? (stored.height, stored.width) : stored
    self.channels = channels
  }
}
