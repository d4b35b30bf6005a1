import DiTFiles
import Foundation
import Testing

/// The path of a file that Scripts/fixtures/checkpoint.py made.
func fixture(_ name: String) -> String {
  URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures/checkpoint/\(name)").path(percentEncoded: false)
}

/// A directory that lasts as long as the object.
final class TemporaryDirectory {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appending(path: "dit-checkpoint-\(UUID())").path(
      percentEncoded: false)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
  }

  deinit { try? Directory.remove(path) }

  /// The path of a file in the directory.
  func callAsFunction(_ name: String) -> String { "\(path)/\(name)" }

  /// What lies in the directory, hidden files included.
  var contents: [String] { get throws { try FileManager.default.contentsOfDirectory(atPath: path).sorted() } }
}

/// The bytes of a safetensors file: a header of the claimed `length` (the true one by default) and `data` bytes.
func fileBytes(_ header: [UInt8], length: UInt64? = nil, data: Int = 0) -> [UInt8] {
  let length = length ?? UInt64(header.count)
  let prefix = (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) }
  return prefix + header + [UInt8](repeating: 0xA5, count: data)
}

func fileBytes(_ header: String, length: UInt64? = nil, data: Int = 0) -> [UInt8] {
  fileBytes(Array(header.utf8), length: length, data: data)
}

/// A safetensors file with one tensor `x`.
func fileBytes(of dtype: Dtype, shape: [Int], _ elements: [UInt8]) -> [UInt8] {
  let header = #"{"x":{"dtype":"\#(dtype.rawValue)","shape":\#(shape),"data_offsets":[0,\#(elements.count)]}}"#
  return fileBytes(header) + elements
}

/// The little-endian bytes of `values`.
func littleEndian<Value: FixedWidthInteger>(_ values: [Value]) -> [UInt8] {
  values.flatMap { value in
    (0..<Value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> Value(8 * $0)) }
  }
}

/// The first index at which two lists differ, as a message; nil when they are equal.
func firstDifference<Element: Equatable>(_ found: [Element], _ expected: [Element]) -> String? {
  if found.count != expected.count { return "expected \(expected.count) elements, found \(found.count)" }
  guard let i = found.indices.first(where: { found[$0] != expected[$0] }) else { return nil }
  return "at \(i): expected \(expected[i]), found \(found[i])"
}

/// Bit patterns with every NaN made the same.
func patterns(_ values: [Float]) -> [UInt32] {
  values.map { $0.isNaN ? Float.nan.bitPattern : $0.bitPattern }
}
