import DiTTensor

/// The directory of a ZIP archive: what `torch.save` and numpy's `savez` write. PKWARE's APPNOTE names the fields.
///
/// Only what such files need is read, and nothing is believed:
/// - the end record is the file's last 22 bytes, or a comment follows it where the format allows one; one disk; its 64-bit
///   form where there is one;
/// - the directory ends where the end record begins, and holds exactly the entries that are counted;
/// - the directory is the authority on sizes and places; each entry's local header must agree with it;
/// - names are UTF-8 and stand once; entries lie before the directory and do not overlap.
///
/// Entries are found, not read: unpacking them and verifying their checksums is up to the format.
package struct ZipArchive: Sendable {
  package struct Entry: Sendable {
    package let name: String
    /// Where the data lie in the file, packed or not.
    package let range: Range<Int>
    /// Bytes when unpacked, as the directory claims.
    package let size: Int
    /// CRC-32 of the bytes when unpacked, as the directory claims.
    package let checksum: UInt32
    /// How the data are packed: 0 stored, 8 deflated, or another of APPNOTE's.
    package let method: Int
    package let isEncrypted: Bool

    /// Why the data are not the entry's plain bytes: `"compressed (method 8)"` or `"encrypted"`; nil where they are.
    package var obstacle: String? {
      isEncrypted ? "encrypted" : method != 0 ? "compressed (method \(method))" : nil
    }
  }

  /// The longest directory that is read; it has room for more entries than any model has tensors.
  static let maximumDirectory = 64 << 20

  /// In the directory's order.
  package let entries: [Entry]
  private let index: [ExactName: Int]

  /// - Parameter comment: whether a comment may follow the end record.
  /// - Throws: `DiTError` without a file, as the reader of the format in the archive knows that.
  package init(_ bytes: FileBytes, allowingComment comment: Bool = false) throws(DiTError) {
    entries = try ZipReader(bytes: bytes, allowsComment: comment).entries()
    index = Dictionary(entries.indices.lazy.map { [entries] in (ExactName(entries[$0].name), $0) }) { first, _ in first
    }
    guard index.count == entries.count else {
      let twice = entries.indices.first { index[ExactName(entries[$0].name)] != $0 } ?? 0
      throw DiTError(file: nil, .entry("entry \(entries[twice].name)"), expected: "each name once", found: "it again")
    }
  }

  package func entry(named name: String) -> Entry? { index[ExactName(name)].map { entries[$0] } }
}

/// Reads the directory, from the file's end to its beginning.
private struct ZipReader {
  let bytes: FileBytes
  let allowsComment: Bool

  private static let saturated16 = 0xFFFF
  private static let saturated32 = 0xFFFF_FFFF

  func failure(_ item: String, _ expected: String, _ found: String) -> DiTError {
    DiTError(file: nil, .entry(item), expected: expected, found: found)
  }

  private func copy(_ range: Range<Int>) -> LittleEndianBytes {
    LittleEndianBytes(bytes: bytes.withBytes(range) { $0.array })
  }

  // MARK: The end

  private struct Directory {
    var count, start, size: Int
  }

  /// Where the end record begins: the last place from which it and its comment, whose length it states, fill the file.
  private var endRecord: Int? {
    let first = max(0, bytes.count - 22 - (allowsComment ? 0xFFFF : 0))
    let tail = copy(first..<bytes.count)
    return stride(from: tail.bytes.count - 22, through: 0, by: -1).first { start in
      tail.uint32(start) == 0x0605_4B50 && start + 22 + tail.uint16(start + 20) == tail.bytes.count
    }.map { first + $0 }
  }

  /// Where the directory lies.
  private func directory() throws(DiTError) -> Directory {
    let archive = "ZIP archive"
    guard bytes.count >= 22 else {
      throw failure(archive, "at least the 22 bytes of its end record", "\(bytes.count)")
    }
    guard let start = endRecord else {
      let place = allowsComment ? "its end record" : "its end record in the last 22 bytes"
      throw failure(archive, place, "none: the file is cut off, or goes on")
    }
    let end = copy(start..<start + 22)
    let disks = (end.uint16(4), end.uint16(6))
    guard disks == (0, 0) || disks == (Self.saturated16, Self.saturated16), end.uint16(8) == end.uint16(10) else {
      throw failure(archive, "one disk", "several")
    }
    var directory = Directory(count: end.uint16(10), start: end.uint32(16), size: end.uint32(12))
    let directoryEnd = try widen(&directory, endRecord: start) ?? start
    guard directory.size <= Self.maximum(directoryEnd) else {
      throw failure(archive, "a directory of at most \(Self.maximum(directoryEnd)) bytes", "\(directory.size)")
    }
    guard directory.start == directoryEnd - directory.size else {
      throw failure(
        archive, "a directory that ends at byte \(directoryEnd), where its end record begins",
        "\(directory.size) bytes from byte \(directory.start)")
    }
    guard directory.count <= directory.size / 46 else {
      throw failure(archive, "at most \(directory.size / 46) entries in \(directory.size) bytes", "\(directory.count)")
    }
    return directory
  }

