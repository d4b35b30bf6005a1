import DiTTensor

/// Why an .npz or .npy file cannot be read, or an array of it not be used as asked.
public struct NumpyFileError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The file as the caller named it; empty for an array that was made in memory.
  public let path: String
  /// What of it is wrong: `ZIP archive`, or an entry as in `entry arr_0.npy`; empty for a .npy file as a whole.
  public let item: String
  public let expected: String
  public let found: String

  public init(path: String, item: String, expected: String, found: String) {
    self.path = path
    self.item = item
    self.expected = expected
    self.found = found
  }

  /// One line: the file, what of it, what was expected, what was found.
  public var description: String {
    let place = [Message.oneLine(path, limit: 1024), Message.oneLine(item, limit: 200)].filter { !$0.isEmpty }
    return (place + ["expected \(expected), found \(Message.oneLine(found, limit: 200))"]).joined(separator: ": ")
  }
}
