import DiffusionTransformers
import Foundation

/// Numbers that wait on the disk until a file's header can be written: as many as fit there, with no memory to speak of.
///
/// They lie beside the output, in a file without a name, which the system removes with the process.
final class FloatSpool {
  /// How many there are.
  private(set) var count = 0
  private let file: FileHandle
  private let output: String

  /// - Parameter output: the file that they are to become part of.
  /// - Throws: ``Failure`` (1).
  init(for output: OutputFile) throws(Failure) {
    self.output = output.path
    let folder = URL(filePath: output.path).deletingLastPathComponent()
    let path = folder.appending(path: ".dit-\(UUID().uuidString).tmp").path(percentEncoded: false)
    guard FileManager.default.createFile(atPath: path, contents: nil), let file = FileHandle(forUpdatingAtPath: path)
    else {
      throw Failure(.failure, "\(output.path): cannot be written: no file can be made beside it")
    }
    self.file = file
    try? FileManager.default.removeItem(atPath: path)
  }

  /// - Throws: ``Failure`` (1), as where the disk is full.
  func append(_ values: [Float]) throws(Failure) {
    do {
      try file.seekToEnd()
      try file.write(contentsOf: unsafe values.withUnsafeBytes { unsafe Data($0) })
    } catch {
      throw Failure(.failure, "\(output): cannot be written: \(error.localizedDescription)")
    }
    count += values.count
  }

  /// The tensor `name` of all of them.
  func source(_ name: String, shape: [Int]) -> TensorSource {
    TensorSource(name, shape: shape) { [self] offset, chunk in
      let size = MemoryLayout<Float>.size
      try file.seek(toOffset: UInt64(size * offset))
      guard let data = try file.read(upToCount: size * chunk.count), data.count == size * chunk.count else {
        throw Failure(.failure, "\(output): what was kept for it beside it is gone")
      }
      for i in chunk.indices {
        chunk[i] = unsafe data.withUnsafeBytes { unsafe $0.loadUnaligned(fromByteOffset: size * i, as: Float.self) }
      }
    }
  }
}