  private static func maximum(_ available: Int) -> Int { min(available, ZipArchive.maximumDirectory) }

  /// Takes the 64-bit end record's fields, where its locator stands before the end record at byte `endRecord`.
  ///
  /// - Returns: where that record begins; nil where there is none.
  private func widen(_ directory: inout Directory, endRecord: Int) throws(DiTError) -> Int? {
    let (item, locatorStart) = ("ZIP archive", endRecord - 20)
    let isSaturated =
      directory.count == Self.saturated16 || directory.start == Self.saturated32 || directory.size == Self.saturated32
    guard locatorStart >= 0, case let locator = copy(locatorStart..<endRecord), locator.uint32(0) == 0x0706_4B50 else {
      if isSaturated { throw failure(item, "a 64-bit end record, as the short one refers to it", "none") }
      return nil
    }
    guard locator.uint32(4) == 0, locator.uint32(16) <= 1 else { throw failure(item, "one disk", "several") }
    let place = locator.uint64(8)
    guard let place, place == locatorStart - 56, case let record = copy(place..<locatorStart),
      record.uint32(0) == 0x0606_4B50, record.uint64(4) == 44
    else {
      throw failure(
        item, "the 64-bit end record at byte \(locatorStart - 56)", "it at byte \(place.map(String.init) ?? "2⁶³")")
    }
    guard record.uint32(16) == 0, record.uint32(20) == 0, record.uint64(24) == record.uint64(32) else {
      throw failure(item, "one disk", "several")
    }
    guard let count = record.uint64(32), let size = record.uint64(40), let start = record.uint64(48) else {
      throw failure(item, "a directory inside the file", "one beyond byte 2⁶³")
    }
    guard directory.count == count || directory.count == Self.saturated16,
      directory.size == size || directory.size == Self.saturated32,
      directory.start == start || directory.start == Self.saturated32
    else { throw failure(item, "two end records that agree", "two that differ") }
    directory = Directory(count: count, start: start, size: size)
    return place
  }

  // MARK: The directory

  /// What the directory says about an entry.
  private struct Claim {
    let name: String
    let nameBytes: ArraySlice<UInt8>
    let flags, method, checksum: Int
    var packed, size, header: Int

    var isEncrypted: Bool { flags & 0x2041 != 0 }  // encrypted, strongly, or with a masked header
  }

  /// Every entry, its place verified.
  func entries() throws(DiTError) -> [ZipArchive.Entry] {
    let directory = try directory()
    let records = copy(directory.start..<directory.start + directory.size)
    var (offset, claims) = (0, [Claim]())
    claims.reserveCapacity(directory.count)
    while claims.count < directory.count { claims.append(try claim(records, &offset)) }
    guard offset == directory.size else {
      let rest = directory.size - offset
      throw failure("ZIP archive", "\(directory.count) entries in the directory", "\(rest) bytes more")
    }
    var entries: [ZipArchive.Entry] = []
    entries.reserveCapacity(claims.count)
    for claim in claims {
      let range = try data(of: claim, before: directory.start)
      entries.append(
        ZipArchive.Entry(
          name: claim.name, range: range, size: claim.size, checksum: UInt32(claim.checksum), method: claim.method,
          isEncrypted: claim.isEncrypted))
    }
    try checkOverlap(claims, entries)
    return entries
  }

  private func claim(_ records: LittleEndianBytes, _ offset: inout Int) throws(DiTError) -> Claim {
    let (start, available) = (offset, records.bytes.count - offset)
    guard available >= 46, records.uint32(start) == 0x0201_4B50 else {
      throw failure("ZIP archive", "a directory entry at byte \(start) of the directory", "none")
    }
    let (nameCount, extraCount) = (records.uint16(start + 28), records.uint16(start + 30))
    let count = 46 + nameCount + extraCount + records.uint16(start + 32)
    guard count <= available else {
      throw failure("ZIP archive", "a directory entry of at most \(available) bytes", "\(count)")
    }
    offset += count
    let nameBytes = records.bytes[start + 46..<start + 46 + nameCount]
    guard nameCount > 0, let name = String(validating: nameBytes, as: UTF8.self) else {
      throw failure("ZIP archive", "entry names in UTF-8", nameCount == 0 ? "an empty one" : "one that is not")
    }
    var claim = Claim(
      name: name, nameBytes: nameBytes, flags: records.uint16(start + 8), method: records.uint16(start + 10),
      checksum: records.uint32(start + 16), packed: records.uint32(start + 20), size: records.uint32(start + 24),
      header: records.uint32(start + 42))
    guard records.uint16(start + 34) == 0 else { throw failure("entry \(name)", "one disk", "several") }
    let extra = start + 46 + nameCount
    var wide = try wideFields(records, extra..<extra + extraCount, name)
    try wide.take(&claim.size)
    try wide.take(&claim.packed)
    try wide.take(&claim.header)
    guard claim.method != 0 || claim.isEncrypted || claim.size == claim.packed else {
      throw failure("entry \(name)", "one size, as it is stored", "\(claim.packed) and \(claim.size) bytes")
    }
    return claim
  }

