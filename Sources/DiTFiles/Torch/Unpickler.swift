import DiTTensor

/// Reads the pickle of a torch file as data: a stack machine with the opcodes that `torch.save` needs and a handful of
/// names, each of which only ever makes a dictionary, a tensor's description or something inert. There is nothing in it
/// that could run code, whatever the bytes are; any other opcode or name ends the reading by an error that says which.
///
/// Each instruction takes at least a byte, pushes at most one value of 16 bytes and copies nothing of a length of its own
/// choosing; their number is bounded. So time and memory are bounded by the file, and by some tens of megabytes.
///
/// Lists, sets and the attributes of objects take part but are not kept: they are not used.
struct Unpickler {
  /// The longest pickle that is read, in bytes, and the most instructions: a training checkpoint of DiT-XL/2 has 43,000.
  static let maximumLength = 64 << 20
  static let maximumInstructions = 1 << 19

  /// Finds the storage of a key, with room for `count` elements.
  typealias StorageLookup = (_ key: String, _ dtype: Dtype, _ count: Int) throws(TorchFileError) -> Range<Int>

  let path: String
  private let bytes: LittleEndianBytes
  private let lookUp: StorageLookup
  private var offset = 0
  /// Where the instruction at hand begins, for errors.
  private var start = 0

  private var stack: [PickleValue] = []
  private var marks: [Int] = []
  private var memo: [PickleValue] = []
  private(set) var tuples: [PickleValue] = []
  private(set) var dictionaries: [[(key: PickleValue, value: PickleValue)]] = []
  private(set) var storages: [TorchStorage] = []
  private(set) var tensors: [TorchClaim] = []

  /// - Precondition: `bytes` are at most ``maximumLength``.
  init(_ bytes: [UInt8], path: String, storages lookUp: @escaping StorageLookup) {
    precondition(bytes.count <= Self.maximumLength, "a pickle of \(bytes.count) bytes")
    self.bytes = LittleEndianBytes(bytes: bytes)
    self.path = path
    self.lookUp = lookUp
  }

  /// The pickle's value; the tables then hold what it refers to.
  ///
  /// - Throws: ``TorchFileError``.
  mutating func load() throws(TorchFileError) -> PickleValue {
    var instructions = 0
    while true {
      start = offset
      guard offset < bytes.bytes.count else { throw failure("STOP", "the pickle's end") }
      guard instructions < Self.maximumInstructions else {
        throw failure("at most \(Self.maximumInstructions) instructions", "more")
      }
      instructions += 1
      let byte = bytes.bytes[offset]
      guard let opcode = PickleOpcode(rawValue: byte) else {
        throw failure("an opcode of a state dict", "\(PickleOpcode.refusedName(byte)), which is not read")
      }
      offset += 1
      if opcode == .stop { break }
      try run(opcode)
    }
    guard stack.count == 1, marks.isEmpty else { throw failure("one value at STOP", "\(stack.count)") }
    let rest = bytes.bytes.count - offset
    guard rest == 0 else { throw failure("STOP at the end", "\(rest) bytes more") }
    return stack[0]
  }

  func failure(_ expected: String, _ found: String) -> TorchFileError {
    TorchFileError(path: path, item: "data.pkl byte \(start)", expected: expected, found: found)
  }

  /// The text of a string.
  ///
  /// - Returns: nil where it is not UTF-8.
  func text(_ string: PickleRange) -> String? { String(validating: bytes.bytes[string.range], as: UTF8.self) }

  // MARK: Instructions

