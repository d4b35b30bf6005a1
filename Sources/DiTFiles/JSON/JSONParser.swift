import DiTTensor

/// Reads JSON strictly: RFC 8259 and nothing beside it (but see `fromPython`), each key once, bounded depth.
struct JSONParser {
  private let bytes: [UInt8]
  private let file: String
  /// Whether the three numbers that Python writes and JSON has not are read, as strings.
  private let fromPython: Bool
  private var offset = 0
  /// The keys and indices that lead to the value being read.
  private var path: [String] = []

  init(_ bytes: [UInt8], file: String, fromPython: Bool = false) {
    self.bytes = bytes
    self.file = file
    self.fromPython = fromPython
  }

  mutating func document() throws(ConfigurationFileError) -> JSONValue {
    let value = try value()
    skipSpace()
    guard offset == bytes.count else { throw unexpected("the end of the file") }
    return value
  }

  private mutating func value() throws(ConfigurationFileError) -> JSONValue {
    skipSpace()
    guard path.count <= JSONValue.maximumDepth else {
      throw failure("expected at most \(JSONValue.maximumDepth) levels of nesting, found more")
    }
    switch peek() {
    case UInt8(ascii: "{"): return try object()
    case UInt8(ascii: "["): return try array()
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try literal("true", .bool(true))
    case UInt8(ascii: "f"): return try literal("false", .bool(false))
    case UInt8(ascii: "n"): return try literal("null", .null)
    case UInt8(ascii: "N") where fromPython: return try literal("NaN", .string("NaN"))
    case UInt8(ascii: "I") where fromPython: return try literal("Infinity", .string("Infinity"))
    case UInt8(ascii: "-") where fromPython && peek(1) == UInt8(ascii: "I"):
      return try literal("-Infinity", .string("-Infinity"))
    case let byte? where byte == UInt8(ascii: "-") || Self.isDigit(byte): return try number()
    default: throw unexpected("a value")
    }
  }

  // MARK: Structure

  private mutating func object() throws(ConfigurationFileError) -> JSONValue {
    offset += 1
    var members: [JSONMember] = []
    var keys: Set<String> = []
    if take("}") { return .object(members) }
    repeat {
      skipSpace()
      guard peek() == UInt8(ascii: "\"") else { throw unexpected("a key in quotes") }
      let key = try string()
      guard keys.insert(key).inserted else {
        throw ConfigurationFileError(
          file: file, key: (path + [key]).joined(separator: "."), expected: "each key once", found: "it twice")
      }
      guard take(":") else { throw unexpected("':'") }
      path.append(key)
      members.append(JSONMember(key, try value()))
      path.removeLast()
    } while take(",")
    guard take("}") else { throw unexpected("',' or '}'") }
    return .object(members)
  }

  private mutating func array() throws(ConfigurationFileError) -> JSONValue {
    offset += 1
    var values: [JSONValue] = []
    if take("]") { return .array(values) }
    repeat {
      path.append("\(values.count)")
      values.append(try value())
      path.removeLast()
    } while take(",")
    guard take("]") else { throw unexpected("',' or ']'") }
    return .array(values)
  }

  private mutating func literal(_ word: StaticString, _ value: JSONValue) throws(ConfigurationFileError) -> JSONValue {
    for byte in "\(word)".utf8 {
      guard peek() == byte else { throw unexpected("\(word)") }
      offset += 1
    }
    return value
  }

  // MARK: Numbers

