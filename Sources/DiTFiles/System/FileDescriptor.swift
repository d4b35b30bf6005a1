import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// An open file descriptor, closed with its owner.
struct FileDescriptor: ~Copyable {
  let number: Int32

  /// - Parameters:
  ///   - flags: of `open`; O_CLOEXEC is added.
  ///   - operation: what the error says was refused, as in `"open"`.
  ///   - kind: of the error, `file` or `output`.
  /// - Throws: `DiTError`.
  init(
    _ path: String, _ flags: Int32, mode: mode_t = 0o666, operation: String = "open", as kind: DiTError.Kind = .file
  ) throws(DiTError) {
    number = unsafe open(FileName.terminated(path), flags | O_CLOEXEC, mode)
    guard number >= 0 else { throw DiTError(file: path, refused: operation).of(kind) }
  }

  /// Takes over an open one.
  init(_ number: Int32) { self.number = number }

  deinit {
    if number >= 0 { close(number) }
  }
}
