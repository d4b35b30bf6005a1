import DiTTensor

/// A text entry of a PNG: what a viewer shows under "comments", such as the seed an image was made with.
public struct PNGText: Equatable, Sendable {
  /// The keyword: 1 to 79 printable ASCII characters, no space at either end or two in a row.
  public var key: String
  /// The text, without NUL.
  public var value: String

  /// A text entry.
  public init(key: String, value: String) {
    self.key = key
    self.value = value
  }

  /// The text entries of a PNG in file order: tEXt, and iTXt that is not compressed. Others are skipped.
  ///
  /// Walks the chunks without decoding the image and without looking at checksums, which ``Image/init(encoded:limits:)`` checks.
  /// - Throws: `DiTError` `.unrecognized`, or `.truncated` when a chunk is longer than the data.
  public static func entries(inPNG data: [UInt8]) throws(DiTError) -> [PNGText] {
    guard try ImageFormat(of: data) == .png else { throw DiTError(image: nil, .unrecognized("a file of another kind")) }
    var entries: [PNGText] = []
    var rest = data.dropFirst(8)
    while rest.count >= 8 {
      let length = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
      let type = rest.dropFirst(4).prefix(4)
      guard length <= rest.count - 12 else { throw DiTError(image: nil, .truncated(.png)) }
      let body = rest.dropFirst(8).prefix(length)
      if let entry = PNGText(type: type, body: body) { entries.append(entry) }
      if type.elementsEqual("IEND".utf8) { return entries }
      rest = rest.dropFirst(12 + length)
    }
    throw DiTError(image: nil, .truncated(.png))
  }

  /// The entry as a chunk without its checksum: tEXt where Latin-1 can say it, else iTXt (UTF-8).
  func chunk() throws(DiTError) -> [UInt8] {
    try checkKey()
    guard !value.utf8.contains(0) else { throw DiTError(image: nil, .invalidText(key: key, "the text contains a NUL")) }
    let latin = value.unicodeScalars.allSatisfy(Self.isLatin1)
    let text = latin ? value.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) } : Array(value.utf8)
    // Between key and text: a NUL; in iTXt also "not compressed" (two bytes), no language and no translated key.
    let body = Array(key.utf8) + (latin ? [0] : [0, 0, 0, 0, 0]) + text
    guard body.count <= Int(Int32.max) else {
      throw DiTError(image: nil, .invalidText(key: key, "the text is too long"))
    }
    let length = (0..<4).map { UInt8(truncatingIfNeeded: body.count >> (24 - 8 * $0)) }
    return length + Array((latin ? "tEXt" : "iTXt").utf8) + body
  }

  private init?(type: ArraySlice<UInt8>, body: ArraySlice<UInt8>) {
    guard let end = body.firstIndex(of: 0) else { return nil }
    key = Self.latin1(body[..<end])
    let rest = body[(end + 1)...]
    if type.elementsEqual("tEXt".utf8) {
      value = Self.latin1(rest)
    } else if type.elementsEqual("iTXt".utf8), rest.first == 0 {
      let fields = rest.dropFirst(2).split(separator: 0, maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { return nil }
      value = String(decoding: fields[2], as: UTF8.self)
    } else {
      return nil
    }
  }

  private func checkKey() throws(DiTError) {
    let bytes = Array(key.utf8)
    let printable = bytes.allSatisfy { (0x20...0x7E).contains($0) }
    let spaced = bytes.first == 0x20 || bytes.last == 0x20 || key.contains("  ")
    guard (1...79).contains(bytes.count), printable, !spaced else {
      throw DiTError(
        image: nil, .invalidText(key: key, "a key is 1 to 79 printable ASCII characters without stray spaces"))
    }
  }

  private static func isLatin1(_ scalar: Unicode.Scalar) -> Bool {
    scalar == "\n" || (0x20...0x7E).contains(scalar.value) || (0xA0...0xFF).contains(scalar.value)
  }

  private static func latin1(_ bytes: ArraySlice<UInt8>) -> String {
    String(String.UnicodeScalarView(bytes.map { Unicode.Scalar($0) }))
  }
}
