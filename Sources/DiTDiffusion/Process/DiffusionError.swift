/// A value from outside (configuration, command line, list of steps) that the mathematics cannot take.
///
/// Misuse from code (wrong counts, an index out of range) traps instead, with both shapes in the message.
public struct DiffusionError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The key, option or list that holds the value, for example `steps`.
  public let name: String
  /// What it may be.
  public let expected: String
  /// What it was.
  public let found: String

  public init(_ name: String, expected: String, found: String) {
    self.name = name
    self.expected = expected
    self.found = found
  }

  /// One line: the name, what was expected, what was found.
  public var description: String { "\(name): expected \(expected), found \(found)" }
}
