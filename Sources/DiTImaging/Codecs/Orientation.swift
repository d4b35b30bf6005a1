/// How a camera held the picture it stored: Exif's orientation, 1 to 8.
///
/// Source: Exif 2.32 (CIPA DC-008), tag 0x0112 of the first directory, in the first APP1 segment of a JPEG that begins
/// "Exif", the eXIf chunk of a PNG (third edition, section 11.3.4.5; also behind the pixels) or the EXIF chunk of a WebP.
/// What is missing or malformed there means upright. XMP is not looked at.
struct Orientation: Equatable {
  /// 1 upright · 2 mirrored · 3 turned by 180° · 4 upside down, mirrored · 5 transposed · 6 to be turned right ·
  /// 7 transposed on the other diagonal · 8 to be turned left.
  let value: Int

  init(_ value: Int) { self.value = 1...8 ~= value ? value : 1 }

  /// Rows of the stored image are columns of the picture.
  var isTransposed: Bool { value >= 5 }
  /// After transposition: the picture's columns run from right to left.
  var flipsColumns: Bool { [2, 3, 6, 7].contains(value) }
  /// After transposition: the picture's rows run from bottom to top.
  var flipsRows: Bool { [3, 4, 7, 8].contains(value) }

  /// Whether the picture has the stored image's columns, or rows, in the other order.
  var reversesStoredColumns: Bool { isTransposed ? flipsRows : flipsColumns }
  var reversesStoredRows: Bool { isTransposed ? flipsColumns : flipsRows }

  static let upright = Orientation(1)

  init(ofJPEG data: [UInt8]) { self.init(exif: Self.exif(inJPEG: data) ?? []) }

  /// From Exif data: a TIFF header with its directories, also where the words that mark a JPEG's segment stand before it.
  init(exif: ArraySlice<UInt8>) {
    var tiff = exif
    while tiff.starts(with: Self.mark) { tiff = tiff.dropFirst(Self.mark.count) }
    self.init(Self.tag(in: tiff) ?? 1)
  }

  private static let mark = Array("Exif\0\0".utf8)

  /// The TIFF part of the Exif segment: segments are walked up to the first scan.
  private static func exif(inJPEG data: [UInt8]) -> ArraySlice<UInt8>? {
    var rest = data.dropFirst(2)
    while rest.count >= 4, rest.first == 0xFF {
      let marker = rest[rest.startIndex + 1]
      if marker == 0xFF {  // padding
        rest = rest.dropFirst()
        continue
      }
      let length = Int(rest[rest.startIndex + 2]) << 8 | Int(rest[rest.startIndex + 3])
      guard marker != 0xDA, length >= 2, length + 2 <= rest.count else { return nil }
      let body = rest.dropFirst(4).prefix(length - 2)
      if marker == 0xE1, body.starts(with: mark) { return body }
      rest = rest.dropFirst(2 + length)
    }
    return nil
  }

  private static func tag(in tiff: ArraySlice<UInt8>) -> Int? {
    guard let isLittle = [true, false].first(where: { tiff.starts(with: ($0 ? "II*\0" : "MM\0*").utf8) }) else {
      return nil
    }
    func number(at offset: Int, bytes: Int) -> Int? {
      guard offset <= tiff.count - bytes else { return nil }
      let field = tiff.dropFirst(offset).prefix(bytes)
      return isLittle ? field.reversed().reduce(0) { $0 << 8 | Int($1) } : field.reduce(0) { $0 << 8 | Int($1) }
    }
    guard let directory = number(at: 4, bytes: 4), let count = number(at: directory, bytes: 2) else { return nil }
    for entry in 0..<count {
      let offset = directory + 2 + 12 * entry
      guard let tag = number(at: offset, bytes: 2) else { return nil }
      if tag == 0x0112, number(at: offset + 2, bytes: 2) == 3 { return number(at: offset + 8, bytes: 2) }
    }
    return nil
  }
}

extension Image {
  /// The picture as it was seen, from the image as it was stored.
  func upright(from orientation: Orientation) -> Image {
    guard orientation.value != 1 else { return self }
    let (columns, rows) = orientation.isTransposed ? (height, width) : (width, height)
    var result: [UInt8] = []
    result.reserveCapacity(pixels.count)
    for row in 0..<rows {
      let down = orientation.flipsRows ? rows - 1 - row : row
      for column in 0..<columns {
        let across = orientation.flipsColumns ? columns - 1 - column : column
        let start = (orientation.isTransposed ? across * width + down : down * width + across) * channels
        for channel in 0..<channels { result.append(pixels[start + channel]) }
      }
    }
    return Image(width: columns, height: rows, channels: channels, pixels: result)
  }
}
