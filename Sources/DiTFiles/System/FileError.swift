import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

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
    /// The file is a Git LFS pointer, a few lines that stand for another file of `bytes` bytes (nil: it does not say).
    case pointer(bytes: Int?)
    /// The system refused an `operation` (as in `"open"`) with the error number `code`.
    case refused(operation: String, code: Int32)
    /// A folder that another process writes to. `file` is what to remove where that process is known to have ended; nil
    /// where the system sees to that.
    case inUse(by: String, file: String?)
    /// A folder that was removed, moved or replaced while it was written to.
    case vanished
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
    case .pointer(let bytes):
      let size = bytes.map { " of \($0) bytes" } ?? ""
      return "\(path): expected the file itself, found a Git LFS pointer to it: `git lfs pull` fetches the file\(size)"
    case .refused(let operation, let code): return "\(path): cannot \(operation): \(Self.text(code))"
    case .inUse(let holder, let file):
      let way = file.map { "; its file system has no locks: if that process has ended, remove \(Message.oneLine($0))" }
      return "\(path): in use by \(holder)\(way ?? "")"
    case .vanished: return "\(path): was removed, moved or replaced while it was written to"
    }
  }
}

extension FileError {
  /// The error that the last system call left in `errno`.
  init(path: String, refused operation: String) {
    self.init(path: path, reason: errno == ENOENT ? .missing : .refused(operation: operation, code: errno))
  }

  /// Whether a file could not be made because there is something of its name.
  package var isTaken: Bool {
    if case .refused(_, EEXIST) = reason { true } else { false }
  }

  /// Whether a directory that something was to be made in is not there.
  package var isMissing: Bool {
    switch reason {
    case .missing, .refused(_, ENOENT): true
    default: false
    }
  }

  /// Whether nobody reads any more what was written to a pipe.
  package var isClosedPipe: Bool {
    if case .refused(_, EPIPE) = reason { true } else { false }
  }

  /// What the system says about a path that leads nowhere.
  package static var missingText: String { text(ENOENT) }

  /// What the system says about the error number `code`.
  package static func text(_ code: Int32) -> String {
    guard let text = unsafe strerror(code) else { return "error \(code)" }
    return unsafe String(cString: text)
  }
}
