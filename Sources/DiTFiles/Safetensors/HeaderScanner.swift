/// Reads the JSON of a safetensors header: objects, arrays, strings and non-negative whole numbers, as the format uses
/// them. There is no recursion (the header's reader asks for what must come next), so nesting cannot exhaust the stack,
/// and nothing is allocated but the strings themselves.
struct HeaderScanner {
  private let bytes: [UInt8]
  private let path: String
  private(set) var offset = 0
  /// The tensor being read, for errors.
  var tensor: String?

  init(_ bytes: [UInt8], path: String) {
    self.bytes = bytes
    self.path = path
  }

  func failure(_ problem: SafetensorsError.Problem) -> SafetensorsError {
    SafetensorsError(path: path, tensor: tensor, problem: problem)
  }

  // MARK: Structure

  /// Reads white space and then the character `byte`.
  mutating func expect(_ byte: Unicode.Scalar) throws(SafetensorsError) {
    guard take(byte) else { throw unexpected("'\(byte)'") }
  }

  /// The next key of an object whose `{` has been read, with its colon; nil at the object's `}`.
  mutating func nextKey(isFirst: Bool) throws(SafetensorsError) -> String? {
    if take("}") { return nil }
    if !isFirst {
      guard take(",") else { throw unexpected("',' or '}'") }
    }
    let key = try string()
    try expect(":")
    return key
  }

  /// Whether the array whose `[` has been read has another element; reads the `,` before it or the closing `]`.
  mutating func hasElement(isFirst: Bool) throws(SafetensorsError) -> Bool {
    if take("]") { return false }
    guard isFirst || take(",") else { throw unexpected("',' or ']'") }
    return true
  }

  /// Reads the spaces that pad the header; nothing else may follow.
  mutating func end() throws(SafetensorsError) {
    while offset < bytes.count, bytes[offset] == UInt8(ascii: " ") { offset += 1 }
    guard offset == bytes.count else { throw unexpected("spaces up to the header's end", skippingSpace: false) }
  }

  // MARK: Values

  /// A whole number without sign, fraction, exponent or leading zeros.
  mutating func integer() throws(SafetensorsError) -> Int {
    skipSpace()
    let start = offset
    var value = 0
    while let digit = peek().flatMap(Self.digit) {
      let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = tens.addingReportingOverflow(digit)
      guard !overflow, !carry else { throw failure(.numberTooLarge(offset: start)) }
      value = sum
      offset += 1
    }
    guard offset > start else { throw unexpected("a non-negative whole number") }
    if bytes[start] == UInt8(ascii: "0"), offset > start + 1 {
      offset = start
      throw unexpected("a number without leading zeros")
    }
    if let next = peek(), next == UInt8(ascii: ".") || next | 0x20 == UInt8(ascii: "e") {
      throw unexpected("a whole number")
    }
    return value
  }

  /// A string in quotes, its escapes resolved.
  mutating func string() throws(SafetensorsError) -> String {
    guard take("\"") else { throw unexpected("a string") }
    let start = offset - 1
    var unescaped: [UInt8] = []
    var run = offset
    while true {
      guard let byte = peek(), byte >= 0x20 else { throw unexpected("'\"'", skippingSpace: false) }
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
    offset += 1
    guard let text = String(validating: unescaped, as: UTF8.self) else { throw failure(.invalidUTF8(offset: start)) }
    return text
  }

  /// The scalar that the escape at the backslash stands for.
  private mutating func escape() throws(SafetensorsError) -> Unicode.Scalar {
    let start = offset
    offset += 1
    guard let letter = peek() else { throw unexpected("an escape", skippingSpace: false) }
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
      throw unexpected("an escape of JSON", skippingSpace: false)
    }
    var value = UInt32(try codeUnit())
    if (0xD800..<0xDC00).contains(value), peek() == UInt8(ascii: "\\"), peek(1) == UInt8(ascii: "u") {
      offset += 2
      let low = UInt32(try codeUnit())
      // Not a low half: the value stays a lone surrogate, which is no scalar.
      if (0xDC00..<0xE000).contains(low) { value = 0x10000 + (value - 0xD800) << 10 + (low - 0xDC00) }
    }
    guard let scalar = Unicode.Scalar(value) else {
      throw failure(.syntax(offset: start, expected: "a pair of surrogates", found: "one half"))
    }
    return scalar
  }

  /// Four hexadecimal digits.
  private mutating func codeUnit() throws(SafetensorsError) -> UInt16 {
    var value: UInt16 = 0
    for _ in 0..<4 {
      guard let digit = peek().flatMap(Self.hexDigit) else {
        throw unexpected("four hexadecimal digits", skippingSpace: false)
      }
      value = value << 4 | digit
      offset += 1
    }
    return value
  }

  // MARK: Bytes

  private func peek(_ ahead: Int = 0) -> UInt8? {
    offset + ahead < bytes.count ? bytes[offset + ahead] : nil
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    guard let byte = peek(), UInt32(byte) == character.value else { return false }
    offset += 1
    return true
  }

  private mutating func skipSpace() {
    while let byte = peek(), byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D { offset += 1 }
  }

  private mutating func unexpected(_ expected: String, skippingSpace: Bool = true) -> SafetensorsError {
    if skippingSpace { skipSpace() }
    let found = peek().map(SafetensorsError.Problem.character) ?? "the header's end"
    return failure(.syntax(offset: offset, expected: expected, found: found))
  }

  private static func digit(_ byte: UInt8) -> Int? {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) ? Int(byte - UInt8(ascii: "0")) : nil
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
