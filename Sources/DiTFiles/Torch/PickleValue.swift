/// A value of a pickle. Containers are places in the unpickler's tables, not references, so that a value that holds itself
/// does no harm, nothing needs recursion, and every value has the same few bytes.
enum PickleValue: Sendable {
  case none
  case bool(Bool)
  case integer(Int)
  /// A number whose value is not used: a float, or a whole number beyond `Int`.
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
