import DiTNumpy
import DiTTensor
import Foundation
import Testing

@Suite("Arrays of the .npy format") struct NPYArrayTests {
  /// A malformed file and the line that refuses it.
  struct Malformed: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let bytes: [UInt8]
    let message: String

    init(_ name: String, _ bytes: [UInt8], _ message: String) {
      (testDescription, self.bytes, self.message) = (name, bytes, message)
    }
  }

  private static let noArray = "expected an array of the .npy format, version 1 to 3, found something else"
  private static let noHeader = "expected a header with descr, fortran_order and shape, found another"
  private static let noType = "expected elements of type |u1, <i4, <i8, <f4 or <f8, found "

  static let malformed: [Malformed] = [
    .init("nothing", [], noArray),
    .init("eleven bytes", Array(npy("|u1", "()", [1]).prefix(11)), noArray),
    .init("another magic", [0x94] + npy("|u1", "()", [1]).dropFirst(), noArray),
    .init("version 0", npy("{}", version: 0) + [0, 0], noArray),
    .init("version 4", npy("{}", version: 4), noArray),
    .init(
      "header beyond the file", npy("<f8", "()").dropLast(1),
      "expected a header of at most 55 bytes, found 56"),
    .init(
      "header of 4 GB", npy("{}", version: 2).prefix(8) + [255, 255, 255, 255],
      "expected a header of at most 0 bytes, found 4294967295"),
    .init(
      "header of more than 64 KiB", npy(String(repeating: " ", count: 65_537), version: 2),
      "expected a header of at most 65536 bytes, found 65537"),
    .init("no dictionary", npy("{}  "), noHeader),
    .init("no order", npy("{'descr': '|u1', 'shape': (1,), }", [1]), noHeader),
    .init("no shape", npy("{'descr': '|u1', 'fortran_order': False, }", [1]), noHeader),
    .init("structured type", npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}", [1]), noHeader),
    .init("negative extent", npy("|u1", "(-1,)", [1]), noHeader),
    .init("objects", npy("|O", "(1,)", [1]), noType + "|O"),
    .init(
      "JAX's bfloat16", npy("<V2", "(1,)", [0, 0]),
      noType + "<V2, as NumPy writes JAX's bfloat16: save it as float32"),
    .init("big-endian", npy(">f8", "(1,)", [UInt8](repeating: 0, count: 8)), noType + ">f8"),
    .init("a type on two lines", npy("<\nf8", "(1,)", [1]), noType + "<\\u{a}f8"),
    .init(
      "too few elements", npy("<i4", "(2,)", [1, 2, 3, 4, 5, 6, 7]),
      "expected the bytes of (2,) elements of type <i4, found 7 bytes"),
    .init(
      "too many elements", npy("<i4", "(2,)", [UInt8](repeating: 0, count: 9)),
      "expected the bytes of (2,) elements of type <i4, found 9 bytes"),
    .init(
      "2^64 elements", npy("|u1", "(4294967296, 4294967296)"),
      "expected a shape that fits the address space, found (4294967296, 4294967296)"),
    .init(
      "2^62 elements of 8 bytes", npy("<f8", "(4611686018427387904,)"),
      "expected the bytes of (4611686018427387904,) elements of type <f8, found 0 bytes"),
    .init(
      "an extent beyond Int", npy("|u1", "(99999999999999999999,)"),
      "expected a shape that fits the address space, found (99999999999999999999,)"),
    .init(
      "two numbers in one extent", npy("|u1", "(1 2,)"), "expected a shape that fits the address space, found (1 2,)"),
  ]

  @Test("What is not such a file is refused in one line that says why", arguments: malformed)
  func refuses(_ malformed: Malformed) {
    let error = #expect(throws: DiTError.self) { try NPYArray(parsing: malformed.bytes, path: "a.npy") }
    #expect(error?.description == "a.npy: \(malformed.message)")
  }

  @Test("Every version, order and element type is read, and written back to the same elements")
  func everyType() throws {
    let cases: [(type: String, bytes: [UInt8], numbers: [Double])] = [
      ("|u1", [0, 255], [0, 255]),
      ("<i4", little(-2, 4) + little(1 << 30, 4), [-2, Double(1 << 30)]),
      ("<i8", little(-3, 8) + little(1 << 40, 8), [-3, Double(1 << 40)]),
      ("<f4", little(Int(Float(-0.5).bitPattern), 4) + little(Int(Float.infinity.bitPattern), 4), [-0.5, .infinity]),
      ("<f8", little(Int(bitPattern: UInt((0.1).bitPattern)), 8) + little(1, 8), [0.1, .leastNonzeroMagnitude]),
    ]
    for (type, bytes, numbers) in cases {
      for (order, version) in [("False", 1), ("True", 2), ("False", 3)] as [(String, UInt8)] {
        let header = "{'shape': (2, 1), 'fortran_order': \(order),'descr':'\(type)'}"
        let array = try NPYArray(parsing: npy(header, bytes, version: version), path: "a")
        #expect(array.type.rawValue == type && array.shape == [2, 1] && array.isFortranOrder == (order == "True"))
        #expect(array.count == 2 && Array(array.bytes) == bytes)
        if type.contains("f") {
          #expect(try array.doubles() == numbers)
          #expect(throws: DiTError.self) { try array.integers() }
        } else {
          #expect(try array.integers().map(Double.init) == numbers)
          #expect(throws: DiTError.self) { try array.doubles() }
        }
        #expect(try NPYArray(parsing: array.npyData, path: "b") == array)
      }
    }
    let other = try NPYArray(parsing: npy("<i4", "(1,)", [1, 2, 3, 4]), path: "a.npy", part: .entry("entry x"))
    let error = #expect(throws: DiTError.self) { try other.doubles() }
    #expect(error?.description == "a.npy: entry x: expected elements of type <f8 or <f4, found <i4")
  }

  @Test("Scalars and arrays without elements have shapes of their own")
  func shapes() throws {
    #expect(try NPYArray(parsing: npy("|u1", "()", [7]), path: "a").integers() == [7])
    #expect(try NPYArray(parsing: npy("|u1", "()", [7]), path: "a").shape == [])
    #expect(try NPYArray(parsing: npy("<f8", "(3, 0, 2)"), path: "a").shape == [3, 0, 2])
    for shape in [[], [1], [0, 4], [2, 1, 3]] {
      let array = NPYArray(shape: shape, floats: [Float](repeating: 0.5, count: shape.reduce(1, *)))
      #expect(try NPYArray(parsing: array.npyData, path: "a") == array, "\(shape)")
    }
  }

  @Test("A file is written as numpy lays it out: a header of a multiple of 64 bytes, then the elements")
  func layout() throws {
    let array = NPYArray(shape: [2, 3], integers: [0, 1, 2, -1, 4, 5])
    var expected = "{'descr': '<i8', 'fortran_order': False, 'shape': (2, 3,), }"
    expected += String(repeating: " ", count: 117 - expected.count) + "\n"
    let bytes = try withTemporaryPath("npy") { path in
      try array.write(to: path)
      #expect(try NPYArray(contentsOf: path) == array)
      return try fileBytes(path)
    }
    #expect(bytes == array.npyData && bytes.count == 128 + 6 * 8)
    let start = [0x93] + Array("NUMPY".utf8) + [1, 0] + little(118, 2)
    #expect(Array(bytes.prefix(10)) == start)
    #expect(String(decoding: bytes[10..<128], as: UTF8.self) == expected)
    let elements = [0, 1, 2, -1, 4, 5].flatMap { little($0, 8) }
    #expect(Array(bytes[128...]) == elements)
  }
}
