import DiTTensor

/// Why a safetensors file cannot be read, or a tensor of it, or written.
public struct SafetensorsError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The file as the caller named it.
  public let path: String
  /// The tensor that is wrong; nil when the file as a whole is.
  public let tensor: String?
  /// What was expected and what was found.
  public let problem: Problem

  /// An error about `tensor` of the file at `path`.
  public init(path: String, tensor: String? = nil, problem: Problem) {
    self.path = path
    self.tensor = tensor
    self.problem = problem
  }

  /// One line: the file, the tensor, what was expected, what was found.
  public var description: String {
    let file = Message.oneLine(path, limit: 1024)
    guard let tensor else { return "\(file): \(problem)" }
    return "\(file): tensor \(Message.oneLine(tensor)): \(problem)"
  }
}

extension SafetensorsError {
  /// What was expected and what was found. Offsets into the header count from its `{`, offsets of data from the first
  /// byte after the header.
  public enum Problem: Equatable, Sendable {
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
}

extension SafetensorsError.Problem: CustomStringConvertible {
  /// What was expected and what was found, on one line.
  public var description: String {
    switch self {
    case .tooShort(let size): "expected 8 bytes with the header's length, found a file of \(size)"
    case .headerTooLong(let length):
      "expected a header of at most \(SafetensorsHeader.maximumLength) bytes, found \(length)"
    case .headerBeyondFile(let length, let available): "expected a header of \(length) bytes, found \(available)"
    case .headerStart(nil): "expected a header that starts with '{', found an empty one"
    case .headerStart(let byte?): "expected a header that starts with '{', found \(Self.character(byte))"
    case .syntax(let offset, let expected, let found): "header byte \(offset): expected \(expected), found \(found)"
    case .numberTooLarge(let offset): "header byte \(offset): expected a number up to \(Int.max), found a larger one"
    case .invalidUTF8(let offset): "header byte \(offset): expected UTF-8, found a string that is not"
    case .duplicateKey(let key): "expected each key once, found \(Self.quote(key)) again"
    case .unknownField(let key): "expected dtype, shape and data_offsets, found the field \(Self.quote(key))"
    case .missingField(let key): "expected dtype, shape and data_offsets, found no \(key)"
    case .unknownDtype(let name): "expected a dtype of the format (F32, BF16, …), found \(Self.quote(name))"
    case .shapeTooLarge(let shape):
      "expected a size that fits \(Int.bitWidth) bits, found shape \(Message.shape(shape))"
    case .partialByte(let dtype, let shape):
      "expected whole bytes, found \(dtype.rawValue) of shape \(Message.shape(shape))"
    case .reversedOffsets(let start, let end): "expected data that ends after its start, found bytes \(start) to \(end)"
    case .sizeMismatch(let dtype, let shape, let expected, let found):
      "expected \(expected) bytes for \(dtype.rawValue) of shape \(Message.shape(shape)), found \(found)"
    case .hole(let expected, let found): "expected data from byte \(expected), found it from \(found): a hole"
    case .overlap(let expected, let found): "expected data from byte \(expected), found it from \(found): an overlap"
    case .dataSize(let expected, let found) where found < expected:
      "expected \(expected) bytes of data, found \(found): the file is cut off"
    case .dataSize(let expected, let found):
      "expected \(expected) bytes of data, found \(found): bytes that belong to no tensor"
    case .noSuchTensor: "expected in the file, found no tensor of that name"
    case .unreadableDtype(let expected, let found): "expected \(expected), found \(found.rawValue)"
    case .notWhole(let index, let found): "expected whole numbers, found \(found) at index \(index)"
    case .countMismatch(let expected, let found): "expected \(expected) elements, found \(found)"
    case .outOfRange(let index, let value, let dtype):
      "expected values that fit \(dtype.rawValue), found \(value) at index \(index)"
    }
  }

  /// A byte as a person reads it.
  static func character(_ byte: UInt8) -> String {
    (0x20..<0x7F).contains(byte) ? "'\(Character(Unicode.Scalar(byte)))'" : "byte 0x\(String(byte, radix: 16))"
  }

  private static func quote(_ text: String) -> String { "\"\(Message.oneLine(text, limit: 80))\"" }
}
