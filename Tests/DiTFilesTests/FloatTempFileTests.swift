import DiTFiles
import DiTTensor
import Testing

@Suite("Numbers kept on the disk until a file can be written") struct FloatTempFileTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  @Test("Numbers appended in parts become one tensor, and no file remains but the output")
  func parts() throws {
    // More than one chunk of the writer.
    let values = (0..<1_100_003).map { Float($0) / 7 }
    let output = directory("out.safetensors")
    let file = try FloatTempFile(for: output)
    for part in [0..<1, 1..<1, 1..<70_000, 70_000..<1_100_003] { try file.append(Array(values[part])) }
    #expect(file.count == values.count)
    #expect(try directory.contents.isEmpty, "the numbers lie in a file without a name")
    try SafetensorsWriter.write([file.source("x", shape: [1_100_003])], to: output)
    #expect(try SafetensorsFile(contentsOf: output).tensor("x").elements == values)
    #expect(try directory.contents == ["out.safetensors"])
  }

  @Test("A directory that does not exist is an error that names the output")
  func missingDirectory() throws {
    let output = directory("none/out.safetensors")
    let error = #expect(throws: DiTError.self) { try FloatTempFile(for: output) }
    #expect(error?.file == output)
  }
}
