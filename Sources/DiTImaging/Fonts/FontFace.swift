internal import CDiTFont

/// An open font: the door to FreeType. The only file that calls CDiTFont. Not to be used by two threads at once.
@safe final class FontFace {
  private let font: OpaquePointer

  private init(_ font: OpaquePointer) { unsafe self.font = font }

  /// The first font of a file's bytes.
  ///
  /// - Parameter problem: what the bytes are instead, where they are no font with outlines; then the result is nil.
  init?(_ data: [UInt8], problem: inout String) {
    var message = CMessage()
    guard let opened = unsafe dit_font_open(data, data.count, &message.text, message.text.count) else {
      problem = message.string
      return nil
    }
    unsafe font = opened
  }

  deinit { unsafe dit_font_close(font) }

  /// Fonts of this machine that have any of the characters, those with the most first; at most 16.
  ///
  /// - Parameter language: RFC 3066, as `zh-cn`; decides between fonts that have equally many.
  static func found(for codePoints: [UInt32], language: String) -> [FontFace] {
    guard let list = unsafe dit_font_find(codePoints, codePoints.count, language, 16) else { return [] }
    defer { unsafe dit_font_free(list) }
    return unsafe (0..<dit_font_count(list)).compactMap { index in
      unsafe dit_font_open_found(list, index).map { unsafe FontFace($0) }
    }
  }

  /// Whether the font has a character.
  func has(_ scalar: Unicode.Scalar) -> Bool { unsafe dit_font_has(font, scalar.value) != 0 }

  /// The glyph of a character, nil where there is none that can be drawn.
  ///
  /// - Parameter em: the font's size in pixels, 1 to 256.
  func glyph(_ scalar: Unicode.Scalar, em: Int) -> FontGlyph? {
    var coverage = [UInt8](repeating: 0, count: 16 * em * em)
    var info = dit_font_glyph()
    guard unsafe dit_font_draw(font, scalar.value, UInt32(em), &info, &coverage, coverage.count) != 0 else {
      return nil
    }
    let (width, height) = (Int(info.width), Int(info.height))
    return FontGlyph(
      advance: Int(info.advance), left: Int(info.left), top: Int(info.top), width: width, height: height,
      coverage: Array(coverage.prefix(width * height)))
  }

  /// Pixels by which the second of two neighbors is moved, −em to em.
  func kerning(_ first: Unicode.Scalar, _ second: Unicode.Scalar, em: Int) -> Int {
    unsafe Int(dit_font_kerning(font, first.value, second.value, UInt32(em)))
  }
}

/// A character as a font draws it, in pixels.
struct FontGlyph: Sendable {
  /// How far the next character stands.
  let advance: Int
  /// Where the upper left pixel lies: so far to the right of the pen, and above the base line (1: the row that stands on it).
  let left, top: Int
  let width, height: Int
  /// The ink, (height, width): 0 none, 255 all of a pixel.
  let coverage: [UInt8]

  var hasInk: Bool { width > 0 }

  /// Without what reaches further above or below the base line than a line of text may.
  func clipped(ascent: Int, descent: Int) -> FontGlyph {
    let (above, below) = (max(0, top - ascent), max(0, height - top - descent))
    guard above > 0 || below > 0 else { return self }
    let rows = max(0, height - above - below)
    let (width, start) = (rows == 0 ? 0 : width, rows == 0 ? 0 : above * width)
    return FontGlyph(
      advance: advance, left: left, top: top - above, width: width, height: rows,
      coverage: Array(coverage[start..<start + rows * width]))
  }
}