  private mutating func number() throws(ConfigurationFileError) -> JSONValue {
    let start = offset
    var isWhole = true
    if peek() == UInt8(ascii: "-") { offset += 1 }
    let firstDigit = peek()
    let integerDigits = try digits()
    guard firstDigit != UInt8(ascii: "0") || integerDigits == 1 else {
      offset = start
      throw unexpected("a number without leading zeros")
    }
    if peek() == UInt8(ascii: ".") {
      isWhole = false
      offset += 1
      _ = try digits()
    }
    if let next = peek(), next | 0x20 == UInt8(ascii: "e") {
      isWhole = false
      offset += 1
      if let sign = peek(), sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") { offset += 1 }
      _ = try digits()
    }
    let text = String(decoding: bytes[start..<offset], as: UTF8.self)
    if isWhole, let value = Int(text) { return .integer(value) }
    if !isWhole, let value = Double(text), value.isFinite { return .number(value) }
    offset = start
    throw failure("expected a number that fits 64 bits, found \(Message.oneLine(text, limit: 40))")
  }

  private mutating func digits() throws(ConfigurationFileError) -> Int {
    let start = offset
    while let byte = peek(), Self.isDigit(byte) { offset += 1 }
    guard offset > start else { throw unexpected("a digit") }
    return offset - start
  }

  private static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

  // MARK: Strings

  /// The string whose opening quote is next.
  private mutating func string() throws(ConfigurationFileError) -> String {
    offset += 1
    var text: [UInt8] = []
    while let byte = peek(), byte >= 0x20, byte != UInt8(ascii: "\"") {
      offset += 1
      if byte == UInt8(ascii: "\\") {
        text += Array(String(try escape()).utf8)
      } else {
        text.append(byte)
      }
    }
    guard peek() == UInt8(ascii: "\"") else { throw unexpected("'\"'") }
    guard let string = String(validating: text, as: UTF8.self) else {
      throw failure("expected UTF-8, found a string that is not")
    }
    offset += 1
    return string
  }

  /// What an escape stands for; its backslash has been read.
  private mutating func escape() throws(ConfigurationFileError) -> Unicode.Scalar {
    guard let letter = peek() else { throw unexpected("an escape") }
    offset += 1
    switch letter {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(letter)
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): return try unicodeEscape()
    default:
      offset -= 1
      throw unexpected("an escape of JSON")
    }
  }

  private mutating func unicodeEscape() throws(ConfigurationFileError) -> Unicode.Scalar {
    var value = try codeUnit()
    if (0xD800..<0xDC00).contains(value), peek() == UInt8(ascii: "\\"), peek(1) == UInt8(ascii: "u") {
      offset += 2
      let low = try codeUnit()
      if (0xDC00..<0xE000).contains(low) { value = 0x10000 + (value - 0xD800) << 10 + (low - 0xDC00) }
    }
    guard let scalar = Unicode.Scalar(value) else { throw failure("expected a pair of surrogates, found one half") }
    return scalar
  }

  private mutating func codeUnit() throws(ConfigurationFileError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = peek(), let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw unexpected("four hexadecimal digits")
      }
      value = value << 4 | UInt32(digit)
      offset += 1
    }
    return value
  }

  // MARK: Bytes

  private func peek(_ ahead: Int = 0) -> UInt8? { offset + ahead < bytes.count ? bytes[offset + ahead] : nil }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    guard let byte = peek(), UInt32(byte) == character.value else { return false }
    offset += 1
    return true
  }

  private mutating func skipSpace() {
    while let byte = peek(), byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D { offset += 1 }
  }

  private func unexpected(_ expected: String) -> ConfigurationFileError {
    let found =
      switch peek() {
      case nil: "the end of the file"
      case let byte? where (0x21..<0x7F).contains(byte): "'\(Character(Unicode.Scalar(byte)))'"
      case let byte?: "byte 0x\(String(byte, radix: 16))"
      }
    return failure("expected \(expected), found \(found)")
  }

  private func failure(_ problem: String) -> ConfigurationFileError {
    let before = bytes[..<min(offset, bytes.count)]
    let line = before.count { $0 == UInt8(ascii: "\n") } + 1
    let column = before.count - (before.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0) + 1
    return ConfigurationFileError(file: file, key: "line \(line), column \(column)", problem: problem)
  }
}
