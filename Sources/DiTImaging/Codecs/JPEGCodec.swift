internal import CDiTJPEG
import DiTTensor

/// The door to libjpeg-turbo: bytes → samples. The only file that calls CDiTJPEG.
enum JPEGCodec {
  /// Size after orientation, and channels after conversion.
  static func header(of data: [UInt8]) throws(DiTError) -> ImageHeader {
    let info = try info(of: data)
    return header(info, orientation: Orientation(ofJPEG: data))
  }

  /// Decodes a JPEG, upright, after checking its claims against the limits and against the data's own length.
  static func decode(_ data: [UInt8], limits: ImageLimits) throws(DiTError) -> Image {
    let info = try info(of: data)
    let orientation = Orientation(ofJPEG: data)
    try limits.check(header(info, orientation: orientation), decodingBytes: info.working_bytes)
    return try whole(data, info, limits, eighths: 8).upright(from: orientation)
  }

  /// The image fitted to a size, row by row while it is decoded unless it must grow; turned last, when it is small.
  ///
  /// - Parameter reducing: it is decoded at 1/2, 1/4 or 1/8 of its size: the smallest that is at least twice the wanted size
  ///   in both directions.
  static func fitted(
    _ data: [UInt8], limits: ImageLimits, to size: (width: Int, height: Int), reducing: Bool
  ) throws(DiTError) -> Image {
    let info = try info(of: data)
    let orientation = Orientation(ofJPEG: data)
    let header = header(info, orientation: orientation)
    let eighths = reducing ? Self.eighths(of: header, for: size) : 8
    let (width, height) = orientation.isTransposed ? (size.height, size.width) : size
    // The size before it is rounded up: the last column and row may be narrower than others.
    let extent = (width: Double(info.width) * Double(eighths) / 8, height: Double(info.height) * Double(eighths) / 8)
    let (columns, rows) = Self.size(info, eighths)
    guard RowFitter.takes(extent, to: (width, height)) else {
      try limits.check(header, decodingBytes: info.working_bytes)
      let stored = try whole(data, info, limits, eighths: eighths)
      return stored.fitted(width: width, height: height, extent: extent, before: orientation).upright(from: orientation)
    }
    // Checked before the weights are made: their number is the header's claim.
    let held = RowFitter.memoryBytes(
      width: columns, height: rows, channels: header.channels, rowBytes: columns * header.channels, to: (width, height))
    try limits.check(header, pixelBytes: held, decodingBytes: info.working_bytes)
    try checkLength(of: data, info)
    var fitter = RowFitter(
      width: columns, height: rows, channels: header.channels, extent: extent, to: (width, height),
      before: orientation)
    try Self.rows(of: data, info, limits, eighths: eighths) { row in fitter.add(row) }
    return fitter.image.upright(from: orientation)
  }

  /// The image as it is stored, at some eighths of its size.
  private static func whole(
    _ data: [UInt8], _ info: dit_jpeg_info, _ limits: ImageLimits, eighths: Int
  ) throws(DiTError) -> Image {
    let ((width, height), channels) = (size(info, eighths), Int(info.channels))
    try checkLength(of: data, info)
    var pixels: [UInt8] = []
    pixels.reserveCapacity(width * height * channels)
    try rows(of: data, info, limits, eighths: eighths) { row in
      unsafe row.withUnsafeBufferPointer { unsafe pixels.append(contentsOf: $0) }
    }
    return Image(width: width, height: height, channels: channels, pixels: pixels)
  }

  /// Calls `body` with each row.
  private static func rows(
    of data: [UInt8], _ info: dit_jpeg_info, _ limits: ImageLimits, eighths: Int, _ body: (Span<UInt8>) -> Void
  ) throws(DiTError) {
    let (width, height) = size(info, eighths)
    let options = dit_jpeg_options(
      maximum_bytes: limits.memoryBytes, maximum_scans: UInt32(clamping: limits.scans), eighths: UInt32(eighths))
    var row = [UInt8](repeating: 0, count: width * Int(info.channels))
    try unsafe data.withUnsafeBufferPointer { bytes throws(DiTError) in
      let rows = try unsafe JPEGRows(bytes, options, limits)
      for _ in 0..<height {
        try rows.read(into: &row)
        body(row.span)
      }
    }
  }

  /// A file shorter than its image needs at least does not hold it.
  private static func checkLength(of data: [UInt8], _ info: dit_jpeg_info) throws(DiTError) {
    guard info.minimum_bytes <= data.count else { throw DiTError(image: nil, .truncated(.jpeg)) }
  }

  /// Width and height at some eighths of the size.
  private static func size(_ info: dit_jpeg_info, _ eighths: Int) -> (width: Int, height: Int) {
    ((Int(info.width) * eighths + 7) / 8, (Int(info.height) * eighths + 7) / 8)
  }

  private static func eighths(of header: ImageHeader, for target: (width: Int, height: Int)) -> Int {
    [1, 2, 4].first { header.width * $0 >= 16 * target.width && header.height * $0 >= 16 * target.height } ?? 8
  }

  private static func header(_ info: dit_jpeg_info, orientation: Orientation) -> ImageHeader {
    ImageHeader(
      format: .jpeg, stored: (Int(info.width), Int(info.height)), channels: Int(info.channels), orientation: orientation
    )
  }

  private static func info(of data: [UInt8]) throws(DiTError) -> dit_jpeg_info {
    var info = dit_jpeg_info()
    var message = CMessage()
    let status = unsafe dit_jpeg_read_info(data, data.count, &info, &message.text, message.text.count)
    try check(status, message, ImageLimits())
    return info
  }

  fileprivate static func check(
    _ status: dit_jpeg_status, _ message: CMessage, _ limits: ImageLimits
  ) throws(DiTError) {
    switch status {
    case DIT_JPEG_OK: return
    case DIT_JPEG_TRUNCATED: throw DiTError(image: nil, .truncated(.jpeg))
    case DIT_JPEG_MANY_SCANS: throw DiTError(image: nil, .tooManyScans(maximum: limits.scans))
    case DIT_JPEG_MUCH_MEMORY:
      throw DiTError(image: nil, .tooMuchMemory(bytes: limits.memoryBytes, maximum: limits.memoryBytes))
    default: throw DiTError(image: nil, .damaged(.jpeg, message.string))
    }
  }
}

/// An open JPEG whose rows are read one after another. The bytes must outlive it.
@safe private struct JPEGRows: ~Copyable {
  private let rows: OpaquePointer
  private let limits: ImageLimits

  init(
    _ data: UnsafeBufferPointer<UInt8>, _ options: dit_jpeg_options, _ limits: ImageLimits
  ) throws(DiTError) {
    var opened: OpaquePointer?
    var message = CMessage()
    let status = unsafe dit_jpeg_open_rows(
      data.baseAddress, data.count, options, &opened, &message.text, message.text.count)
    try JPEGCodec.check(status, message, limits)
    guard let opened = unsafe opened else { throw DiTError(image: nil, .damaged(.jpeg, "no rows")) }
    unsafe rows = opened
    self.limits = limits
  }

  deinit { unsafe dit_jpeg_close_rows(rows) }

  func read(into row: inout [UInt8]) throws(DiTError) {
    var message = CMessage()
    let status = unsafe dit_jpeg_read_row(rows, &row, row.count, &message.text, message.text.count)
    try JPEGCodec.check(status, message, limits)
  }
}
