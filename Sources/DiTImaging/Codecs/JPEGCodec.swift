internal import CDiTJPEG

/// The door to libjpeg-turbo: bytes → samples. The only file that calls CDiTJPEG.
enum JPEGCodec {
  /// Size after orientation, and channels after conversion.
  static func header(of data: [UInt8]) throws(ImagingError) -> ImageHeader {
    let info = try info(of: data)
    return header(info, orientation: Orientation(ofJPEG: data))
  }

  /// An image as it is stored, at its size or smaller.
  struct Stored {
    var image: Image
    var orientation: Orientation
    /// Width and height before they were rounded up: the last column and row may be narrower than others.
    var extent: (width: Double, height: Double)

    var upright: Image { image.upright(from: orientation) }

    /// Upright and fitted; turned last, when it is small.
    func fitted(to size: (width: Int, height: Int)) -> Image {
      let (width, height) = orientation.isTransposed ? (size.height, size.width) : size
      return image.fitted(width: width, height: height, extent: extent).upright(from: orientation)
    }
  }

  /// Decodes a JPEG after checking its claims against the limits and against the data's own length.
  ///
  /// With `target` (width, height) it comes at 1/2, 1/4 or 1/8 of its size: the smallest that is at least twice the target
  /// in both directions.
  static func decode(
    _ data: [UInt8], limits: ImageLimits, target: (width: Int, height: Int)? = nil
  ) throws(ImagingError) -> Stored {
    let info = try info(of: data)
    let orientation = Orientation(ofJPEG: data)
    let header = header(info, orientation: orientation)
    try limits.check(header, decodingBytes: info.working_bytes)
    guard info.minimum_bytes <= data.count else { throw ImagingError(.truncated(.jpeg)) }
    let eighths = target.map { Self.eighths(of: header, for: $0) } ?? 8
    let (width, height) = ((Int(info.width) * eighths + 7) / 8, (Int(info.height) * eighths + 7) / 8)
    let options = dit_jpeg_options(
      maximum_bytes: limits.memoryBytes, maximum_scans: UInt32(clamping: limits.scans), eighths: UInt32(eighths))
    var message = CMessage()
    var pixels = [UInt8](repeating: 0, count: width * height * Int(info.channels))
    let status = unsafe dit_jpeg_read_pixels(
      data, data.count, options, &pixels, pixels.count, &message.text, message.text.count)
    try check(status, message, limits)
    return Stored(
      image: Image(width: width, height: height, channels: Int(info.channels), pixels: pixels),
      orientation: orientation,
      extent: (Double(info.width) * Double(eighths) / 8, Double(info.height) * Double(eighths) / 8))
  }

  private static func eighths(of header: ImageHeader, for target: (width: Int, height: Int)) -> Int {
    [1, 2, 4].first { header.width * $0 >= 16 * target.width && header.height * $0 >= 16 * target.height } ?? 8
  }

  private static func header(_ info: dit_jpeg_info, orientation: Orientation) -> ImageHeader {
    let (width, height) = (Int(info.width), Int(info.height))
    return ImageHeader(
      format: .jpeg, width: orientation.isTransposed ? height : width,
      height: orientation.isTransposed ? width : height,
      channels: Int(info.channels))
  }

  private static func info(of data: [UInt8]) throws(ImagingError) -> dit_jpeg_info {
    var info = dit_jpeg_info()
    var message = CMessage()
    let status = unsafe dit_jpeg_read_info(data, data.count, &info, &message.text, message.text.count)
    try check(status, message, ImageLimits())
    return info
  }

  private static func check(
    _ status: dit_jpeg_status, _ message: CMessage, _ limits: ImageLimits
  ) throws(ImagingError) {
    switch status {
    case DIT_JPEG_OK: return
    case DIT_JPEG_TRUNCATED: throw ImagingError(.truncated(.jpeg))
    case DIT_JPEG_MANY_SCANS: throw ImagingError(.tooManyScans(maximum: limits.scans))
    case DIT_JPEG_MUCH_MEMORY:
      throw ImagingError(.tooMuchMemory(bytes: limits.memoryBytes, maximum: limits.memoryBytes))
    default: throw ImagingError(.damaged(.jpeg, message.string))
    }
  }
}
