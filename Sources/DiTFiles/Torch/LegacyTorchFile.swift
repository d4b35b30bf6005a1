import DiTTensor

/// A file of torch before 1.6, which `torch.save(…, _use_new_zipfile_serialization=False)` still writes: pickles of a magic
/// number, a version, the machine's sizes, the value and the storages' keys; then the storages in the order of their keys,
/// each as its number of elements in eight bytes and the elements.
struct LegacyTorchFile {
  let root: PickleValue
  let pickle: Unpickler
  private let path: String
  /// By key.
  private var ranges: [String: Range<Int>] = [:]

  private static let version = 1001

  /// - Throws: `DiTError`.
  init(_ bytes: FileBytes, path: String) throws(DiTError) {
    let start = bytes.withBytes(0..<min(bytes.count, Unpickler.maximumLength)) { $0.array }
    var offset = 0
    func next() throws(DiTError) -> (PickleValue, Unpickler) {
      var pickle = Unpickler(start, from: offset, path: path, place: "byte")
      let value = try pickle.load()
      offset = pickle.offset
      return (value, pickle)
    }
    self.path = path
    _ = try next()  // the magic number, which has been seen
    let (version, _) = try next()
    guard case .integer(Self.version) = version else {
      throw DiTError(file: path, .entry("version"), expected: "\(Self.version)", found: "another")
    }
    let (machine, system) = try next()
    guard Self.isLittleEndian(machine, system) else {
      throw DiTError(file: path, .entry("byte order"), expected: "little", found: "another")
    }
    (root, pickle) = try next()
    let (keys, list) = try next()
    try locate(keys, list, from: offset, bytes)
  }

  private static func isLittleEndian(_ value: PickleValue, _ pickle: Unpickler) -> Bool {
    guard case .dictionary(let index) = value else { return false }
    for item in pickle.dictionaries[index] where pickle.text(item.key, limit: 16) == "little_endian" {
      if case .bool(let isLittle) = item.value { return isLittle }
    }
    return false
  }

  /// Finds each storage's bytes, which begin at `first`.
  private mutating func locate(
    _ keys: PickleValue, _ list: Unpickler, from first: Int, _ bytes: FileBytes
  ) throws(DiTError) {
    guard case .list(let index) = keys else {
      throw DiTError(file: path, .entry("storages"), expected: "a list of their keys", found: keys.kind)
    }
    let types = Dictionary(
      pickle.storages.map { storage in (pickle.text(storage.key) ?? "", storage.type) },
      uniquingKeysWith: { first, _ in first })
    var offset = first
    for key in list.lists[index] {
      guard let key = list.text(key, limit: 1024), let type = types[key] else {
        throw DiTError(file: path, .entry("storages"), expected: "keys of the pickle's storages", found: "another")
      }
      let header = bytes.withBytes(offset..<min(offset + 8, bytes.count)) { $0.array }
      let claimed = header.count == 8 ? LittleEndianBytes(bytes: header).uint64(0) : nil
      let size = claimed.map { $0.multipliedReportingOverflow(by: type.size) }
      guard let size, !size.overflow, size.partialValue <= bytes.count - offset - 8 else {
        throw DiTError(
          file: path, .entry("storage \(key)"), expected: "its size and as many elements of \(type.size) bytes",
          found: "\(max(0, bytes.count - offset)) bytes: the file is cut off")
      }
      ranges[key] = offset + 8..<offset + 8 + size.partialValue
      offset += 8 + size.partialValue
    }
  }

  /// Where the storage `key` lies, which must have exactly `count` elements of `type`.
  func storage(key: String, type: TorchStorageType, count: Int) throws(DiTError) -> Range<Int> {
    guard let range = ranges[key] else {
      throw DiTError(
        file: path, .entry("storage \(key)"), expected: "a storage of the pickle", found: "no storage of that key")
    }
    let (size, overflow) = count.multipliedReportingOverflow(by: type.size)
    guard count >= 0, !overflow, size == range.count else {
      throw DiTError(
        file: path, .entry("storage \(key)"), expected: "\(count) elements of \(type.dtype?.rawValue ?? type.rawValue)",
        found: "\(range.count) bytes")
    }
    return range
  }
}
