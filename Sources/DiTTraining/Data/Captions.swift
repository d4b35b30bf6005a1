import DiTFiles
import DiTTensor

/// A text for each sample of a data set.
public struct Captions: Equatable, Sendable {
  /// The texts' bytes, one after another.
  let bytes: [UInt8]
  /// Where each begins in `bytes`, and where the last ends.
  private let ends: [Int]

  /// The given texts.
  public init(_ texts: [String]) {
    var (bytes, ends): ([UInt8], [Int]) = ([], [0])
    for text in texts {
      bytes += text.utf8
      ends.append(bytes.count)
    }
    (self.bytes, self.ends) = (bytes, ends)
  }

  /// N.
  public var count: Int { ends.count - 1 }

  /// The text of sample `index`.
  public subscript(index: Int) -> String { String(decoding: bytes[range(index)], as: UTF8.self) }

  /// Where the bytes of sample `index` lie in `bytes`.
  func range(_ index: Int) -> Range<Int> { ends[index]..<ends[index + 1] }

  /// The tensor `captions`, (N, M) U8: UTF-8, zero-padded.
  ///
  /// - Throws: `DiTError` for another shape or type, and for what is not a text.
  public init(_ file: SafetensorsFile, count: Int) throws {
    let entry = try file.requireEntry(named: Self.tensor)
    guard entry.dtype == .u8, entry.shape.count == 2, entry.shape[0] == count else {
      let expected = "(\(count), M) of U8, one text per sample"
      throw DiTError(data: file.path, .tensor(Self.tensor), .shape(expected: expected, found: entry.shape))
    }
    let (rows, width) = (try file.withBytes(of: Self.tensor) { $0.array }, entry.shape[1])
    var texts: [String] = []
    for index in 0..<count {
      let row = rows[index * width..<(index + 1) * width]
      let text = row.prefix { $0 != 0 }
      guard row[text.endIndex...].allSatisfy({ $0 == 0 }), let string = String(validating: text, as: UTF8.self) else {
        throw DiTError(data: file.path, .tensor(Self.tensor), .notText(index: index))
      }
      texts.append(string)
    }
    self.init(texts)
  }

  static let tensor = "captions"
}
