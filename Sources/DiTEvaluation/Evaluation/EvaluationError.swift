/// A set that cannot be evaluated, or not against another.
public struct EvaluationError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The set, a path when it comes from a file.
  public let name: String
  /// The tensor or array; nil when the set as a whole is meant.
  public let item: String?
  public let expected: String
  public let found: String

  public init(_ name: String, _ item: String? = nil, expected: String, found: String) {
    self.name = name
    self.item = item
    self.expected = expected
    self.found = found
  }

  /// One line: set, tensor, what was expected, what was found.
  public var description: String {
    "\(name): \(item.map { "\($0): " } ?? "")expected \(expected), found \(found)"
  }
}
