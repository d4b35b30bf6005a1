internal import CDiTPNG

/// The door to libpng: bytes ↔ samples. The only file that calls CDiTPNG.
enum PNGCodec {
  /// Samples as the file has them, expanded to 8 bits: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
  struct Raster {
    var width, height, channels: Int
    var pixels: [UInt8]
  }

  /// Decodes a PNG after checking its claims against `maximumPixels` and against the data's own length.
  static func decode(_ data: [UInt8], maximumPixels: Int) throws(ImagingError) -> Raster {
    var info = dit_png_info()
    var message = Message()
    var status = unsafe dit_png_read_info(data, data.count, &info, &message.text, message.text.count)
    try check(status, message)
    let (width, height, channels) = (Int(info.width), Int(info.height), Int(info.channels))
    guard width <= maximumPixels / height else {
      throw ImagingError(.tooLarge(width: width, height: height, maximumPixels: maximumPixels))
    }
    // Deflate cannot make data more than 1032 times smaller: a file shorter than that does not hold its image.
    let storedBytes = Double(info.stored_row_bytes) * Double(height)
    guard storedBytes <= 1032 * Double(data.count) else { throw ImagingError(.truncated) }
    var pixels = [UInt8](repeating: 0, count: width * height * channels)
    status = unsafe dit_png_read_pixels(data, data.count, &pixels, pixels.count, &message.text, message.text.count)
    try check(status, message)
    return Raster(width: width, height: height, channels: channels, pixels: pixels)
  }

  /// Encodes an image, with extra chunks (length, type, data) between the header and the pixels.
  static func encode(_ image: Image, chunks: [UInt8]) throws(ImagingError) -> [UInt8] {
    guard let width = UInt32(exactly: image.width), let height = UInt32(exactly: image.height) else {
      throw ImagingError(.unencodable("\(image.width)×\(image.height) pixels"))
    }
    var message = Message()
    var output: UnsafeMutablePointer<UInt8>?
    var count = 0
    let status = unsafe dit_png_write(
      image.pixels, width, height, UInt32(image.channels), chunks, chunks.count, &output, &count, &message.text,
      message.text.count)
    defer { unsafe dit_png_free(output) }
    try check(status, message)
    return unsafe Array(UnsafeBufferPointer(start: output, count: count))
  }

  private struct Message {
    var text = [CChar](repeating: 0, count: 160)
    var string: String { String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self) }
  }

  private static func check(_ status: dit_png_status, _ message: Message) throws(ImagingError) {
    switch status {
    case DIT_PNG_OK: return
    case DIT_PNG_NOT_PNG: throw ImagingError(.notPNG)
    case DIT_PNG_TRUNCATED: throw ImagingError(.truncated)
    case DIT_PNG_FAILED: throw ImagingError(.unencodable(message.string))
    default: throw ImagingError(.damaged(message.string))
    }
  }
}
