import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Numbers kept on the disk until a file's header can be written: for tensors whose length is known only when the last
/// element is, and which need not fit in memory.
///
/// They lie in the output's directory, in a file without a name, which the system removes with the process. One caller at
/// a time.
public final class FloatTempFile {
  /// How many numbers there are.
  public private(set) var count = 0
  private let output: String
  private let descriptor: Int32

  /// - Parameter output: the file that the numbers are to become part of; errors name it.
  /// - Throws: ``FileError`` where no file can be made in its directory.
  public init(for output: String) throws(FileError) {
    self.output = output
    let slash = output.lastIndex(of: "/")
    let directory = slash.map { $0 == output.startIndex ? "/" : String(output[..<$0]) } ?? "."
    let path = "\(directory)/.dit-\(UUID().uuidString).tmp"
    descriptor = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw FileError(path: output, refused: "create a file in the directory of") }
    unsafe unlink(path)
  }

  deinit { close(descriptor) }

  /// Appends numbers.
  ///
  /// - Throws: ``FileError``, as when the disk is full.
  public func append(_ values: [Float]) throws(FileError) {
    let bytes = unsafe values.withUnsafeBytes { unsafe [UInt8]($0) }
    try AtomicFile.write(bytes.span, to: descriptor, path: output)
    count += values.count
  }

  /// All of them as the tensor `name`, F32.
  ///
  /// - Precondition: `shape` has ``count`` elements.
  public func source(_ name: String, shape: [Int]) -> TensorSource {
    precondition(shape.reduce(1, *) == count, "\(name): \(count) elements do not fill the shape \(shape)")
    return TensorSource(name, shape: shape) { [self] offset, chunk in
      let size = MemoryLayout<Float>.size
      var part = [Float](repeating: 0, count: chunk.count)
      var read = 0
      while read < size * chunk.count {
        let count = unsafe part.withUnsafeMutableBytes {
          unsafe pread(descriptor, $0.baseAddress! + read, $0.count - read, off_t(size * offset + read))
        }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { throw FileError(path: output, refused: "read what was kept for") }
        read += count
      }
      for i in chunk.indices { chunk[i] = part[i] }
    }
  }
}
