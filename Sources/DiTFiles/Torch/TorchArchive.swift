import DiTTensor

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

  /// - Throws: `DiTError` for an archive of another kind, an entry that is not plain, another byte order.
  init(_ bytes: FileBytes, path: String) throws(DiTError) {
    do throws(DiTError) {
      archive = try ZipArchive(bytes)
    } catch {
      throw error.about(file: path, error.subject.part)
    }
    self.path = path
    let pickles = archive.entries.filter { $0.name.hasSuffix("/data.pkl") && $0.name.count { $0 == "/" } == 1 }
    guard pickles.count == 1 else {
      let names = archive.entries.isEmpty ? "no entries" : Message.list(archive.entries.prefix(9).map(\.name)) { $0 }
      throw DiTError(
        file: path, .entry("ZIP archive"), expected: "one …/data.pkl, as in a file of torch.save",
        found: pickles.isEmpty ? names : "\(pickles.count) of them")
    }
    prefix = String(pickles[0].name.dropLast("data.pkl".count))
    for entry in archive.entries where entry.name == prefix + "constants.pkl" || entry.name.hasPrefix(prefix + "code/")
    {
      throw DiTError(
        file: path, .entry("entry \(entry.name)"), expected: "a state dict, as torch.save writes it",
        found: "a TorchScript archive, which holds code")
    }
    for entry in archive.entries {
      guard let obstacle = entry.obstacle else { continue }
      throw DiTError(file: path, .entry("entry \(entry.name)"), expected: "stored bytes", found: obstacle)
    }
    pickle = pickles[0].range
    guard pickle.count <= Unpickler.maximumLength else {
      throw DiTError(
        file: path, .entry("entry \(pickles[0].name)"), expected: "at most \(Unpickler.maximumLength) bytes",
        found: "\(pickle.count)")
    }
    if let order = archive.entry(named: prefix + "byteorder") {
      let found = bytes.withBytes(order.range.prefix(16)) { $0.array }
      guard found.elementsEqual("little".utf8) else {
        throw DiTError(
          file: path, .entry("entry \(order.name)"), expected: "little", found: String(decoding: found, as: UTF8.self))
      }
    }
  }

  /// Where the storage `key` lies, which must have room for exactly `count` elements of `type`.
  func storage(key: String, type: TorchStorageType, count: Int) throws(DiTError) -> Range<Int> {
    let name = "\(prefix)data/\(key)"
    guard let entry = archive.entry(named: name) else {
      throw DiTError(
        file: path, .entry("entry \(name)"), expected: "a storage of the pickle", found: "no such entry")
    }
    let (size, overflow) = count.multipliedReportingOverflow(by: type.size)
    guard count >= 0, !overflow, size == entry.range.count else {
      throw DiTError(
        file: path, .entry("entry \(name)"), expected: "\(count) elements of \(type.dtype?.rawValue ?? type.rawValue)",
        found: "\(entry.range.count) bytes")
    }
    return entry.range
  }
}
