import DiTFiles
import DiTTensor

/// How a file of a model directory holds its weights: what its header says.
public struct WeightStorage: Equatable, Sendable {
  /// The file's name.
  public let file: String
  /// Bytes of each element type, the most first.
  public let bytes: [(dtype: Dtype, count: Int)]
  /// Of a file with int8 weights: those of the blocks' layers that an ``Int8Plan`` left in bf16, and the output's error that it
  /// measured.
  public let wide: [String]
  public let error: String?

  public static func == (a: WeightStorage, b: WeightStorage) -> Bool { a.text == b.text }

  /// One line.
  public var text: String {
    let formats = bytes.map { "\($0.dtype.rawValue) \(Self.megabytes($0.count))" }.joined(separator: ", ")
    let kept = wide.isEmpty ? "" : "; in bf16 \(wide.joined(separator: ", "))"
    return "\(file), \(formats)\(error.map { "; int8 makes an error of \($0)" } ?? "")\(kept)"
  }

  private static func megabytes(_ bytes: Int) -> String {
    let tenths = (bytes + 50_000) / 100_000
    return "\(tenths / 10).\(tenths % 10) MB"
  }

  init(_ file: SafetensorsFile, name: String) {
    self.file = name
    var counts: [Dtype: Int] = [:]
    for entry in file.header.entries { counts[entry.dtype, default: 0] += entry.byteRange.count }
    bytes = counts.map { ($0.key, $0.value) }.sorted { ($1.1, $0.0.rawValue) < ($0.1, $1.0.rawValue) }
    let names = file.metadata[Int8Plan.wideKey] ?? ""
    wide = names.isEmpty ? [] : names.split(separator: ",").map { String($0.drop { $0 == " " }) }
    error = file.metadata[Int8Plan.errorKey]
  }
}

extension ModelReference {
  /// How a model directory holds the weights that are chosen; nil for what is none, and for one without such a file.
  ///
  /// - Throws: `DiTError` where the file is not well-formed.
  public func storage(_ choice: WeightChoice = .emaPreferred) throws -> WeightStorage? {
    guard case .directory(let path) = self, ModelDirectory.isModel(path) else { return nil }
    guard let file = try? ModelDirectory(contentsOf: path).weightsPath(choice) else { return nil }
    return WeightStorage(try SafetensorsFile(contentsOf: file), name: Paths.name(of: file))
  }
}
