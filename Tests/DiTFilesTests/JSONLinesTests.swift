import DiTFiles
import DiTTensor
import Foundation
import Testing

@Suite("Files of one JSON value per line") struct JSONLinesTests {
  let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  @Test("A line has no spaces, keeps fractions and reads back as the same value")
  func lines() throws {
    let value = JSONValue.object([
      JSONMember("a\"", .array([.null, .bool(true), .integer(-3), .number(1), .number(0.1), .number(1e300)])),
      JSONMember("b", .object([])), JSONMember("c", .array([])), JSONMember("d", .string("é\n")),
    ])
    #expect(value.line == #"{"a\"":[null,true,-3,1.0,0.1,1e+300],"b":{},"c":[],"d":"é\n"}"#)
    #expect(try JSONValue(parsing: Array(value.line.utf8), file: "") == value)
  }

  @Test("Lines that are kept stay as they are; others, and one that was cut off, go")
  func keeping() throws {
    let path = directory("log.jsonl")
    try AtomicFile.write("{\"n\": 1}\n{\"n\":2}\n\n{\"n\":", to: path)
    #expect(JSONLinesFile.values(path).count == 2)
    let file = try JSONLinesFile(path) { $0 == .object([JSONMember("n", .integer(1))]) }
    try file.append(.array([.integer(3)]))
    try file.append(.string("end"))
    #expect(try RegularFile(path: path).bytes() == Array("{\"n\": 1}\n[3]\n\"end\"\n".utf8))
    _ = try JSONLinesFile(path)
    #expect(JSONLinesFile.values(path) == [] && JSONLinesFile.values(directory("none")) == [])
    #expect(try directory.contents == ["log.jsonl"])
  }

  /// One that Git LFS left in the file's place stands for any that is there and cannot be read.
  @Test("A file whose lines cannot be read is an error, and stays")
  func unreadable() throws {
    let path = directory("log.jsonl")
    let pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:\(String(repeating: "a", count: 64))\nsize 12\n"
    try AtomicFile.write(pointer, to: path)
    #expect(throws: DiTError.self) { try JSONLinesFile(path) { _ in true } }
    #expect(try String(contentsOfFile: path, encoding: .utf8) == pointer)
  }
}
