import DiTFiles
import DiTTensor
import Foundation
import Testing

@Suite("Writing safetensors") struct WriterTests {
  let directory: TemporaryDirectory
  var path: String { directory("out.safetensors") }

  init() throws { directory = try TemporaryDirectory() }

  func contents(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(filePath: path))) }

  /// The tensors of layout.safetensors, as Scripts/fixtures/checkpoint.py defines them, in another order.
  static func layout() -> [TensorSource] {
    let ramp = Tensor(shape: [3, 5], elements: (0..<15).map { Float($0) * 0.375 - 2 })
    return [
      TensorSource("a.weight", Tensor(shape: [5], elements: ramp.elements.prefix(5).map(-))),
      TensorSource("b.weight", ramp),
      TensorSource("brain", Tensor(shape: [5, 3], elements: ramp.elements), as: .bf16),
      TensorSource("empty", Tensor(zeros: [2, 0, 3])),
      TensorSource("half", ramp, as: .f16),
      TensorSource("image", shape: [7], bytes: Array(0..<7)),
      TensorSource("quote \" back \\ slash / tab \t bell \u{7} é \u{1D11E}", Tensor(shape: [1], elements: [1])),
      TensorSource("scalar", FloatSlice([0.5]), shape: []),
      TensorSource("t", shape: [3], integers: [0, 999, -5]),
      TensorSource("y", shape: [2, 1], integers: [1, 2], as: .i32),
    ]
  }

  @Test("A written file has the bytes of the Python library's")
  func theBytesAreThoseOfThePythonLibrary() throws {
    try SafetensorsWriter.write(Self.layout(), to: path)
    let difference = firstDifference(try contents(path), try contents(fixture("layout.safetensors")))
    #expect(difference == nil, "\(difference ?? "")")
  }

  @Test("The order of tensors and metadata given changes no byte")
  func theOrderGivenDoesNotMatter() throws {
    try SafetensorsWriter.write(Self.layout(), metadata: ["b": "1", "a": "2"], to: path)
    let first = try contents(path)
    try SafetensorsWriter.write(Self.layout().reversed(), metadata: ["a": "2", "b": "1"], to: path)
    #expect(try contents(path) == first)
    #expect(try SafetensorsFile(contentsOf: path).metadata == ["format": "pt", "a": "2", "b": "1"])
  }

  @Test("Reading a file and writing it again gives the same bytes")
  func whatIsReadIsWrittenAgain() throws {
    let file = try SafetensorsFile(contentsOf: fixture("layout.safetensors"))
    let tensors = try file.header.entries.map { entry in
      entry.dtype.isReadableFloat
        ? TensorSource(entry.name, try file.tensor(entry.name), as: entry.dtype)
        : TensorSource(entry.name, shape: entry.shape, integers: try file.integers(entry.name).values, as: entry.dtype)
    }
    try SafetensorsWriter.write(tensors, to: path)
    #expect(try contents(path) == contents(file.path))
  }

  @Test("Control characters and any Unicode survive in names and metadata")
  func stringsSurvive() throws {
    let odd = (0..<0x30).map { String(Unicode.Scalar(UInt8($0))) }.joined() + "\u{7F}\u{2028}é\u{10FFFF}"
    try SafetensorsWriter.write([TensorSource(odd, Tensor(zeros: [1]))], metadata: [odd: odd], to: path)
    let file = try SafetensorsFile(contentsOf: path)
    #expect(file.names == [odd])
    #expect(file.metadata == [odd: odd, "format": "pt"])
  }

  @Test("The data begin at a multiple of 8 bytes")
  func dataAreAligned() throws {
    for length in 1...9 {
      let name = String(repeating: "n", count: length)
      try SafetensorsWriter.write([TensorSource(name, Tensor(shape: [1], elements: [3]))], to: path)
      let start = try SafetensorsFile(contentsOf: path).entry(named: name)?.byteRange.lowerBound
      #expect(try #require(start) % 8 == 0)
    }
  }

  @Test("Names of one dtype are sorted by their bytes")
  func namesSortByTheirBytes() throws {
    let names = ["blocks.10.x", "blocks.2.x", "Z", "a", "é", "\u{1D11E}", "\u{FB00}"]
    try SafetensorsWriter.write(names.map { TensorSource($0, Tensor(zeros: [1])) }, to: path)
    let sorted = ["Z", "a", "blocks.10.x", "blocks.2.x", "é", "\u{FB00}", "\u{1D11E}"]
    #expect(try SafetensorsFile(contentsOf: path).names == sorted)
  }

  /// More than two chunks: the closure is asked for consecutive ranges of limited size and every element arrives.
  @Test("A long tensor is asked for in consecutive chunks of limited size", arguments: [Dtype.f32, .bf16])
  func longTensorsAreWrittenInChunks(_ dtype: Dtype) throws {
    let count = 2 << 20 + 5
    var offsets: [Int] = []
    var longest = 0
    let source = TensorSource("x", shape: [count], as: dtype) { (offset: Int, chunk: inout MutableSpan<Float>) in
      offsets.append(offset)
      longest = max(longest, chunk.count)
      for i in chunk.indices { chunk[i] = Float((offset + i) % 251) }
    }
    try SafetensorsWriter.write([source], to: path)
    #expect(offsets == [0, 1 << 20, 2 << 20] && longest == 1 << 20)
    let found = try SafetensorsFile(contentsOf: path).tensor("x").elements
    let difference = firstDifference(found, (0..<count).map { Float($0 % 251) })
    #expect(difference == nil, "\(difference ?? "")")
  }

  @Test(
    "An integer that does not fit the dtype is refused by index and leaves the old file",
    arguments: [(Dtype.u8, 256), (.u8, -1), (.i32, 1 << 31), (.i32, -(1 << 31) - 1)])
  func valuesThatDoNotFit(_ dtype: Dtype, _ value: Int) throws {
    try AtomicFile.write("old", to: path)
    let problem = SafetensorsProblem.outOfRange(index: 1, value: value, dtype: dtype)
    #expect(throws: DiTError(file: path, tensor: "y", problem: problem)) {
      try SafetensorsWriter.write([TensorSource("y", shape: [2], integers: [0, value], as: dtype)], to: path)
    }
    #expect(try contents(path) == Array("old".utf8))
    #expect(try directory.contents == ["out.safetensors"])
  }

  @Test("The extremes of U8, I32 and I64 fit")
  func extremesFit() throws {
    let tensors = [
      TensorSource("u8", shape: [2], integers: [0, 255], as: .u8),
      TensorSource("i32", shape: [2], integers: [-(1 << 31), 1 << 31 - 1], as: .i32),
      TensorSource("i64", shape: [2], integers: [.min, .max]),
    ]
    try SafetensorsWriter.write(tensors, to: path)
    let file = try SafetensorsFile(contentsOf: path)
    #expect(file.names == ["i64", "i32", "u8"])
    #expect(try file.integers("u8").values == [0, 255])
    #expect(try file.integers("i32").values == [-(1 << 31), 1 << 31 - 1])
    #expect(try file.integers("i64").values == [.min, .max])
  }

  @Test("A source that fails leaves the old file as it was")
  func aSourceThatFailsLeavesTheOldFile() throws {
    struct Stop: Error {}
    try AtomicFile.write("old", to: path)
    let tensors = [
      TensorSource("a", Tensor(zeros: [100])),
      TensorSource("b", shape: [2]) { (_: Int, _: inout MutableSpan<Float>) in throw Stop() },
    ]
    #expect(throws: Stop.self) { try SafetensorsWriter.write(tensors, to: path) }
    #expect(try contents(path) == Array("old".utf8))
    #expect(try directory.contents == ["out.safetensors"])
  }
}
