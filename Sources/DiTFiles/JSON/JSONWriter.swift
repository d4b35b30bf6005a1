extension JSONValue {
  /// The value as a file holds it: two spaces per level, arrays of scalars on one line, a newline at the end. Equal values
  /// give equal texts; reading the text gives an equal value, except that a whole `number` comes back as an `integer`.
  public var text: String {
    var text = ""
    write(to: &text, indent: "")
    return text + "\n"
  }

  /// The value on one line without spaces or a newline, as a line of a log. A whole `number` keeps its fraction, `1.0`, so
  /// that reading the line gives an equal value.
  package var line: String {
    switch self {
    case .number(let value): "\(value)"
    case .array(let values): "[\(values.map(\.line).joined(separator: ","))]"
    case .object(let members):
      "{\(members.map { "\(JSONText.quoted($0.key)):\($0.value.line)" }.joined(separator: ","))}"
    default: scalar ?? ""
    }
  }

  /// A number without a fraction where there is none.
  package static func real(_ value: Double) -> JSONValue {
    Int(exactly: value).map { .integer($0) } ?? .number(value)
  }

  /// A scalar's text; nil for arrays and objects.
  private var scalar: String? {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .integer(let value): "\(value)"
    case .number(let value): Int(exactly: value).map(String.init) ?? "\(value)"
    case .string(let value): JSONText.quoted(value)
    case .array, .object: nil
    }
  }

  private func write(to text: inout String, indent: String) {
    switch self {
    case .array(let values):
      let isFlat = values.allSatisfy { $0.scalar != nil }
      Self.write(values, brackets: ("[", "]"), isFlat: isFlat, to: &text, indent) { $0.write(to: &$1, indent: $2) }
    case .object(let members):
      Self.write(members, brackets: ("{", "}"), isFlat: members.isEmpty, to: &text, indent) {
        $1 += JSONText.quoted($0.key) + ": "
        $0.value.write(to: &$1, indent: $2)
      }
    default: text += scalar ?? ""
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
