/// The bytes of a JSON text and a place among them: what every reader of JSON does with characters and strings. A reader
/// asks for what may come next and makes its own errors; there is no recursion, and nothing is allocated but the strings
/// themselves.
struct JSONScanner {
  /// What is wrong with a string; ``offset`` then says where.
  enum StringFailure: Error {
    /// Something else stands at ``JSONScanner/offset`` than what the grammar wants: `'"'`, an escape, hexadecimal digits.
    case expected(String)
    /// The escape that starts at the offset is one half of a pair of surrogates.
    case halfPair(start: Int)
    /// The string whose quote is at `start` is not UTF-8.
    case invalidUTF8(start: Int)
  }

  let bytes: [UInt8]
  /// The next byte to be read.
  var offset = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// The next byte, or the one so many behind it; nil beyond the end.
  func peek(_ ahead: Int = 0) -> UInt8? {
    offset + ahead < bytes.count ? bytes[offset + ahead] : nil
  }

  /// Reads white space and then the character `byte`, if it is the next one.
  mutating func take(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    guard let byte = peek(), UInt32(byte) == character.value else { return false }
    offset += 1
    return true
  }

  /// Reads white space.
  mutating func skipSpace() {
    while let byte = peek(), byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D { offset += 1 }
  }

  /// Whether a byte is a digit.
  static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

  // MARK: Strings

  /// The string whose opening quote has just been read, its escapes resolved.
  mutating func string() throws(StringFailure) -> String {
    let start = offset - 1
    var unescaped: [UInt8] = []
    var run = offset
    while true {
      guard let byte = peek(), byte >= 0x20 else { throw .expected("'\"'") }
      if byte == UInt8(ascii: "\"") { break }
      if byte == UInt8(ascii: "\\") {
        unescaped += bytes[run..<offset]
        unescaped += Array(String(try escape()).utf8)
        run = offset
      } else {
        offset += 1
      }
    }
    unescaped += bytes[run..<offset]
    guard let text = String(validating: unescaped, as: UTF8.self) else { throw .invalidUTF8(start: start) }
    offset += 1
    return text
  }

  /// The scalar that the escape at the backslash stands for.
  private mutating func escape() throws(StringFailure) -> Unicode.Scalar {
    let start = offset
    offset += 1
    guard let letter = peek() else { throw .expected("an escape") }
    offset += 1
    switch letter {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(letter)
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): break
    default:
      offset = start + 1
      throw .expected("an escape of JSON")
    }
    var value = UInt32(try codeUnit())
    if (0xD800..<0xDC00).contains(value), peek() == UInt8(ascii: "\\"), peek(1) == UInt8(ascii: "u") {
      offset += 2
      let low = UInt32(try codeUnit())
      // Not a low half: the value stays a lone surrogate, which is no scalar.
      if (0xDC00..<0xE000).contains(low) { value = 0x10000 + (value - 0xD800) << 10 + (low - 0xDC00) }
    }
    guard let scalar = Unicode.Scalar(value) else { throw .halfPair(start: start) }
    return scalar
  }

  /// Four hexadecimal digits.
  private mutating func codeUnit() throws(StringFailure) -> UInt16 {
    var value: UInt16 = 0
    for _ in 0..<4 {
      guard let digit = peek().flatMap(Self.hexDigit) else { throw .expected("four hexadecimal digits") }
      value = value << 4 | digit
      offset += 1
    }
    return value
  }

  private static func hexDigit(_ byte: UInt8) -> UInt16? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt16(byte - UInt8(ascii: "0"))
    case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt16(byte - UInt8(ascii: "a") + 10)
    case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt16(byte - UInt8(ascii: "A") + 10)
    default: nil
    }
  }
}
