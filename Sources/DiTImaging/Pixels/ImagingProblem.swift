import DiTFiles
import DiTTensor

/// What is wrong with an image that is read or written.
public enum ImagingProblem: Equatable, Sendable {
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

extension ImagingProblem {
  /// What is wrong, without the file.
  private var words: String {
    switch self {
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

  private var kind: DiTError.Kind {
    switch self {
    case .unreadable: .file
    case .unwritable: .output
    case .unencodable, .invalidText: .argument
    default: .content
    }
  }

  /// The error that a problem of the file at `path`, or of data in memory, is.
  fileprivate func error(_ path: String?, _ cause: FileProblem?) -> DiTError {
    let subject = path.map { DiTError.Subject(file: $0) } ?? DiTError.Subject(.entry("image data"))
    guard case .unrecognized(let found) = self else {
      return DiTError(kind, subject, problem: words, cause: cause ?? self as any Equatable & Sendable)
    }
    return DiTError(kind, subject, expected: "a PNG, a JPEG or a WebP", found: found, cause: self)
  }
}

extension DiTError {
  /// An image cannot be read or written: that of the file at `path`, or data in memory.
  ///
  /// - Parameter cause: what the system refuses, where it does.
  package init(image path: String?, _ problem: ImagingProblem, cause: FileProblem? = nil) {
    self = problem.error(path, cause)
  }

  /// What is wrong with the image that this error is about.
  package var imaging: ImagingProblem? { cause() }

  /// Whether image data end before the image does.
  package var isTruncatedImage: Bool { if case .truncated? = imaging { true } else { false } }

  /// The same error, of the file at `path`.
  package func at(_ path: String) -> DiTError { about(Subject(file: path)) }
}
