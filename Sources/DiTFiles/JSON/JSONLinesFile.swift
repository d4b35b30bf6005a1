import DiTTensor

/// A file of one JSON value per line, to which lines are appended; each is handed to the system at once, so that a reader
/// may follow the file while it grows.
package final class JSONLinesFile {
  /// The path as given.
  package let path: String
  private let file: AppendedFile

  /// A file with the lines of the one at `path` that `keeps` accepts, as they stand; a line that is not JSON, such as one
  /// cut off in the middle, is dropped. By default none is kept: a new file, in place of one that may be there.
  ///
  /// - Throws: `DiTError`, also when there is a file that cannot be read: its lines are not lost.
  package init(_ path: String, keeping keeps: ((JSONValue) -> Bool)? = nil) throws {
    let kept = try keeps.map { keeps in try Self.lines(path).filter { Self.value($0).map(keeps) ?? false } } ?? []
    try AtomicFile.write(to: path) { file in
      for line in kept { try file.write((line + [UInt8(ascii: "\n")]).span) }
    }
    file = try AppendedFile(path: path)
    self.path = path
  }

  /// The values of the file at `path`, without the lines that are not JSON; none when there is no such file, or it cannot be
  /// read.
  package static func values(_ path: String) -> [JSONValue] { ((try? lines(path)) ?? []).compactMap(value) }

  /// Appends a line.
  ///
  /// - Throws: `DiTError`.
  package func append(_ value: JSONValue) throws(DiTError) {
    try file.write(Array("\(value.line)\n".utf8).span)
  }

  private static func lines(_ path: String) throws(DiTError) -> [[UInt8]] {
    guard try FileStatus(path: path) != nil else { return [] }
    return try RegularFile(path: path).bytes().split(separator: UInt8(ascii: "\n")).map(Array.init)
  }

  private static func value(_ line: [UInt8]) -> JSONValue? { try? JSONValue(parsing: line, file: "") }
}
