import DiTTensor
import Foundation

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
  /// - Parameter fromPython: whether `NaN`, `Infinity` and `-Infinity` may stand for values, as Python writes them though
  ///   JSON has no such numbers; they are read as strings.
  /// - Throws: ``ConfigurationFileError`` for anything that RFC 8259 does not allow, a key that stands twice, a number
  ///   that neither an `Int` nor a finite `Double` holds, and nesting beyond ``maximumDepth``.
  public init(parsing bytes: [UInt8], file: String, fromPython: Bool = false) throws(ConfigurationFileError) {
    var parser = JSONParser(bytes, file: file, fromPython: fromPython)
    self = try parser.document()
  }

  /// Reads the file at `path`; see ``init(parsing:file:fromPython:)``.
  ///
  /// - Throws: `FileError` when it cannot be read, ``ConfigurationFileError`` when it is not JSON.
  public init(contentsOf path: String, fromPython: Bool = false) throws {
    _ = try MappedFile(path: path)  // says why a file cannot be opened
    guard let contents = FileManager.default.contents(atPath: path) else {
      throw FileError(path: path, reason: .missing)
    }
    try self.init(parsing: [UInt8](contents), file: path, fromPython: fromPython)
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

// MARK: - Writing

extension JSONValue {
  /// The value as a file holds it: two spaces a level, arrays of scalars on one line, a newline at the end. Equal values
  /// give equal texts; reading the text gives an equal value, except that a whole `number` comes back as an `integer`.
  public var text: String {
    var text = ""
    write(to: &text, indent: "")
    return text + "\n"
  }

  /// A number without a fraction where there is none.
  package static func real(_ value: Double) -> JSONValue {
    Int(exactly: value).map { .integer($0) } ?? .number(value)
  }

  private var isScalar: Bool {
    switch self {
    case .array, .object: false
    default: true
    }
  }

  private func write(to text: inout String, indent: String) {
    switch self {
    case .null: text += "null"
    case .bool(let value): text += "\(value)"
    case .integer(let value): text += "\(value)"
    case .number(let value): text += Int(exactly: value).map(String.init) ?? "\(value)"
    case .string(let value): text += JSONText.quoted(value)
    case .array(let values):
      let isFlat = values.allSatisfy(\.isScalar)
      Self.write(values, brackets: ("[", "]"), isFlat: isFlat, to: &text, indent) { $0.write(to: &$1, indent: $2) }
    case .object(let members):
      Self.write(members, brackets: ("{", "}"), isFlat: members.isEmpty, to: &text, indent) {
        $1 += JSONText.quoted($0.key) + ": "
        $0.value.write(to: &$1, indent: $2)
      }
    }
  }

  private static func write<Item>(
    _ items: [Item], brackets: (String, String), isFlat: Bool, to text: inout String, _ indent: String,
    _ write: (Item, inout String, String) -> Void
  ) {
    let inner = indent + "  "
    text += brackets.0
    for (index, item) in items.enumerated() {
      if index > 0 { text += isFlat ? ", " : "," }
      if !isFlat { text += "\n" + inner }
      write(item, &text, inner)
    }
    if !isFlat { text += "\n" + indent }
    text += brackets.1
  }
}
