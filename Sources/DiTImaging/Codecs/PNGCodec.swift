internal import CDiTPNG
import DiTTensor

/// The door to libpng: bytes ↔ samples. The only file that calls CDiTPNG.
enum PNGCodec {
  /// Size after orientation, and channels with alpha counted.
  static func header(of source: PNGSource) throws(DiTError) -> ImageHeader {
    header(try info(of: source), orientation: Orientation(exif: source.exif() ?? []))
  }

  /// Decodes a PNG, upright, after checking its claims against the limits and against the data's own length.
  static func decode(_ data: [UInt8], limits: ImageLimits) throws(DiTError) -> Image {
    let source = PNGSource(data)
    let info = try info(of: source)
    let orientation = Orientation(exif: source.exif() ?? [])
    try limits.check(header(info, orientation: orientation), decodingBytes: 4 * info.stored_row_bytes)
    return try whole(source, info).upright(from: orientation)
  }

  /// The image fitted to a size: row by row while it is decoded, unless it is interlaced or must grow; turned last, when it is
  /// small.
  static func fitted(
    _ source: PNGSource, limits: ImageLimits, to size: (width: Int, height: Int)
  ) throws(DiTError) -> Image {
    let info = try info(of: source)
    let orientation = Orientation(exif: source.exif() ?? [])
    let header = header(info, orientation: orientation)
    let (width, height) = orientation.isTransposed ? (size.height, size.width) : size
    let (columns, rows, channels) = (Int(info.width), Int(info.height), (header.channels + 1) / 2 * 2 - 1)
    let extent = (Double(columns), Double(rows))
    guard info.interlaced == 0, RowFitter.takes(extent, to: (width, height)) else {
      try limits.check(header, decodingBytes: 4 * info.stored_row_bytes)
      return try whole(source, info).fitted(width: width, height: height, before: orientation)
        .upright(from: orientation)
    }
    // Checked before the weights are made: their number is the header's claim.
    let held = RowFitter.memoryBytes(
      width: columns, height: rows, channels: channels, rowBytes: 2 * columns * header.channels, to: (width, height))
    try limits.check(header, pixelBytes: held, decodingBytes: 4 * info.stored_row_bytes)
    try checkLength(of: source, info)
    var fitter = RowFitter(
      width: columns, height: rows, channels: channels, extent: extent, to: (width, height), before: orientation)
    try Self.rows(of: source, info) { row in fitter.add(row) }
    return fitter.image.upright(from: orientation)
  }

  /// The image as it is stored, alpha composited on white.
  private static func whole(_ source: PNGSource, _ info: dit_png_info) throws(DiTError) -> Image {
    try checkLength(of: source, info)
    let (width, height, channels) = (Int(info.width), Int(info.height), Int(info.channels))
    var message = CMessage()
    var pixels = [UInt8](repeating: 0, count: width * height * channels)
    let status = unsafe source.with { source in
      unsafe dit_png_read_pixels(source, &pixels, pixels.count, &message.text, message.text.count)
    }
    try check(status, message)
    return Raster(width: width, height: height, channels: channels, pixels: pixels).image()
  }

  /// Calls `body` with each row of an image that is not interlaced, alpha composited on white.
  private static func rows(
    of source: PNGSource, _ info: dit_png_info, _ body: (Span<UInt8>) -> Void
  ) throws(DiTError) {
    let channels = Int(info.channels)
    var row = [UInt8](repeating: 0, count: Int(info.width) * channels)
    var shown = [UInt8](repeating: 0, count: channels % 2 == 0 ? Int(info.width) * (channels - 1) : 0)
    try unsafe source.with { source throws(DiTError) in
      let rows = try unsafe PNGRows(source)
      for _ in 0..<info.height {
        try rows.read(into: &row)
        guard channels % 2 == 0 else {
          body(row.span)
          continue
        }
        var target = shown.mutableSpan
        Raster.composite(row.span, channels: channels, into: &target)
        body(shown.span)
      }
    }
  }

  /// Deflate cannot make data more than 1032 times smaller: a file shorter than that does not hold its image.
  private static func checkLength(of source: PNGSource, _ info: dit_png_info) throws(DiTError) {
    let storedBytes = Double(info.stored_row_bytes) * Double(info.height)
    guard storedBytes <= 1032 * Double(source.count) else { throw DiTError(image: nil, .truncated(.png)) }
  }

  private static func info(of source: PNGSource) throws(DiTError) -> dit_png_info {
    var info = dit_png_info()
    var message = CMessage()
    let status = unsafe source.with { source in
      unsafe dit_png_read_info(source, &info, &message.text, message.text.count)
    }
    try check(status, message)
    return info
  }

  private static func header(_ info: dit_png_info, orientation: Orientation) -> ImageHeader {
    ImageHeader(
      format: .png, stored: (Int(info.width), Int(info.height)), channels: Int(info.channels), orientation: orientation)
  }

  /// Encodes an image, with extra chunks (length, type, data) between the header and the pixels.
  static func encode(_ image: Image, chunks: [UInt8]) throws(DiTError) -> [UInt8] {
    guard let width = UInt32(exactly: image.width), let height = UInt32(exactly: image.height) else {
      throw DiTError(image: nil, .unencodable("\(image.width)×\(image.height) pixels"))
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

  fileprivate static func check(_ status: dit_png_status, _ message: CMessage) throws(DiTError) {
    switch status {
    case DIT_PNG_OK: return
    case DIT_PNG_TRUNCATED: throw DiTError(image: nil, .truncated(.png))
    case DIT_PNG_FAILED: throw DiTError(image: nil, .unencodable(message.string))
    default: throw DiTError(image: nil, .damaged(.png, message.string))
    }
  }
}

/// An open PNG whose rows are read one after another. The source must outlive it.
@safe private struct PNGRows: ~Copyable {
  private let rows: OpaquePointer

  init(_ source: dit_png_source) throws(DiTError) {
    var opened: OpaquePointer?
    var message = CMessage()
    let status = unsafe dit_png_open_rows(source, &opened, &message.text, message.text.count)
    try PNGCodec.check(status, message)
    guard let opened = unsafe opened else { throw DiTError(image: nil, .damaged(.png, "no rows")) }
    unsafe rows = opened
  }

  deinit { unsafe dit_png_close_rows(rows) }

  func read(into row: inout [UInt8]) throws(DiTError) {
    var message = CMessage()
    let status = unsafe dit_png_read_row(rows, &row, row.count, &message.text, message.text.count)
    try PNGCodec.check(status, message)
  }
}

/// Room for a C decoder's line of text.
struct CMessage {
  var text = [CChar](repeating: 0, count: 200)
  var string: String { String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self) }
}
