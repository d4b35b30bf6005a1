import DiTTensor

extension StepSchedule: CustomStringConvertible {
  /// What can be written, for messages.
  public static let words = "leading, trailing, linspace, quadratic, jump, jump:γ or custom:T1,T2,…"

  /// Reads what `description` writes, and `jump`, which is `jump:0.5`.
  ///
  /// - Throws: `DiTError` for another word, a γ that is no number or is negative, a list with anything but whole
  ///   numbers in it.
  public init(parsing text: String) throws(DiTError) {
    switch text {
    case "leading": self = .leading
    case "trailing": self = .trailing
    case "linspace": self = .linspace
    case "quadratic": self = .quadratic
    case "jump": self = .jump(exponent: 0.5)
    default:
      if let exponent = Self.tail(of: text, after: "jump:") {
        self = .jump(exponent: try Self.exponent(exponent))
      } else if let list = Self.tail(of: text, after: "custom:") {
        self = .custom(try Self.list(list))
      } else {
        throw DiTError(option: "schedule", expected: Self.words, found: "'\(text)'")
      }
    }
  }

  private static func tail(of text: String, after prefix: String) -> Substring? {
    text.hasPrefix(prefix) ? text.dropFirst(prefix.count) : nil
  }

  private static func exponent(_ text: Substring) throws(DiTError) -> Double {
    guard let exponent = Double(text), exponent >= 0, exponent.isFinite else {
      throw DiTError(option: "schedule", expected: "jump:γ with a number γ ≥ 0", found: "'jump:\(text)'")
    }
    return exponent
  }

  private static func list(_ text: Substring) throws(DiTError) -> [Int] {
    var list: [Int] = []
    for word in text.split(separator: ",", omittingEmptySubsequences: false) {
      guard let t = Int(word) else {
        throw DiTError(option: "schedule", expected: "whole numbers between commas", found: "'\(word)'")
      }
      list.append(t)
    }
    return list
  }

  public var description: String {
    switch self {
    case .leading: "leading"
    case .trailing: "trailing"
    case .linspace: "linspace"
    case .quadratic: "quadratic"
    case .jump(let exponent): "jump:\(exponent)"
    case .custom(let list): "custom:" + list.map { "\($0)" }.joined(separator: ",")
    }
  }
}
