import DiTTensor

/// The tensors of a torch file's dictionary, and of those in it that hold state dicts, by dotted names.
struct TorchStateDict {
  /// Every tensor with its name, the words of the dictionaries that it stands in before it.
  private(set) var items: [(name: String, tensor: Int)] = []
  private let contents: TorchContents
  private var visits = 0
  private var entriesSeen = 0
  private var nameBytes = 0

  /// No tensor of a model has more extents; sizes of a claimed length are not copied beyond it. No name is longer.
  private static let maximumRank = 8
  private static let longestName = 1024
  private static let maximumVisits = 4096
  /// A dictionary may stand under many keys: what is looked at in all, and what the names take, is bounded beside that.
  private static let maximumEntries = 4 * Unpickler.maximumInstructions
  private static let maximumNameBytes = 64 << 20

  /// - Parameter choice: with ``TreeChoice/whole`` the root's own tensors alone, with ``TreeChoice/named(_:)`` also of
  ///   dictionaries under these keys.
  /// - Throws: `DiTError` when the root is not a dictionary, or has no tensors.
  init(_ contents: TorchContents, _ choice: TreeChoice) throws(DiTError) {
    self.contents = contents
    let pickle = contents.pickle
    guard case .dictionary(let root) = contents.root else {
      throw DiTError(
        file: pickle.path, expected: "a dictionary of tensors", found: pickle.description(contents.root))
    }
    var words: [String] = []
    if case .named(let names) = choice { words = names }
    try collect(root, prefix: "", depth: choice == .whole ? 0 : StateDictTrees.maximumDepth, also: words)
    guard !items.isEmpty else {
      let keys = pickle.dictionaries[root].prefix(9).map {
        Message.oneLine(Self.name($0.key, pickle) ?? $0.key.kind, limit: 60)
      }
      throw DiTError(
        file: pickle.path,
        expected: "a dictionary of tensors, or a training checkpoint with one under ema, model or the like",
        found: keys.isEmpty ? "an empty dictionary" : "one with the keys \(Message.list(keys) { $0 })")
    }
  }

  private static func name(_ key: PickleValue, _ pickle: Unpickler) -> String? {
    pickle.text(key, limit: longestName)
  }

  /// Takes up the tensors of dictionaries and lists under words for state dicts; where there are none, the dictionary's
  /// own. What stands beside them is passed over.
  private mutating func collect(
    _ dictionary: Int, prefix: String, depth: Int, also words: [String]
  ) throws(DiTError) {
    let pickle = contents.pickle
    try visit(entries: pickle.dictionaries[dictionary].count)
    let before = items.count
    for item in pickle.dictionaries[dictionary] where depth > 0 {
      guard let name = Self.name(item.key, pickle), StateDictTrees.isWord(name) || words.contains(name) else {
        continue
      }
      let inner = "\(prefix)\(name)."
      switch item.value {
      case .dictionary(let index): try collect(index, prefix: inner, depth: depth - 1, also: words)
      case .object(let index):
        if let index = pickle.objects[index].contents {
          try collect(index, prefix: inner, depth: depth - 1, also: words)
        }
      case .list(let index):
        try visit(entries: pickle.lists[index].count)
        for (place, value) in pickle.lists[index].enumerated() {
          if case .tensor(let tensor) = value { try add("\(inner)\(place)", tensor) }
        }
      default: break
      }
    }
    guard items.count == before else { return }
    var names: Set<ExactName> = []
    for item in pickle.dictionaries[dictionary] {
      if case .object(let index) = item.value, pickle.isTensor(index) {
        // Passed over, an optional tensor would be missed by nobody.
        throw failure(
          Self.name(item.key, pickle) ?? item.key.kind, "a storage of real or whole numbers",
          pickle.description(item.value))
      }
      guard case .tensor(let tensor) = item.value else { continue }
      guard let name = Self.name(item.key, pickle) else {
        throw DiTError(
          file: pickle.path, expected: "tensors' names of at most \(Self.longestName) bytes as keys",
          found: item.key.kind)
      }
      guard names.insert(ExactName(name)).inserted else { throw failure(name, "each name once", "it again") }
      try add(prefix + name, tensor)
    }
  }

  private mutating func visit(entries: Int) throws(DiTError) {
    visits += 1
    entriesSeen += entries
    guard visits <= Self.maximumVisits, entriesSeen <= Self.maximumEntries else {
      throw DiTError(
        file: contents.pickle.path, expected: "at most \(Self.maximumVisits) dictionaries with state dicts",
        found: "more")
    }
  }

  private mutating func add(_ name: String, _ tensor: Int) throws(DiTError) {
    guard items.count < Unpickler.maximumInstructions else {
      throw DiTError(
        file: contents.pickle.path, expected: "at most \(Unpickler.maximumInstructions) tensors", found: "more")
    }
    nameBytes += name.utf8.count
    guard nameBytes <= Self.maximumNameBytes else {
      throw DiTError(
        file: contents.pickle.path, expected: "tensors' names of at most \(Self.maximumNameBytes) bytes in all",
        found: "more")
    }
    items.append((name, tensor))
  }

