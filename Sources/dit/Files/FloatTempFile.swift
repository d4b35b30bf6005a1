import DiffusionTransformers

/// Numbers that wait on the disk until a file's header can be written: as many as fit there, with no memory to speak of.
final class FloatTempFile {
  /// How many there are.
  private(set) var count = 0
  private let file: UnnamedFile

  /// - Parameter output: the file that they are to become part of, beside which they lie.
  /// - Throws: ``Failure`` (1).
  init(for output: OutputFile) throws(Failure) {
    do throws(FileError) {
      file = try UnnamedFile(for: output.path)
    } catch {
      throw Failure(.failure, "\(error)")
    }
  }

  /// - Throws: ``Failure`` (1), as where the disk is full.
  func append(_ values: [Float]) throws(Failure) {
    let bytes = unsafe values.withUnsafeBytes { unsafe Array($0) }
    do throws(FileError) {
      try file.append(bytes.span)
    } catch {
      throw Failure(.failure, "\(error)")
    }
    count += values.count
  }

  /// The tensor `name` of all of them.
  func source(_ name: String, shape: [Int]) -> TensorSource {
    TensorSource(name, shape: shape) { [self] offset, chunk in
      let size = MemoryLayout<Float>.size
      let bytes = try file.bytes(at: size * offset, count: size * chunk.count)
      for i in chunk.indices {
        chunk[i] = unsafe bytes.withUnsafeBytes { unsafe $0.loadUnaligned(fromByteOffset: size * i, as: Float.self) }
      }
    }
  }
}
