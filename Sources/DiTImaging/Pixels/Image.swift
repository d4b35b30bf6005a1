/// A picture of 8-bit samples, gray or RGB.
///
/// `pixels` is (height, width, channels), row-major and interleaved; 0 is black, 255 white.
public struct Image: Equatable, Sendable {
  /// Pixels in a row.
  public let width: Int
  /// Rows.
  public let height: Int
  /// 1 for gray, 3 for RGB.
  public let channels: Int
  /// The samples, (height, width, channels).
  public internal(set) var pixels: [UInt8]

  /// An image of given samples, (height, width, channels).
  public init(width: Int, height: Int, channels: Int, pixels: [UInt8]) {
    Self.checkShape(channels: channels, height: height, width: width, count: pixels.count)
    self.width = width
    self.height = height
    self.channels = channels
    self.pixels = pixels
  }

  /// An image of one shade.
  public init(width: Int, height: Int, channels: Int, shade: UInt8) {
    let count = max(0, width) * max(0, height) * channels
    self.init(width: width, height: height, channels: channels, pixels: [UInt8](repeating: shade, count: count))
  }

  /// An image from planes of floats.
  ///
  ///     sample = clamp(127.5·x + 128, 0, 255), truncated
  ///
  /// which is the conversion of the reference evaluation, computed in Float.
  /// - Parameters:
  ///   - planes: (channels, height, width), black −1, white 1; values outside are clamped.
  ///   - channels: 1 gray, 3 RGB.
  ///   - height: in pixels.
  ///   - width: in pixels.
  /// - Precondition: all are finite: a picture is never made of numbers that are none.
  public init(planes: Span<Float>, channels: Int, height: Int, width: Int) {
    Self.checkShape(channels: channels, height: height, width: width, count: planes.count)
    let area = height * width
    var pixels = [UInt8](repeating: 0, count: planes.count)
    for channel in 0..<channels {
      let plane = planes.extracting(channel * area..<(channel + 1) * area)
      for index in 0..<area { pixels[index * channels + channel] = Self.sample(plane[index]) }
    }
    self.init(width: width, height: height, channels: channels, pixels: pixels)
  }

  /// An image from planes of floats, (channels, height, width) in [−1, 1].
  public init(planes: [Float], channels: Int, height: Int, width: Int) {
    self.init(planes: planes.span, channels: channels, height: height, width: width)
  }

  /// One sample.
  public subscript(row row: Int, column column: Int, channel channel: Int = 0) -> UInt8 {
    get { pixels[offset(row, column, channel)] }
    set { pixels[offset(row, column, channel)] = newValue }
  }

  private func offset(_ row: Int, _ column: Int, _ channel: Int) -> Int {
    precondition(
      (0..<height).contains(row) && (0..<width).contains(column) && (0..<channels).contains(channel),
      "sample (row \(row), column \(column), channel \(channel)) of an image of \(height)×\(width)×\(channels)")
    return (row * width + column) * channels + channel
  }

  private static func sample(_ x: Float) -> UInt8 {
    precondition(x.isFinite, "a picture of numbers that are not finite: \(x)")
    let value = 127.5 * x + 128
    return value >= 255 ? 255 : value > 0 ? UInt8(value) : 0
  }

  private static func checkShape(channels: Int, height: Int, width: Int, count: Int) {
    precondition(channels == 1 || channels == 3, "an image has 1 or 3 channels, not \(channels)")
    precondition(width > 0 && height > 0, "an image of \(height)×\(width) has no pixels")
    precondition(
      count == channels * height * width, "\(count) samples for an image of \(height)×\(width)×\(channels)")
  }
}
