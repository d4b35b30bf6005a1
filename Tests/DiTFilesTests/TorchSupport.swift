import DiTFiles
import Foundation

/// The path of a file that Scripts/fixtures/torch_files.py made.
func torchFixture(_ name: String) -> String {
  URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures/torch/\(name)").path(percentEncoded: false)
}

/// `value` in `count` bytes, little-endian.
func little(_ value: Int, _ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }

/// A ZIP archive whose every field can be changed afterwards: what torch writes, without its descriptors.
struct ZipBytes: Sendable {
  struct Entry: Sendable {
    var name: [UInt8]
    var data: [UInt8]

    init(_ name: String, _ data: [UInt8]) {
      self.name = Array(name.utf8)
      self.data = data
    }
  }

  var bytes: [UInt8] = []
  /// Where each entry's local header and its record in the directory begin.
  private(set) var locals: [Int] = []
  private(set) var records: [Int] = []
  /// Where the directory begins, its 64-bit end record, and its end record.
  private(set) var directory = 0, wideEnd = 0, end = 0

  /// - Parameters:
  ///   - wide: with 64-bit end records, as torch writes.
  ///   - gap: bytes between entries that belong to none.
  init(_ entries: [Entry], wide: Bool = false, gap: Int = 0) {
    var records: [UInt8] = []
    var places: [Int] = []
    for (index, entry) in entries.enumerated() {
      if index > 0 { bytes += [UInt8](repeating: 0, count: gap) }
      let sizes =
        little(0x1234, 4) + little(entry.data.count, 4) + little(entry.data.count, 4) + little(entry.name.count, 2)
        + little(0, 2)
      let start = bytes.count
      locals.append(start)
      places.append(records.count)
      let flags = little(0x800, 2) + little(0, 2) + little(0, 4)
      bytes += [0x50, 0x4B, 3, 4] + little(0, 2) + flags + sizes + entry.name + entry.data
      records += [0x50, 0x4B, 1, 2] + little(0, 4) + flags + sizes + little(0, 10) + little(start, 4) + entry.name
    }
    directory = bytes.count
    self.records = places.map { $0 + directory }
    bytes += records
    wideEnd = bytes.count
    if wide {
      bytes += [0x50, 0x4B, 6, 6] + little(44, 8) + little(0, 12) + little(entries.count, 8) + little(entries.count, 8)
      bytes += little(records.count, 8) + little(directory, 8)
      bytes += [0x50, 0x4B, 6, 7] + little(0, 4) + little(wideEnd, 8) + little(1, 4)
    }
    end = bytes.count
    bytes += [0x50, 0x4B, 5, 6] + little(0, 4) + little(entries.count, 2) + little(entries.count, 2)
    bytes += little(records.count, 4) + little(directory, 4) + little(0, 2)
  }

  /// The bytes with `value` in `count` of them from `offset` on.
  func with(_ value: Int, _ count: Int, at offset: Int) -> ZipBytes {
    var copy = self
    copy.bytes.replaceSubrange(offset..<offset + count, with: little(value, count))
    return copy
  }
}

/// Pieces of a pickle, as torch writes them but without its memo.
enum Pickle {
  static func string(_ text: String) -> [UInt8] { [0x58] + little(text.utf8.count, 4) + Array(text.utf8) }

  static func global(_ module: String, _ name: String) -> [UInt8] { Array("c\(module)\n\(name)\n".utf8) }

  static func integer(_ value: Int) -> [UInt8] { [0x8A, 8] + little(value, 8) }

  static func tuple(_ items: [[UInt8]]) -> [UInt8] { [0x28] + items.joined() + [0x74] }

  static func dictionary(_ items: [(String, [UInt8])]) -> [UInt8] {
    [0x7D, 0x28] + items.flatMap { string($0.0) + $0.1 } + [0x75]
  }

  static func storage(_ key: String = "0", _ type: String = "FloatStorage", count: Int = 4) -> [UInt8] {
    tuple([string("storage"), global("torch", type), string(key), string("cpu"), integer(count)]) + [0x51]
  }

  static let hooks = global("collections", "OrderedDict") + [0x29, 0x52]

  static func tensor(
    _ storage: [UInt8] = storage(), offset: [UInt8] = integer(0), shape: [Int] = [4], strides: [Int] = [1],
    more: [[UInt8]] = []
  ) -> [UInt8] {
    let sizes = [tuple(shape.map(integer)), tuple(strides.map(integer))]
    return rebuild([storage, offset] + sizes + [[0x89], hooks] + more)
  }

  static func rebuild(_ arguments: [[UInt8]]) -> [UInt8] {
    global("torch._utils", "_rebuild_tensor_v2") + tuple(arguments) + [0x52]
  }

  /// PROTO 2, the value, STOP.
  static func whole(_ value: [UInt8]) -> [UInt8] { [0x80, 2] + value + [0x2E] }
}

/// A torch file: `pickle` in `a/data.pkl`, and the storage `0` of 16 bytes, the floats 1, 2, 3, 4.
func torchArchive(_ pickle: [UInt8], wide: Bool = false, more: [ZipBytes.Entry] = [], gap: Int = 0) -> ZipBytes {
  let floats = littleEndian([Float(1), 2, 3, 4].map(\.bitPattern))
  return ZipBytes([.init("a/data.pkl", pickle), .init("a/data/0", floats)] + more, wide: wide, gap: gap)
}

/// One with the dictionary `{"x": tensor}`.
func torchArchive(x tensor: [UInt8] = Pickle.tensor(), wide: Bool = false) -> ZipBytes {
  torchArchive(Pickle.whole(Pickle.dictionary([("x", tensor)])), wide: wide)
}
