import DiTTensor

// What containers take up, and what names make of their arguments.

extension Unpickler {
  // MARK: Containers

  /// Moves the values from `first` on to the list before them; an object drops them.
  mutating func append(from first: Int) throws(DiTError) {
    let target = first > floor ? stack[first - 1] : nil
    switch target {
    case .list(let index)?: lists[index] += stack[first...]
    case .object?: break
    case let other: throw failure("a list to append to", other?.kind ?? "nothing")
    }
    stack.removeLast(stack.count - first)
  }

  /// Drops the values above the mark, which belong to the set below it.
  mutating func addItems() throws(DiTError) {
    let first = floor
    try dropToMark()
    switch first > floor ? stack[first - 1] : nil {
    case .set?, .object?: break
    case let other: throw failure("a set to add to", other?.kind ?? "nothing")
    }
  }

  /// Moves the keys and values from `first` on to the dictionary before them.
  mutating func setItems(from first: Int) throws(DiTError) {
    guard (stack.count - first).isMultiple(of: 2) else { throw failure("a value for each key", "a key without one") }
    let target: Int
    switch first > floor ? stack[first - 1] : nil {
    case .dictionary(let index)?: target = index
    case .object(let index)?: target = contents(of: index)
    case let other: throw failure("a dictionary to set items of", other?.kind ?? "nothing")
    }
    for i in stride(from: first, to: stack.count, by: 2) {
      dictionaries[target].append((key: stack[i], value: stack[i + 1]))
    }
    stack.removeLast(stack.count - first)
  }

  /// The dictionary of an object's items, made if need be.
  private mutating func contents(of object: Int) -> Int {
    if let contents = objects[object].contents { return contents }
    dictionaries.append([])
    objects[object].contents = dictionaries.count - 1
    return dictionaries.count - 1
  }

  /// Attributes: of an object they are kept where they have names, of a dictionary they are not.
  mutating func build() throws(DiTError) {
    let first = try require(2)
    switch (stack[first], stack[first + 1]) {
    case (.object(let index), .dictionary(let contents)):
      if objects[index].contents == nil { objects[index].contents = contents }
    case (.object, _), (.dictionary, .dictionary), (.dictionary, .tuple), (.dictionary, .none): break
    default: throw failure("an object and its attributes", "\(stack[first].kind) and \(stack[first + 1].kind)")
    }
    stack.removeLast()
  }

  // MARK: What names make

  /// What a name makes of a tuple of arguments. What is not known here is inert, whatever is done with it.
  mutating func call(_ opcode: PickleOpcode) throws(DiTError) {
    if opcode == .newObjectWithNames {
      guard case .dictionary = try pop() else { throw failure("arguments by name", "another value") }
    }
    let first = try require(2)
    guard case .tuple(let arguments) = stack[first + 1] else {
      throw failure("a name and its arguments", "\(stack[first].kind) and \(stack[first + 1].kind)")
    }
    let value: PickleValue
    switch stack[first] {
    case .global(let global): value = try make(global, arguments.range, opcode)
    case .name(let name): value = object(name)
    case .object(let index): value = object(objects[index].name)
    case let other: throw failure("a name and its arguments", "\(other.kind) and a tuple of \(arguments.count)")
    }
    stack.removeLast(2)
    stack.append(value)
  }

  private mutating func object(_ name: Int) -> PickleValue {
    objects.append(PickleObject(name: name, contents: nil))
    return .object(objects.count - 1)
  }

  private mutating func make(
    _ global: TorchGlobal, _ arguments: Range<Int>, _ opcode: PickleOpcode
  ) throws(DiTError) -> PickleValue {
    switch (global, opcode) {
    case (.orderedDict, _) where arguments.count == 0, (.defaultDict, _) where arguments.count <= 1:
      dictionaries.append([])
      return .dictionary(dictionaries.count - 1)
    case (.rebuildTensor, .reduce): return try tensor(arguments)
    case (.rebuildParameter, .reduce): return try parameter(arguments)
    case (.rebuildFromType, .reduce): return try typed(arguments)
    case (.size, _) where arguments.count == 1:
      if case .tuple = tuples[arguments.lowerBound] { return tuples[arguments.lowerBound] }
    default: break
    }
    throw failure("a use that a state dict makes of \(global.name)", "it with \(arguments.count) arguments")
  }

