import DiTFiles
import DiTTensor

/// numpy's archive of arrays, open to read: a ZIP of .npy entries, stored (`numpy.savez`) or deflated
/// (`numpy.savez_compressed`), also in the 64-bit form.
///
/// Opening reads the archive's directory; an array is unpacked when it is asked for, and its checksum verified. Nothing of
/// the file is believed: see `ZipArchive`, and a deflated entry may not claim more than deflate can hold, before memory
/// is taken for it. Encrypted entries, several disks and other methods are refused.
public struct NPZFile: Sendable {
  /// The path as given.
  public let path: String
  private let bytes: FileBytes
  private let archive: ZipArchive

  /// Opens the file at `path`.
  ///
  /// - Throws: `DiTError` when it cannot be mapped or is not such an archive.
  public init(contentsOf path: String) throws {
    try self.init(.mapped(MappedFile(path: path)), path: path)
  }

  /// Reads `bytes` as if they were a file; errors name it `path`.
  ///
  /// - Throws: `DiTError`.
  public init(bytes: [UInt8], path: String) throws(DiTError) {
    try self.init(.memory(bytes), path: path)
  }

  private init(_ bytes: FileBytes, path: String) throws(DiTError) {
    do throws(DiTError) {
      archive = try ZipArchive(bytes, allowingComment: true)
    } catch {
      throw error.about(file: path, error.subject.part)
    }
    self.path = path
    self.bytes = bytes
  }

  /// The arrays' names, those of the entries without `.npy`, in the order of the archive.
  public var names: [String] {
    archive.entries.map(\.name).filter { $0.hasSuffix(Self.ending) }.map { String($0.dropLast(Self.ending.count)) }
  }

  /// The array in the entry `name`.npy; nil when there is none.
  ///
  /// - Throws: `DiTError` when it cannot be unpacked, its checksum is another, or it is not an array that
  ///   ``NPYArray`` reads.
  public func array(_ name: String) throws(DiTError) -> NPYArray? {
    guard let entry = archive.entry(named: name + Self.ending) else { return nil }
    return try NPYArray(parsing: verified(entry), path: path, part: .entry("entry \(entry.name)"))
  }

  /// The pictures in the entry `name`.npy; nil when there is none.
  ///
  /// - Throws: as ``array(_:)``, and for an array that is not `|u1` (N, H, W, C).
  public func images(_ name: String) throws(DiTError) -> NPZImages? {
    guard let entry = archive.entry(named: name + Self.ending) else { return nil }
    let part = DiTError.Part.entry("entry \(entry.name)")
    guard entry.method == 0, !entry.isEncrypted else {
      let bytes = try verified(entry)
      let header = try unsafe NPYHeader(of: bytes.span.bytes, size: bytes.count, path: path, part: part)
      return try NPZImages(.memory(bytes), header, start: header.size, path: path, part: part)
    }
    let first = entry.range.lowerBound..<min(entry.range.upperBound, entry.range.lowerBound + NPYHeader.most)
    let start = bytes.withBytes(first) { $0.array }
    let header = try unsafe NPYHeader(of: start.span.bytes, size: entry.range.count, path: path, part: part)
    let images = try NPZImages(
      bytes, header, start: entry.range.lowerBound + header.size, path: path, part: part)
    try checkStored(entry)
    return images
  }

  /// The checksum of a stored entry, which may be larger than memory.
  private func checkStored(_ entry: ZipArchive.Entry) throws(DiTError) {
    var checksum: UInt32 = 0
    for start in stride(from: entry.range.lowerBound, to: entry.range.upperBound, by: 1 << 24) {
      let range = start..<min(entry.range.upperBound, start + 1 << 24)
      checksum = bytes.withBytes(range) { Zlib.checksum($0.array.span, after: checksum) }
      bytes.releasePages(range)
    }
    try check(checksum, entry)
  }

  private func check(_ checksum: UInt32, _ entry: ZipArchive.Entry) throws(DiTError) {
    guard checksum == entry.checksum else {
      throw failure(entry, "the checksum \(hex(entry.checksum))", hex(checksum))
    }
  }

  private static let ending = ".npy"

  // MARK: Entries

  /// Deflate shortens at most to this part, and a few bytes around it.
  private static let largestRatio = 1032

  /// The entry's bytes, their checksum verified.
  private func verified(_ entry: ZipArchive.Entry) throws(DiTError) -> [UInt8] {
    let bytes = try unpacked(entry)
    try check(Zlib.checksum(bytes.span), entry)
    return bytes
  }

  private func unpacked(_ entry: ZipArchive.Entry) throws(DiTError) -> [UInt8] {
    guard !entry.isEncrypted, entry.method == 0 || entry.method == 8 else {
      throw failure(entry, "a stored or deflated entry", entry.obstacle ?? "")
    }
    guard entry.method == 8 else { return bytes.withBytes(entry.range) { $0.array } }
    guard entry.size / Self.largestRatio <= entry.range.count + 64 else {
      throw failure(entry, "a size that \(entry.range.count) bytes can hold", "\(entry.size) bytes")
    }
    guard let inflated = bytes.withBytes(entry.range, { Zlib.inflated($0, count: entry.size) }) else {
      throw failure(entry, "deflated data of \(entry.size) bytes", "data that are not")
    }
    return inflated
  }

  private func failure(_ entry: ZipArchive.Entry, _ expected: String, _ found: String) -> DiTError {
    DiTError(file: path, .entry("entry \(entry.name)"), expected: expected, found: found)
  }

  private func hex(_ value: UInt32) -> String { "0x" + String(value, radix: 16) }

  // MARK: Writing

  /// Writes arrays as the stored entries `name`.npy of the archive at `path`, atomically.
  ///
  /// Equal arrays give equal bytes.
  ///
  /// - Throws: `DiTError`.
  /// - Precondition: names differ.
  public static func write(_ arrays: [(name: String, array: NPYArray)], to path: String) throws {
    precondition(Set(arrays.map { ExactName($0.name) }).count == arrays.count, "names must differ from each other")
    var zip = try ZipWriter(path: path)
    for (name, array) in arrays {
      let header = array.header
      try zip.start(
        name + ending, size: header.count + array.bytes.count,
        checksum: Zlib.checksum(array.bytes.span, after: Zlib.checksum(header.span)))
      try zip.write(header.span)
      try zip.write(array.bytes.span)
    }
    try zip.commit()
  }
}
