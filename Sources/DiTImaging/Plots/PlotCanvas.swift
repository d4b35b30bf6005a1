/// A white sheet to draw on. Shapes are drawn three times as large and averaged down, which smooths edges; text is put on
/// afterwards, pixel for pixel. Everything is clipped at the sheet's edges.
struct PlotCanvas {
  /// Where a text's point lies: at its left, its middle or its right.
  enum Anchor { case left, middle, right }

  private struct Text {
    let text: String
    let x, y, scale: Int
  }

  private static let factor = 3
  private static let ink: UInt8 = 56
  /// A font pixel's side, where nothing else is said.
  static let textScale = 2
  /// The height of a letter without its tail, and of a line.
  static let textHeight = PixelFont.ascent * textScale
  static let lineHeight = (PixelFont.height + 2) * textScale

  private let width, height: Int
  private var large: Image
  private var texts: [Text] = []

  init(width: Int, height: Int) {
    self.width = width
    self.height = height
    large = Image(width: width * Self.factor, height: height * Self.factor, channels: 3, shade: 255)
  }

  /// The width of a text.
  static func width(of text: String, scale: Int = textScale) -> Int { PixelFont.width(of: text) * scale }

  /// A line with round ends.
  mutating func line(
    from: (x: Double, y: Double), to: (x: Double, y: Double), thickness: Double, _ color: PlotColor
  ) {
    let (dx, dy) = (to.x - from.x, to.y - from.y)
    let length = (dx * dx + dy * dy).squareRoot()
    let count = max(1, Int((length * Double(Self.factor)).rounded(.up)))
    for index in 0...count {
      let share = Double(index) / Double(count)
      disc(at: (from.x + share * dx, from.y + share * dy), radius: thickness / 2, color)
    }
  }

  mutating func disc(at center: (x: Double, y: Double), radius: Double, _ color: PlotColor) {
    let scale = Double(Self.factor)
    let (x, y, r) = (center.x * scale, center.y * scale, radius * scale)
    let rows = max(0, Int(y - r))..<max(0, Int(y - r), min(large.height, Int(y + r) + 1))
    let columns = max(0, Int(x - r))..<max(0, Int(x - r), min(large.width, Int(x + r) + 1))
    for row in rows {
      for column in columns {
        let (dx, dy) = (Double(column) + 0.5 - x, Double(row) + 0.5 - y)
        if dx * dx + dy * dy <= r * r { set(row, column, color) }
      }
    }
  }

  /// Fills a rectangle.
  mutating func fill(x: Int, y: Int, width: Int, height: Int, _ color: PlotColor) {
    let factor = Self.factor
    let rows = max(0, y * factor)..<max(0, y * factor, min(large.height, (y + height) * factor))
    let columns = max(0, x * factor)..<max(0, x * factor, min(large.width, (x + width) * factor))
    for row in rows {
      for column in columns { set(row, column, color) }
    }
  }

  /// A frame one pixel wide around a rectangle.
  mutating func frame(x: Int, y: Int, width: Int, height: Int, _ color: PlotColor) {
    fill(x: x - 1, y: y - 1, width: width + 2, height: 1, color)
    fill(x: x - 1, y: y + height, width: width + 2, height: 1, color)
    fill(x: x - 1, y: y, width: 1, height: height, color)
    fill(x: x + width, y: y, width: 1, height: height, color)
  }

  /// Writes a line of text whose letters, without their tails, reach down `textHeight` from y.
  mutating func text(_ text: String, x: Int, y: Int, _ anchor: Anchor = .left, scale: Int = textScale) {
    let width = Self.width(of: text, scale: scale)
    let left = anchor == .left ? x : anchor == .middle ? x - width / 2 : x - width
    texts.append(Text(text: text, x: left, y: y, scale: scale))
  }

  private mutating func set(_ row: Int, _ column: Int, _ color: PlotColor) {
    let at = (row * large.width + column) * 3
    large.pixels[at] = color.red
    large.pixels[at + 1] = color.green
    large.pixels[at + 2] = color.blue
  }

  /// The sheet at its own size.
  var image: Image {
    var image = Image(width: width, height: height, channels: 3, shade: 0)
    let (factor, area) = (Self.factor, Self.factor * Self.factor)
    for row in 0..<height {
      for column in 0..<width {
        for channel in 0..<3 {
          var sum = 0
          for place in 0..<area {
            let (y, x) = (row * factor + place / factor, column * factor + place % factor)
            sum += Int(large.pixels[(y * large.width + x) * 3 + channel])
          }
          image.pixels[(row * width + column) * 3 + channel] = UInt8((sum + area / 2) / area)
        }
      }
    }
    for text in texts { image.draw(text.text, x: text.x, y: text.y, scale: text.scale, shade: Self.ink) }
    return image
  }
}

extension Image {
  /// Images of one width and as many channels, one below the other.
  public static func stacked(_ images: [Image]) -> Image {
    guard let first = images.first else { preconditionFailure("a stack of no images") }
    for image in images {
      precondition(
        image.width == first.width && image.channels == first.channels,
        "images of widths \(first.width) and \(image.width) in one stack")
    }
    return Image(
      width: first.width, height: images.reduce(0) { $0 + $1.height }, channels: first.channels,
      pixels: images.flatMap(\.pixels))
  }
}
