/// A value of a pickle. Containers are places in the unpickler's tables, not references, so that a value that holds itself
/// does no harm, nothing needs recursion, and every value has the same few bytes.
enum PickleValue: Sendable {
  case none
  case bool(Bool)
  case integer(Int)
  /// A number whose value nobody asks for: a float, or a whole number beyond `Int`.
  case number
  /// Bytes of the pickle, not yet known to be UTF-8.
  case string(PickleRange)
  /// Items of the table of tuples.
  case tuple(PickleRange)
  case list
  case set
  case dictionary(Int)
  /// Something inert: a namespace, whose attributes are not kept.
  case object
  case global(TorchGlobal)
  case storage(Int)
  case tensor(Int)

  /// What kind of value it is, for messages.
  var kind: String {
    switch self {
    case .none: "None"
    case .bool: "a truth value"
    case .integer, .number: "a number"
    case .string: "a string"
    case .tuple(let items): "a tuple of \(items.count)"
    case .list: "a list"
    case .set: "a set"
    case .dictionary: "a dictionary"
    case .object: "a namespace"
    case .global(let global): "the name \(global.name)"
    case .storage: "a storage"
    case .tensor: "a tensor"
    }
  }
}

/// A range of 32 bits, which is enough for pickles of the length that is read.
struct PickleRange: Sendable {
  let start, count: UInt32

  init(_ range: Range<Int>) {
    start = UInt32(range.lowerBound)
    count = UInt32(range.count)
  }

  var range: Range<Int> { Int(start)..<Int(start) + Int(count) }
}

/// The names that a pickle may refer to. They are data: what they stand for in Python is never run.
enum TorchGlobal: Equatable, Sendable {
  case orderedDict
  case rebuildTensor
  case rebuildParameter
  case namespace
  case storage(Dtype)

  private static let storages: [String: Dtype] = [
    "FloatStorage": .f32, "HalfStorage": .f16, "BFloat16Storage": .bf16, "DoubleStorage": .f64, "LongStorage": .i64,
    "IntStorage": .i32, "ShortStorage": .i16, "CharStorage": .i8, "ByteStorage": .u8, "BoolStorage": .bool,
    "ComplexFloatStorage": .c64,
  ]

  /// Nil for every other name.
  init?(module: String, name: String) {
    switch (module, name) {
    case ("collections", "OrderedDict"): self = .orderedDict
    case ("torch._utils", "_rebuild_tensor_v2"): self = .rebuildTensor
    case ("torch._utils", "_rebuild_parameter"): self = .rebuildParameter
    case ("argparse", "Namespace"): self = .namespace
    case ("torch", _):
      guard let dtype = Self.storages[name] else { return nil }
      self = .storage(dtype)
    default: return nil
    }
  }

  var name: String {
    switch self {
    case .orderedDict: "collections.OrderedDict"
    case .rebuildTensor: "torch._utils._rebuild_tensor_v2"
    case .rebuildParameter: "torch._utils._rebuild_parameter"
    case .namespace: "argparse.Namespace"
    case .storage(let dtype): "torch." + (Self.storages.first { $0.value == dtype }?.key ?? "")
    }
  }
}

/// A storage that a pickle names: where its elements lie.
struct TorchStorage: Sendable {
  let dtype: Dtype
  /// The number of elements.
  let count: Int
  /// In the file.
  let range: Range<Int>
}

/// What a pickle says about a tensor; nothing of it is checked but the kinds of value.
struct TorchClaim: Sendable {
  /// In the table of storages.
  let storage: Int
  let offset: Int
  /// In the table of tuples.
  let shape, strides: PickleRange
}

/// Opcodes of Python's pickles.
enum PickleOpcode: UInt8 {
  case proto = 0x80, stop = 0x2E
  case global = 0x63, reduce = 0x52, newObject = 0x81, build = 0x62
  case mark = 0x28, tuple = 0x74, tuple1 = 0x85, tuple2 = 0x86, tuple3 = 0x87
  case emptyTuple = 0x29, emptyList = 0x5D, emptyDictionary = 0x7D, emptySet = 0x8F
  case append = 0x61, appends = 0x65, setItem = 0x73, setItems = 0x75
  case none = 0x4E, newTrue = 0x88, newFalse = 0x89
  case binInt = 0x4A, binInt1 = 0x4B, binInt2 = 0x4D, long1 = 0x8A, binFloat = 0x47
  case binUnicode = 0x58, shortBinString = 0x55
  case binGet = 0x68, longBinGet = 0x6A, binPut = 0x71, longBinPut = 0x72
  case binPersistentID = 0x51

  /// What Python calls an opcode that is not read.
  static func refusedName(_ byte: UInt8) -> String {
    refused[byte] ?? SafetensorsError.Problem.character(byte)
  }

  private static let refused: [UInt8: String] = [
    0x30: "POP", 0x31: "POP_MARK", 0x32: "DUP", 0x42: "BINBYTES", 0x43: "SHORT_BINBYTES", 0x46: "FLOAT", 0x49: "INT",
    0x4C: "LONG", 0x50: "PERSID", 0x53: "STRING", 0x54: "BINSTRING", 0x56: "UNICODE", 0x64: "DICT", 0x67: "GET",
    0x69: "INST", 0x6C: "LIST", 0x6F: "OBJ", 0x70: "PUT", 0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4", 0x8B: "LONG4",
    0x8C: "SHORT_BINUNICODE", 0x8D: "BINUNICODE8", 0x8E: "BINBYTES8", 0x90: "ADDITEMS", 0x91: "FROZENSET",
    0x92: "NEWOBJ_EX", 0x93: "STACK_GLOBAL", 0x94: "MEMOIZE", 0x95: "FRAME", 0x96: "BYTEARRAY8", 0x97: "NEXT_BUFFER",
    0x98: "READONLY_BUFFER",
  ]
}
