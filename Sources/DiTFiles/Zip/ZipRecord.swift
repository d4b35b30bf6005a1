/// A stored entry of a ZIP archive that is being written: the bytes around its data. PKWARE's APPNOTE names the fields.
struct ZipRecord {
  /// UTF-8.
  let name: [UInt8]
  /// Bytes of the data.
  let size: Int
  /// Where the local header starts.
  let offset: Int
  let checksum: UInt32

  /// What stands before the data.
  var local: [UInt8] {
    bytes(UInt32(0x0403_4B50)) + bytes(Self.version) + common(extraCount: 16) + name
      + extra(bytes(UInt64(size)) + bytes(UInt64(size)))
  }

  /// The entry of the central directory.
  private var central: [UInt8] {
    bytes(UInt32(0x0201_4B50)) + bytes(Self.version) + bytes(Self.version) + common(extraCount: 24)
      + [UInt8](repeating: 0, count: 10)  // no comment, disk 0, no attributes
      + bytes(UInt32.max) + name + extra(bytes(UInt64(size)) + bytes(UInt64(size)) + bytes(UInt64(offset)))
  }

  /// Flags, method (stored), time, date (1980-01-01), checksum, sizes (see the extra field), lengths.
  private func common(extraCount: UInt16) -> [UInt8] {
    let flags: UInt16 = name.allSatisfy { $0 < 0x80 } ? 0 : 0x800  // a name in UTF-8
    return bytes(flags) + bytes(UInt16(0)) + bytes(UInt16(0)) + bytes(UInt16(0x21)) + bytes(checksum)
      + bytes(UInt32.max) + bytes(UInt32.max) + bytes(UInt16(name.count)) + bytes(extraCount + 4)
  }

  private func extra(_ body: [UInt8]) -> [UInt8] { bytes(UInt16(1)) + bytes(UInt16(body.count)) + body }

  /// What stands after the entries, at byte `start`: the central directory and its end, in the 64-bit form and the old one
  /// that points to it.
  static func directory(_ entries: [ZipRecord], at start: Int) -> [UInt8] {
    let records = entries.flatMap(\.central)
    let count = UInt64(entries.count)
    let end =
      bytes(UInt32(0x0606_4B50)) + bytes(UInt64(44)) + bytes(version) + bytes(version) + bytes(UInt32(0))
      + bytes(UInt32(0)) + bytes(count) + bytes(count) + bytes(UInt64(records.count)) + bytes(UInt64(start))
    let locator =
      bytes(UInt32(0x0706_4B50)) + bytes(UInt32(0)) + bytes(UInt64(start + records.count)) + bytes(UInt32(1))
    let old =
      bytes(UInt32(0x0605_4B50)) + bytes(UInt16(0)) + bytes(UInt16(0)) + bytes(UInt16(clamping: count))
      + bytes(UInt16(clamping: count)) + bytes(UInt32(clamping: records.count)) + bytes(UInt32.max) + bytes(UInt16(0))
    return records + end + locator + old
  }

  /// 4.5, the first with 64-bit sizes.
  private static let version: UInt16 = 45
}

/// Little-endian.
private func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
  (0..<value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
}
