import DiTFiles
import DiTTensor

/// The files in a tar archive and where their bytes lie: POSIX ustar and pax, and GNU's long names. Their content is not read.
///
/// Source: POSIX.1-2017, "pax Interchange Format" and "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format".
struct TarFile {
  struct Member {
    let name: String
    let range: Range<Int>
  }

  /// In the archive's order; a hard link has the bytes of the member before it that it leads to.
  private(set) var members: [Member] = []
  /// Links to something else, which are left out.
  private(set) var links: [String] = []
  /// Whether the mark of the end is there: an archive without one may have been cut off between two members.
  private(set) var isEnded = false

  private static let block = 512
  /// Longer names are taken for damage.
  private static let longestName = 1 << 16

  /// - Throws: `DiTError` for a file that is no tar archive, a damaged header, and an archive that was cut off.
  init(contentsOf path: String) throws(DiTError) {
    let file = try RegularFile(path: path)
    var offset = 0
    var (longName, paxName, paxSize): (String?, String?, Int?) = (nil, nil, nil)
    var (longLink, paxLink): (String?, String?) = (nil, nil)
    var places: [ExactName: Range<Int>] = [:]
    while offset + Self.block <= file.size {
      let header = try file.bytes(offset..<offset + Self.block)
      guard header.count == Self.block else {
        throw DiTError(
          file: path, .entry("end"), expected: "\(Self.block) bytes from byte \(offset) on", found: "\(header.count)")
      }
      guard header.contains(where: { $0 != 0 }) else {  // the end is blocks of zeros
        isEnded = true
        return
      }
      guard Self.isWhole(header), let stated = Self.number(header[124..<136]) else {
        throw DiTError(
          file: path, .entry("header"), expected: "a tar header", found: "none, or a damaged one, at byte \(offset)")
      }
      let kind = header[156]
      let start = offset + Self.block
      let size = [0, 0x30, 0x37].contains(kind) ? paxSize ?? stated : stated
      guard 0...max(0, file.size - start) ~= size else {
        throw DiTError(
          file: path, .entry("end"), expected: "\(size) bytes from byte \(start) on", found: "\(file.size - start)")
      }
      let range = start..<start + size
      guard size <= Self.longestName || ![0x4B, 0x4C, 0x78].contains(kind) else {  // K, L, x
        throw DiTError(file: path, .entry("header"), expected: "names of less than 64 KB", found: "\(size) bytes")
      }
      switch kind {
      case 0x4C: longName = FileName.string(of: try file.bytes(range).prefix { $0 != 0 })
      case 0x4B: longLink = FileName.string(of: try file.bytes(range).prefix { $0 != 0 })
      case 0x78:
        let records = try Self.records(file.bytes(range), path)
        paxName = records["path"] ?? paxName
        paxSize = records["size"].flatMap { Int($0) } ?? paxSize
        paxLink = records["linkpath"] ?? paxLink
        guard !records.keys.contains(where: { $0.hasPrefix("GNU.sparse.") }) else {
          throw DiTError(file: path, .entry("member"), expected: "files", found: "a sparse one at byte \(offset)")
        }
      case 0x53:  // S
        throw DiTError(file: path, .entry("member"), expected: "files", found: "a sparse one at byte \(offset)")
      default:
        let name = paxName ?? longName ?? Self.name(header)
        if [0, 0x30, 0x37].contains(kind) {  // files; folders and devices hold no picture
          members.append(Member(name: name, range: range))
          places[ExactName(name)] = range
        } else if [0x31, 0x32].contains(kind) {
          let link = paxLink ?? longLink ?? FileName.string(of: header[157..<257].prefix { $0 != 0 })
          if kind == 0x31, size == 0, let place = places[ExactName(link)] {
            members.append(Member(name: name, range: place))
            places[ExactName(name)] = place
          } else {
            links.append(name)
          }
        }
        if kind != 0x67 {  // g speaks of others
          (longName, paxName, paxSize) = (nil, nil, nil)
          (longLink, paxLink) = (nil, nil)
        }
      }
      offset = start + (size + Self.block - 1) / Self.block * Self.block
    }
    guard offset == 0 || offset >= file.size else {
      throw DiTError(
        file: path, .entry("end"), expected: "whole blocks of \(Self.block) bytes", found: "\(file.size - offset) more")
    }
    guard offset > 0 else {
      throw DiTError(file: path, .entry("header"), expected: "a tar header", found: "\(file.size) bytes")
    }
  }

  /// Whether a header's checksum, the sum of its bytes with itself as blanks, is right; some programs summed signed ones.
  private static func isWhole(_ header: [UInt8]) -> Bool {
    guard let stated = number(header[148..<156]) else { return false }
    var (sum, signed) = (0, 0)
    for (index, byte) in header.enumerated() {
      let byte = 148..<156 ~= index ? UInt8(ascii: " ") : byte
      sum += Int(byte)
      signed += Int(Int8(bitPattern: byte))
    }
    return stated == sum || stated == signed
  }

  /// Octal digits between blanks and zeros, or GNU's binary number, whose first bit is set.
  private static func number(_ field: ArraySlice<UInt8>) -> Int? {
    guard let first = field.first else { return nil }
    if first == 0x80 {
      return field.dropFirst().reduce(into: Int?(0)) { value, byte in
        value = value.flatMap { $0 >> 54 == 0 ? $0 << 8 | Int(byte) : nil }
      }
    }
    let digits = field.drop { $0 == UInt8(ascii: " ") }.prefix { 0x30...0x37 ~= $0 }
    let rest = field[digits.endIndex...]
    guard rest.allSatisfy({ $0 == 0 || $0 == UInt8(ascii: " ") }) else { return nil }
    return digits.reduce(0) { $0 << 3 | Int($1 - 0x30) }
  }

  /// ustar's prefix and name.
  private static func name(_ header: [UInt8]) -> String {
    let name = header[..<100].prefix { $0 != 0 }
    let isUstar = header[257..<262].elementsEqual("ustar".utf8) && header[262] == 0  // GNU has other things there
    let prefix = isUstar ? header[345..<500].prefix { $0 != 0 } : []
    return FileName.string(of: prefix.isEmpty ? Array(name) : Array(prefix) + [UInt8(ascii: "/")] + Array(name))
  }

  /// pax's records, `LENGTH KEY=VALUE\n`.
  private static func records(_ bytes: [UInt8], _ path: String) throws(DiTError) -> [String: String] {
    var records: [String: String] = [:]
    var rest = bytes[...]
    while !rest.isEmpty {
      let digits = rest.prefix { 0x30...0x39 ~= $0 }
      guard digits.count < 7, let length = Int(String(decoding: digits, as: UTF8.self)), length > digits.count + 2,
        length <= rest.count, rest[rest.startIndex + digits.count] == UInt8(ascii: " "),
        rest[rest.startIndex + length - 1] == UInt8(ascii: "\n")
      else {
        throw DiTError(file: path, .entry("pax header"), expected: "records LENGTH KEY=VALUE", found: "others")
      }
      let record = rest[(rest.startIndex + digits.count + 1)..<(rest.startIndex + length - 1)]
      let key = record.prefix { $0 != UInt8(ascii: "=") }
      records[String(decoding: key, as: UTF8.self)] = FileName.string(of: record.dropFirst(key.count + 1))
      rest = rest.dropFirst(length)
    }
    return records
  }
}
