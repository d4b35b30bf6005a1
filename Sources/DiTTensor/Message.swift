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
      if isPrintable(scalar) {
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

  private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.isASCII { return (" "..."~").contains(scalar) }
    return switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned, .surrogate: false
    default: true
    }
  }
}