  private mutating func run(_ opcode: PickleOpcode) throws(TorchFileError) {
    switch opcode {
    case .proto: try checkProtocol()
    case .stop: break
    case .global: stack.append(.global(try global()))
    case .reduce, .newObject: try call(opcode)
    case .build: try build()
    case .mark: marks.append(stack.count)
    case .tuple: pushTuple(stack.count - (try popMark()))
    case .tuple1: try pushTuple(1, of: opcode)
    case .tuple2: try pushTuple(2, of: opcode)
    case .tuple3: try pushTuple(3, of: opcode)
    case .emptyTuple: pushTuple(0)
    case .emptyList: stack.append(.list)
    case .emptyDictionary: pushDictionary()
    case .emptySet: stack.append(.set)
    case .append:
      _ = try pop()
      try requireList()
    case .appends:
      stack.removeLast(stack.count - (try popMark()))
      try requireList()
    case .setItem: try setItems(from: try require(2))
    case .setItems: try setItems(from: try popMark())
    case .none: stack.append(.none)
    case .newTrue: stack.append(.bool(true))
    case .newFalse: stack.append(.bool(false))
    case .binInt: stack.append(.integer(Int(Int32(truncatingIfNeeded: bytes.uint32(try take(4))))))
    case .binInt1: stack.append(.integer(Int(bytes.bytes[try take(1)])))
    case .binInt2: stack.append(.integer(bytes.uint16(try take(2))))
    case .long1: stack.append(try long())
    case .binFloat:
      _ = try take(8)
      stack.append(.number)
    case .binUnicode: try pushString(bytes.uint32(try take(4)))
    case .shortBinString: try pushString(Int(bytes.bytes[try take(1)]))
    case .binGet: try get(Int(bytes.bytes[try take(1)]))
    case .longBinGet: try get(bytes.uint32(try take(4)))
    case .binPut: try put(Int(bytes.bytes[try take(1)]))
    case .longBinPut: try put(bytes.uint32(try take(4)))
    case .binPersistentID: try persistentID()
    }
  }

  /// The place of `count` bytes that belong to the instruction.
  private mutating func take(_ count: Int) throws(TorchFileError) -> Int {
    let available = bytes.bytes.count - offset
    guard count <= available else { throw failure("\(count) bytes in the pickle", "\(available)") }
    defer { offset += count }
    return offset
  }

  private mutating func checkProtocol() throws(TorchFileError) {
    let number = bytes.bytes[try take(1)]
    guard start == 0 else { throw failure("the protocol once, at the beginning", "it again") }
    guard number == 2 || number == 3 else {
      throw failure("pickle protocol 2, which torch.save writes unless told otherwise, or 3", "protocol \(number)")
    }
  }

  // MARK: The stack

  /// The lowest place that may be popped: what lies below a mark belongs to it.
  private var floor: Int { marks.last ?? 0 }

  /// Where the uppermost `count` values begin.
  private func require(_ count: Int) throws(TorchFileError) -> Int {
    let available = stack.count - floor
    guard count <= available else { throw failure("\(count) values on the stack", "\(available)") }
    return stack.count - count
  }

  private mutating func pop() throws(TorchFileError) -> PickleValue { stack.remove(at: try require(1)) }

  private mutating func popMark() throws(TorchFileError) -> Int {
    guard let mark = marks.popLast() else { throw failure("a mark on the stack", "none") }
    return mark
  }

  private mutating func pushTuple(_ count: Int) {
    let first = stack.count - count
    tuples.append(contentsOf: stack[first...])
    stack.removeLast(count)
    stack.append(.tuple(PickleRange(tuples.count - count..<tuples.count)))
  }

  private mutating func pushTuple(_ count: Int, of opcode: PickleOpcode) throws(TorchFileError) {
    _ = try require(count)
    pushTuple(count)
  }

  private mutating func pushDictionary() {
    stack.append(.dictionary(dictionaries.count))
    dictionaries.append([])
  }

  private mutating func pushString(_ count: Int) throws(TorchFileError) {
    let first = try take(count)
    stack.append(.string(PickleRange(first..<first + count)))
  }

  /// A whole number of up to 255 bytes, the sign in the last one.
  private mutating func long() throws(TorchFileError) -> PickleValue {
    let count = Int(bytes.bytes[try take(1)])
    let first = try take(count)
    guard count > 0 else { return .integer(0) }
    guard count <= 8 else { return .number }
    let sign: UInt64 = bytes.bytes[first + count - 1] & 0x80 == 0 ? 0 : ~0
    let bits = (0..<count).reversed().reduce(sign) { $0 << 8 | UInt64(bytes.bytes[first + $1]) }
    return .integer(Int(Int64(bitPattern: bits)))
  }

  // MARK: The memo

  private mutating func get(_ index: Int) throws(TorchFileError) {
    guard index < memo.count else { throw failure("one of the \(memo.count) values remembered", "number \(index)") }
    stack.append(memo[index])
  }

  /// Writers number what they remember without gaps, so no claimed number needs memory of its own.
  private mutating func put(_ index: Int) throws(TorchFileError) {
    let value = stack[try require(1)]
    guard index <= memo.count else { throw failure("number \(memo.count) to be remembered next", "number \(index)") }
    if index < memo.count { memo[index] = value } else { memo.append(value) }
  }

