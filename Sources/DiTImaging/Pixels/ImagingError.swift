import DiTFiles

/// Why an image could not be read or written: one line that names the file where there is one.
public struct ImagingError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What went wrong.
  public enum Reason: Equatable, Sendable {
    /// The data is neither a PNG, a JPEG nor a WebP; what it is instead ("a GIF file", "empty", …).
    case unrecognized(String)
    /// The data ends before the image does.
    case truncated(ImageFormat)
    /// The data breaks its format, or uses a part of it that is not read; libpng's, libjpeg's or libwebp's words.
    case damaged(ImageFormat, String)
    /// The header claims more pixels than ``ImageLimits/pixels``. Nothing of that size was allocated.
    case tooManyPixels(width: Int, height: Int, maximum: Int)
    /// The header claims a side longer than ``ImageLimits/side``. Nothing of that size was allocated.
    case sideTooLong(width: Int, height: Int, maximum: Int)
    /// Decoding would need more than ``ImageLimits/memoryBytes``. Nothing of that size was allocated.
    case tooMuchMemory(bytes: Int, maximum: Int)
    /// A progressive JPEG has more scans than ``ImageLimits/scans``.
    case tooManyScans(maximum: Int)
    /// The file is larger than ``ImageLimits/fileBytes``. It was not read.
    case fileTooLarge(bytes: Int, maximum: Int)
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
  public var description: String { "\(path.map { FileName.shown($0) } ?? "image data"): \(words)" }

  /// What is wrong, without the file.
  public var words: String { Self.text(of: reason) }

  private static func text(of reason: Reason) -> String {
    switch reason {
    case .unrecognized(let found): "expected a PNG, a JPEG or a WebP, found \(found)"
    case .truncated(let format): "the \(format) is truncated: the data ends before the image does"
    case .damaged(let format, let words): "the \(format) is damaged or of a kind that is not read: \(words)"
    case .tooManyPixels(let width, let height, let maximum):
      "the header claims \(width)×\(height) pixels, more than the limit of \(maximum)"
    case .sideTooLong(let width, let height, let maximum):
      "the header claims \(width)×\(height) pixels; a side may have \(maximum)"
    case .tooMuchMemory(let bytes, let maximum):
      "decoding takes \(bytes) bytes of memory, more than the limit of \(maximum)"
    case .tooManyScans(let maximum): "the JPEG has more than \(maximum) scans"
    case .fileTooLarge(let bytes, let maximum): "a file of \(bytes) bytes, more than the limit of \(maximum)"
    case .unreadable(let words): "cannot be read: \(words)"
    case .unwritable(let words): "cannot be written: \(words)"
    case .unencodable(let words): "cannot be encoded as PNG: \(words)"
    case .invalidText(let key, let words): "the text entry \"\(key)\" cannot be stored in a PNG: \(words)"
    }
  }

  /// The same error, of the file at `path`.
  func at(_ path: String) -> ImagingError { ImagingError(path: path, reason) }
}