  /// The tensors of a tree, each checked against its storage.
  ///
  /// - Throws: `DiTError` for tensors outside their storage, and more elements in all than the file, of `fileSize`
  ///   bytes, warrants.
  func entries(_ tree: StateDictTrees.Tree, fileSize: Int) throws(DiTError) -> [TorchFile.Entry] {
    var entries: [TorchFile.Entry] = []
    var room = fileSize
    entries.reserveCapacity(tree.items.count)
    for (name, index) in tree.items {
      let entry = try entry(name, contents.pickle.tensors[items[index].tensor])
      guard entry.count <= room else {
        throw failure(
          name, "at most \(fileSize) elements in all, as many as the file has bytes", "tensors that share more of them")
      }
      room -= entry.count
      entries.append(entry)
    }
    return entries
  }

  /// A tensor, checked against its storage.
  func entry(_ name: String, _ claim: TorchClaim) throws(DiTError) -> TorchFile.Entry {
    let storage = contents.pickle.storages[claim.storage]
    let (shape, strides) = (try integers(claim.shape, name), try integers(claim.strides, name))
    guard let dtype = storage.type.dtype else {
      throw failure(name, "real or whole numbers", "a torch.\(storage.type.rawValue)")
    }
    let range = try contents.range(storage)
    do throws(StridedLayout.Refusal) {
      let layout = try StridedLayout(shape: shape, strides: strides, offset: claim.offset, capacity: storage.count)
      return TorchFile.Entry(name: name, dtype: dtype, shape: shape, storage: range, layout: layout)
    } catch {
      throw failure(name, error.expected, error.found)
    }
  }

  private func integers(_ tuple: PickleRange, _ name: String) throws(DiTError) -> [Int] {
    let pickle = contents.pickle
    guard tuple.count <= Self.maximumRank else {
      throw failure(name, "at most \(Self.maximumRank) extents", "\(tuple.count)")
    }
    var values: [Int] = []
    for item in pickle.tuples[tuple.range] {
      guard case .integer(let value) = item else {
        throw failure(name, "sizes and strides in whole numbers", item.kind)
      }
      values.append(value)
    }
    return values
  }

  private func failure(_ name: String, _ expected: String, _ found: String) -> DiTError {
    DiTError(file: contents.pickle.path, .tensor(name), expected: expected, found: found)
  }
}

extension TorchContents {
  /// Keys under which training programs keep the arguments they were started with.
  private static let argumentKeys: Set<String> = [
    "args", "arguments", "hyper_parameters", "hparams", "config", "cfg", "model_args", "model_config", "train_args",
  ]

  /// What stands beside the state dicts by name: in the root, among the arguments that a training program was started with,
  /// and in a dictionary in these. The first of a name counts.
  var arguments: ProgramArguments {
    var arguments = ProgramArguments()
    func take(_ value: PickleValue, depth: Int) {
      let index: Int? =
        switch value {
        case .dictionary(let index): index
        case .object(let object): pickle.objects[object].contents
        default: nil
        }
      guard let index else { return }
      var inner: [PickleValue] = []
      for item in pickle.dictionaries[index].prefix(1024) {
        guard let name = pickle.text(item.key, limit: 64) else { continue }
        arguments.add(name, argument(item.value))
        if depth > 0, inner.count < 64 { inner.append(item.value) }
      }
      for value in inner { take(value, depth: depth - 1) }
    }
    guard case .dictionary(let root) = root else { return arguments }
    for item in pickle.dictionaries[root].prefix(1024) {
      guard let name = pickle.text(item.key, limit: 64) else { continue }
      arguments.add(name, argument(item.value))
      if Self.argumentKeys.contains(name) { take(item.value, depth: 1) }
    }
    return arguments
  }

  private func argument(_ value: PickleValue) -> ProgramArguments.Value? {
    switch value {
    case .integer(let number): .integer(number)
    case .real(let number): .real(number)
    case .string: pickle.text(value, limit: 256).map { .text($0) }
    default: nil
    }
  }
}

/// The arguments of the program that wrote a training checkpoint, such as `num_classes`.
public struct ProgramArguments: Equatable, Sendable {
  /// What an argument may be.
  public enum Value: Equatable, Sendable {
    case integer(Int)
    case real(Double)
    case text(String)
  }

  /// By name.
  public private(set) var values: [String: Value] = [:]

  public init() {}

  /// The first of a name counts.
  mutating func add(_ name: String, _ value: Value?) {
    if let value, values[name] == nil { values[name] = value }
  }

  /// A whole number; nil for what is none, or not there.
  public func integer(_ name: String) -> Int? {
    guard case .integer(let number) = values[name] else { return nil }
    return number
  }

  /// A number, whole or not.
  public func real(_ name: String) -> Double? {
    switch values[name] {
    case .integer(let number): Double(number)
    case .real(let number): number
    case .text, nil: nil
    }
  }

  /// A text.
  public func text(_ name: String) -> String? {
    guard case .text(let text) = values[name] else { return nil }
    return text
  }
}
