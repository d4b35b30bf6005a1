// Drawing on an image, in gray shades. Everything is clipped at its edges.

extension Image {
  /// Fills a rectangle.
  mutating func fill(x: Int, y: Int, width: Int, height: Int, shade: UInt8) {
    let columns = max(0, x)..<max(0, x, min(self.width, x + width))
    for row in max(0, y)..<max(0, y, min(self.height, y + height)) {
      let start = row * self.width
      for index in (start + columns.lowerBound) * channels..<(start + columns.upperBound) * channels {
        pixels[index] = shade
      }
    }
  }

  /// Puts another image of the same channels with its upper left corner at (x, y).
  mutating func draw(_ other: Image, x: Int, y: Int) {
    precondition(other.channels == channels, "an image of \(other.channels) channels drawn on one of \(channels)")
    let columns = max(0, -x)..<max(0, -x, min(other.width, width - x))
    for row in max(0, -y)..<max(0, -y, min(other.height, height - y)) {
      let target = ((row + y) * width + x) * channels
      let source = row * other.width * channels
      for index in columns.lowerBound * channels..<columns.upperBound * channels {
        pixels[target + index] = other.pixels[source + index]
      }
    }
  }

  /// Writes one line of text with the upper left corner of its first letter at (x, y), each font pixel a square of `scale`.
  mutating func draw(_ text: String, x: Int, y: Int, scale: Int, shade: UInt8) {
    draw(LabelLine(pixels: text, scale: scale), x: x, baseline: y + PixelFont.ascent * scale, shade: shade)
  }
}
