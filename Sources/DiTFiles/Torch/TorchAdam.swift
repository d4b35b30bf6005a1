import DiTTensor

/// The state of torch's Adam or AdamW in a training checkpoint: what its next step needs besides the weights.
///
/// Optimizers number parameters and do not name them. The numbers are those of `parameters()`, which is the order of the
/// state dict of the weights in the same file where one parameter group holds them all; every moment's shape is compared
/// with its tensor's.
public struct TorchAdam: Sendable {
  /// Steps taken.
  public let steps: Int
  private let file: TorchFile

  /// What a file holds.
  public enum Reading: Sendable {
    /// No state of an optimizer.
    case none
    /// One that cannot be taken up, and why.
    case unknown(String)
    case state(TorchAdam)
  }

  /// Keys under which programs keep it.
  private static let keys = ["opt", "optimizer", "optimizer_state_dict", "optim", "optimizer_states"]

  private static let frozen = "pos_embed"

  /// - Throws: `DiTError` for a file that cannot be read.
  public static func read(contentsOf path: String) throws -> Reading {
    let file = try MappedFile(path: path)
    guard TorchFormat.isTorch(file.withBytes(0..<min(file.count, TorchFormat.length)) { $0.array }) else {
      return .none
    }
    return try read(.mapped(file), path: path)
  }

  /// Reads `bytes` as if they were a torch file; errors name it `path`.
  public static func read(bytes: [UInt8], path: String) throws(DiTError) -> Reading {
    try read(.memory(bytes), path: path)
  }

  private static func read(_ bytes: FileBytes, path: String) throws(DiTError) -> Reading {
    let contents = try TorchContents(bytes, path: path)
    guard case .dictionary(let root) = contents.root, let state = contents.optimizer(root, keys) else { return .none }
    let weights = try TorchStateDict(contents, .trained)
    let trees = StateDictTrees.trees(of: weights.items.map(\.name))
    guard let tree = StateDictTrees.chosen(.trained, of: trees) ?? trees.first else { return .none }
    var names = tree.items.map(\.name)
    guard let parameters = contents.parameters(state) else {
      return .unknown("its parameters are not one group of them all, so that their order is not known")
    }
    if parameters == names.count - 1, let place = names.firstIndex(of: frozen) { names.remove(at: place) }
    guard parameters == names.count else {
      return .unknown("it has \(parameters) parameters for \(names.count) tensors, so that their order is not known")
    }
    let claims = Dictionary(
      tree.items.map { ($0.name, weights.items[$0.index].tensor) }, uniquingKeysWith: { a, _ in a })
    var (entries, steps): ([TorchFile.Entry], Set<Int>) = ([], [])
    var room = bytes.count
    let states = contents.states(state)
    for (number, name) in names.enumerated() {
      guard let item = states[number].flatMap({ contents.moments($0) }) else {
        if name == frozen { continue }
        return .unknown("it has no moments of parameter \(number), \(name)")
      }
      let tensor = try weights.entry(name, contents.pickle.tensors[claims[name] ?? 0])
      for (key, claim) in [("m.\(name)", item.first), ("v.\(name)", item.second)] {
        let entry = try weights.entry(key, contents.pickle.tensors[claim])
        guard entry.shape == tensor.shape else {
          return .unknown(
            "moment \(number) has the shape \(Message.shape(entry.shape)), not \(Message.shape(tensor.shape)) as "
              + "\(Message.oneLine(name)), so that the order of the parameters is not known")
        }
        guard entry.dtype.isReadableFloat else { return .unknown("its moments are \(entry.dtype.rawValue)") }
        guard entry.count <= room else { return .unknown("its moments share more elements than the file has bytes") }
        room -= entry.count
        entries.append(entry)
      }
      switch item.steps {
      case .integer(let count): steps.insert(count)
      case .tensor(let claim):
        let entry = try weights.entry("step.\(name)", contents.pickle.tensors[claim])
        let scalar = TorchFile(bytes, path: path, entries: [entry])
        guard entry.count == 1, let value = try? scalar.numbers(entry.name).elements[0], let count = Int(exactly: value)
        else { return .unknown("its steps are no whole number") }
        steps.insert(count)
      default: return .unknown("its steps are no whole number")
      }
    }
    guard steps.count == 1, let count = steps.first, count > 0, count <= maximumSteps else {
      return .unknown("its parameters have taken different numbers of steps, or none")
    }
    return .state(TorchAdam(steps: count, file: TorchFile(bytes, path: path, entries: entries)))
  }

