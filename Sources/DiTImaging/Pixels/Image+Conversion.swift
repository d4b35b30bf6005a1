extension Image {
  /// The image as gray (1) or RGB (3).
  ///
  ///     gray = (19595·r + 38470·g + 7471·b + 32768) / 65536
  ///
  /// the luma of Rec. 601 (0.299, 0.587, 0.114) on the stored values, to the bit as Pillow computes it. Gray becomes
  /// three equal channels.
  public func converted(toChannels count: Int) -> Image {
    precondition(count == 1 || count == 3, "an image has 1 or 3 channels, not \(count)")
    guard count != channels else { return self }
    var result: [UInt8] = []
    result.reserveCapacity(width * height * count)
    if count == 3 {
      for sample in pixels { for _ in 0..<3 { result.append(sample) } }
    } else {
      for start in stride(from: 0, to: pixels.count, by: 3) {
        let (red, green, blue) = (Int(pixels[start]), Int(pixels[start + 1]), Int(pixels[start + 2]))
        result.append(UInt8((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16))
      }
    }
    return Image(width: width, height: height, channels: count, pixels: result)
  }
}
