import DiTTensor

/// Reads a pickle of a torch file as data: a stack machine with the opcodes of protocols 2 to 5. A handful of names make a
/// dictionary or a tensor's description; every other name, and whatever is made with it, is inert: a value that is
/// carried along and not used. There is nothing in it that could run code, whatever the bytes are.
///
/// Each instruction takes at least a byte, pushes at most one value of 16 bytes and copies nothing of a length of its own
/// choosing; their number is bounded. So time and memory are bounded by the file, and by some tens of megabytes.
struct Unpickler {
  /// The longest pickle that is read, in bytes, and the most instructions: a training checkpoint of DiT-XL/2 has 43,000.
  static let maximumLength = 64 << 20
  static let maximumInstructions = 1 << 19

  let path: String
  /// What errors call the bytes: `data.pkl byte 7`.
  private let place: String
  private let bytes: LittleEndianBytes
  /// Where the pickle begins.
  private let origin: Int
  /// Where the next instruction begins; behind STOP when the pickle has been read.
  private(set) var offset: Int
  /// Where the instruction at hand begins, for errors.
  private var start: Int

  var stack: [PickleValue] = []
  private var marks: [Int] = []
  private var memo: [PickleValue] = []
  private(set) var tuples: [PickleValue] = []
  var lists: [[PickleValue]] = []
  var dictionaries: [[(key: PickleValue, value: PickleValue)]] = []
  var names: [PickleName] = []
  var objects: [PickleObject] = []
  var storages: [TorchStorage] = []
  var tensors: [TorchClaim] = []

  /// The pickle that begins at `start` of `bytes`.
  ///
  /// - Precondition: `bytes` are at most ``maximumLength``.
  init(_ bytes: [UInt8], from start: Int = 0, path: String, place: String = "data.pkl byte") {
    precondition(bytes.count <= Self.maximumLength, "a pickle of \(bytes.count) bytes")
    self.bytes = LittleEndianBytes(bytes: bytes)
    self.path = path
    self.place = place
    (origin, offset, self.start) = (start, start, start)
  }