  /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`, or the first four alone.
  private mutating func tensor(_ arguments: Range<Int>) throws(DiTError) -> PickleValue {
    if let first = tuples[arguments].first, case .object = first { return first }  // a storage that is not known
    guard [4, 6, 7].contains(arguments.count), case let a = tuples[arguments],
      case let i = arguments.lowerBound, case .storage(let storage) = a[i], case .integer(let offset) = a[i + 1],
      case .tuple(let shape) = a[i + 2], case .tuple(let strides) = a[i + 3]
    else {
      let kinds = Message.list(Array(tuples[arguments])) { $0.kind }
      throw failure("a storage, an offset, sizes and strides for a tensor", kinds.isEmpty ? "nothing" : kinds)
    }
    if arguments.count == 7 {
      switch a[i + 6] {
      case .none: break
      case .dictionary(let index) where dictionaries[index].isEmpty: break
      default: throw failure("a tensor without metadata (a conjugate or negative view)", a[i + 6].kind)
      }
    }
    tensors.append(TorchClaim(storage: storage, offset: offset, shape: shape, strides: strides))
    return .tensor(tensors.count - 1)
  }

  /// `_rebuild_parameter(data, requires_grad, hooks[, state])`: the data.
  private func parameter(_ arguments: Range<Int>) throws(DiTError) -> PickleValue {
    if arguments.count == 3 || arguments.count == 4 {
      switch tuples[arguments.lowerBound] {
      case .tensor, .object: return tuples[arguments.lowerBound]
      default: break
      }
    }
    let kinds = Message.list(Array(tuples[arguments])) { $0.kind }
    throw failure("a tensor and two more arguments for a parameter", kinds.isEmpty ? "nothing" : kinds)
  }

  /// `_rebuild_from_type_v2(function, type, arguments, state)`: what the function makes.
  private mutating func typed(_ arguments: Range<Int>) throws(DiTError) -> PickleValue {
    guard arguments.count == 4, case .tuple(let inner) = tuples[arguments.lowerBound + 2] else {
      throw failure("a function, a type, arguments and a state for a tensor", "\(arguments.count) arguments")
    }
    switch tuples[arguments.lowerBound] {
    case .global(.rebuildTensor): return try tensor(inner.range)
    case .global(.rebuildParameter): return try parameter(inner.range)
    case .name(let name): return object(name)
    case let other: throw failure("a function, a type, arguments and a state for a tensor", other.kind)
    }
  }

  /// `('storage', type, key, location, numel)`, in the format before torch 1.6 with a sixth item, None; or
  /// `('module', class, …)`, which stands for the class.
  mutating func persistentID() throws(DiTError) {
    let id = try pop()
    guard case .tuple(let items) = id, items.count >= 2, case let i = Int(items.start) else {
      throw failure("'storage', its type, key, location and size", id.kind)
    }
    let word = text(tuples[i], limit: 16)
    switch tuples[i + 1] {
    case .name(let name) where word == "module":
      stack.append(.name(name))
      return
    case .name(let name) where word == "storage":
      stack.append(object(name))
      return
    default: break
    }
    guard word == "storage", items.count == 5 || items.count == 6, case .global(.storage(let type)) = tuples[i + 1],
      case .string(let key) = tuples[i + 2], key.count <= 1024, case .string = tuples[i + 3],
      case .integer(let count) = tuples[i + 4]
    else { throw failure("'storage', its type, key, location and size", id.kind) }
    if items.count == 6 {
      guard case .none = tuples[i + 5] else { throw failure("a storage that is no view of another", "a view") }
    }
    storages.append(TorchStorage(type: type, key: key, count: count))
    stack.append(.storage(storages.count - 1))
  }
}
