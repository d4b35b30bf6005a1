import DiTTensor

/// A JSON value (RFC 8259). Objects keep their order and hold each key once; whole numbers are exact.
public enum JSONValue: Equatable, Sendable {
  case null
  case bool(Bool)
  /// A number without fraction or exponent.
  case integer(Int)
  /// A number with a fraction or an exponent; finite.
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([JSONMember])

  /// How deep arrays and objects may be nested.
  public static let maximumDepth = 64

  /// Reads `bytes`, which hold one value and white space.
  ///
  /// - Parameters:
  ///   - bytes: UTF-8.
  ///   - file: what errors call them.
  ///   - fromPython: whether `NaN`, `Infinity` and `-Infinity` may stand for values, as Python writes them though
  ///     JSON has no such numbers; they are read as strings.
  /// - Throws: `DiTError` for anything that RFC 8259 does not allow, a key that stands twice, a number
  ///   that neither an `Int` nor a finite `Double` holds, and nesting beyond ``maximumDepth``.
  public init(parsing bytes: [UInt8], file: String, fromPython: Bool = false) throws(DiTError) {
    var parser = JSONParser(bytes, file: file, fromPython: fromPython)
    self = try parser.document()
  }

  /// Reads the file at `path`; see ``init(parsing:file:fromPython:)``.
  ///
  /// - Throws: `DiTError` when it cannot be read or is not JSON.
  public init(contentsOf path: String, fromPython: Bool = false) throws {
    let file = try RegularFile(path: path)
    guard file.size > 0 else { throw DiTError(file: path, .empty) }
    try self.init(parsing: file.bytes(), file: path, fromPython: fromPython)
  }

  /// What kind of value it is and, for a scalar, which: for messages.
  package var summary: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .integer(let value): "\(value)"
    case .number(let value): "\(value)"
    case .string(let value): "\"\(Message.oneLine(value, limit: 60))\""
    case .array(let values): "an array of \(values.count)"
    case .object: "an object"
    }
  }
}

/// A key of an object and its value.
public struct JSONMember: Equatable, Sendable {
  public let key: String
  public let value: JSONValue

  public init(_ key: String, _ value: JSONValue) {
    self.key = key
    self.value = value
  }
}
