import DiTFiles
import DiTTensor
import Foundation
import Testing

@Suite("Reading safetensors") struct ReaderTests {
  let file: SafetensorsFile

  init() throws { file = try SafetensorsFile(contentsOf: fixture("dtypes.safetensors")) }

  @Test(
    "F64, F32, F16 and BF16 read as the Floats that torch converts them to",
    arguments: ["f64", "f32", "f16", "bf16"])
  func realNumbersAreThoseOfTorch(_ name: String) throws {
    let found = try file.tensor(name)
    let expected = try file.tensor("\(name).float32")
    #expect(found.shape == [5, 7])
    let difference = firstDifference(patterns(found.elements), patterns(expected.elements))
    #expect(difference == nil, "\(name) \(difference ?? "")")
    #expect(found.elements[2] == .infinity && found.elements[4].isNaN && found.elements[6] == -1.5)
    #expect(try patterns(file.numbers(name).elements) == patterns(found.elements))
    #expect(try patterns(file.slice(name).array) == patterns(found.elements))
  }

  @Test("I64, I32 and U8 are read as integers and as Floats")
  func integersAreRead() throws {
    let i64 = try file.integers("i64")
    #expect(i64.shape == [2, 3])
    #expect(i64.values == [.min, -1, 0, 1, 1 << 40 + 1, .max])
    #expect(try file.integers("i32").values == [Int(Int32.min), -1, 0, 7, Int(Int32.max)])
    let u8 = try file.integers("u8")
    #expect(u8.shape == [4, 13, 1])
    #expect(u8.values == Array(stride(from: 0, to: 256, by: 5)))
    #expect(try file.integers("whole").values == [0, -3, 999])
    #expect(try file.numbers("i32").elements == [-2_147_483_648, -1, 0, 7, 2_147_483_648])
    #expect(try file.numbers("u8").elements == u8.values.map(Float.init))
  }

  @Test("Tensors of rank 0 and without elements are read")
  func rankZeroAndEmpty() throws {
    #expect(try file.tensor("scalar") == Tensor(shape: [], elements: [2.5]))
    #expect(try file.tensor("empty") == Tensor(shape: [0, 4], elements: []))
    #expect(try file.slice("empty").count == 0)
    #expect(file.mappedFloats("empty")?.slice.count == 0)
  }

  @Test("Metadata, names and entries are given in the order of the data")
  func entriesAndMetadata() throws {
    #expect(file.metadata.keys.sorted() == ["made_by"])
    #expect(file.metadata["made_by"]?.hasPrefix("torch ") == true)
    #expect(file.names.count == 23)
    #expect(file.names.first == "other.uint64")
    #expect(Set(file.names).count == file.names.count)
    let starts = file.header.entries.map(\.byteRange.lowerBound)
    #expect(starts == starts.sorted())
    let entry = try #require(file.entry(named: "f16"))
    #expect(entry.dtype == .f16 && entry.shape == [5, 7] && entry.count == 35 && entry.byteRange.count == 70)
    #expect(file.entry(named: "f17") == nil)
    #expect(try file.withBytes(of: "u8") { $0.byteCount } == 52)
  }

