import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A file, open to be written at its end, for logs: each call hands its bytes to the system, so that a reader may follow
/// the file while it grows. Unlike an ``AtomicFile`` it may end in the middle of what was written when the process is killed.
package struct AppendedFile: ~Copyable {
  /// The path as given.
  package let path: String
  private let descriptor: FileDescriptor

  /// Opens the file at `path`, which may be a device or a pipe.
  ///
  /// - Throws: `DiTError`.
  package init(path: String) throws(DiTError) {
    descriptor = try FileDescriptor(path, O_WRONLY | O_APPEND, as: .output)
    self.path = path
  }

  /// Makes an empty file.
  ///
  /// - Throws: `DiTError`, with the system's EEXIST where there is something at `path`.
  package init(creating path: String) throws(DiTError) {
    descriptor = try FileDescriptor(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL, operation: "create", as: .output)
    self.path = path
  }

  /// Appends `bytes`.
  ///
  /// - Throws: `DiTError`, as when the disk is full.
  package func write(_ bytes: Span<UInt8>) throws(DiTError) {
    try AtomicFile.write(bytes, to: descriptor.number, path: path)
  }
}
