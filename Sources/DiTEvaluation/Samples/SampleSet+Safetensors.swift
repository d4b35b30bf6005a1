import DiTFiles
import DiTTensor

/// A tensor of a safetensors file, which stays there: each read widens what it needs.
private struct TensorStore: SampleStore {
  let file: SafetensorsFile
  let tensor: String
  let count: Int
  let depth: Int
  /// Bytes are read as x/127.5 − 1.
  let isBytes: Bool

  func read(from start: Int, into target: inout MutableSpan<Float>) throws(DiTError) {
    try file.copyNumbers(tensor, from: start * depth, into: &target)
    if isBytes { for i in target.indices { target[i] = Pixels.value(target[i]) } }
  }

  func releasePages() { file.releasePages(of: tensor) }
}

extension SampleSet {
  /// The tensors that may hold a safetensors file's samples, in the order in which they are sought.
  public enum Kind: String, CaseIterable, Sendable {
    /// Pixels, (N, C, H, W): floats in [−1, 1], or U8 read as x/127.5 − 1.
    case images
    /// Latents, (N, C, H, W): finite floats.
    case latents
    /// A sampler's output, (N, C, H, W): finite floats, pixels or latents.
    case samples
    /// Features from any source, (N, d): finite floats.
    case features
  }

  /// The samples of a safetensors file, with `labels` (N; whole numbers) where it has them.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - name: what errors call the set; by default the path.
  ///   - preferring: sought first, then the kinds in their order.
  /// - Throws: `DiTError`.
  public static func open(
    _ path: String, name: String? = nil, preferring: [Kind] = []
  ) throws -> (set: SampleSet, kind: Kind) {
    let file = try SafetensorsFile(contentsOf: path)
    guard let kind = (preferring + Kind.allCases).first(where: { file.entry(named: $0.rawValue) != nil }) else {
      throw DiTError(
        set: path, expected: "a tensor images, latents, samples or features",
        found: file.names.isEmpty ? "none" : file.names.prefix(8).joined(separator: ", "))
    }
    var set = try SampleSet(file, kind, name: name ?? path)
    let range = try set.check(.tensor(kind.rawValue), isImage: kind == .images)
    if kind == .images, let note = Pixels.note(range) { set.note = "\(path): tensor images: \(note)" }
    return (set, kind)
  }

  /// The `class_names` of a safetensors file's metadata, a JSON array of strings; nil where it has no such list.
  ///
  /// - Throws: `DiTError` where the file cannot be read.
  public static func classNames(of path: String) throws -> [String]? {
    let file = try SafetensorsFile(contentsOf: path)
    guard let text = file.metadata["class_names"] else { return nil }
    guard case .array(let values)? = try? JSONValue(parsing: Array(text.utf8), file: path) else { return nil }
    let names = values.compactMap { if case .string(let name) = $0 { name } else { nil } }
    return names.count == values.count ? names : nil
  }

  private init(_ file: SafetensorsFile, _ kind: Kind, name: String) throws {
    let (entry, part) = (try file.requireEntry(named: kind.rawValue), DiTError.Part.tensor(kind.rawValue))
    let extents = kind == .features ? "(N, d)" : "(N, C, H, W)"
    guard entry.shape.count == (kind == .features ? 2 : 4), entry.shape.allSatisfy({ $0 > 0 }) else {
      throw DiTError(set: file.path, part, expected: "\(extents), none of them 0", found: "shape \(entry.shape)")
    }
    let isBytes = entry.dtype == .u8 && kind == .images
    guard entry.dtype.isReadableFloat || isBytes else {
      throw DiTError(
        set: file.path, part, expected: "F32, F16, BF16\(kind == .images ? ", F64 or U8" : " or F64")",
        found: entry.dtype.rawValue)
    }
    let count = entry.shape[0]
    let store = TensorStore(
      file: file, tensor: kind.rawValue, count: count, depth: entry.count / count, isBytes: isBytes)
    var labels: [Int]?
    if file.entry(named: "labels") != nil {
      let (shape, values) = try file.integers("labels")
      guard shape == [count] else {
        throw DiTError(
          set: file.path, .tensor("labels"), expected: "(\(count)), one per sample", found: "shape \(shape)")
      }
      labels = values
    }
    self.init(name: name, shape: Array(entry.shape.dropFirst()), store: store, labels: labels)
  }
}
