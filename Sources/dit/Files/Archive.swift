import CZlib
import DiffusionTransformers
import Foundation

/// A ZIP archive, open to read: what numpy's .npz files are. Stored and deflated entries, also in the 64-bit form.
///
/// Nothing of it is believed: places and sizes are checked against the file before anything is read, and a deflated entry
/// may not claim more than deflate can hold, before memory is taken for it. Encrypted entries, several disks and other
/// methods are refused.
struct Archive {
  struct Entry {
    let name: String
    /// Bytes when unpacked.
    let size: Int
    fileprivate let isDeflated: Bool
    fileprivate let packed: Range<Int>
    fileprivate let checksum: UInt32
  }

  let path: String
  private let file: MappedFile
  private(set) var entries: [Entry] = []

  /// Deflate shortens at most to this part, and a few bytes around it.
  private static let largestRatio = 1032

  /// - Throws: `FileError` or ``Failure`` (65).
  init(_ path: String) throws {
    self.path = path
    file = try MappedFile(path: path)
    let directory = try directory()
    var offset = directory.range.lowerBound
    for _ in 0..<directory.entries { entries.append(try entry(&offset, end: directory.range.upperBound)) }
    let names = Set(entries.map(\.name))
    guard names.count == entries.count else { throw failure("each name once", "one that stands twice") }
  }

  /// The bytes of an entry, unpacked; their checksum is verified.
  ///
  /// - Throws: ``Failure`` (65).
  func bytes(_ entry: Entry) throws(Failure) -> [UInt8] {
    let bytes = entry.isDeflated ? try inflated(entry) : file.withBytes(entry.packed) { copy($0) }
    let checksum = bytes.withUnsafeChecksum()
    guard checksum == entry.checksum else {
      throw failure("the checksum \(hex(entry.checksum))", hex(checksum), entry: entry.name)
    }
    return bytes
  }

  private func inflated(_ entry: Entry) throws(Failure) -> [UInt8] {
    var packed = file.withBytes(entry.packed) { copy($0) }
    var bytes = [UInt8](repeating: 0, count: entry.size)
    guard let count = inflate(&packed, into: &bytes), count == bytes.count else {
      throw failure("deflated data of \(entry.size) bytes", "data that are not", entry: entry.name)
    }
    return bytes
  }

  // MARK: Directory

  private func directory() throws(Failure) -> (range: Range<Int>, entries: Int) {
    // The end record is 22 bytes and a comment of up to 65,535.
    guard
      let end = stride(from: file.count - 22, through: max(0, file.count - 22 - 65_535), by: -1)
        .first(where: { number($0, 4) == 0x0605_4B50 && $0 + 22 + number($0 + 20, 2) == file.count })
    else { throw failure("a ZIP archive", "no end of a directory") }
    guard number(end + 4, 2) == 0 || number(end + 4, 2) == 0xFFFF else { throw failure("one disk", "several") }
    var (entries, size, start) = (number(end + 10, 2), number(end + 12, 4), number(end + 16, 4))
    if end >= 20, number(end - 20, 4) == 0x0706_4B50 {  // the 64-bit form's locator
      let record = number(end - 20 + 8, 8)
      guard record >= 0, record <= end - 20 - 56, number(record, 4) == 0x0606_4B50 else {
        throw failure("the 64-bit directory's end at byte \(record)", "none there")
      }
      (entries, size, start) = (number(record + 32, 8), number(record + 40, 8), number(record + 48, 8))
    }
    guard start >= 0, size >= 0, start <= end, size <= end - start, entries >= 0, entries <= size / 46 else {
      throw failure("a directory inside the file", "\(entries) entries in \(size) bytes from byte \(start)")
    }
    return (start..<start + size, entries)
  }

  private func entry(_ offset: inout Int, end: Int) throws(Failure) -> Entry {
    guard offset <= end - 46, number(offset, 4) == 0x0201_4B50 else {
      throw failure("an entry of the directory at byte \(offset)", "none")
    }
    let (nameCount, extraCount, commentCount) = (
      number(offset + 28, 2), number(offset + 30, 2), number(offset + 32, 2)
    )
    let next = offset + 46 + nameCount + extraCount + commentCount
    guard next <= end else { throw failure("an entry inside the directory", "one that ends at byte \(next)") }
    let name = file.withBytes(offset + 46..<offset + 46 + nameCount) { String(decoding: copy($0), as: UTF8.self) }
    var fields = Fields(
      size: number(offset + 24, 4), packed: number(offset + 20, 4), start: number(offset + 42, 4))
    let extra = offset + 46 + nameCount
    fields.widen(extra..<extra + extraCount, number)
    let method = number(offset + 10, 2)
    guard number(offset + 8, 2) & 1 == 0, method == 0 || method == 8 else {
      throw failure("a stored or deflated entry", "method \(method) or encryption", entry: name)
    }
    let packed = try data(of: name, fields)
    guard method == 8 ? fields.size / Self.largestRatio <= fields.packed + 64 : fields.size == fields.packed else {
      throw failure("a size that \(fields.packed) bytes can hold", "\(fields.size) bytes", entry: name)
    }
    let checksum = UInt32(truncatingIfNeeded: number(offset + 16, 4))
    offset = next
    return Entry(name: name, size: fields.size, isDeflated: method == 8, packed: packed, checksum: checksum)
  }

