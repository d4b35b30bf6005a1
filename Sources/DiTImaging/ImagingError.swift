/// Why an image could not be read or written: one line that names the file where there is one.
public struct ImagingError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What went wrong.
  public enum Reason: Equatable, Sendable {
    /// The data does not begin with the PNG signature.
    case notPNG
    /// The data ends before the image does.
    case truncated
    /// The data is a PNG that breaks the format; libpng's words (a checksum, a chunk, the compressed stream).
    case damaged(String)
    /// The header claims more pixels than the caller allows. Nothing of that size was allocated.
    case tooLarge(width: Int, height: Int, maximumPixels: Int)
    /// The file is larger than any PNG of the allowed number of pixels.
    case fileTooLarge(maximumBytes: Int)
    /// The operating system could not open or read the file; its words.
    case unreadable(String)
    /// The operating system could not write the file; its words. Nothing is left at the path that was not there before.
    case unwritable(String)
    /// The image could not be encoded; libpng's words.
    case unencodable(String)
    /// A text entry cannot be stored in a PNG.
    case invalidText(key: String, String)
  }

  /// The file, nil when the data came from or went to memory.
  public let path: String?
  /// What went wrong.
  public let reason: Reason

  /// An error of the file at `path`, or of data in memory.
  public init(path: String? = nil, _ reason: Reason) {
    self.path = path
    self.reason = reason
  }

  /// `path: reason`, on one line.
  public var description: String { "\(path ?? "PNG data"): \(Self.text(of: reason))" }

  private static func text(of reason: Reason) -> String {
    switch reason {
    case .notPNG: "not a PNG file (its first bytes are not the PNG signature)"
    case .truncated: "the PNG is truncated: the data ends before the image does"
    case .damaged(let words): "the PNG is damaged: \(words)"
    case .tooLarge(let width, let height, let maximum):
      "the PNG claims \(width)×\(height) pixels, more than the limit of \(maximum)"
    case .fileTooLarge(let maximum):
      "the file is larger than the \(maximum) bytes an image of the allowed size can need"
    case .unreadable(let words): "cannot be read: \(words)"
    case .unwritable(let words): "cannot be written: \(words)"
    case .unencodable(let words): "cannot be encoded as PNG: \(words)"
    case .invalidText(let key, let words): "the text entry \"\(key)\" cannot be stored in a PNG: \(words)"
    }
  }

  /// The same error, of the file at `path`.
  func at(_ path: String) -> ImagingError { ImagingError(path: path, reason) }
}
