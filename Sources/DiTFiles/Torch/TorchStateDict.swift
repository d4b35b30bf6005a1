import DiTTensor

/// The dictionary of a torch file whose values are a model's tensors.
struct TorchStateDict {
  /// The key under which it stands; nil at the root.
  let section: String?
  private let items: [(key: PickleValue, value: PickleValue)]
  private let pickle: Unpickler

  /// No tensor of a model has more extents; sizes of a claimed length are not copied beyond it.
  private static let maximumRank = 8

  /// - Parameter sections: keys of a training checkpoint; the first that is there, with a dictionary, counts.
  /// - Throws: ``TorchFileError`` when `root` is neither a training checkpoint nor a dictionary of tensors.
  init(_ root: PickleValue, _ pickle: Unpickler, sections: [String]) throws(TorchFileError) {
    self.pickle = pickle
    guard case .dictionary(let index) = root else {
      throw TorchFileError(path: pickle.path, expected: "a dictionary of tensors", found: root.kind)
    }
    let items = pickle.dictionaries[index]
    for section in sections {
      if let inner = Self.dictionary(under: section, items, pickle) {
        self.section = section
        self.items = pickle.dictionaries[inner]
        return
      }
    }
    section = nil
    self.items = items
    guard items.contains(where: { if case .tensor = $0.value { true } else { false } }) else {
      let keys = Message.list(items.prefix(9).map { Self.name($0.key, pickle) ?? $0.key.kind }) { $0 }
      let others = sections.isEmpty ? "" : ", or a training checkpoint with \(sections.joined(separator: " or "))"
      throw TorchFileError(
        path: pickle.path, expected: "a dictionary of tensors\(others)",
        found: items.isEmpty ? "an empty dictionary" : "one with the keys \(keys)")
    }
  }

  private static func name(_ key: PickleValue, _ pickle: Unpickler) -> String? {
    guard case .string(let range) = key else { return nil }
    return pickle.text(range)
  }

  private static func dictionary(
    under section: String, _ items: [(key: PickleValue, value: PickleValue)], _ pickle: Unpickler
  ) -> Int? {
    for item in items where name(item.key, pickle) == section {
      if case .dictionary(let index) = item.value { return index }
    }
    return nil
  }

  /// Every tensor, checked against its storage.
  ///
  /// - Throws: ``TorchFileError`` for keys that are no names or stand twice, values that are no tensors, tensors outside their
  ///   storage, and more elements in all than the file, of `fileSize` bytes, warrants.
  func entries(fileSize: Int) throws(TorchFileError) -> [TorchFile.Entry] {
    var entries: [TorchFile.Entry] = []
    var names: Set<ExactName> = []
    var room = fileSize
    entries.reserveCapacity(items.count)
    for (key, value) in items {
      guard let name = Self.name(key, pickle) else {
        throw TorchFileError(path: pickle.path, expected: "tensors' names as keys", found: key.kind)
      }
      guard names.insert(ExactName(name)).inserted else { throw failure(name, "each name once", "it again") }
      guard case .tensor(let index) = value else {
        throw TorchFileError(path: pickle.path, item: "key \(name)", expected: "a tensor", found: value.kind)
      }
      let entry = try entry(name, pickle.tensors[index])
      guard entry.count <= room else {
        throw failure(
          name, "at most \(fileSize) elements in all, as many as the file has bytes", "tensors that share more of them")
      }
      room -= entry.count
      entries.append(entry)
    }
    return entries
  }

  private func entry(_ name: String, _ claim: TorchClaim) throws(TorchFileError) -> TorchFile.Entry {
    let storage = pickle.storages[claim.storage]
    let (shape, strides) = (try integers(claim.shape, name), try integers(claim.strides, name))
    do throws(StridedLayout.Refusal) {
      let layout = try StridedLayout(shape: shape, strides: strides, offset: claim.offset, capacity: storage.count)
      return TorchFile.Entry(name: name, dtype: storage.dtype, shape: shape, storage: storage.range, layout: layout)
    } catch {
      throw failure(name, error.expected, error.found)
    }
  }

  private func integers(_ tuple: PickleRange, _ name: String) throws(TorchFileError) -> [Int] {
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

  private func failure(_ name: String, _ expected: String, _ found: String) -> TorchFileError {
    TorchFileError(path: pickle.path, item: "tensor \(name)", expected: expected, found: found)
  }
}
