import DiTTensor

/// What is wrong with a safetensors file, or a tensor of it. Offsets into the header count from its `{`, offsets of data from the first
/// byte after the header.
public enum SafetensorsProblem: Equatable, Sendable {
  /// The file is shorter than the eight bytes that hold the header's length.
  case tooShort(size: Int)
  /// The header claims to be longer than the format allows.
  case headerTooLong(length: UInt64)
  /// The header claims to be longer than what follows in the file.
  case headerBeyondFile(length: UInt64, available: Int)
  /// The header does not start with `{`; nil where it is empty.
  case headerStart(found: UInt8?)
  /// The header is not the JSON that the format describes.
  case syntax(offset: Int, expected: String, found: String)
  /// A number is larger than the largest `Int`.
  case numberTooLarge(offset: Int)
  /// A string starting at `offset` is not UTF-8.
  case invalidUTF8(offset: Int)
  /// A key stands twice: a tensor, a field of a tensor, or a key of `__metadata__`.
  case duplicateKey(String)
  /// A tensor has a field other than `dtype`, `shape` and `data_offsets`.
  case unknownField(String)
  /// A tensor lacks a field.
  case missingField(String)
  /// A dtype that the format does not know.
  case unknownDtype(String)
  /// The product of the extents and the element size does not fit an `Int`.
  case shapeTooLarge(shape: [Int])
  /// Elements smaller than a byte do not fill whole bytes.
  case partialByte(dtype: Dtype, shape: [Int])
  /// The end of the data lies before its start.
  case reversedOffsets(start: Int, end: Int)
  /// The offsets span another number of bytes than dtype and shape take.
  case sizeMismatch(dtype: Dtype, shape: [Int], expected: Int, found: Int)
  /// Bytes before the tensor belong to none.
  case hole(expectedStart: Int, found: Int)
  /// The tensor starts inside the one before it.
  case overlap(expectedStart: Int, found: Int)
  /// The file holds another number of data bytes than its tensors take: it is cut off, or something was appended.
  case dataSize(expected: Int, found: Int)

  /// The file has no such tensor.
  case noSuchTensor
  /// The tensor's dtype cannot be read as the kind of number asked for.
  case unreadableDtype(expected: String, found: Dtype)
  /// An element is not a whole number that fits an `Int`.
  case notWhole(index: Int, found: Double)
  /// The tensor does not have as many elements as the place it is read into.
  case countMismatch(expected: Int, found: Int)
  /// A whole number does not fit the dtype it is to be written as.
  case outOfRange(index: Int, value: Int, dtype: Dtype)
}

extension DiTError {
  /// A safetensors file, or a tensor of it, cannot be read or written.
  package init(file path: String, tensor: String? = nil, problem: SafetensorsProblem) {
    let words = problem.words
    self.init(
      .content, Subject(file: path, tensor.map { .tensor($0) }), expected: words.expected, found: words.found,
      place: words.place, note: words.note, cause: problem)
  }
}

extension SafetensorsProblem {
  /// What was expected and what was found; where in the header, and what else there is to say.
  fileprivate var words: (expected: String, found: String, place: String, note: String) {
    switch self {
    case .tooShort(let size): ("8 bytes with the header's length", "a file of \(size)", "", "")
    case .headerTooLong(let length):
      ("a header of at most \(SafetensorsHeader.maximumLength) bytes", "\(length)", "", "")
    case .headerBeyondFile(let length, let available): ("a header of \(length) bytes", "\(available)", "", "")
    case .headerStart(nil): ("a header that starts with '{'", "an empty one", "", "")
    case .headerStart(let byte?): ("a header that starts with '{'", "\(Self.character(byte))", "", "")
    case .syntax(let offset, let expected, let found): ("\(expected)", "\(found)", "header byte \(offset): ", "")
    case .numberTooLarge(let offset): ("a number up to \(Int.max)", "a larger one", "header byte \(offset): ", "")
    case .invalidUTF8(let offset): ("UTF-8", "a string that is not", "header byte \(offset): ", "")
    case .duplicateKey(let key): ("each key once", "\(Self.quote(key)) again", "", "")
    case .unknownField(let key): ("dtype, shape and data_offsets", "the field \(Self.quote(key))", "", "")
    case .missingField(let key): ("dtype, shape and data_offsets", "no \(key)", "", "")
    case .unknownDtype(let name): ("a dtype of the format (F32, BF16, …)", "\(Self.quote(name))", "", "")
    case .shapeTooLarge(let shape):
      ("a size that fits \(Int.bitWidth) bits", "shape \(Message.shape(shape))", "", "")
    case .partialByte(let dtype, let shape):
      ("whole bytes", "\(dtype.rawValue) of shape \(Message.shape(shape))", "", "")
    case .reversedOffsets(let start, let end): ("data that ends after its start", "bytes \(start) to \(end)", "", "")
    case .sizeMismatch(let dtype, let shape, let expected, let found):
      ("\(expected) bytes for \(dtype.rawValue) of shape \(Message.shape(shape))", "\(found)", "", "")
    case .hole(let expected, let found): ("data from byte \(expected)", "it from \(found)", "", ": a hole")
    case .overlap(let expected, let found): ("data from byte \(expected)", "it from \(found)", "", ": an overlap")
    case .dataSize(let expected, let found) where found < expected:
      ("\(expected) bytes of data", "\(found)", "", ": the file is cut off")
    case .dataSize(let expected, let found):
      ("\(expected) bytes of data", "\(found)", "", ": bytes that belong to no tensor")
    case .noSuchTensor: ("in the file", "no tensor of that name", "", "")
    case .unreadableDtype(let expected, let found): ("\(expected)", "\(found.rawValue)", "", "")
    case .notWhole(let index, let found): ("whole numbers", "\(found) at index \(index)", "", "")
    case .countMismatch(let expected, let found): ("\(expected) elements", "\(found)", "", "")
    case .outOfRange(let index, let value, let dtype):
      ("values that fit \(dtype.rawValue)", "\(value) at index \(index)", "", "")
    }
  }

  /// A byte as a person reads it.
  static func character(_ byte: UInt8) -> String {
    (0x20..<0x7F).contains(byte) ? "'\(Character(Unicode.Scalar(byte)))'" : "byte 0x\(String(byte, radix: 16))"
  }

  private static func quote(_ text: String) -> String { "\"\(Message.oneLine(text, limit: 80))\"" }
}
