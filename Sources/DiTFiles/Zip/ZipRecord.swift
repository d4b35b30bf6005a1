/// A stored entry of a ZIP archive that is being written: the bytes around its data. PKWARE's APPNOTE names the fields.
struct ZipRecord {
  /// UTF-8.
  private let name: [UInt8]
  /// Bytes of the data.
  let size: Int
  /// Where the local header starts.
  private let offset: Int
  private let checksum: UInt32
  /// Bytes before the data that say nothing; nil where there is no such field.
  private let padding: Int?

  /// - Parameters:
  ///   - size: bytes of the data.
  ///   - offset: where the entry starts in the file.
  ///   - checksum: the data's ``Zlib/checksum(_:after:)``.
  ///   - alignment: the data start at a multiple of it.
  init(name: String, size: Int, offset: Int, checksum: UInt32, alignment: Int = 1) {
    self.name = Array(name.utf8)
    self.size = size
    self.offset = offset
    self.checksum = checksum
    let start = offset + Self.fixedLength + self.name.count + Self.sizesLength + Self.fieldHeader
    padding = alignment == 1 ? nil : (alignment - start % alignment) % alignment
  }

  private static let fixedLength = 30
  private static let fieldHeader = 4
  private static let sizesLength = fieldHeader + 16

  /// What stands before the data.
  var local: [UInt8] {
    let sizes = extra(1, bytes(UInt64(size)) + bytes(UInt64(size)))
    // torch's own field for it is called FB.
    let filler = padding.map { extra(0x4246, [UInt8](repeating: 0, count: $0)) } ?? []
    return bytes(UInt32(0x0403_4B50)) + bytes(Self.version) + common(extraCount: sizes.count + filler.count) + name
      + sizes + filler
  }

  /// The entry of the central directory.
  private var central: [UInt8] {
    let sizes = extra(1, bytes(UInt64(size)) + bytes(UInt64(size)) + bytes(UInt64(offset)))
    return bytes(UInt32(0x0201_4B50)) + bytes(Self.version) + bytes(Self.version) + common(extraCount: sizes.count)
      + [UInt8](repeating: 0, count: 10)  // no comment, disk 0, no attributes
      + bytes(UInt32.max) + name + sizes
  }

  /// Flags, method (stored), time, date (1980-01-01), checksum, sizes (see the extra field), lengths.
  private func common(extraCount: Int) -> [UInt8] {
    let flags: UInt16 = name.allSatisfy { $0 < 0x80 } ? 0 : 0x800  // a name in UTF-8
    return bytes(flags) + bytes(UInt16(0)) + bytes(UInt16(0)) + bytes(UInt16(0x21)) + bytes(checksum)
      + bytes(UInt32.max) + bytes(UInt32.max) + bytes(UInt16(name.count)) + bytes(UInt16(extraCount))
  }

  private func extra(_ kind: UInt16, _ body: [UInt8]) -> [UInt8] { bytes(kind) + bytes(UInt16(body.count)) + body }

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