  @Test("Other dtypes and unknown names are refused by tensor")
  func dtypesThatCannotBeRead() {
    for name in file.names where name.hasPrefix("other.") {
      let error = #expect(throws: DiTError.self) { try file.numbers(name) }
      #expect(
        error?.tensor == name && error?.description.contains("expected F32, F16, BF16, F64, I64, I32 or U8") == true)
      #expect(throws: DiTError.self) { try file.integers(name) }
      #expect(throws: DiTError.self) { try file.slice(name) }
    }
    let found = SafetensorsProblem.unreadableDtype(expected: "F32, F16, BF16 or F64", found: .i64)
    #expect(throws: DiTError(file: file.path, tensor: "i64", problem: found)) { try file.tensor("i64") }
    #expect(throws: DiTError(file: file.path, tensor: "none", problem: .noSuchTensor)) {
      try file.tensor("none")
    }
  }

  @Test("Values that are no integers are refused by index, and large whole doubles are exact")
  func numbersThatAreNotWhole() throws {
    let path = file.path
    #expect(throws: DiTError(file: path, tensor: "scalar", problem: .notWhole(index: 0, found: 2.5))) {
      try file.integers("scalar")
    }
    #expect(throws: DiTError(file: path, tensor: "f64", problem: .notWhole(index: 2, found: .infinity))) {
      try file.integers("f64")
    }
    // 2⁵³ + 2 is whole as a Double and lost as a Float; 2⁶³ does not fit.
    let patterns = [9_007_199_254_740_994.0, -3].map(\.bitPattern)
    let doubles = try SafetensorsFile(bytes: fileBytes(of: .f64, shape: [2], littleEndian(patterns)), path: "d")
    #expect(try doubles.integers("x").values == [9_007_199_254_740_994, -3])
    let huge = try SafetensorsFile(bytes: fileBytes(of: .f64, shape: [1], littleEndian([0x1p63.bitPattern])), path: "d")
    #expect(throws: DiTError(file: "d", tensor: "x", problem: .notWhole(index: 0, found: 0x1p63))) {
      try huge.integers("x")
    }
  }

  @Test("Values are copied into a caller's memory, and a span of another length is refused untouched")
  func copyFloats() throws {
    var elements = [Float](repeating: 0, count: 35)
    var target = elements.mutableSpan
    try file.copyFloats("bf16", into: &target)
    #expect(try patterns(elements) == patterns(file.tensor("bf16").elements))
    var short = [Float](repeating: 7, count: 34)
    var mismatch: DiTError?
    do {
      var target = short.mutableSpan
      try file.copyFloats("bf16", into: &target)
    } catch { mismatch = error }
    #expect(
      mismatch
        == DiTError(file: file.path, tensor: "bf16", problem: .countMismatch(expected: 34, found: 35)))
    #expect(short.allSatisfy { $0 == 7 })
  }

  @Test("F32 is used in the mapped file without a copy")
  func floatsAreUsedWhereTheyLie() throws {
    let mapped = try #require(file.mappedFloats("f32"))
    #expect(mapped.count == 35 && mapped.byteOffset == file.entry(named: "f32")?.byteRange.lowerBound)
    #expect(try patterns(mapped.slice.array) == patterns(file.tensor("f32").elements))
    #expect(try !file.slice("f32").buffer.isMutable)
    #expect(file.mappedFloats("bf16") == nil && file.mappedFloats("none") == nil)
  }

  /// Pages that are given back are read again: some of a tensor's, then all.
  @Test("Pages of a mapped file that are released are read again")
  func releasedPagesComeBack() throws {
    let folder = try TemporaryDirectory()
    let values = (0..<20_000).map(Float.init)
    try SafetensorsWriter.write(
      [TensorSource("x", Tensor(shape: [20_000], elements: values))], to: folder("x.safetensors"))
    let slice = try #require(SafetensorsFile(contentsOf: folder("x.safetensors")).mappedFloats("x")).slice
    slice[1500..<17_001].releasePages()
    #expect(slice.array == values)
    slice.releasePages()
    #expect(slice.array == values)
  }

  @Test("Mapped values outlive the reader and a replacement of the file")
  func mappedFloatsOutliveTheFile() throws {
    let directory = try TemporaryDirectory()
    let path = directory("a.safetensors")
    try SafetensorsWriter.write([TensorSource("x", Tensor(shape: [3], elements: [1, 2, 3]))], to: path)
    let slice = try SafetensorsFile(contentsOf: path).slice("x")
    try SafetensorsWriter.write([TensorSource("x", Tensor(shape: [3], elements: [4, 5, 6]))], to: path)
    #expect(slice.array == [1, 2, 3])
    #expect(try SafetensorsFile(contentsOf: path).tensor("x").elements == [4, 5, 6])
  }

  @Test("F32 at an unaligned offset is copied instead of mapped")
  func unalignedFloatsAreCopied() throws {
    let directory = try TemporaryDirectory()
    let path = directory("a.safetensors")
    let header =
      #"{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"x":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}}"#
    let padded = header + String(repeating: " ", count: (8 - header.utf8.count % 8) % 8)
    let elements = littleEndian([Float(0.75), -3].map(\.bitPattern))
    try Data(fileBytes(padded) + [9] + elements).write(to: URL(filePath: path))
    let file = try SafetensorsFile(contentsOf: path)
    #expect(file.mappedFloats("x") == nil)
    #expect(try file.slice("x").array == [0.75, -3])
    #expect(try file.tensor("x").elements == [0.75, -3])
    #expect(try file.integers("a").values == [9])
  }

  @Test("Tensors of a file in memory are copied")
  func filesInMemoryAreNotMapped() throws {
    let file = try SafetensorsFile(
      bytes: fileBytes(of: .f32, shape: [1], littleEndian([Float(0.5).bitPattern])), path: "m")
    #expect(file.mappedFloats("x") == nil)
    #expect(try file.slice("x").array == [0.5])
  }
}

