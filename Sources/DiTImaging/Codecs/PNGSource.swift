internal import CDiTPNG
import DiTFiles

/// Where a PNG's bytes come from: memory, or an open file, which is read a little at a time, so that a large one is not held.
struct PNGSource {
  private let data: [UInt8]
  private let file: Int32
  /// The number of bytes.
  let count: Int

  init(_ data: [UInt8]) {
    (self.data, file, count) = (data, -1, data.count)
  }

  /// The file must stay open as long as this is used.
  init(_ file: borrowing RegularFile) {
    (data, self.file, count) = ([], file.number, file.size)
  }

  /// Calls `body` with the source as libpng's door takes it.
  func with<Result, Failure: Error>(
    _ body: (dit_png_source) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    guard file < 0 else { return try unsafe body(dit_png_source(data: nil, count: count, file: file)) }
    // An empty array may have no address, which would stand for a file.
    let bytes = data.isEmpty ? [0] : data
    return try unsafe bytes.withUnsafeBufferPointer { bytes throws(Failure) in
      try unsafe body(dit_png_source(data: bytes.baseAddress, count: count, file: -1))
    }
  }

  /// At most `length` bytes from `offset` on; fewer where the data end.
  private func bytes(_ offset: Int, _ length: Int) -> ArraySlice<UInt8> {
    let end = min(count, offset + length)
    guard offset < end else { return [] }
    guard file >= 0 else { return data[offset..<end] }
    return RegularFile.bytes(of: file, offset..<end)[...]
  }

  /// A longer chunk is none that a camera wrote: its beginning is looked at.
  private static let longestExif = 1 << 24

  /// The first eXIf chunk, wherever it stands; nil where there is none. Checksums are libpng's matter.
  func exif() -> ArraySlice<UInt8>? {
    var place = 8
    while true {
      let head = bytes(place, 8)
      guard head.count == 8 else { return nil }
      let length = head.prefix(4).reduce(0) { $0 << 8 | Int($1) }
      guard !head.dropFirst(4).elementsEqual("IEND".utf8), length <= count - place - 12 else { return nil }
      if head.dropFirst(4).elementsEqual("eXIf".utf8) { return bytes(place + 8, min(length, Self.longestExif)) }
      place += 12 + length
    }
  }
}
