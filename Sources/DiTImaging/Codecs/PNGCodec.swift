internal import CDiTPNG

/// The door to libpng: bytes ↔ samples. The only file that calls CDiTPNG.
enum PNGCodec {
  /// Samples as the file has them, expanded to 8 bits: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
  struct Raster {
    var width, height, channels: Int
    var pixels: [UInt8]
  }

  /// Size and channels from a PNG's header, with alpha counted.
  static func header(of data: [UInt8]) throws(ImagingError) -> ImageHeader { try info(of: data).header }

  /// Decodes a PNG after checking its claims against the limits and against the data's own length.
  static func decode(_ data: [UInt8], limits: ImageLimits) throws(ImagingError) -> Raster {
    let (header, storedRowBytes) = try info(of: data)
    try limits.check(header, decodingBytes: 4 * storedRowBytes)
    // Deflate cannot make data more than 1032 times smaller: a file shorter than that does not hold its image.
    let storedBytes = Double(storedRowBytes) * Double(header.height)
    guard storedBytes <= 1032 * Double(data.count) else { throw ImagingError(.truncated(.png)) }
    var message = CMessage()
    var pixels = [UInt8](repeating: 0, count: header.width * header.height * header.channels)
    let status = unsafe dit_png_read_pixels(
      data, data.count, &pixels, pixels.count, &message.text, message.text.count)
    try check(status, message)
    return Raster(width: header.width, height: header.height, channels: header.channels, pixels: pixels)
  }

  private static func info(of data: [UInt8]) throws(ImagingError) -> (header: ImageHeader, storedRowBytes: Int) {
    var info = dit_png_info()
    var message = CMessage()
    let status = unsafe dit_png_read_info(data, data.count, &info, &message.text, message.text.count)
    try check(status, message)
    let header = ImageHeader(
      format: .png, width: Int(info.width), height: Int(info.height), channels: Int(info.channels))
    return (header, info.stored_row_bytes)
  }

  /// Encodes an image, with extra chunks (length, type, data) between the header and the pixels.
  static func encode(_ image: Image, chunks: [UInt8]) throws(ImagingError) -> [UInt8] {
    guard let width = UInt32(exactly: image.width), let height = UInt32(exactly: image.height) else {
      throw ImagingError(.unencodable("\(image.width)×\(image.height) pixels"))
    }
    var message = CMessage()
    var output: UnsafeMutablePointer<UInt8>?
    var count = 0
    let status = unsafe dit_png_write(
      image.pixels, width, height, UInt32(image.channels), chunks, chunks.count, &output, &count, &message.text,
      message.text.count)
    defer { unsafe dit_png_free(output) }
    try check(status, message)
    return unsafe Array(UnsafeBufferPointer(start: output, count: count))
  }

  private static func check(_ status: dit_png_status, _ message: CMessage) throws(ImagingError) {
    switch status {
    case DIT_PNG_OK: return
    case DIT_PNG_NOT_PNG: throw ImagingError(.damaged(.png, "the signature is another"))
    case DIT_PNG_TRUNCATED: throw ImagingError(.truncated(.png))
    case DIT_PNG_FAILED: throw ImagingError(.unencodable(message.string))
    default: throw ImagingError(.damaged(.png, message.string))
    }
  }
}

/// Room for a C decoder's line of text.
struct CMessage {
  var text = [CChar](repeating: 0, count: 200)
  var string: String { String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self) }
}