/// What the format allows beyond what writers usually do.
@Suite("What the safetensors format allows in a header") struct HeaderTests {
  @Test("White space and every JSON escape in a header are accepted")
  func spaceAndEscapes() throws {
    let header =
      "{ \"__metadata__\" :\t{ \"k\\n\" : \"\\\"\\\\\\/\\b\\f\\r\\t\\u00e9\\uD834\\udd1e\" } ,\r\n"
      + "\"\\u0000é\":{\"shape\":[ 1 , 2 ],\"data_offsets\":[ 0,2 ],\"dtype\":\"U8\"} }   "
    let file = try SafetensorsFile(bytes: fileBytes(header, data: 2), path: "m")
    #expect(file.metadata == ["k\n": "\"\\/\u{8}\u{C}\r\té\u{1D11E}"])
    #expect(file.names == ["\0é"])
    #expect(file.entry(named: "\0é")?.shape == [1, 2])
  }

  @Test("A header without tensors is accepted")
  func noTensors() throws {
    #expect(try SafetensorsFile(bytes: fileBytes("{}"), path: "m").names == [])
    #expect(try SafetensorsFile(bytes: fileBytes("{} "), path: "m").metadata == [:])
  }

  @Test("Names follow the order of the data, not of the header")
  func namesFollowTheData() throws {
    let header = "{\(Malformed.u8("c", 2, 3)),\(Malformed.u8("e", 2, 2)),\(Malformed.u8("a", 0, 2))}"
    let file = try SafetensorsFile(bytes: fileBytes(header, data: 3), path: "m")
    #expect(file.names == ["a", "e", "c"])
  }

  @Test("A file with any dtype of the format opens", arguments: Dtype.allCases)
  func everyDtypeOpens(_ dtype: Dtype) throws {
    let size = dtype.bitWidth  // Eight elements
    let file = try SafetensorsFile(
      bytes: fileBytes(of: dtype, shape: [2, 4], [UInt8](repeating: 0, count: size)), path: "m")
    #expect(file.entry(named: "x")?.dtype == dtype)
    let isReadable = dtype.isReadableFloat || dtype.isReadableInteger
    #expect((try? file.numbers("x")) == (isReadable ? Tensor(zeros: [2, 4]) : nil))
  }

  @Test("An empty tensor may have the largest extents")
  func largestNumbersOfEmptyTensors() throws {
    let file = try SafetensorsFile(bytes: fileBytes(of: .u8, shape: [1 << 59, 0], []), path: "m")
    #expect(file.entry(named: "x")?.count == 0)
    #expect(try file.integers("x").values == [])
  }
}