  // MARK: Containers

  private func requireList() throws(TorchFileError) {
    guard case .list = stack[try require(1)] else {
      throw failure("a list to append to", stack[stack.count - 1].kind)
    }
  }

  /// Moves the keys and values from `first` on to the dictionary before them.
  private mutating func setItems(from first: Int) throws(TorchFileError) {
    guard (stack.count - first).isMultiple(of: 2) else { throw failure("a value for each key", "a key without one") }
    guard first > floor, case .dictionary(let index) = stack[first - 1] else {
      throw failure("a dictionary to set items of", first > floor ? stack[first - 1].kind : "nothing")
    }
    for i in stride(from: first, to: stack.count, by: 2) {
      dictionaries[index].append((key: stack[i], value: stack[i + 1]))
    }
    stack.removeLast(stack.count - first)
  }

  // MARK: Names and what they make

  private mutating func line() throws(TorchFileError) -> String {
    guard let end = bytes.bytes[offset...].firstIndex(of: 0x0A) else {
      throw failure("a name that ends with its line", "the pickle's end")
    }
    defer { offset = end + 1 }
    guard let text = String(validating: bytes.bytes[offset..<end], as: UTF8.self) else {
      throw failure("names in UTF-8", "one that is not")
    }
    return text
  }

  private mutating func global() throws(TorchFileError) -> TorchGlobal {
    let (module, name) = (try line(), try line())
    guard let global = TorchGlobal(module: module, name: name) else {
      throw failure("a name that a state dict needs", "\(module).\(name), which is refused")
    }
    return global
  }

  /// What a name makes of a tuple of arguments.
  private mutating func call(_ opcode: PickleOpcode) throws(TorchFileError) {
    let first = try require(2)
    guard case .global(let global) = stack[first], case .tuple(let arguments) = stack[first + 1] else {
      throw failure("a name and its arguments", "\(stack[first].kind) and \(stack[first + 1].kind)")
    }
    stack.removeLast(2)
    switch (global, opcode) {
    case (.orderedDict, _) where arguments.count == 0: pushDictionary()
    case (.namespace, _) where arguments.count == 0: stack.append(.object)
    case (.rebuildTensor, .reduce): stack.append(try tensor(arguments.range))
    case (.rebuildParameter, .reduce): stack.append(try parameter(arguments.range))
    default:
      throw failure("a use that a state dict makes of \(global.name)", "it with \(arguments.count) arguments")
    }
  }

  /// Attributes of an object: an ordered dictionary's own, a namespace's. They are not used.
  private mutating func build() throws(TorchFileError) {
    let first = try require(2)
    switch (stack[first], stack[first + 1]) {
    case (.object, .dictionary), (.dictionary, .dictionary): stack.removeLast()
    default: throw failure("an object and its attributes", "\(stack[first].kind) and \(stack[first + 1].kind)")
    }
  }

  /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`.
  private mutating func tensor(_ arguments: Range<Int>) throws(TorchFileError) -> PickleValue {
    guard arguments.count == 6 || arguments.count == 7, case let a = tuples[arguments],
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

  /// `_rebuild_parameter(data, requires_grad, hooks)`: the data.
  private func parameter(_ arguments: Range<Int>) throws(TorchFileError) -> PickleValue {
    guard arguments.count == 3, case .tensor = tuples[arguments.lowerBound] else {
      let kinds = Message.list(Array(tuples[arguments])) { $0.kind }
      throw failure("a tensor and two more arguments for a parameter", kinds.isEmpty ? "nothing" : kinds)
    }
    return tuples[arguments.lowerBound]
  }

  /// `('storage', type, key, location, numel)`.
  private mutating func persistentID() throws(TorchFileError) {
    let id = try pop()
    guard case .tuple(let items) = id, items.count == 5, case let i = Int(items.start),
      case .string(let word) = tuples[i], text(word) == "storage",
      case .global(.storage(let dtype)) = tuples[i + 1], case .string(let keyRange) = tuples[i + 2],
      let key = text(keyRange), case .string = tuples[i + 3], case .integer(let count) = tuples[i + 4]
    else { throw failure("'storage', its type, key, location and size", id.kind) }
    let range = try lookUp(key, dtype, count)
    storages.append(TorchStorage(dtype: dtype, count: count, range: range))
    stack.append(.storage(storages.count - 1))
  }
}
