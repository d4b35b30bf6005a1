import DiTFiles
import DiTTensor

/// A file of MNIST's format, IDX: two zero bytes, the elements' type, the number of extents, the extents as 32-bit numbers and then
/// the elements, the last index fastest, all of them big-endian; as it is or packed by gzip, which its content says.
///
/// Source: yann.lecun.com/exdb/mnist, "The IDX file format".
public struct IDXFile: Sendable {
  /// One to four, none of them 0.
  public let shape: [Int]
  /// The elements.
  public let bytes: [UInt8]

  /// Reads a file of unsigned bytes.
  ///
  /// - Throws: `DiTError` for another file, other elements, and one with fewer or more of them than its extents say.
  public init(contentsOf path: String) throws(DiTError) {
    let file = try MappedFile(path: path)
    let gzip = GzipReader.isGzip(Self.bytes(of: file, 0..<min(2, file.count))) ? try GzipReader(file) : nil
    func read(_ range: Range<Int>) throws(DiTError) -> [UInt8] {
      try gzip?.read(range.count) ?? Self.bytes(of: file, range.clamped(to: 0..<file.count))
    }
    let magic = try read(0..<4)
    guard let rank = Self.rank(magic) else {
      throw DiTError(
        file: path, .entry("header"), expected: "00 00 08 and 1 to 4 extents (IDX, unsigned bytes)",
        found: Self.types[magic.count > 2 && magic.starts(with: [0, 0]) ? magic[2] : 0].map { "IDX of \($0)" }
          ?? magic.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined(separator: " "))
    }
    let header = try read(4..<4 + 4 * rank)
    let shape = (0..<header.count / 4).map { header[4 * $0..<4 * $0 + 4].reduce(0) { $0 << 8 | Int($1) } }
    let most = gzip == nil ? file.count : GzipReader.most(from: file.count)
    var count = 1
    for extent in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: extent)
      count = overflow ? .max : product
    }
    guard shape.count == rank, (1...most).contains(count) else {
      throw DiTError(
        file: path, .entry("extents"),
        expected: "\(rank), not 0, of elements that fit into the file's \(file.count) bytes",
        found: Message.shape(shape))
    }
    let start = 4 + 4 * rank
    let bytes = try read(start..<start + count)
    let rest = gzip == nil ? file.count - start - bytes.count : try read(start + count..<start + count + 1).count
    guard bytes.count == count, rest == 0 else {
      throw DiTError(
        file: path, .entry("elements"), expected: "\(count), as its extents \(Message.shape(shape)) say",
        found: bytes.count < count ? "\(bytes.count)" : "more")
    }
    self.shape = shape
    self.bytes = bytes
  }

  /// Whether the file at `path` begins as IDX does, of any type and number of extents.
  static func isOne(_ path: String) -> Bool {
    do throws(DiTError) {
      let file = try MappedFile(path: path)
      let head = bytes(of: file, 0..<min(4, file.count))
      let magic = GzipReader.isGzip(head) ? try GzipReader(file).read(4) : head
      return magic.count == 4 && magic.starts(with: [0, 0]) && types[magic[2]] != nil && 1...4 ~= magic[3]
    } catch {
      return false
    }
  }

  private static func rank(_ magic: [UInt8]) -> Int? {
    magic.starts(with: [0, 0, 8]) && magic.count == 4 && 1...4 ~= magic[3] ? Int(magic[3]) : nil
  }

  private static let types: [UInt8: String] = [
    0x08: "unsigned bytes of no or too many extents", 0x09: "signed bytes", 0x0B: "16-bit integers",
    0x0C: "32-bit integers",
    0x0D: "32-bit floats", 0x0E: "64-bit floats",
  ]

  private static func bytes(of file: MappedFile, _ range: Range<Int>) -> [UInt8] {
    file.withBytes(range) { bytes in unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) } }
  }
}
