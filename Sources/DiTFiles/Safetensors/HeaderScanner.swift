import DiTTensor

/// Reads the JSON of a safetensors header: objects, arrays, strings and non-negative whole numbers, as the format uses
/// them. There is no recursion (the header's reader asks for what must come next), so nesting cannot exhaust the stack,
/// and nothing is allocated but the strings themselves.
struct HeaderScanner {
  private var json: JSONScanner
  private let path: String
  /// The tensor being read, for errors.
  var tensor: String?

  init(_ bytes: [UInt8], path: String) {
    json = JSONScanner(bytes)
    self.path = path
  }

  func failure(_ problem: SafetensorsProblem) -> DiTError {
    DiTError(file: path, tensor: tensor, problem: problem)
  }

  // MARK: Structure

  /// Reads white space and then the character `byte`.
  mutating func expect(_ byte: Unicode.Scalar) throws(DiTError) {
    guard json.take(byte) else { throw unexpected("'\(byte)'") }
  }

  /// The next key of an object whose `{` has been read, with its colon; nil at the object's `}`.
  mutating func nextKey(isFirst: Bool) throws(DiTError) -> String? {
    if json.take("}") { return nil }
    if !isFirst {
      guard json.take(",") else { throw unexpected("',' or '}'") }
    }
    let key = try string()
    try expect(":")
    return key
  }

  /// Whether the array whose `[` has been read has another element; reads the `,` before it or the closing `]`.
  mutating func hasElement(isFirst: Bool) throws(DiTError) -> Bool {
    if json.take("]") { return false }
    guard isFirst || json.take(",") else { throw unexpected("',' or ']'") }
    return true
  }

  /// Reads the spaces that pad the header; nothing else may follow.
  mutating func end() throws(DiTError) {
    while json.offset < json.bytes.count, json.bytes[json.offset] == UInt8(ascii: " ") { json.offset += 1 }
    guard json.offset == json.bytes.count else {
      throw unexpected("spaces up to the header's end", skippingSpace: false)
    }
  }

  // MARK: Values

  /// A whole number without sign, fraction, exponent or leading zeros.
  mutating func integer() throws(DiTError) -> Int {
    json.skipSpace()
    let start = json.offset
    var value = 0
    while let byte = json.peek(), JSONScanner.isDigit(byte) {
      let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = tens.addingReportingOverflow(Int(byte - UInt8(ascii: "0")))
      guard !overflow, !carry else { throw failure(.numberTooLarge(offset: start)) }
      value = sum
      json.offset += 1
    }
    guard json.offset > start else { throw unexpected("a non-negative whole number") }
    if json.bytes[start] == UInt8(ascii: "0"), json.offset > start + 1 {
      json.offset = start
      throw unexpected("a number without leading zeros")
    }
    if let next = json.peek(), next == UInt8(ascii: ".") || next | 0x20 == UInt8(ascii: "e") {
      throw unexpected("a whole number")
    }
    return value
  }

  /// A string in quotes, its escapes resolved.
  mutating func string() throws(DiTError) -> String {
    guard json.take("\"") else { throw unexpected("a string") }
    do throws(JSONScanner.StringFailure) {
      return try json.string()
    } catch {
      switch error {
      case .expected(let expected): throw unexpected(expected, skippingSpace: false)
      case .halfPair(let start):
        throw failure(.syntax(offset: start, expected: "a pair of surrogates", found: "one half"))
      case .invalidUTF8(let start): throw failure(.invalidUTF8(offset: start))
      }
    }
  }

  // MARK: Errors

  private mutating func unexpected(_ expected: String, skippingSpace: Bool = true) -> DiTError {
    if skippingSpace { json.skipSpace() }
    let found = json.peek().map(SafetensorsProblem.character) ?? "the header's end"
    return failure(.syntax(offset: json.offset, expected: expected, found: found))
  }
}
