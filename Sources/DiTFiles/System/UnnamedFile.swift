import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Bytes that wait on the disk until they are read again: a file without a name, which the system removes with the process.
package struct UnnamedFile: ~Copyable {
  private let path: String
  private let descriptor: FileDescriptor

  /// - Parameter path: the file that the bytes are to become part of: they lie on the same disk, and errors name it.
  /// - Throws: `DiTError`.
  package init(for path: String) throws(DiTError) {
    let (temporary, number) = try AtomicFile.createTemporary(in: Paths.parent(of: path), for: path)
    descriptor = FileDescriptor(number)
    self.path = path
    unsafe unlink(FileName.terminated(temporary))
  }

  /// Appends `bytes`.
  ///
  /// - Throws: `DiTError`, as when the disk is full.
  package func append(_ bytes: Span<UInt8>) throws(DiTError) {
    try AtomicFile.write(bytes, to: descriptor.number, path: path)
  }

  /// The `count` bytes from `offset` on.
  ///
  /// - Throws: `DiTError`.
  /// - Precondition: they were appended.
  package func bytes(at offset: Int, count: Int) throws(DiTError) -> [UInt8] {
    let number = descriptor.number
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while filled < count {
        let step = unsafe pread(number, buffer.baseAddress! + filled, count - filled, off_t(offset + filled))
        if step < 0 && errno == EINTR { continue }
        guard step > 0 else { return }
        filled += step
      }
    }
    guard bytes.count == count else { throw DiTError(output: path, refused: "read what was kept for") }
    return bytes
  }
}
