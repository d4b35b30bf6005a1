import DiTTensor

/// What the first bytes of a file say that it is.
enum TorchFormat {
  /// A pickle's PROTO, then the number that files of torch before 1.6 begin with (a LONG1 of ten bytes).
  private static let legacyMagic: [UInt8] = [0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]

  /// Whether a file that begins with `start` is a ZIP archive or a pickle: nothing that safetensors can begin with, whose
  /// ninth byte is `{`.
  static func isTorch(_ start: [UInt8]) -> Bool { isArchive(start) || isPickle(start) }

  /// - Throws: ``TorchFileError`` unless the file is a ZIP archive.
  static func check(_ bytes: FileBytes, path: String) throws(TorchFileError) {
    let start = bytes.withBytes(0..<min(bytes.count, 14)) { $0.array }
    guard !isArchive(start) else { return }
    let expected = "a ZIP archive, as torch.save writes it since torch 1.6"
    if isPickle(start) {
      let isLegacy = start.dropFirst(2).elementsEqual(legacyMagic)
      throw TorchFileError(
        path: path, expected: expected,
        found: isLegacy
          ? "the format before that: load it in torch and save it again"
          : "a plain pickle, which torch.save does not write")
    }
    throw TorchFileError(path: path, expected: expected, found: description(start, count: bytes.count))
  }

  /// The first bytes of a file of `count`, for messages.
  static func description(_ start: [UInt8], count: Int) -> String {
    let bytes = start.prefix(8).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
    return "a file of \(count) bytes that begins with \(bytes.isEmpty ? "nothing" : bytes)"
  }

  private static func isArchive(_ start: [UInt8]) -> Bool {
    start.starts(with: [0x50, 0x4B]) && !(start.count > 8 && start[8] == UInt8(ascii: "{"))
  }

  private static func isPickle(_ start: [UInt8]) -> Bool {
    start.count > 1 && start[0] == 0x80 && start[1] <= 5 && !(start.count > 8 && start[8] == UInt8(ascii: "{"))
  }
}

/// The entries of a ZIP archive that make it a torch file: `<prefix>/data.pkl`, `<prefix>/data/<key>`, and perhaps
/// `<prefix>/byteorder`.
///
/// Checksums are not verified: torch can be told to leave them out, and to read a mapped model's every byte would cost
/// seconds. A damaged storage shows as in any format without them.
struct TorchArchive {
  private let archive: ZipArchive
  private let prefix: String
  private let path: String
  /// Where the pickle lies.
  let pickle: Range<Int>

  /// - Throws: ``TorchFileError`` for an archive of another kind, an entry that is not plain, another byte order.
  init(_ bytes: FileBytes, path: String) throws(TorchFileError) {
    do throws(ZipError) {
      archive = try ZipArchive(bytes)
    } catch {
      throw TorchFileError(path: path, item: error.item, expected: error.expected, found: error.found)
    }
    self.path = path
    let pickles = archive.entries.filter { $0.name.hasSuffix("/data.pkl") && $0.name.count { $0 == "/" } == 1 }
    guard pickles.count == 1 else {
      let names = archive.entries.isEmpty ? "no entries" : Message.list(archive.entries.prefix(9).map(\.name)) { $0 }
      throw TorchFileError(
        path: path, item: "ZIP archive", expected: "one …/data.pkl, as in a file of torch.save",
        found: pickles.isEmpty ? names : "\(pickles.count) of them")
    }
    prefix = String(pickles[0].name.dropLast("data.pkl".count))
    for entry in archive.entries where entry.name == prefix + "constants.pkl" || entry.name.hasPrefix(prefix + "code/")
    {
      throw TorchFileError(
        path: path, item: "entry \(entry.name)", expected: "a state dict, as torch.save writes it",
        found: "a TorchScript archive, which holds code")
    }
    for entry in archive.entries {
      guard let obstacle = entry.obstacle else { continue }
      throw TorchFileError(path: path, item: "entry \(entry.name)", expected: "stored bytes", found: obstacle)
    }
    pickle = pickles[0].range
    guard pickle.count <= Unpickler.maximumLength else {
      throw TorchFileError(
        path: path, item: "entry \(pickles[0].name)", expected: "at most \(Unpickler.maximumLength) bytes",
        found: "\(pickle.count)")
    }
    if let order = archive.entry(named: prefix + "byteorder") {
      let found = bytes.withBytes(order.range.prefix(16)) { $0.array }
      guard found.elementsEqual("little".utf8) else {
        throw TorchFileError(
          path: path, item: "entry \(order.name)", expected: "little", found: String(decoding: found, as: UTF8.self))
      }
    }
  }

  /// Where the storage `key` lies, which must have room for exactly `count` elements of `dtype`.
  func storage(key: String, dtype: Dtype, count: Int) throws(TorchFileError) -> Range<Int> {
    let name = "\(prefix)data/\(key)"
    guard let entry = archive.entry(named: name) else {
      throw TorchFileError(
        path: path, item: "entry \(name)", expected: "a storage of the pickle", found: "no such entry")
    }
    let (size, overflow) = count.multipliedReportingOverflow(by: dtype.bitWidth / 8)
    guard count >= 0, !overflow, size == entry.range.count else {
      throw TorchFileError(
        path: path, item: "entry \(name)", expected: "\(count) elements of \(dtype.rawValue)",
        found: "\(entry.range.count) bytes")
    }
    return entry.range
  }
}
