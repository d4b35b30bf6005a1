internal import CDiTWebP
import DiTTensor

/// The door to libwebp: bytes → samples. The only file that calls CDiTWebP.
enum WebPCodec {
  /// Size after orientation, and channels with alpha counted.
  static func header(of data: [UInt8]) throws(DiTError) -> ImageHeader {
    let info = try info(of: data)
    return header(info, orientation: orientation(data, info))
  }

  /// The image, or an animation's first frame on its canvas, upright.
  static func decode(_ data: [UInt8], limits: ImageLimits) throws(DiTError) -> Image {
    let info = try info(of: data)
    let orientation = orientation(data, info)
    try limits.check(header(info, orientation: orientation), pixelBytes: held(info), decodingBytes: info.working_bytes)
    return try whole(data, info).upright(from: orientation)
  }

  /// The image fitted to a size.
  ///
  /// One of more than ``ImageLimits/wholePixels`` is averaged by libwebp to 1/2, 1/4 or 1/8 while it is decoded, the smallest
  /// at least four times the wanted size, where that saves memory: not where it is lossless or has alpha.
  static func fitted(
    _ data: [UInt8], limits: ImageLimits, to size: (width: Int, height: Int)
  ) throws(DiTError) -> Image {
    let info = try info(of: data)
    let orientation = orientation(data, info)
    let header = header(info, orientation: orientation)
    let (width, height) = orientation.isTransposed ? (size.height, size.width) : size
    let stored: Image
    if let (columns, rows) = reduced(info, for: (width, height), above: limits.wholePixels) {
      try limits.check(header, pixelBytes: 3 * columns * rows, decodingBytes: info.working_bytes)
      stored = try pixels(data, (columns, rows), channels: 3).image().fitted(
        width: width, height: height, of: (Double(info.width), Double(info.height)))
    } else {
      try limits.check(header, pixelBytes: held(info), decodingBytes: info.working_bytes)
      stored = try whole(data, info).fitted(width: width, height: height, before: orientation)
    }
    return stored.upright(from: orientation)
  }

  /// The size at which a large image is decoded for a target; nil where that is its own.
  private static func reduced(
    _ info: dit_webp_info, for target: (width: Int, height: Int), above wholePixels: Int
  ) -> (width: Int, height: Int)? {
    let (width, height) = (Int(info.width), Int(info.height))
    guard info.lossless == 0, info.channels == 3, info.width == info.canvas_width, info.height == info.canvas_height,
      width > wholePixels / height,
      let divisor = [8, 4, 2].first(where: { width >= 4 * $0 * target.width && height >= 4 * $0 * target.height })
    else { return nil }
    return ((width + divisor - 1) / divisor, (height + divisor - 1) / divisor)
  }

  /// What is held of a frame that is not the canvas, which ``whole(_:_:)`` draws it on; nil of one that is.
  private static func held(_ info: dit_webp_info) -> Int? {
    let (frame, canvas) = (Int(info.width) * Int(info.height), Int(info.canvas_width) * Int(info.canvas_height))
    return frame < canvas ? 3 * canvas + (info.channels == 4 ? 7 : 3) * frame : nil
  }

  /// The canvas with the frame, alpha composited on white.
  private static func whole(_ data: [UInt8], _ info: dit_webp_info) throws(DiTError) -> Image {
    let frame = try pixels(data, (Int(info.width), Int(info.height)), channels: Int(info.channels)).image()
    let (width, height) = (Int(info.canvas_width), Int(info.canvas_height))
    guard frame.width < width || frame.height < height else { return frame }
    var canvas = Image(width: width, height: height, channels: 3, shade: 255)
    canvas.draw(frame, x: Int(info.x), y: Int(info.y))
    return canvas
  }

  private static func pixels(
    _ data: [UInt8], _ size: (width: Int, height: Int), channels: Int
  ) throws(DiTError) -> Raster {
    var message = CMessage()
    var pixels = [UInt8](repeating: 0, count: size.width * size.height * channels)
    let status = unsafe dit_webp_read_pixels(
      data, data.count, UInt32(size.width), UInt32(size.height), &pixels, pixels.count, &message.text,
      message.text.count)
    try check(status, message)
    return Raster(width: size.width, height: size.height, channels: channels, pixels: pixels)
  }

  private static func info(of data: [UInt8]) throws(DiTError) -> dit_webp_info {
    var info = dit_webp_info()
    var message = CMessage()
    let status = unsafe dit_webp_read_info(data, data.count, &info, &message.text, message.text.count)
    try check(status, message)
    return info
  }

  private static func orientation(_ data: [UInt8], _ info: dit_webp_info) -> Orientation {
    Orientation(exif: data[info.exif_offset..<info.exif_offset + info.exif_bytes])
  }

  private static func header(_ info: dit_webp_info, orientation: Orientation) -> ImageHeader {
    let isWhole = info.width == info.canvas_width && info.height == info.canvas_height
    return ImageHeader(
      format: .webp, stored: (Int(info.canvas_width), Int(info.canvas_height)),
      channels: isWhole ? Int(info.channels) : 4, orientation: orientation)
  }

  private static func check(_ status: dit_webp_status, _ message: CMessage) throws(DiTError) {
    switch status {
    case DIT_WEBP_OK: return
    case DIT_WEBP_TRUNCATED: throw DiTError(image: nil, .truncated(.webp))
    case DIT_WEBP_MUCH_MEMORY: throw DiTError(image: nil, .damaged(.webp, "the system has no memory for the decoder"))
    default: throw DiTError(image: nil, .damaged(.webp, message.string))
    }
  }
}
