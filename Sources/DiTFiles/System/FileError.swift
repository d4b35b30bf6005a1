import DiTTensor

/// Why a file could not be opened or written.
public struct FileError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What went wrong.
  public enum Reason: Equatable, Sendable {
    /// There is nothing at the path.
    case missing
    /// The path leads to something that is not a regular file; `found` says to what, as in `"a directory"`.
    case notRegular(found: String)
    /// The file holds no bytes.
    case empty
    /// The system refused an `operation` (as in `"open"`) with the error number `code`.
    case refused(operation: String, code: Int32)
  }

  /// The file as the caller named it.
  public let path: String
  /// What went wrong.
  public let reason: Reason

  /// An error about the file at `path`.
  public init(path: String, reason: Reason) {
    self.path = path
    self.reason = reason
  }

  /// One line: the path, what was expected, what was found.
  public var description: String {
    let path = Message.oneLine(path, limit: 1024)
    switch reason {
    case .missing: return "\(path): no such file"
    case .notRegular(let found): return "\(path): expected a regular file, found \(found)"
    case .empty: return "\(path): the file is empty"
    case .refused(let operation, let code): return "\(path): cannot \(operation): \(Self.text(code))"
    }
  }
}