  private init(steps: Int, file: TorchFile) {
    (self.steps, self.file) = (steps, file)
  }

  /// The tensors that it has moments of.
  public var names: [String] {
    file.entries.compactMap { $0.name.hasPrefix("m.") ? String($0.name.dropFirst(2)) : nil }
  }

  /// Whether there are moments of the tensor `name` in this shape.
  public func has(_ name: String, shape: [Int]) -> Bool { file.entry(named: "m.\(name)")?.shape == shape }

  /// The first and second moment of the tensor `name`, `exp_avg` and `exp_avg_sq`, in row-major order.
  ///
  /// - Throws: `DiTError` where there is none, or they are not finite, or the second is below zero.
  public func moments(_ name: String) throws(DiTError) -> (first: FloatSlice, second: FloatSlice) {
    let (first, second) = (try file.slice("m.\(name)"), try file.slice("v.\(name)"))
    for (key, values) in [("exp_avg", first), ("exp_avg_sq", second)] {
      guard let bad = values.span.firstNotFinite else { continue }
      throw DiTError(
        file: file.path, .entry("\(key) of \(name)"), expected: "finite numbers",
        found: "\(values[bad]) at element \(bad)")
    }
    let squares = second.span
    if let bad = squares.indices.first(where: { squares[$0] < 0 }) {
      throw DiTError(
        file: file.path, .entry("exp_avg_sq of \(name)"), expected: "numbers of at least 0",
        found: "\(squares[bad]) at element \(bad)")
    }
    return (first, second)
  }

  /// More steps no run takes.
  public static let maximumSteps = 1 << 40
}

extension TorchContents {
  private func dictionary(_ value: PickleValue?) -> [(key: PickleValue, value: PickleValue)]? {
    switch value {
    case .dictionary(let index)?: pickle.dictionaries[index]
    case .object(let index)?: pickle.objects[index].contents.map { pickle.dictionaries[$0] }
    default: nil
    }
  }

  private func value(_ name: String, _ items: [(key: PickleValue, value: PickleValue)]) -> PickleValue? {
    items.first { pickle.text($0.key, limit: 64) == name }?.value
  }

  /// The optimizer's dictionary with `state` and `param_groups`.
  fileprivate func optimizer(_ root: Int, _ keys: [String]) -> [(key: PickleValue, value: PickleValue)]? {
    for key in keys {
      var found = value(key, pickle.dictionaries[root])
      if case .list(let index)? = found { found = pickle.lists[index].first }
      if let items = dictionary(found), value("param_groups", items) != nil,
        let state = dictionary(value("state", items)),
        !state.isEmpty
      {
        return items
      }
    }
    return nil
  }

  /// How many parameters there are; nil unless one group has them all, numbered from 0.
  fileprivate func parameters(_ optimizer: [(key: PickleValue, value: PickleValue)]) -> Int? {
    guard case .list(let groups)? = value("param_groups", optimizer), pickle.lists[groups].count == 1,
      let group = dictionary(pickle.lists[groups][0]), case .list(let list)? = value("params", group)
    else { return nil }
    let numbers = pickle.lists[list]
    for (place, number) in numbers.enumerated() {
      guard case .integer(place) = number else { return nil }
    }
    return numbers.count
  }

  /// What the optimizer keeps of each parameter, by the parameter's number; one without a gradient has nothing.
  fileprivate func states(_ optimizer: [(key: PickleValue, value: PickleValue)]) -> [Int: PickleValue] {
    var states: [Int: PickleValue] = [:]
    for (key, value) in dictionary(value("state", optimizer)) ?? [] {
      if case .integer(let number) = key, states[number] == nil { states[number] = value }
    }
    return states
  }

  /// A parameter's moments, in the table of tensors, and its steps: among the first keys of its state.
  fileprivate func moments(_ state: PickleValue) -> (first: Int, second: Int, steps: PickleValue)? {
    guard let items = dictionary(state).map({ Array($0.prefix(16)) }),
      case .tensor(let first)? = value("exp_avg", items),
      case .tensor(let second)? = value("exp_avg_sq", items), let steps = value("step", items)
    else { return nil }
    return (first, second, steps)
  }
}
