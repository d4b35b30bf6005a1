import DiTTensor

/// Reads JSON strictly: RFC 8259 and nothing beside it (but see `fromPython`), each key once, bounded depth.
struct JSONParser {
  private var json: JSONScanner
  private let file: String
  /// Whether the three numbers that Python writes and JSON has not are read, as strings.
  private let fromPython: Bool
  /// The keys and indices that lead to the value being read.
  private var path: [String] = []

  init(_ bytes: [UInt8], file: String, fromPython: Bool = false) {
    json = JSONScanner(bytes)
    self.file = file
    self.fromPython = fromPython
  }

  mutating func document() throws(DiTError) -> JSONValue {
    let value = try value()
    json.skipSpace()
    guard json.offset == json.bytes.count else { throw unexpected("the end of the file") }
    return value
  }

  private mutating func value() throws(DiTError) -> JSONValue {
    json.skipSpace()
    guard path.count <= JSONValue.maximumDepth else {
      throw failure(expected: "at most \(JSONValue.maximumDepth) levels of nesting", found: "more")
    }
    switch json.peek() {
    case UInt8(ascii: "{"): return try object()
    case UInt8(ascii: "["): return try array()
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try literal("true", .bool(true))
    case UInt8(ascii: "f"): return try literal("false", .bool(false))
    case UInt8(ascii: "n"): return try literal("null", .null)
    case UInt8(ascii: "N") where fromPython: return try literal("NaN", .string("NaN"))
    case UInt8(ascii: "I") where fromPython: return try literal("Infinity", .string("Infinity"))
    case UInt8(ascii: "-") where fromPython && json.peek(1) == UInt8(ascii: "I"):
      return try literal("-Infinity", .string("-Infinity"))
    case let byte? where byte == UInt8(ascii: "-") || JSONScanner.isDigit(byte): return try number()
    default: throw unexpected("a value")
    }
  }

  // MARK: Structure

  private mutating func object() throws(DiTError) -> JSONValue {
    json.offset += 1
    var members: [JSONMember] = []
    var keys: Set<ExactName> = []
    if json.take("}") { return .object(members) }
    repeat {
      json.skipSpace()
      guard json.peek() == UInt8(ascii: "\"") else { throw unexpected("a key in quotes") }
      let key = try string()
      guard keys.insert(ExactName(key)).inserted else {
        throw DiTError(
          file: file, key: (path + [key]).joined(separator: "."), expected: "each key once", found: "it twice")
      }
      guard json.take(":") else { throw unexpected("':'") }
      path.append(key)
      members.append(JSONMember(key, try value()))
      path.removeLast()
    } while json.take(",")
    guard json.take("}") else { throw unexpected("',' or '}'") }
    return .object(members)
  }

  private mutating func array() throws(DiTError) -> JSONValue {
    json.offset += 1
    var values: [JSONValue] = []
    if json.take("]") { return .array(values) }
    repeat {
      path.append("\(values.count)")
      values.append(try value())
      path.removeLast()
    } while json.take(",")
    guard json.take("]") else { throw unexpected("',' or ']'") }
    return .array(values)
  }

  private mutating func literal(_ word: StaticString, _ value: JSONValue) throws(DiTError) -> JSONValue {
    for byte in "\(word)".utf8 {
      guard json.peek() == byte else { throw unexpected("\(word)") }
      json.offset += 1
    }
    return value
  }

  // MARK: Numbers

  private mutating func number() throws(DiTError) -> JSONValue {
    let start = json.offset
    var isWhole = true
    if json.peek() == UInt8(ascii: "-") { json.offset += 1 }
    let firstDigit = json.peek()
    let integerDigits = try digits()
    guard firstDigit != UInt8(ascii: "0") || integerDigits == 1 else {
      json.offset = start
      throw unexpected("a number without leading zeros")
    }
    if json.peek() == UInt8(ascii: ".") {
      isWhole = false
      json.offset += 1
      _ = try digits()
    }
    if let next = json.peek(), next | 0x20 == UInt8(ascii: "e") {
      isWhole = false
      json.offset += 1
      if let sign = json.peek(), sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") { json.offset += 1 }
      _ = try digits()
    }
    let text = String(decoding: json.bytes[start..<json.offset], as: UTF8.self)
    if isWhole, let value = Int(text) { return .integer(value) }
    if !isWhole, let value = Double(text), value.isFinite { return .number(value) }
    json.offset = start
    throw failure(expected: "a number that fits 64 bits", found: "\(Message.oneLine(text, limit: 40))")
  }

  private mutating func digits() throws(DiTError) -> Int {
    let start = json.offset
    while let byte = json.peek(), JSONScanner.isDigit(byte) { json.offset += 1 }
    guard json.offset > start else { throw unexpected("a digit") }
    return json.offset - start
  }

  // MARK: Strings

  /// The string whose opening quote is next.
  private mutating func string() throws(DiTError) -> String {
    json.offset += 1
    do throws(JSONScanner.StringFailure) {
      return try json.string()
    } catch {
      switch error {
      case .expected(let expected): throw unexpected(expected)
      case .halfPair: throw failure(expected: "a pair of surrogates", found: "one half")
      case .invalidUTF8: throw failure(expected: "UTF-8", found: "a string that is not")
      }
    }
  }

  // MARK: Errors

  private func unexpected(_ expected: String) -> DiTError {
    let found =
      switch json.peek() {
      case nil: "the end of the file"
      case let byte? where (0x21..<0x7F).contains(byte): "'\(Character(Unicode.Scalar(byte)))'"
      case let byte?: "byte 0x\(String(byte, radix: 16))"
      }
    return failure(expected: expected, found: found)
  }

  private func failure(expected: String, found: String) -> DiTError {
    DiTError(.configuration, place, expected: expected, found: found)
  }

  /// The line and column at hand.
  private var place: DiTError.Subject {
    let before = json.bytes[..<min(json.offset, json.bytes.count)]
    let line = before.count { $0 == UInt8(ascii: "\n") } + 1
    let column = before.count - (before.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0) + 1
    return DiTError.Subject(named: file, .entry("line \(line), column \(column)"))
  }
}
