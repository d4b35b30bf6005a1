import DiTFiles
import DiTTensor

/// What draws the labels that the built-in font cannot, which has the printable ASCII characters alone.
///
///     ImageGrid(samples, classNames: ["T恤", "裤子"])                                   // a font of this machine
///     try ImageGrid(samples, classNames: ["T恤", "裤子"], font: LabelFont(contentsOf: "wqy-microhei.ttc"))
///
/// A label of ASCII alone never needs one. Another is drawn whole by the font, at 12 pixels to the em or more, with a box
/// for each character that it has not; by the built-in font, with boxes, where it has none of them.
///
/// Characters stand one after another as they are coded, with the font's advances and kerning: right for Chinese, Japanese,
/// Korean, Latin, Greek and Cyrillic. Marks are put on the character before them where the font says; letters are not
/// joined or reordered, so that Arabic and Indic scripts are not set as they are written, nor Hebrew from the right. Of a
/// label 512 code points are looked at.
public struct LabelFont: Sendable {
  /// What the fonts are opened from.
  enum Source: Sendable {
    case boxes
    case system
    case data([UInt8])
  }

  let source: Source

  /// The fonts of this machine that have the labels' characters, as fontconfig finds them: none on a machine without fonts.
  /// The same machine draws the same bytes, another may have other fonts. They are looked for where a label needs one, and
  /// only then.
  public static let system = LabelFont(source: .system)

  /// No font: whatever is not ASCII is a box, the same on every machine.
  public static let boxes = LabelFont(source: .boxes)

  /// The largest font file that is read: 128 MiB.
  public static let maximumBytes = 128 << 20

  private init(source: Source) { self.source = source }

  /// A font file, read whole: TrueType, OpenType, a collection's first font, or another with outlines that FreeType reads.
  ///
  /// No other font helps it out: what it has not is a box.
  /// - Throws: `DiTError` that names the file: of kind `file` where it cannot be read, `content` where it is no font with
  ///   outlines and a Unicode character map, or larger than ``maximumBytes``.
  public init(contentsOf path: String) throws(DiTError) {
    let subject = DiTError.Subject(file: path)
    guard !path.utf8.contains(0) else { throw DiTError(.file, subject, problem: "the path contains a NUL") }
    let file = try RegularFile(path: path)
    guard file.size <= Self.maximumBytes else {
      throw DiTError(.content, subject, expected: "at most \(Self.maximumBytes) bytes", found: "\(file.size)")
    }
    let data = try file.bytes()
    var problem = ""
    guard FontFace(data, problem: &problem) != nil else {
      throw DiTError(.content, subject, expected: "a font with outlines", found: problem)
    }
    source = .data(data)
  }
}
