import DiffusionTransformers

/// numpy's archive of arrays: a ZIP of stored .npy entries. What the ImageNet evaluators read.
///
/// Every size is written in the 64-bit form (ZIP64), so that fifty thousand images take no other path than five. The
/// date is the first that a ZIP knows: equal arrays give equal bytes.
enum NPZFile {
  /// One array of an archive.
  struct Array {
    let name: String
    /// numpy's name of the element type.
    let type: String
    /// Row-major.
    let shape: [Int]
    /// Little-endian.
    let bytes: [UInt8]

    init(_ name: String, shape: [Int], bytes: [UInt8]) {
      precondition(shape.reduce(1, *) == bytes.count, "\(bytes.count) bytes do not fill the shape \(shape)")
      (self.name, type, self.shape, self.bytes) = (name, "|u1", shape, bytes)
    }

    init(_ name: String, shape: [Int], doubles: [Double]) {
      precondition(shape.reduce(1, *) == doubles.count, "\(doubles.count) numbers do not fill the shape \(shape)")
      (self.name, type, self.shape) = (name, "<f8", shape)
      var bytes: [UInt8] = []
      bytes.reserveCapacity(8 * doubles.count)
      for value in doubles {
        for shift in stride(from: 0, to: 64, by: 8) {
          bytes.append(UInt8(truncatingIfNeeded: value.bitPattern >> shift))
        }
      }
      self.bytes = bytes
    }
  }

  /// Writes arrays as the entries `name`.npy, atomically.
  ///
  /// - Throws: `FileError`.
  static func write(_ arrays: [Array], to path: String) throws {
    try AtomicFile.write(to: path) { file in
      var entries: [Entry] = []
      var offset: UInt64 = 0
      for array in arrays {
        let header = arrayHeader(array)
        let entry = Entry(
          name: Swift.Array("\(array.name).npy".utf8), size: UInt64(header.count + array.bytes.count), offset: offset,
          checksum: CRC32().updated(header).updated(array.bytes).value)
        try file.write(entry.local.span)
        try file.write(header.span)
        try file.write(array.bytes.span)
        offset += UInt64(entry.local.count) + entry.size
        entries.append(entry)
      }
      try file.write(directory(entries, at: offset).span)
    }
  }

  /// The .npy format, version 1.0: magic, the length of a Python dictionary, the dictionary padded to 64 bytes.
  private static func arrayHeader(_ array: Array) -> [UInt8] {
    let extents = array.shape.map { "\($0)," }.joined(separator: " ")
    let text = "{'descr': '\(array.type)', 'fortran_order': False, 'shape': (\(extents)), }"
    let prefix: [UInt8] = [0x93] + Swift.Array("NUMPY".utf8) + [1, 0]
    let padding = 63 - (prefix.count + 2 + text.utf8.count) % 64
    let body = Swift.Array(text.utf8) + [UInt8](repeating: 0x20, count: padding) + [0x0A]
    return prefix + bytes(UInt16(body.count)) + body
  }

  /// The bytes of a ZIP around an entry's data.
  private struct Entry {
    let name: [UInt8]
    let size: UInt64
    /// Where the local header starts.
    let offset: UInt64
    let checksum: UInt32

    /// What stands before the data.
    var local: [UInt8] {
      bytes(UInt32(0x0403_4B50)) + bytes(NPZFile.version) + common(sizesInExtra: bytes(size) + bytes(size)) + name
        + extra(bytes(size) + bytes(size))
    }

    /// The entry of the central directory.
    var record: [UInt8] {
      bytes(UInt32(0x0201_4B50)) + bytes(NPZFile.version) + bytes(NPZFile.version)
        + common(sizesInExtra: bytes(size) + bytes(size) + bytes(offset))
        + [UInt8](repeating: 0, count: 10)  // no comment, disk 0, no attributes
        + bytes(UInt32.max) + name + extra(bytes(size) + bytes(size) + bytes(offset))
    }

    /// Flags, method (stored), time, date (1980-01-01), checksum, sizes (see the extra field), lengths.
    private func common(sizesInExtra: [UInt8]) -> [UInt8] {
      bytes(UInt16(0)) + bytes(UInt16(0)) + bytes(UInt16(0)) + bytes(UInt16(0x21)) + bytes(checksum)
        + bytes(UInt32.max) + bytes(UInt32.max) + bytes(UInt16(name.count)) + bytes(UInt16(sizesInExtra.count + 4))
    }

    private func extra(_ body: [UInt8]) -> [UInt8] { bytes(UInt16(1)) + bytes(UInt16(body.count)) + body }
  }

  /// What stands after the entries: the central directory and its end, in the 64-bit form and the old one that points to
  /// it.
  private static func directory(_ entries: [Entry], at start: UInt64) -> [UInt8] {
    let records = entries.flatMap(\.record)
    let count = entries.count
    let end =
      bytes(UInt32(0x0606_4B50)) + bytes(UInt64(44)) + bytes(version) + bytes(version) + bytes(UInt32(0))
      + bytes(UInt32(0)) + bytes(UInt64(count)) + bytes(UInt64(count)) + bytes(UInt64(records.count)) + bytes(start)
    let locator =
      bytes(UInt32(0x0706_4B50)) + bytes(UInt32(0)) + bytes(start + UInt64(records.count)) + bytes(UInt32(1))
    let old =
      bytes(UInt32(0x0605_4B50)) + bytes(UInt16(0)) + bytes(UInt16(0)) + bytes(UInt16(count)) + bytes(UInt16(count))
      + bytes(UInt32(records.count)) + bytes(UInt32.max) + bytes(UInt16(0))
    return records + end + locator + old
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
