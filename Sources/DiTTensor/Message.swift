/// Pieces of error messages. Names and paths come from outside, so a message escapes what would break its line and cuts
/// what would flood it.
package enum Message {
  /// `text` on one line: control, format and separator characters escaped, and cut after `limit` characters.
  package static func oneLine(_ text: String, limit: Int = 160) -> String {
    var line = ""
    var room = limit
    for scalar in text.unicodeScalars {
      if room == 0 { return line + "…" }
      room -= 1
      if isByte(scalar) {
        line += shown(scalar)
      } else if isPrintable(scalar) {
        line.unicodeScalars.append(scalar)
      } else {
        line += "\\u{\(String(scalar.value, radix: 16))}"
      }
    }
    return line
  }

  /// A shape such as `[3, 4]`, cut after eight extents.
  package static func shape(_ shape: [Int]) -> String {
    guard shape.count > 8 else { return "\(shape)" }
    let head = shape.prefix(8).map(String.init).joined(separator: ", ")
    return "[\(head), … \(shape.count - 8) more]"
  }

  /// The first eight of `items`, as `text` puts them, and how many more there are.
  package static func list<Item>(_ items: [Item], _ text: (Item) -> String) -> String {
    let head = items.prefix(8).map(text).joined(separator: ", ")
    return items.count > 8 ? "\(head) and \(items.count - 8) more" : head
  }

  // MARK: Names that are not Unicode

  /// The scalars that stand for the bytes 80 … FF of a file's name that is no UTF-8, as the reader of names says.
  private static let bytes: ClosedRange<UInt32> = 0x10F780...0x10F7FF

  package static func isByte(_ scalar: Unicode.Scalar) -> Bool { bytes.contains(scalar.value) }

  /// - Precondition: a byte from 80 to FF.
  package static func scalar(ofByte byte: UInt8) -> Unicode.Scalar {
    precondition(byte >= 0x80, "the byte \(byte) is ASCII")
    return Unicode.Scalar(bytes.lowerBound + UInt32(byte - 0x80)) ?? "\u{FFFD}"
  }

  /// The byte that a scalar stands for; nil for one that stands for itself.
  package static func byte(of scalar: Unicode.Scalar) -> UInt8? {
    isByte(scalar) ? UInt8(scalar.value - bytes.lowerBound + 0x80) : nil
  }

  /// The scalar itself, or `\xe9` for the byte E9.
  package static func shown(_ scalar: Unicode.Scalar) -> String {
    byte(of: scalar).map { "\\x\(String($0, radix: 16))" } ?? String(scalar)
  }

  private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.isASCII { return (" "..."~").contains(scalar) }
    return switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned, .surrogate: false
    default: true
    }
  }
}
