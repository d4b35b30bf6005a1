import DiffusionTransformers

/// numpy's archive of arrays: a ZIP of stored .npy entries. What the ImageNet evaluators read.
///
/// Every size is written in the 64-bit form (ZIP64), so that fifty thousand images take no other path than five. The
/// date is the first that a ZIP knows: equal arrays give equal bytes.
enum NPZFile {
  /// Writes one array of bytes as the entry `name`.npy, atomically.
  ///
  /// - Parameters:
  ///   - shape: the array's, row-major; their product is `elements.count`.
  /// - Throws: `FileError`.
  static func write(_ elements: [UInt8], shape: [Int], named name: String, to path: String) throws {
    precondition(shape.reduce(1, *) == elements.count, "\(elements.count) bytes do not fill the shape \(shape)")
    let header = arrayHeader(shape)
    let entry = Entry(
      name: Array("\(name).npy".utf8), size: UInt64(header.count + elements.count),
      checksum: CRC32().updated(header).updated(elements).value)
    try AtomicFile.write(to: path) { file in
      try file.write(entry.local.span)
      try file.write(header.span)
      try file.write(elements.span)
      try file.write(entry.directory.span)
    }
  }

  /// The .npy format, version 1.0: magic, the length of a Python dictionary, the dictionary padded to 64 bytes.
  private static func arrayHeader(_ shape: [Int]) -> [UInt8] {
    let extents = shape.map { "\($0)," }.joined(separator: " ")
    let text = "{'descr': '|u1', 'fortran_order': False, 'shape': (\(extents)), }"
    let prefix: [UInt8] = [0x93] + Array("NUMPY".utf8) + [1, 0]
    let padding = 63 - (prefix.count + 2 + text.utf8.count) % 64
    let body = Array(text.utf8) + [UInt8](repeating: 0x20, count: padding) + [0x0A]
    return prefix + bytes(UInt16(body.count)) + body
  }

  /// The bytes of a ZIP around its one entry.
  private struct Entry {
    let name: [UInt8]
    let size: UInt64
    let checksum: UInt32

    /// What stands before the entry's data.
    var local: [UInt8] {
      bytes(UInt32(0x0403_4B50)) + bytes(NPZFile.version) + common(sizesInExtra: bytes(size) + bytes(size)) + name
        + extra(bytes(size) + bytes(size))
    }

    /// What stands after it: the central directory and its end, in the 64-bit form and the old one that points to it.
    var directory: [UInt8] {
      let offset = bytes(UInt64(0))
      let record =
        bytes(UInt32(0x0201_4B50)) + bytes(NPZFile.version) + bytes(NPZFile.version)
        + common(sizesInExtra: bytes(size) + bytes(size) + offset)
        + [UInt8](repeating: 0, count: 10)  // no comment, disk 0, no attributes
        + bytes(UInt32.max) + name + extra(bytes(size) + bytes(size) + offset)
      let start = UInt64(local.count) + size
      let end =
        bytes(UInt32(0x0606_4B50)) + bytes(UInt64(44)) + bytes(NPZFile.version) + bytes(NPZFile.version)
        + bytes(UInt32(0)) + bytes(UInt32(0)) + bytes(UInt64(1)) + bytes(UInt64(1)) + bytes(UInt64(record.count))
        + bytes(start)
      let locator =
        bytes(UInt32(0x0706_4B50)) + bytes(UInt32(0)) + bytes(start + UInt64(record.count)) + bytes(UInt32(1))
      let old =
        bytes(UInt32(0x0605_4B50)) + bytes(UInt16(0)) + bytes(UInt16(0)) + bytes(UInt16(1)) + bytes(UInt16(1))
        + bytes(UInt32(record.count)) + bytes(UInt32.max) + bytes(UInt16(0))
      return record + end + locator + old
    }

    /// Flags, method (stored), time, date (1980-01-01), checksum, sizes (see the extra field), lengths.
    private func common(sizesInExtra: [UInt8]) -> [UInt8] {
      bytes(UInt16(0)) + bytes(UInt16(0)) + bytes(UInt16(0)) + bytes(UInt16(0x21)) + bytes(checksum)
        + bytes(UInt32.max) + bytes(UInt32.max) + bytes(UInt16(name.count)) + bytes(UInt16(sizesInExtra.count + 4))
    }

    private func extra(_ body: [UInt8]) -> [UInt8] { bytes(UInt16(1)) + bytes(UInt16(body.count)) + body }
  }

  /// 4.5, the first with 64-bit sizes.
  private static let version: UInt16 = 45

  /// Little-endian.
  private static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
    (0..<value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }
}

/// The checksum of ZIP and PNG: polynomial 0xEDB88320, reflected.
struct CRC32 {
  private static let table: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { value, _ in value & 1 == 1 ? value >> 1 ^ 0xEDB8_8320 : value >> 1 }
  }

  private var state: UInt32 = .max

  var value: UInt32 { ~state }

  /// The checksum of what came before and `bytes`.
  func updated(_ bytes: [UInt8]) -> CRC32 {
    var next = self
    let table = Self.table
    for byte in bytes { next.state = next.state >> 8 ^ table[Int(UInt8(truncatingIfNeeded: next.state) ^ byte)] }
    return next
  }
}
