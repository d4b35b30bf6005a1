extension Image {
  /// Images whose longer side is under this many pixels are enlarged for display.
  public static let displaySize = 96

  /// The smallest whole factor that brings the longer side to ``displaySize`` pixels or more; 1 for larger images.
  public static func displayScale(width: Int, height: Int) -> Int {
    precondition(width > 0 && height > 0, "an image of \(height)×\(width) has no pixels")
    let side = max(width, height)
    return side >= displaySize ? 1 : (displaySize + side - 1) / side
  }

  /// The image enlarged by a whole factor, every pixel becoming a square of factor×factor: (factor·height, factor·width).
  public func scaled(by factor: Int) -> Image {
    precondition(factor >= 1, "an enlargement by \(factor)")
    guard factor > 1 else { return self }
    var result: [UInt8] = []
    result.reserveCapacity(pixels.count * factor * factor)
    for row in 0..<height {
      let start = result.count
      for index in row * width..<(row + 1) * width {
        let pixel = pixels[index * channels..<(index + 1) * channels]
        for _ in 0..<factor { result.append(contentsOf: pixel) }
      }
      let enlarged = Array(result[start...])
      for _ in 1..<factor { result.append(contentsOf: enlarged) }
    }
    return Image(width: width * factor, height: height * factor, channels: channels, pixels: result)
  }
}
