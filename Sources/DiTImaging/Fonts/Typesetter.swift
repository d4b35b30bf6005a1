/// Makes lines of labels: by the built-in font those that it can draw, by fonts the others.
///
/// It opens the fonts when it is made, for all labels of a picture together, so that a character looks alike in all of them.
struct Typesetter {
  private struct Key: Hashable {
    let scalar: Unicode.Scalar
    let em: Int
  }

  /// A glyph and which of the fonts it is of.
  private struct Found {
    let face: Int
    let glyph: FontGlyph
  }

  /// So many code points of a label are looked at.
  private static let longest = 512

  private let faces: [FontFace]
  private var glyphs: [Key: Found?] = [:]

  /// - Parameter labels: all that will be set.
  init(_ font: LabelFont, for labels: [String]) {
    switch font.source {
    case .boxes: faces = []
    case .data(let data):
      let isNeeded = labels.contains { $0.unicodeScalars.prefix(Self.longest).contains(where: Self.needsFont) }
      var problem = ""
      faces = isNeeded ? FontFace(data, problem: &problem).map { [$0] } ?? [] : []
    case .system:
      let scalars = Self.scalars(of: labels)
      faces =
        scalars.isEmpty ? [] : FontFace.found(for: scalars.map(\.value).sorted(), language: Self.language(of: scalars))
    }
  }

  /// The pixels of a font's em: never fewer than a Chinese character can be read in, else the built-in font's height.
  static func em(scale: Int) -> Int { max(12, PixelFont.height * scale) }

  /// The width of a text in pixels, where font pixels are squares of side `scale`.
  mutating func width(of text: String, scale: Int) -> Int {
    isSetByFont(text) ? set(beginning(of: text).text, scale: scale).width : PixelFont.width(of: text) * scale
  }

  /// A text as a line of at most `limit` pixels: if all of it does not fit, its longest beginning that does with three dots
  /// behind it; empty if not even the dots fit.
  mutating func line(_ text: String, scale: Int, toFit limit: Int) -> LabelLine {
    guard isSetByFont(text) else {
      return LabelLine(pixels: PixelFont.truncated(text, toFit: limit / scale), scale: scale)
    }
    let (beginning, isComplete) = beginning(of: text)
    let whole = set(beginning, scale: scale)
    if isComplete && whole.width <= limit { return whole }
    var start = beginning.prefix(limit)  // what is wider than its pixels does not fit
    while !start.isEmpty {
      start.removeLast()
      while start.last?.isWhitespace == true { start.removeLast() }
      let line = set(start + "...", scale: scale)
      if line.width <= limit { return line }
    }
    return LabelLine(pixels: "", scale: scale)
  }

  private func beginning(of text: String) -> (text: String, isComplete: Bool) {
    let scalars = text.unicodeScalars.prefix(Self.longest)
    return (String(scalars), scalars.endIndex == text.unicodeScalars.endIndex)
  }

  private func isSetByFont(_ text: String) -> Bool {
    !faces.isEmpty
      && text.unicodeScalars.prefix(Self.longest).contains { scalar in
        Self.needsFont(scalar) && faces.contains { $0.has(scalar) }
      }
  }

  private mutating func set(_ text: some StringProtocol, scale: Int) -> LabelLine {
    let em = Self.em(scale: scale)
    var pieces: [LabelLine.Piece] = []
    var pen = 0
    var last: (scalar: Unicode.Scalar, face: Int)?
    for scalar in text.unicodeScalars where !scalar.properties.isDefaultIgnorableCodePoint {
      if scalar.properties.isWhitespace {
        pen += space(scalar, em: em)
        last = nil
      } else if let found = found(scalar, em: em), found.glyph.hasInk {
        let (glyph, isMark) = (found.glyph, Self.isMark(scalar))
        if let last, !isMark, last.face == found.face {
          pen += faces[found.face].kerning(last.scalar, scalar, em: em)
        }
        // A mark stands on what is before it: in most fonts by its own place, in others as if it were as wide as that.
        let start = isMark ? pen - glyph.advance : pen
        pieces.append(LabelLine.Piece(x: start + glyph.left, ink: .coverage(glyph)))
        if !isMark {
          pen += glyph.advance
          last = (scalar, found.face)
        }
      } else {
        let glyph = PixelFont.glyph(Character(scalar))
        pieces.append(LabelLine.Piece(x: pen, ink: .squares(glyph)))
        pen += (glyph.width + 1) * scale
        last = nil
      }
    }
    return LabelLine(pieces, end: pen, em: em, scale: scale)
  }

  /// How wide a character of white space is.
  private mutating func space(_ scalar: Unicode.Scalar, em: Int) -> Int {
    if !scalar.isASCII, let found = found(scalar, em: em) { return found.glyph.advance }
    if scalar == "\u{3000}" { return em }
    return found(" ", em: em)?.glyph.advance ?? em / 3
  }

  /// The glyph of a character by the first font that draws it; without ink if none does but one has it.
  private mutating func found(_ scalar: Unicode.Scalar, em: Int) -> Found? {
    let key = Key(scalar: scalar, em: em)
    if let known = glyphs[key] { return known }
    var found: Found?
    for (index, face) in faces.enumerated() where face.has(scalar) {
      // A line of text reaches so far, whatever a font draws; accents of capitals do not reach further.
      guard let glyph = face.glyph(scalar, em: em)?.clipped(ascent: em * 5 / 4, descent: em / 2) else { continue }
      if found == nil || glyph.hasInk { found = Found(face: index, glyph: glyph) }
      if glyph.hasInk { break }
    }
    glyphs[key] = .some(found)
    return found
  }

  /// Whether a character can be drawn by a font alone.
  private static func needsFont(_ scalar: Unicode.Scalar) -> Bool {
    !scalar.isASCII && !scalar.properties.isWhitespace && !scalar.properties.isDefaultIgnorableCodePoint
      && scalar.properties.generalCategory != .control
  }

  private static func isMark(_ scalar: Unicode.Scalar) -> Bool {
    [.nonspacingMark, .enclosingMark].contains(scalar.properties.generalCategory)
  }

  /// The characters of the labels that need a font, with the ASCII ones beside them and the dots; none where no label does.
  private static func scalars(of labels: [String]) -> Set<Unicode.Scalar> {
    var scalars: Set<Unicode.Scalar> = []
    for label in labels {
      let start = label.unicodeScalars.prefix(longest)
      if start.contains(where: needsFont) {
        scalars.formUnion(start.filter { needsFont($0) || (0x21...0x7E).contains($0.value) })
      }
    }
    return scalars.isEmpty ? [] : scalars.union([" ", "."])
  }

  /// What Han characters are read as, which are drawn differently: Japanese beside kana, Korean beside hangul, else Chinese.
  private static func language(of scalars: Set<Unicode.Scalar>) -> String {
    func has(_ ranges: ClosedRange<UInt32>...) -> Bool {
      scalars.contains { scalar in ranges.contains { $0.contains(scalar.value) } }
    }
    if has(0x3041...0x30FF) { return "ja" }
    if has(0x1100...0x11FF, 0x3131...0x318E, 0xAC00...0xD7A3) { return "ko" }
    return has(0x3400...0x9FFF, 0xF900...0xFAFF, 0x2_0000...0x3_FFFF) ? "zh-cn" : "en"
  }
}
