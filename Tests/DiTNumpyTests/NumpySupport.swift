import DiTNumpy
import Foundation

/// The path of an archive that Scripts/fixtures/evaluation.py made with numpy.
func fixture(_ name: String) -> String {
  URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures/evaluation/\(name)").path(percentEncoded: false)
}

func fileBytes(_ path: String) throws -> [UInt8] { try [UInt8](Data(contentsOf: URL(filePath: path))) }

/// Calls `body` with a path at which nothing is, and removes what it leaves there.
func withTemporaryPath<Result>(_ ending: String, _ body: (String) throws -> Result) throws -> Result {
  let path = FileManager.default.temporaryDirectory.appending(path: "dit-numpy-\(UUID()).\(ending)")
  defer { try? FileManager.default.removeItem(at: path) }
  return try body(path.path(percentEncoded: false))
}

/// The bytes of an archive that ``NPZFile`` writes.
func archive(_ arrays: [(name: String, array: NPYArray)]) throws -> [UInt8] {
  try withTemporaryPath("npz") { path in
    try NPZFile.write(arrays, to: path)
    return try fileBytes(path)
  }
}

/// `value` in `count` bytes, little-endian.
func little(_ value: Int, _ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }

/// A .npy file of version 1.0 with the dictionary `header`.
func npy(_ header: String, _ elements: [UInt8] = [], version: UInt8 = 1) -> [UInt8] {
  [0x93] + Array("NUMPY".utf8) + [version, 0] + little(header.utf8.count, version == 1 ? 2 : 4) + Array(header.utf8)
    + elements
}

/// One with the shape and type given.
func npy(_ type: String, _ shape: String, _ elements: [UInt8] = [], order: String = "False") -> [UInt8] {
  npy("{'descr': '\(type)', 'fortran_order': \(order), 'shape': \(shape), }\n", elements)
}
