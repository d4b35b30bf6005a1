import DiTTensor

/// Numbers kept on the disk until a file's header can be written: for tensors whose length is known only when the last
/// element is, and which need not fit in memory.
///
/// They lie in the output's directory, in a file without a name, which the system removes with the process. One caller at
/// a time.
public final class FloatTempFile {
  /// How many numbers there are.
  public private(set) var count = 0
  private let file: UnnamedFile

  /// - Parameter output: the file that the numbers are to become part of; errors name it.
  /// - Throws: `DiTError` where no file can be made in its directory.
  public init(for output: String) throws(DiTError) { file = try UnnamedFile(for: output) }

  /// Appends numbers.
  ///
  /// - Throws: `DiTError`, as when the disk is full.
  public func append(_ values: [Float]) throws(DiTError) {
    let bytes = unsafe values.withUnsafeBytes { unsafe [UInt8]($0) }
    try file.append(bytes.span)
    count += values.count
  }

  /// All of them as the tensor `name`, F32.
  ///
  /// - Precondition: `shape` has ``count`` elements.
  public func source(_ name: String, shape: [Int]) -> TensorSource {
    precondition(shape.reduce(1, *) == count, "\(name): \(count) elements do not fill the shape \(shape)")
    return TensorSource(name, shape: shape) { [self] offset, chunk in
      let size = MemoryLayout<Float>.size
      let bytes = try file.bytes(at: size * offset, count: size * chunk.count)
      for i in chunk.indices {
        chunk[i] = unsafe bytes.withUnsafeBytes { unsafe $0.loadUnaligned(fromByteOffset: size * i, as: Float.self) }
      }
    }
  }
}
