import DiTTensor

/// A file of `torch.save`, open to read: the tensors of a state dict, or of one of a training checkpoint's.
///
/// The file is a ZIP archive of plain bytes (see `ZipArchive`): a pickle that says what there is, and a storage an entry;
/// or of the format before torch 1.6 (see `LegacyTorchFile`). The pickle is read as data (see `Unpickler`); nothing of
/// it can run. Which of the dictionaries in it are state dicts, and which words of their names belong to wrappers, says
/// `StateDictTrees`. Opening reads the directory and the pickle; storages stay where they are. Every tensor's offset, sizes
/// and strides are checked against its storage's real size, and all tensors together may have no more elements than the
/// file has bytes, so that views of one another cannot ask for memory out of proportion.
///
/// Tensors may share storages, be views of them in any order, and be parameters. F32, F16, BF16 and F64 can be read as
/// real numbers; I64, I32 and U8 by ``numbers(_:)`` and ``integers(_:)``. The object is immutable; any number of threads
/// may read from it. About files that change while they are mapped see ``MappedFile``.
public final class TorchFile: Sendable {
  /// A tensor of the file.
  public struct Entry: Sendable {
    public let name: String
    public let dtype: Dtype
    /// The extents, outermost first; `[]` for a scalar.
    public let shape: [Int]
    /// The storage's bytes, counted from the start of the file.
    public let storage: Range<Int>
    let layout: StridedLayout

    /// The number of elements.
    public var count: Int { layout.count }
    /// Whether the elements lie one after the other in row-major order.
    public var isContiguous: Bool { layout.isContiguous }
  }

  /// The path as given.
  public let path: String
  /// The keys and the wrappers' words that lead to the state dict, the outermost first; none for a plain one.
  public let tree: [String]
  /// Whether one of them says that it is a moving average.
  public let isAverage: Bool
  /// The same words of every state dict of the file, whichever was read; the preferred one first.
  public let trees: [[String]]
  /// The tensors in the order of the dictionary.
  public let entries: [Entry]
  /// Those of the program that wrote a training checkpoint.
  public let arguments: ProgramArguments
  private let index: [ExactName: Int]
  private let bytes: FileBytes

  /// Opens the file at `path`.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - choice: which of a training checkpoint's state dicts is read.
  /// - Throws: `DiTError` when the file cannot be mapped, is not such a file, or has no such state dict.
  public convenience init(contentsOf path: String, tree choice: TreeChoice = .averagePreferred) throws {
    try self.init(.mapped(MappedFile(path: path)), path: path, tree: choice)
  }

  /// Reads `bytes` as if they were a file; errors name it `path`.
  public convenience init(
    bytes: [UInt8], path: String, tree choice: TreeChoice = .averagePreferred
  ) throws(DiTError) {
    try self.init(.memory(bytes), path: path, tree: choice)
  }

  init(_ bytes: FileBytes, path: String, tree choice: TreeChoice) throws(DiTError) {
    self.path = path
    self.bytes = bytes
    let contents = try TorchContents(bytes, path: path)
    let dictionary = try TorchStateDict(contents, choice)
    let names = dictionary.items.map(\.name)
    let trees =
      choice == .whole
      ? [StateDictTrees.Tree(path: [], items: names.enumerated().map { ($1, $0) })] : StateDictTrees.trees(of: names)
    guard let chosen = StateDictTrees.chosen(choice, of: trees) else {
      throw DiTError(
        file: path, .argument("weights"), expected: choice.expectation, found: StateDictTrees.found(trees))
    }
    (tree, isAverage) = (chosen.path, chosen.isAverage)
    self.trees = trees.map(\.path)
    entries = try dictionary.entries(chosen, fileSize: bytes.count)
    arguments = contents.arguments
    index = Dictionary(entries.indices.lazy.map { [entries] in (ExactName(entries[$0].name), $0) }) { first, _ in first
    }
  }

  /// Tensors that have been found and checked.
  init(_ bytes: FileBytes, path: String, entries: [Entry]) {
    self.path = path
    self.bytes = bytes
    self.entries = entries
    (tree, isAverage, trees, arguments) = ([], false, [], ProgramArguments())
    index = Dictionary(entries.indices.lazy.map { (ExactName(entries[$0].name), $0) }) { first, _ in first }
  }

  /// The tensor's dtype, shape and place; nil when there is none of that name.
  public func entry(named name: String) -> Entry? { index[ExactName(name)].map { entries[$0] } }

