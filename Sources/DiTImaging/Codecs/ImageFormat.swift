import DiTTensor

/// The kinds of file that are read.
public enum ImageFormat: String, Sendable, CustomStringConvertible {
  case png = "PNG"
  case jpeg = "JPEG"
  case webp = "WebP"

  public var description: String { rawValue }

  /// The format of a file by its first bytes; its name plays no part.
  ///
  /// A shorter beginning of a signature counts: such a file is truncated, not of another kind.
  /// - Throws: `DiTError` `.unrecognized` with what the bytes look like.
  public init(of data: [UInt8]) throws(DiTError) {
    func begins(_ signature: [UInt8]) -> Bool {
      data.prefix(signature.count).elementsEqual(signature.prefix(data.count))
    }
    guard !data.isEmpty else { throw DiTError(image: nil, .unrecognized("an empty file")) }
    if begins([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) {
      self = .png
    } else if begins([0xFF, 0xD8, 0xFF]) {
      self = .jpeg
    } else if data.count >= 4, begins(Array("RIFF".utf8)),
      data.dropFirst(8).prefix(4).elementsEqual("WEBP".utf8.prefix(max(0, data.count - 8)))
    {
      self = .webp
    } else {
      throw DiTError(image: nil, .unrecognized(Self.guess(data)))
    }
  }

  /// What a file of another kind is, for messages.
  private static func guess(_ data: [UInt8]) -> String {
    let heads: [(at: Int, text: String, name: String)] = [
      (0, "GIF8", "a GIF file"), (0, "BM", "a BMP file"), (0, "II*\0", "a TIFF file"),
      (0, "MM\0*", "a TIFF file"), (4, "ftypavi", "an AVIF file"), (4, "ftyphei", "a HEIC file"),
      (4, "ftypmif1", "a HEIC file"), (4, "jP  ", "a JPEG 2000 file"), (4, "JXL ", "a JPEG XL file"),
      (0, "%PDF", "a PDF file"), (0, "PK\u{3}\u{4}", "a ZIP file"), (0, "\0\0\u{1}\0", "an icon file"),
    ]
    for head in heads where data.dropFirst(head.at).starts(with: head.text.utf8) { return head.name }
    let sample = data.prefix(64)
    let isText = sample.allSatisfy { $0 >= 32 && $0 != 127 || 9...13 ~= $0 }
    return isText ? "a text file" : "bytes of another kind"
  }
}