  // MARK: 64-bit fields

  /// The values of a 64-bit extra field, taken one by one by the fields that are full.
  private struct WideFields {
    var values: [Int]
    let missing: DiTError

    mutating func take(_ value: inout Int) throws(DiTError) {
      guard value == ZipReader.saturated32 else { return }
      guard let first = values.first, first >= 0 else { throw missing }
      value = first
      values.removeFirst()
    }
  }

  private func wideFields(
    _ records: LittleEndianBytes, _ extra: Range<Int>, _ name: String
  ) throws(DiTError) -> WideFields {
    let missing = failure("entry \(name)", "its 64-bit sizes and place", "none that fit")
    var (fields, offset) = (WideFields(values: [], missing: missing), extra.lowerBound)
    while offset + 4 <= extra.upperBound {
      let (tag, count) = (records.uint16(offset), records.uint16(offset + 2))
      offset += 4
      guard count <= extra.upperBound - offset else {
        throw failure("entry \(name)", "extra fields inside its \(extra.count) bytes", "one that is longer")
      }
      if tag == 1 {  // −1 for what is larger than the largest Int
        fields.values = stride(from: offset, through: offset + count - 8, by: 8).map { records.uint64($0) ?? -1 }
      }
      offset += count
    }
    return fields
  }

  // MARK: Local headers

  /// Where an entry's data lie: behind its local header, which must say the same as the directory, before the directory.
  private func data(of claim: Claim, before limit: Int) throws(DiTError) -> Range<Int> {
    let item = "entry \(claim.name)"
    guard claim.header <= limit - 30 else {
      throw failure(item, "a local header before byte \(limit)", "it at byte \(claim.header)")
    }
    let header = copy(claim.header..<claim.header + 30)
    guard header.uint32(0) == 0x0403_4B50 else {
      throw failure(item, "its local header at byte \(claim.header)", "none")
    }
    let (names, nameCount) = (claim.header + 30, header.uint16(26))
    let start = names + nameCount + header.uint16(28)
    guard start <= limit, claim.packed <= limit - start else {
      throw failure(item, "data before byte \(limit)", "\(claim.packed) bytes from byte \(start)")
    }
    let rest = copy(names..<start)
    guard rest.bytes.prefix(nameCount).elementsEqual(claim.nameBytes) else {
      throw failure(item, "the same name in its local header", "another")
    }
    let flags = header.uint16(6)
    guard header.uint16(8) == claim.method, (flags ^ claim.flags) & 0x2041 == 0 else {
      throw failure(item, "the same method in its local header", "another")
    }
    var (packed, size) = (header.uint32(18), header.uint32(22))
    var wide = try wideFields(rest, nameCount..<rest.bytes.count, claim.name)
    try wide.take(&size)
    try wide.take(&packed)
    // With a descriptor behind the data, which is how torch writes, sizes and checksum may be 0 here.
    let isLater = flags & 8 != 0
    for (local, central) in [(header.uint32(14), claim.checksum), (packed, claim.packed), (size, claim.size)] {
      guard local == central || isLater && local == 0 else {
        throw failure(item, "the same sizes and checksum in its local header", "\(local) for \(central)")
      }
    }
    return start..<start + claim.packed
  }

  private func checkOverlap(_ claims: [Claim], _ entries: [ZipArchive.Entry]) throws(DiTError) {
    let order = claims.indices.sorted { (claims[$0].header, $0) < (claims[$1].header, $1) }
    for (before, after) in zip(order, order.dropFirst())
    where claims[after].header < entries[before].range.upperBound {
      throw failure(
        "entry \(claims[after].name)", "it behind byte \(entries[before].range.upperBound)",
        "it at byte \(claims[after].header): an overlap with \(Message.oneLine(claims[before].name, limit: 80))")
    }
  }
}
