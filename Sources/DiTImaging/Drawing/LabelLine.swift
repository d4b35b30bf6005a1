/// One line of text that is measured and can be drawn, in pixels.
struct LabelLine: Sendable {
  /// A character's ink.
  enum Ink {
    /// Of the built-in font.
    case squares(PixelFont.Glyph)
    case coverage(FontGlyph)
  }

  /// Ink whose left edge lies at x.
  struct Piece {
    var x: Int
    let ink: Ink
  }

  let pieces: [Piece]
  /// The side of a font pixel of the built-in font.
  let scale: Int
  /// From the left of the first character to the right of the last.
  let width: Int
  /// Rows above and below the base line.
  let ascent, descent: Int
  /// The height that is centered where a line is: of a capital.
  let capHeight: Int

  /// A line in the built-in font.
  init(pixels text: String, scale: Int) {
    var left = 0
    pieces = text.map { character in
      let glyph = PixelFont.glyph(character)
      defer { left += (glyph.width + 1) * scale }
      return Piece(x: left, ink: .squares(glyph))
    }
    self.scale = scale
    width = PixelFont.width(of: text) * scale
    (ascent, descent) = (PixelFont.ascent * scale, (PixelFont.height - PixelFont.ascent) * scale)
    capHeight = ascent
  }

  /// A line of pieces, moved so that it begins at 0 and holds all of their ink.
  ///
  /// - Parameter end: where the next character would stand.
  init(_ pieces: [Piece], end: Int, em: Int, scale: Int) {
    capHeight = em * PixelFont.ascent / PixelFont.height
    var (left, right, ascent, descent) = (0, end, capHeight, 0)
    for piece in pieces {
      left = min(left, piece.x)
      switch piece.ink {
      case .squares(let glyph):
        right = max(right, piece.x + glyph.width * scale)
        ascent = max(ascent, PixelFont.ascent * scale)
        descent = max(descent, (PixelFont.height - PixelFont.ascent) * scale)
      case .coverage(let glyph):
        right = max(right, piece.x + glyph.width)
        ascent = max(ascent, glyph.top)
        descent = max(descent, glyph.height - glyph.top)
      }
    }
    self.pieces = pieces.map { Piece(x: $0.x - left, ink: $0.ink) }
    self.scale = scale
    width = right - left
    (self.ascent, self.descent) = (ascent, descent)
  }
}

extension Image {
  /// Writes a line of text that begins at x, on the base line above which row `baseline` − 1 lies.
  mutating func draw(_ line: LabelLine, x: Int, baseline: Int, shade: UInt8) {
    for piece in line.pieces {
      switch piece.ink {
      case .squares(let glyph):
        let (scale, top) = (line.scale, baseline - PixelFont.ascent * line.scale)
        for (row, bits) in glyph.rows.enumerated() {
          for column in 0..<glyph.width where bits >> UInt8(column) & 1 == 1 {
            fill(
              x: x + piece.x + column * scale, y: top + row * scale, width: scale, height: scale, shade: shade)
          }
        }
      case .coverage(let glyph):
        blend(glyph, x: x + piece.x, y: baseline - glyph.top, shade: shade)
      }
    }
  }

  /// Lays a shade over the image where a glyph has ink: all of it or a part.
  private mutating func blend(_ glyph: FontGlyph, x: Int, y: Int, shade: UInt8) {
    let columns = max(0, -x)..<max(0, -x, min(glyph.width, width - x))
    for row in max(0, -y)..<max(0, -y, min(glyph.height, height - y)) {
      for column in columns {
        let ink = Int(glyph.coverage[row * glyph.width + column])
        let start = ((row + y) * width + column + x) * channels
        for index in start..<start + channels {
          pixels[index] = UInt8((Int(pixels[index]) * (255 - ink) + Int(shade) * ink + 127) / 255)
        }
      }
    }
  }
}
