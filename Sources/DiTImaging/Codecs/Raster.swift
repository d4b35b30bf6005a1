/// Samples as a file has them, in 8 bits: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
struct Raster {
  var width, height, channels: Int
  var pixels: [UInt8]

  /// Alpha composited on white.
  func image() -> Image {
    guard channels % 2 == 0 else { return Image(width: width, height: height, channels: channels, pixels: pixels) }
    var result = [UInt8](repeating: 0, count: width * height * (channels - 1))
    var target = result.mutableSpan
    Self.composite(pixels.span, channels: channels, into: &target)
    return Image(width: width, height: height, channels: channels - 1, pixels: result)
  }

  /// Pixels of 2 or 4 channels on white, rounded: (c·a + 255·(255−a)) / 255.
  static func composite(_ pixels: Span<UInt8>, channels: Int, into result: inout MutableSpan<UInt8>) {
    var place = 0
    for start in stride(from: 0, to: pixels.count, by: channels) {
      let alpha = Int(pixels[start + channels - 1])
      for channel in 0..<channels - 1 {
        result[place] = UInt8((Int(pixels[start + channel]) * alpha + 255 * (255 - alpha) + 127) / 255)
        place += 1
      }
    }
  }
}
