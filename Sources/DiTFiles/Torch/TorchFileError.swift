import DiTTensor

/// Why a torch file cannot be read, or a tensor of it.
public struct TorchFileError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The file as the caller named it.
  public let path: String
  /// What of it is wrong, as in `entry archive/data/0` or `tensor pos_embed`; empty for the file as a whole.
  public let item: String
  public let expected: String
  public let found: String

  public init(path: String, item: String = "", expected: String, found: String) {
    self.path = path
    self.item = item
    self.expected = expected
    self.found = found
  }

  /// One line: the file, what of it, what was expected, what was found.
  public var description: String {
    let place = [Message.oneLine(path, limit: 1024)] + (item.isEmpty ? [] : [Message.oneLine(item, limit: 200)])
    return place.joined(separator: ": ") + ": expected \(expected), found \(Message.oneLine(found, limit: 200))"
  }
}
