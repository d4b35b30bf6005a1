import DiTTensor

/// What the first bytes of a file say that it is.
enum TorchFormat {
  /// A ZIP archive, as torch.save writes it since torch 1.6.
  case archive
  /// Pickles and storages one after the other, as before.
  case legacy

  /// How many bytes from the start tell.
  static let length = 32

  /// The number that files of torch before 1.6 begin with, in a LONG1 of ten bytes.
  private static let magic: [UInt8] = [0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]

  /// Whether a file that begins with `start` is a ZIP archive or a pickle: nothing that safetensors can begin with, whose
  /// ninth byte is `{`.
  static func isTorch(_ start: [UInt8]) -> Bool { isArchive(start) || isPickle(start) }

  /// - Throws: `DiTError` unless the file is of one of the formats.
  init(_ bytes: FileBytes, path: String) throws(DiTError) {
    let start = bytes.withBytes(0..<min(bytes.count, Self.length)) { $0.array }
    if Self.isArchive(start) {
      self = .archive
    } else if Self.isPickle(start) {
      // By protocol 4 and later a frame may come first: its opcode and eight bytes.
      let first = start.count > 2 && start[2] == PickleOpcode.frame.rawValue ? 11 : 2
      guard start.dropFirst(first).starts(with: Self.magic) else {
        throw DiTError(
          file: path, expected: Self.expected, found: "a plain pickle, which torch.save does not write")
      }
      self = .legacy
    } else {
      throw DiTError(file: path, expected: Self.expected, found: Self.description(start, count: bytes.count))
    }
  }

  private static let expected = "a file of torch.save: a ZIP archive, or pickles as before torch 1.6"

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
