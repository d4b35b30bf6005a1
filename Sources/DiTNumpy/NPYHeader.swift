import DiTFiles
import DiTTensor
import Foundation

/// What stands before an array's elements.
struct NPYHeader {
  let type: NPYArray.ElementType
  let shape: [Int]
  let isFortranOrder: Bool
  /// Bytes before the elements.
  let size: Int

  /// More than any header that is read.
  static let most = (1 << 16) + 12

  /// - Parameters:
  ///   - bytes: the array's first, ``most`` of them or all.
  ///   - count: bytes of the whole array.
  /// - Throws: `DiTError`.
  init(of bytes: RawSpan, size count: Int, path: String, part: DiTError.Part?) throws(DiTError) {
    func failure(_ expected: String, _ found: String) -> DiTError {
      DiTError(file: path, part, expected: expected, found: found)
    }
    let start = bytes.extracting(first: 12).array
    guard start.count == 12, start.starts(with: NPYArray.magic), 1...3 ~= start[6] else {
      throw failure("an array of the .npy format, version 1 to 3", "something else")
    }
    let isLong = start[6] > 1
    let length = (0..<(isLong ? 4 : 2)).reduce(0) { $0 | Int(start[8 + $1]) << (8 * $1) }
    let first = isLong ? 12 : 10
    let longest = min(bytes.byteCount - first, 1 << 16)
    guard length <= longest else { throw failure("a header of at most \(longest) bytes", "\(length)") }
    let header = String(decoding: bytes.extracting(first..<first + length).array, as: UTF8.self)
    guard
      let name = header.firstMatch(of: /'descr':\s*'([^']{1,20})'/)?.1,
      let order = header.firstMatch(of: /'fortran_order':\s*(True|False)/)?.1,
      let extents = header.firstMatch(of: /'shape':\s*\(([0-9, ]*)\)/)?.1
    else { throw failure("a header with descr, fortran_order and shape", "another") }
    guard let type = NPYArray.ElementType(rawValue: String(name)) else {
      let bf16 = name.hasSuffix("V2") ? ", as NumPy writes JAX's bfloat16: save it as float32" : ""
      throw failure("elements of type \(Self.names(NPYArray.ElementType.allCases))", String(name) + bf16)
    }
    var shape: [Int] = []
    var elements = 1
    for extent in extents.split(separator: ",") where !extent.allSatisfy({ $0 == " " }) {
      let number = Int(extent.trimmingCharacters(in: .whitespaces)) ?? -1
      let (product, overflow) = elements.multipliedReportingOverflow(by: number)
      guard number >= 0, !overflow else { throw failure("a shape that fits the address space", "(\(extents))") }
      elements = product
      shape.append(number)
    }
    let found = count - first - length
    guard elements <= found / type.size, elements * type.size == found else {
      throw failure("the bytes of (\(extents)) elements of type \(name)", "\(found) bytes")
    }
    (self.type, self.shape, isFortranOrder, size) = (type, shape, order == "True", first + length)
  }

  private static func names(_ types: [NPYArray.ElementType]) -> String {
    types.dropLast().map(\.rawValue).joined(separator: ", ") + " or \(types[types.count - 1].rawValue)"
  }
}
