import DiTEngine
import DiTImaging

/// A file that a command is to write, atomically. Its ending decides the format.
struct OutputFile {
  enum Format: String, CaseIterable {
    case png, safetensors, npz, json
  }

  let path: String
  let format: Format

  /// - Throws: ``Failure`` (64) for another ending than those of `formats`.
  init(_ path: String, _ formats: Format..., option: String = "--out") throws(Failure) {
    let ending = Paths.name(of: path).split(separator: ".").dropFirst().last
    guard let format = ending.flatMap({ Format(rawValue: $0.lowercased()) }), formats.contains(format) else {
      let endings = formats.map { ".\($0.rawValue)" }.joined(separator: ", ")
      throw .usage(option, expected: "a file name that ends in \(endings)", found: path)
    }
    self.path = path
    self.format = format
  }

  /// Says before any work is done whether the file can be written.
  ///
  /// - Throws: ``Failure`` (1).
  func checkWritable() throws(Failure) {
    do {
      _ = try AtomicFile(path: path)
    } catch {
      guard error.isMissing else { throw Failure(.failure, "\(error)") }
      throw Failure(.failure, "\(path): cannot be written: there is no such directory")
    }
  }

  /// Writes tensors with the settings they were made with.
  func write(_ tensors: [TensorSource], metadata: [String: String] = [:]) throws(Failure) {
    try saving { try SafetensorsWriter.write(tensors, metadata: metadata, to: path) }
  }

  /// Runs `body`, which writes the file: its errors are those of an output.
  ///
  /// - Throws: ``Failure`` (1).
  func saving(_ body: () throws -> Void) throws(Failure) {
    do {
      try body()
    } catch {
      throw Failure(.failure, "\(error)")
    }
  }
}