  /// The pickle's value; the tables then hold what it refers to.
  ///
  /// - Throws: `DiTError`.
  mutating func load() throws(DiTError) -> PickleValue {
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
        throw failure("an opcode of protocols 2 to 5", "\(PickleOpcode.refusedName(byte)), which is not read")
      }
      offset += 1
      if opcode == .stop { break }
      try run(opcode)
    }
    guard stack.count == 1, marks.isEmpty else { throw failure("one value at STOP", "\(stack.count)") }
    return stack[0]
  }

  /// Throws unless the pickle ends with the bytes.
  func requireEnd() throws(DiTError) {
    let rest = bytes.bytes.count - offset
    guard rest == 0 else { throw failure("STOP at the end", "\(rest) bytes more") }
  }

  func failure(_ expected: String, _ found: String) -> DiTError {
    DiTError(file: path, .entry("\(place) \(start)"), expected: expected, found: found)
  }

  /// The text of a string.
  ///
  /// - Returns: nil where it is not UTF-8.
  func text(_ string: PickleRange) -> String? { String(validating: bytes.bytes[string.range], as: UTF8.self) }

  /// The text of a value that is a string of at most `limit` bytes; nil for any other.
  func text(_ value: PickleValue, limit: Int) -> String? {
    guard case .string(let range) = value, range.count <= limit else { return nil }
    return text(range)
  }

  /// What a value is, for messages: its kind, of an object its class.
  func description(_ value: PickleValue) -> String {
    switch value {
    case .object(let index): "an object of \(text(names[objects[index].name]))"
    case .name(let index): "the name \(text(names[index]))"
    default: value.kind
    }
  }

  /// Whether an object of a class that is not known is torch's tensor or storage, as of a type that is newer than this reader.
  func isTensor(_ object: Int) -> Bool {
    let name = text(names[objects[object].name])
    return name.hasPrefix("torch.") && (name.hasSuffix("Storage") || name.contains("._rebuild_"))
  }

  private func text(_ name: PickleName) -> String {
    let parts = [name.module, name.name].map { part in
      text(PickleRange(part.range.prefix(200))) ?? "…"
    }
    return parts.joined(separator: ".")
  }

  // MARK: Instructions

  private mutating func run(_ opcode: PickleOpcode) throws(DiTError) {
    switch opcode {
    case .proto: try checkProtocol()
    case .frame: _ = try take(8)
    case .stop: break
    case .global: try pushGlobal()
    case .stackGlobal: try pushStackGlobal()
    case .reduce, .newObject, .newObjectWithNames: try call(opcode)
    case .build: try build()
    case .mark: marks.append(stack.count)
    case .pop: try dropValue()
    case .popMark: try dropToMark()
    case .tuple: pushTuple(stack.count - (try popMark()))
    case .tuple1: try pushTuple(1, of: opcode)
    case .tuple2: try pushTuple(2, of: opcode)
    case .tuple3: try pushTuple(3, of: opcode)
    case .emptyTuple: pushTuple(0)
    case .emptyList:
      stack.append(.list(lists.count))
      lists.append([])
    case .emptyDictionary: pushDictionary()
    case .emptySet: stack.append(.set)
    case .addItems: try addItems()
    case .frozenSet:
      try dropToMark()
      stack.append(.set)
    case .append: try append(from: try require(1))
    case .appends: try append(from: try popMark())
    case .setItem: try setItems(from: try require(2))
    case .setItems: try setItems(from: try popMark())
    case .none: stack.append(.none)
    case .newTrue: stack.append(.bool(true))
    case .newFalse: stack.append(.bool(false))
    case .binInt: stack.append(.integer(Int(Int32(truncatingIfNeeded: bytes.uint32(try take(4))))))
    case .binInt1: stack.append(.integer(Int(bytes.bytes[try take(1)])))
    case .binInt2: stack.append(.integer(bytes.uint16(try take(2))))
    case .long1: stack.append(try long(Int(bytes.bytes[try take(1)])))
    case .long4: stack.append(try long(bytes.uint32(try take(4))))
    case .binFloat:
      let first = try take(8)
      let bits = (0..<8).reduce(UInt64(0)) { $0 << 8 | UInt64(bytes.bytes[first + $1]) }  // big-endian
      stack.append(.real(Double(bitPattern: bits)))
    case .binUnicode, .binString: try pushString(bytes.uint32(try take(4)))
    case .shortBinUnicode, .shortBinString: try pushString(Int(bytes.bytes[try take(1)]))
    case .binUnicode8: try pushString(try length())
    case .binBytes: try pushBytes(bytes.uint32(try take(4)))
    case .shortBinBytes: try pushBytes(Int(bytes.bytes[try take(1)]))
    case .binBytes8, .byteArray8: try pushBytes(try length())
    case .binGet: try get(Int(bytes.bytes[try take(1)]))
    case .longBinGet: try get(bytes.uint32(try take(4)))
    case .binPut: try put(Int(bytes.bytes[try take(1)]))
    case .longBinPut: try put(bytes.uint32(try take(4)))
    case .memoize: try put(memo.count)
    case .binPersistentID: try persistentID()
    }
  }

  /// The place of `count` bytes that belong to the instruction.
  private mutating func take(_ count: Int) throws(DiTError) -> Int {
    let available = bytes.bytes.count - offset
    guard count <= available else { throw failure("\(count) bytes in the pickle", "\(available)") }
    defer { offset += count }
    return offset
  }

  /// A length of eight bytes.
  private mutating func length() throws(DiTError) -> Int {
    guard let length = bytes.uint64(try take(8)) else { throw failure("a length below 2⁶³", "a larger one") }
    return length
  }

  private mutating func checkProtocol() throws(DiTError) {
    let number = bytes.bytes[try take(1)]
    guard start == origin else { throw failure("the protocol once, at the beginning", "it again") }
    guard (2...5).contains(number) else { throw failure("a pickle of protocol 2 to 5", "protocol \(number)") }
  }

  // MARK: The stack

  /// The lowest place that may be popped: what lies below a mark belongs to it.
  var floor: Int { marks.last ?? 0 }

  /// Where the uppermost `count` values begin.
  func require(_ count: Int) throws(DiTError) -> Int {
    let available = stack.count - floor
    guard count <= available else { throw failure("\(count) values on the stack", "\(available)") }
    return stack.count - count
  }

  mutating func pop() throws(DiTError) -> PickleValue { stack.remove(at: try require(1)) }

  /// POP takes a value, or the mark where there is none above it.
  private mutating func dropValue() throws(DiTError) {
    if stack.count == floor, !marks.isEmpty {
      marks.removeLast()
    } else {
      _ = try pop()
    }
  }

  private mutating func popMark() throws(DiTError) -> Int {
    guard let mark = marks.popLast() else { throw failure("a mark on the stack", "none") }
    return mark
  }

  /// Drops the mark and what lies above it.
  mutating func dropToMark() throws(DiTError) { stack.removeLast(stack.count - (try popMark())) }

  private mutating func pushTuple(_ count: Int) {
    let first = stack.count - count
    tuples.append(contentsOf: stack[first...])
    stack.removeLast(count)
    stack.append(.tuple(PickleRange(tuples.count - count..<tuples.count)))
  }

  private mutating func pushTuple(_ count: Int, of opcode: PickleOpcode) throws(DiTError) {
    _ = try require(count)
    pushTuple(count)
  }

  mutating func pushDictionary() {
    stack.append(.dictionary(dictionaries.count))
    dictionaries.append([])
  }

  private mutating func pushString(_ count: Int) throws(DiTError) {
    let first = try take(count)
    stack.append(.string(PickleRange(first..<first + count)))
  }

  private mutating func pushBytes(_ count: Int) throws(DiTError) {
    _ = try take(count)
    stack.append(.bytes)
  }

  /// A whole number of `count` bytes, the sign in the last one.
  private mutating func long(_ count: Int) throws(DiTError) -> PickleValue {
    let first = try take(count)
    guard count > 0 else { return .integer(0) }
    guard count <= 8 else { return .number }
    let sign: UInt64 = bytes.bytes[first + count - 1] & 0x80 == 0 ? 0 : ~0
    let bits = (0..<count).reversed().reduce(sign) { $0 << 8 | UInt64(bytes.bytes[first + $1]) }
    return .integer(Int(Int64(bitPattern: bits)))
  }

  // MARK: The memo

  private mutating func get(_ index: Int) throws(DiTError) {
    guard index < memo.count else { throw failure("one of the \(memo.count) values remembered", "number \(index)") }
    stack.append(memo[index])
  }

  /// Writers number what they remember without gaps, so no claimed number needs memory of its own.
  private mutating func put(_ index: Int) throws(DiTError) {
    let value = stack[try require(1)]
    guard index <= memo.count else { throw failure("number \(memo.count) to be remembered next", "number \(index)") }
    if index < memo.count { memo[index] = value } else { memo.append(value) }
  }

  // MARK: Names

  /// A line of text that ends with 0x0A, which is passed.
  private mutating func line() throws(DiTError) -> PickleRange {
    guard let end = bytes.bytes[offset...].firstIndex(of: 0x0A) else {
      throw failure("a name that ends with its line", "the pickle's end")
    }
    defer { offset = end + 1 }
    return PickleRange(offset..<end)
  }

  private mutating func pushGlobal() throws(DiTError) {
    try push(PickleName(module: try line(), name: try line()))
  }

  private mutating func pushStackGlobal() throws(DiTError) {
    let first = try require(2)
    guard case .string(let module) = stack[first], case .string(let name) = stack[first + 1] else {
      throw failure("a module and a name", "\(stack[first].kind) and \(stack[first + 1].kind)")
    }
    stack.removeLast(2)
    try push(PickleName(module: module, name: name))
  }

  private mutating func push(_ name: PickleName) throws(DiTError) {
    guard name.module.count <= 1024, name.name.count <= 1024 else {
      throw failure("names of at most 1024 bytes", "a longer one")
    }
    guard let module = text(name.module), let word = text(name.name) else {
      throw failure("names in UTF-8", "one that is not")
    }
    guard !TorchGlobal.isRefused(module: module, name: word) else {
      throw failure("data", "\(module).\(word), by which Python would run code: the file is refused")
    }
    if let global = TorchGlobal(module: module, name: word) {
      stack.append(.global(global))
    } else {
      stack.append(.name(names.count))
      names.append(name)
    }
  }
}
