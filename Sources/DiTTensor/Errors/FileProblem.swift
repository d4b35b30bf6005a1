#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Why a file or folder cannot be opened, or not be written.
public enum FileProblem: Equatable, Sendable {
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

extension FileProblem {
  /// What the system says about a path that leads nowhere.
  package static var missingText: String { text(ENOENT) }

  /// What the system says about the error number `code`.
  package static func text(_ code: Int32) -> String {
    guard let text = unsafe strerror(code) else { return "error \(code)" }
    return unsafe String(cString: text)
  }
}

extension DiTError {
  /// The file or folder at `path` has a problem.
  package init(file path: String, _ problem: FileProblem) {
    let subject = Subject(file: path)
    func failure(_ words: String) -> DiTError { DiTError(.file, subject, problem: words, cause: problem) }
    switch problem {
    case .missing: self = failure("no such file")
    case .notRegular(let found):
      self.init(.file, subject, expected: "a regular file", found: found, cause: problem)
    case .empty: self = failure("the file is empty")
    case .pointer(let bytes):
      let size = bytes.map { " of \($0) bytes" } ?? ""
      self.init(
        .file, subject, expected: "the file itself", found: "a Git LFS pointer to it", place: "",
        note: ": `git lfs pull` fetches the file\(size)", cause: problem)
    case .refused(let operation, let code): self = failure("cannot \(operation): \(FileProblem.text(code))")
    case .inUse(let holder, let file):
      let way = file.map { "; its file system has no locks: if that process has ended, remove \(Message.oneLine($0))" }
      self = failure("in use by \(holder)\(way ?? "")")
    case .vanished: self = failure("was removed, moved or replaced while it was written to")
    }
  }

  /// The error that the last system call left in `errno`.
  package init(file path: String, refused operation: String) {
    self.init(file: path, errno == ENOENT ? .missing : .refused(operation: operation, code: errno))
  }

  /// The file or folder at `path` cannot be written.
  package init(output path: String, _ problem: FileProblem) { self = DiTError(file: path, problem).of(.output) }

  /// The error that the last system call, which was to write, left in `errno`.
  package init(output path: String, refused operation: String) {
    self = DiTError(file: path, refused: operation).of(.output)
  }

  /// The problem of a file or folder that this error is about.
  package var fileProblem: FileProblem? { cause() }

  /// Whether a file could not be made because there is something of its name.
  package var isTaken: Bool {
    if case .refused(_, EEXIST)? = fileProblem { true } else { false }
  }

  /// Whether a directory that something was to be made in is not there.
  package var isMissing: Bool {
    switch fileProblem {
    case .missing, .refused(_, ENOENT): true
    default: false
    }
  }

  /// Whether nobody reads any more what was written to a pipe.
  package var isClosedPipe: Bool {
    if case .refused(_, EPIPE)? = fileProblem { true } else { false }
  }
}
