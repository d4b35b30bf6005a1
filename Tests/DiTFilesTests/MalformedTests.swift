import DiTFiles
import DiTTensor
import Foundation
import Testing

/// A file that must be refused, and the error that says why.
struct Malformed: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let bytes: [UInt8]
  let tensor: String?
  let problem: SafetensorsProblem

  init(_ name: String, _ bytes: [UInt8], tensor: String? = nil, _ problem: SafetensorsProblem) {
    testDescription = name
    self.bytes = bytes
    self.tensor = tensor
    self.problem = problem
  }

  /// A whole header.
  init(_ name: String, _ header: String, data: Int = 0, tensor: String? = nil, _ problem: SafetensorsProblem) {
    self.init(name, fileBytes(header, data: data), tensor: tensor, problem)
  }

  /// The value of the only tensor, `a`.
  init(_ name: String, a value: String, data: Int = 0, _ problem: SafetensorsProblem) {
    self.init(name, #"{"a":\#(value)}"#, data: data, tensor: "a", problem)
  }

  /// The shape of the only tensor, `a`.
  init(_ name: String, shape: String, _ problem: SafetensorsProblem) {
    self.init(name, a: #"{"shape":\#(shape),"dtype":"U8","data_offsets":[0,0]}"#, problem)
  }

  /// The offsets of the only tensor, `a`, of two bytes.
  init(_ name: String, offsets: String, data: Int = 2, _ problem: SafetensorsProblem) {
    self.init(name, a: #"{"data_offsets":\#(offsets),"dtype":"U8","shape":[2]}"#, data: data, problem)
  }

  static func u8(_ name: String, _ start: Int, _ end: Int) -> String {
    #""\#(name)":{"dtype":"U8","shape":[\#(end - start)],"data_offsets":[\#(start),\#(end)]}"#
  }
}

extension Malformed {
  static let frames: [Malformed] = [
    .init("no bytes", [UInt8](), .tooShort(size: 0)),
    .init("seven bytes", [2, 0, 0, 0, 0, 0, 0], .tooShort(size: 7)),
    .init(
      "header one byte too long for the format", fileBytes("{}", length: 100_000_001),
      .headerTooLong(length: 100_000_001)),
    .init("header of 2^64-1 bytes", fileBytes("{}", length: .max), .headerTooLong(length: .max)),
    .init("header of 2^63 bytes", fileBytes("{}", length: 1 << 63), .headerTooLong(length: 1 << 63)),
    .init("header past the end", fileBytes("{}", length: 3), .headerBeyondFile(length: 3, available: 2)),
    .init(
      "longest header, short file", fileBytes("{}", length: 100_000_000),
      .headerBeyondFile(length: 100_000_000, available: 2)),
    .init("empty header", "", .headerStart(found: nil)),
    .init("leading space", " {}", .headerStart(found: 0x20)),
    .init("array", "[]", .headerStart(found: UInt8(ascii: "["))),
    .init("byte order mark", "\u{FEFF}{}", .headerStart(found: 0xEF)),
    .init("data cut off", "{\(u8("a", 0, 4))}", data: 3, .dataSize(expected: 4, found: 3)),
    .init("data appended", "{\(u8("a", 0, 4))}", data: 5, .dataSize(expected: 4, found: 5)),
    .init("data without tensors", "{}", data: 1, .dataSize(expected: 0, found: 1)),
    .init("end at the largest Int", "{\(u8("a", 0, .max >> 3))}", .dataSize(expected: .max >> 3, found: 0)),
  ]

  static let syntax: [Malformed] = [
    .init("lone brace", "{", .syntax(offset: 1, expected: "a string", found: "the header's end")),
    .init("line feed after", "{}\n", .syntax(offset: 2, expected: "spaces up to the header's end", found: "byte 0xa")),
    .init("NUL after", "{}\0", .syntax(offset: 2, expected: "spaces up to the header's end", found: "byte 0x0")),
    .init("second object", "{} {}", .syntax(offset: 3, expected: "spaces up to the header's end", found: "'{'")),
    .init("comma at the end", "{\(u8("a", 0, 0)),}", .syntax(offset: 53, expected: "a string", found: "'}'")),
    .init("no comma", "{\(u8("a", 0, 0))\(u8("b", 0, 0))}", .syntax(offset: 52, expected: "',' or '}'", found: "'\"'")),
    .init("no colon", #"{"a"{}}"#, .syntax(offset: 4, expected: "':'", found: "'{'")),
    .init("single quotes", "{'a':{}}", .syntax(offset: 1, expected: "a string", found: "'''")),
    .init("comment", "{/**/}", .syntax(offset: 1, expected: "a string", found: "'/'")),
    .init("open string", #"{"a"#, .syntax(offset: 3, expected: "'\"'", found: "the header's end")),
    .init("control character in a string", "{\"a\nb\":{}}", .syntax(offset: 3, expected: "'\"'", found: "byte 0xa")),
    .init("unknown escape", #"{"\x61":{}}"#, .syntax(offset: 3, expected: "an escape of JSON", found: "'x'")),
    .init("escape at the end", #"{"\"#, .syntax(offset: 3, expected: "an escape", found: "the header's end")),
    .init("bad hexadecimal", #"{"\u00g0":{}}"#, .syntax(offset: 6, expected: "four hexadecimal digits", found: "'g'")),
    .init("high half", #"{"\ud834":{}}"#, .syntax(offset: 2, expected: "a pair of surrogates", found: "one half")),
    .init("low half", #"{"\udd1e":{}}"#, .syntax(offset: 2, expected: "a pair of surrogates", found: "one half")),
    .init(
      "two high halves", #"{"\ud834\ud834":{}}"#,
      .syntax(offset: 2, expected: "a pair of surrogates", found: "one half")),
    .init("byte FF", fileBytes([0x7B, 0x22, 0xFF, 0x22, 0x7D]), .invalidUTF8(offset: 1)),
    .init("overlong NUL", fileBytes([0x7B, 0x22, 0xC0, 0x80, 0x22, 0x7D]), .invalidUTF8(offset: 1)),
    .init("surrogate in UTF-8", fileBytes([0x7B, 0x22, 0xED, 0xA0, 0x80, 0x22, 0x7D]), .invalidUTF8(offset: 1)),
    .init("cut UTF-8", fileBytes([0x7B, 0x22, 0xE2, 0x82, 0x22, 0x7D]), .invalidUTF8(offset: 1)),
    .init(
      "bytes outside strings", fileBytes([0x7B, 0xC3, 0xA9, 0x7D]),
      .syntax(offset: 1, expected: "a string", found: "byte 0xc3")),
  ]

  static let keys: [Malformed] = [
    .init("tensor twice", "{\(u8("a", 0, 0)),\(u8("a", 0, 0))}", .duplicateKey("a")),
    .init("tensor twice, once escaped", "{\(u8("a", 0, 0)),\(u8(#"\u0061"#, 0, 0))}", .duplicateKey("a")),
    .init("metadata twice", #"{"__metadata__":{},"__metadata__":{}}"#, .duplicateKey("__metadata__")),
    .init("key of metadata twice", #"{"__metadata__":{"k":"v","k":"v"}}"#, .duplicateKey("k")),
    .init("dtype twice", a: #"{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}"#, .duplicateKey("dtype")),
    .init("shape twice", a: #"{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]}"#, .duplicateKey("shape")),
    .init(
      "offsets twice", a: #"{"dtype":"U8","data_offsets":[0,0],"data_offsets":[0,0],"shape":[0]}"#,
      .duplicateKey("data_offsets")),
    .init("number in metadata", #"{"__metadata__":{"k":1}}"#, .syntax(offset: 21, expected: "a string", found: "'1'")),
    .init("object in metadata", #"{"__metadata__":{"k":{}}}"#, .syntax(offset: 21, expected: "a string", found: "'{'")),
    .init("null metadata", #"{"__metadata__":null}"#, .syntax(offset: 16, expected: "'{'", found: "'n'")),
    .init(
      "unknown field", a: #"{"dtype":"U8","shape":[0],"data_offsets":[0,0],"strides":[1]}"#, .unknownField("strides")),
    .init("no dtype", a: #"{"shape":[0],"data_offsets":[0,0]}"#, .missingField("dtype")),
    .init("no shape", a: #"{"dtype":"U8","data_offsets":[0,0]}"#, .missingField("shape")),
    .init("no offsets", a: #"{"dtype":"U8","shape":[0]}"#, .missingField("data_offsets")),
    .init("no fields", a: "{}", .missingField("dtype")),
    .init("tensor is null", a: "null", .syntax(offset: 5, expected: "'{'", found: "'n'")),
    .init("tensor is nothing", a: "", .syntax(offset: 5, expected: "'{'", found: "'}'")),
    .init(
      "a hundred thousand brackets", a: String(repeating: "[", count: 100_000),
      .syntax(offset: 5, expected: "'{'", found: "'['")),
  ]

  static let values: [Malformed] = [
    .init("dtype is a number", a: #"{"dtype":32}"#, .syntax(offset: 14, expected: "a string", found: "'3'")),
    .init("unknown dtype", a: #"{"dtype":"F31"}"#, .unknownDtype("F31")),
    .init("dtype in lower case", a: #"{"dtype":"f32"}"#, .unknownDtype("f32")),
    .init("shape is a number", shape: "2", .syntax(offset: 14, expected: "'['", found: "'2'")),
    .init("negative extent", shape: "[-1]", .syntax(offset: 15, expected: "a non-negative whole number", found: "'-'")),
    .init("negative zero", shape: "[-0]", .syntax(offset: 15, expected: "a non-negative whole number", found: "'-'")),
    .init("fraction", shape: "[1.0]", .syntax(offset: 16, expected: "a whole number", found: "'.'")),
    .init("exponent", shape: "[1e3]", .syntax(offset: 16, expected: "a whole number", found: "'e'")),
    .init("leading zero", shape: "[01]", .syntax(offset: 15, expected: "a number without leading zeros", found: "'0'")),
    .init(
      "extent in quotes", shape: #"["1"]"#, .syntax(offset: 15, expected: "a non-negative whole number", found: "'\"'")),
    .init("nested shape", shape: "[[1]]", .syntax(offset: 15, expected: "a non-negative whole number", found: "'['")),
    .init("boolean", shape: "[true]", .syntax(offset: 15, expected: "a non-negative whole number", found: "'t'")),
    .init(
      "comma after an extent", shape: "[1,]", .syntax(offset: 17, expected: "a non-negative whole number", found: "']'")
    ),
    .init("two extents without a comma", shape: "[1 2]", .syntax(offset: 17, expected: "',' or ']'", found: "'2'")),
    .init("open shape", shape: "[1}", .syntax(offset: 16, expected: "',' or ']'", found: "'}'")),
    .init("extent 2^63", shape: "[9223372036854775808]", .numberTooLarge(offset: 15)),
    .init("extent 10^40", shape: "[1\(String(repeating: "0", count: 40))]", .numberTooLarge(offset: 15)),
    .init("product past an Int", shape: "[4294967296,4294967296]", .shapeTooLarge(shape: [1 << 32, 1 << 32])),
    .init("product wrapping to 0", shape: "[2305843009213693952,8]", .shapeTooLarge(shape: [1 << 61, 8])),
    .init(
      "product past an Int beside a zero", shape: "[0,9223372036854775807,2]", .shapeTooLarge(shape: [0, .max, 2])),
    .init(
      "element size past an Int", a: #"{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}"#,
      .shapeTooLarge(shape: [1 << 61])),
    .init(
      "half a byte", a: #"{"dtype":"F4","shape":[3],"data_offsets":[0,1]}"#, data: 1,
      .partialByte(dtype: .f4, shape: [3])),
    .init("one offset", offsets: "[0]", .syntax(offset: 23, expected: "','", found: "']'")),
    .init("three offsets", offsets: "[0,2,2]", .syntax(offset: 25, expected: "']'", found: "','")),
    .init(
      "negative offset", offsets: "[-1,1]", .syntax(offset: 22, expected: "a non-negative whole number", found: "'-'")),
    .init("offsets reversed", offsets: "[2,0]", .reversedOffsets(start: 2, end: 0)),
    .init("too few bytes", offsets: "[0,1]", data: 1, .sizeMismatch(dtype: .u8, shape: [2], expected: 2, found: 1)),
    .init("too many bytes", offsets: "[0,3]", data: 3, .sizeMismatch(dtype: .u8, shape: [2], expected: 2, found: 3)),
    .init("hole at the start", offsets: "[1,3]", data: 3, .hole(expectedStart: 0, found: 1)),
    .init(
      "hole between", "{\(u8("a", 0, 2)),\(u8("b", 3, 4))}", data: 4, tensor: "b", .hole(expectedStart: 2, found: 3)),
    .init(
      "overlap", "{\(u8("b", 1, 3)),\(u8("a", 0, 2))}", data: 3, tensor: "b", .overlap(expectedStart: 2, found: 1)),
    .init(
      "same bytes twice", "{\(u8("a", 0, 2)),\(u8("b", 0, 2))}", data: 2, tensor: "b",
      .overlap(expectedStart: 2, found: 0)),
    .init(
      "empty tensor inside another", "{\(u8("a", 0, 2)),\(u8("b", 1, 1))}", data: 2, tensor: "b",
      .overlap(expectedStart: 2, found: 1)),
    .init(
      "empty tensor past the end", "{\(u8("a", 0, 2)),\(u8("b", 9, 9))}", data: 2, tensor: "b",
      .hole(expectedStart: 2, found: 9)),
  ]
}

@Suite("Malformed safetensors files") struct MalformedTests {
  @Test(
    "A malformed safetensors file is refused with the exact error, in memory and on disk",
    arguments: Malformed.frames + Malformed.syntax + Malformed.keys + Malformed.values)
  func isRefused(_ file: Malformed) throws {
    let directory = try TemporaryDirectory()
    let path = directory("bad.safetensors")
    let expected = DiTError(file: path, tensor: file.tensor, problem: file.problem)
    #expect(throws: expected) { try SafetensorsFile(bytes: file.bytes, path: path) }
    let line = expected.description
    #expect(line.hasPrefix(path) && !line.contains("\n") && line.count < 400, "\(line)")
    if !file.bytes.isEmpty {
      try Data(file.bytes).write(to: URL(filePath: path))
      #expect(throws: expected) { try SafetensorsFile(contentsOf: path) }
    }
  }

  @Test("The malformed cases have names of their own")
  func malformedCasesDiffer() {
    let all = Malformed.frames + Malformed.syntax + Malformed.keys + Malformed.values
    #expect(all.count >= 40)
    #expect(Set(all.map(\.testDescription)).count == all.count)
  }

  /// A file cut anywhere is refused.
  @Test("A safetensors file cut anywhere is refused")
  func everyPrefixIsRefused() throws {
    let whole = Array(try Data(contentsOf: URL(filePath: fixture("layout.safetensors"))))
    #expect(throws: Never.self) { try SafetensorsFile(bytes: whole, path: "whole") }
    let accepted = (0..<whole.count).filter {
      (try? SafetensorsFile(bytes: Array(whole[..<$0]), path: "cut")) != nil
    }
    #expect(accepted.isEmpty, "lengths accepted: \(accepted.prefix(5)) of \(whole.count)")
  }

  /// A file with one byte changed is refused or read; nothing else happens.
  @Test("A safetensors file with one byte changed is refused or read, and does no harm")
  func changedBytesDoNoHarm() throws {
    let whole = Array(try Data(contentsOf: URL(filePath: fixture("layout.safetensors"))))
    var refused = 0
    for i in whole.indices {
      for change: UInt8 in [0x01, 0x10, 0x80] {
        var changed = whole
        changed[i] ^= change
        guard let file = try? SafetensorsFile(bytes: changed, path: "changed") else {
          refused += 1
          continue
        }
        for name in file.names { _ = try? file.numbers(name) }
      }
    }
    #expect(refused > whole.count, "\(refused) of \(3 * whole.count) refused")
  }

  @Test("Errors stay one short line, with line breaks escaped, for names of any length")
  func messagesStayOnOneShortLine() throws {
    let name = String(repeating: "n", count: 100_000) + "\\n"
    let header = #"{"\#(name)":{"dtype":"\r\n","shape":[],"data_offsets":[0,0]}}"#
    let error = #expect(throws: DiTError.self) { try SafetensorsFile(bytes: fileBytes(header), path: "a\nb") }
    let line = try #require(error).description
    #expect(line.count < 400 && line.hasPrefix("a\\u{a}b: tensor nnn"), "\(line)")
    #expect(line.hasSuffix(#"expected a dtype of the format (F32, BF16, …), found "\u{d}\u{a}""#), "\(line)")
  }
}