  // MARK: Elements

  /// The tensor `name`, of dtype F32, F16, BF16 or F64. Widening is exact, F64 rounds to the nearest Float.
  ///
  /// - Throws: `DiTError` when there is no such tensor or it has another dtype.
  public func tensor(_ name: String) throws(DiTError) -> Tensor {
    try tensor(readable(name, allowingIntegers: false))
  }

  /// The tensor `name`, of dtype F32, F16, BF16, F64, I64, I32 or U8, as real numbers.
  ///
  /// - Throws: `DiTError` when there is no such tensor or it has another dtype.
  public func numbers(_ name: String) throws(DiTError) -> Tensor {
    try tensor(readable(name, allowingIntegers: true))
  }

  /// Shape and elements of the tensor `name`, of dtype I64, I32 or U8.
  ///
  /// - Throws: `DiTError` when there is no such tensor or it has another dtype.
  public func integers(_ name: String) throws(DiTError) -> (shape: [Int], values: [Int]) {
    let entry = try readable(name, allowingIntegers: true)
    guard entry.dtype.isReadableInteger else { throw unreadable(entry, "I64, I32 or U8") }
    var values = [Int](repeating: 0, count: entry.count)
    bytes.withBytes(entry.storage) { storage in
      var target = values.mutableSpan
      for run in entry.layout.runs { Elements.read(storage, run, as: entry.dtype, into: &target) }
    }
    return (entry.shape, values)
  }

  /// The elements of the tensor `name`, of dtype F32, F16, BF16 or F64, in row-major order: in the mapped file where they
  /// lie there so as aligned Floats, which costs neither time nor memory, else read into new memory.
  ///
  /// - Throws: `DiTError` when there is no such tensor or it has another dtype.
  public func slice(_ name: String) throws(DiTError) -> FloatSlice {
    let entry = try readable(name, allowingIntegers: false)
    if let mapped = mappedFloats(entry), mapped.count > 0 { return mapped.slice }
    let slice = MutableFloatSlice(zeros: entry.count)
    var target = slice.mutableSpan
    read(entry, into: &target)
    return slice.reading
  }

  /// Where the elements lie as Floats that can be used in place.
  private func mappedFloats(_ entry: Entry) -> MappedFloats? {
    guard case .mapped(let file) = bytes, entry.dtype == .f32, entry.isContiguous else { return nil }
    let offset = entry.storage.lowerBound + entry.layout.offset * MemoryLayout<Float>.size
    guard file.isFloatAligned(offset) else { return nil }
    return MappedFloats(file: file, byteOffset: offset, count: entry.count)
  }

  private func tensor(_ entry: Entry) -> Tensor {
    var elements = [Float](repeating: 0, count: entry.count)
    var target = elements.mutableSpan
    read(entry, into: &target)
    return Tensor(shape: entry.shape, elements: elements)
  }

  private func read(_ entry: Entry, into target: inout MutableSpan<Float>) {
    let layout = entry.layout
    bytes.withBytes(entry.storage) { storage in
      if layout.isContiguous {
        let (size, offset) = (entry.dtype.bitWidth / 8, layout.offset)
        let elements = storage.extracting(offset * size..<(offset + layout.count) * size)
        Elements.read(elements, as: entry.dtype, into: &target)
      } else {
        for run in layout.runs { Elements.read(storage, run, as: entry.dtype, into: &target) }
      }
    }
  }

  private func readable(_ name: String, allowingIntegers: Bool) throws(DiTError) -> Entry {
    guard let entry = entry(named: name) else {
      throw DiTError(file: path, .tensor(name), expected: "in the file", found: "no tensor of that name")
    }
    guard entry.dtype.isReadableFloat || allowingIntegers && entry.dtype.isReadableInteger else {
      throw unreadable(entry, "F32, F16, BF16\(allowingIntegers ? ", F64, I64, I32 or U8" : " or F64")")
    }
    return entry
  }

  private func unreadable(_ entry: Entry, _ expected: String) -> DiTError {
    DiTError(file: path, .tensor(entry.name), expected: expected, found: entry.dtype.rawValue)
  }
}

extension TorchFile: TensorStore {
  public var keys: [StateDict.Key] { entries.map { (name: $0.name, shape: $0.shape) } }

  public func shape(of name: String) -> [Int]? { entry(named: name)?.shape }
}
