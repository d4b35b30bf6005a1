import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A regular file, open to read. A directory, pipe or device is refused at once: opening a pipe does not wait for a writer.
package struct RegularFile: ~Copyable {
  /// The path as given.
  package let path: String
  /// The number of bytes when it was opened.
  package let size: Int
  let descriptor: FileDescriptor
  /// The number of the open file, which closes with its owner.
  package var number: Int32 { descriptor.number }

  /// - Throws: `DiTError` when there is no file, it is not a regular one, or the system refuses.
  package init(path: String) throws(DiTError) {
    let descriptor = try FileDescriptor(path, O_RDONLY | O_NONBLOCK | O_NOCTTY)
    let status = try FileStatus(descriptor: descriptor.number, path: path)
    guard status.isRegular else { throw DiTError(file: path, .notRegular(found: status.kind)) }
    try Self.refusePointer(descriptor.number, size: status.size, path: path)
    self.path = path
    size = status.size
    self.descriptor = descriptor
  }

  /// A Git LFS pointer is a text of at most 1024 bytes that begins with its version. What a repository holds in place of a
  /// large file is never what was meant.
  private static func refusePointer(_ descriptor: Int32, size: Int, path: String) throws(DiTError) {
    let version = "version https://git-lfs.github.com/spec/"
    guard size > version.utf8.count, size <= 1024 else { return }
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: size) { buffer, filled in
      filled = unsafe max(0, pread(descriptor, buffer.baseAddress, size, 0))
    }
    let text = String(decoding: bytes, as: UTF8.self)
    guard text.hasPrefix(version) else { return }
    let line = text.split(separator: "\n").first { $0.hasPrefix("size ") }
    throw DiTError(file: path, .pointer(bytes: line.flatMap { Int($0.dropFirst("size ".count)) }))
  }

  /// The first `limit` bytes, or all of a smaller file; fewer where it has become shorter since it was opened.
  ///
  /// - Throws: `DiTError`.
  package func bytes(upTo limit: Int = .max) throws(DiTError) -> [UInt8] { try bytes(0..<min(size, limit)) }

  /// The bytes of `range`, which lies in the file; fewer where it has become shorter since it was opened.
  ///
  /// - Throws: `DiTError`.
  package func bytes(_ range: Range<Int>) throws(DiTError) -> [UInt8] {
    var failed = false
    let bytes = Self.bytes(of: descriptor.number, range, failed: &failed)
    guard !failed else { throw DiTError(file: path, refused: "read") }
    return bytes
  }

  /// The bytes of `range` of an open file; fewer where it ends or cannot be read.
  package static func bytes(of number: Int32, _ range: Range<Int>) -> [UInt8] {
    var failed = false
    return bytes(of: number, range, failed: &failed)
  }

  private static func bytes(of number: Int32, _ range: Range<Int>, failed: inout Bool) -> [UInt8] {
    let (start, count) = (range.lowerBound, range.count)
    var isRefused = false
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while filled < count {
        let step = unsafe pread(number, buffer.baseAddress! + filled, count - filled, off_t(start + filled))
        if step < 0 && errno == EINTR { continue }
        isRefused = step < 0
        guard step > 0 else { return }
        filled += step
      }
    }
    failed = isRefused
    return bytes
  }
}
