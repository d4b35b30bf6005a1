import DiTTensor

/// A file with a model that cannot be used as one: the file, what of it, what was expected and what was found.
public struct ModelFileError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The file as the caller named it.
  public let file: String
  /// What is wrong, as in `tensor pos_embed`.
  public let item: String
  public let expected: String
  public let found: String

  public init(file: String, item: String, expected: String, found: String) {
    self.file = file
    self.item = item
    self.expected = expected
    self.found = found
  }

  /// One line.
  public var description: String {
    "\(Message.oneLine(file, limit: 1024)): \(item): expected \(expected), found \(Message.oneLine(found))"
  }
}