  /// Where an entry's data lie, behind its local header.
  private func data(of name: String, _ fields: Fields) throws(Failure) -> Range<Int> {
    let start = fields.start
    guard fields.size >= 0, fields.packed >= 0, start >= 0, start <= file.count - 30, number(start, 4) == 0x0403_4B50
    else { throw failure("an entry's header at byte \(start)", "none", entry: name) }
    let first = start + 30 + number(start + 26, 2) + number(start + 28, 2)
    guard first <= file.count, fields.packed <= file.count - first else {
      throw failure("\(fields.packed) bytes from byte \(first)", "a file of \(file.count)", entry: name)
    }
    return first..<first + fields.packed
  }

  /// Sizes and place, in the 64-bit form where the 32-bit one is full.
  private struct Fields {
    var size, packed, start: Int

    mutating func widen(_ extra: Range<Int>, _ number: (Int, Int) -> Int) {
      var offset = extra.lowerBound
      while offset + 4 <= extra.upperBound {
        let (tag, count) = (number(offset, 2), number(offset + 2, 2))
        offset += 4
        guard count <= extra.upperBound - offset else { return }
        if tag == 1 {
          var place = offset
          func wide(_ value: inout Int) {
            guard value == 0xFFFF_FFFF, place + 8 <= offset + count else { return }
            value = number(place, 8)
            place += 8
          }
          wide(&size)
          wide(&packed)
          wide(&start)
        }
        offset += count
      }
    }
  }

  /// A little-endian number of the file; negative where eight bytes exceed `Int`.
  private func number(_ offset: Int, _ count: Int) -> Int {
    file.withBytes(offset..<offset + count) { bytes in
      (0..<count).reduce(0) { value, i in
        value | Int(truncatingIfNeeded: UInt64(unsafe bytes.unsafeLoad(fromByteOffset: i, as: UInt8.self)) << (8 * i))
      }
    }
  }

  private func failure(_ expected: String, _ found: String, entry: String? = nil) -> Failure {
    Failure.input(path, entry.map { "entry \($0)" } ?? "archive", expected: expected, found: found)
  }

  private func hex(_ value: UInt32) -> String { "0x" + String(value, radix: 16) }
}

private func copy(_ bytes: RawSpan) -> [UInt8] { unsafe bytes.withUnsafeBytes { unsafe Array($0) } }

extension [UInt8] {
  /// zlib's CRC-32.
  fileprivate func withUnsafeChecksum() -> UInt32 {
    unsafe withUnsafeBufferPointer { bytes in
      var value = crc32(0, nil, 0)
      for start in stride(from: 0, to: bytes.count, by: 1 << 30) {
        value = unsafe crc32(value, bytes.baseAddress! + start, UInt32(Swift.min(1 << 30, bytes.count - start)))
      }
      return UInt32(truncatingIfNeeded: value)
    }
  }
}

/// Unpacks raw deflate data; how many bytes they gave, or nil where they are not valid, go on, or do not fit.
private func inflate(_ packed: inout [UInt8], into bytes: inout [UInt8]) -> Int? {
  var stream = unsafe z_stream()
  let version = ZLIB_VERSION
  guard unsafe inflateInit2_(&stream, -15, version, Int32(MemoryLayout<z_stream>.size)) == Z_OK else { return nil }
  defer { unsafe inflateEnd(&stream) }
  let chunk = 1 << 30
  var (read, written) = (0, 0)
  return unsafe packed.withUnsafeMutableBufferPointer { input in
    unsafe bytes.withUnsafeMutableBufferPointer { output in
      var nothing: UInt8 = 0
      return unsafe withUnsafeMutablePointer(to: &nothing) { nothing in
        while true {
          let (given, room) = (min(chunk, input.count - read), min(chunk, output.count - written))
          unsafe stream.next_in = input.baseAddress.map { unsafe $0 + read } ?? nothing
          unsafe stream.next_out = output.baseAddress.map { unsafe $0 + written } ?? nothing
          unsafe (stream.avail_in, stream.avail_out) = (UInt32(given), UInt32(room))
          let status = unsafe CZlib.inflate(&stream, Z_NO_FLUSH)
          let progress = unsafe (given - Int(stream.avail_in), room - Int(stream.avail_out))
          read += progress.0
          written += progress.1
          if status == Z_STREAM_END { return written }
          guard status == Z_OK, progress != (0, 0) else { return nil }
        }
      }
    }
  }
}
