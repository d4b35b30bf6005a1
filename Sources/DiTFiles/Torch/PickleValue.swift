/// A value of a pickle. Containers are places in the unpickler's tables, not references, so that a value that holds itself
/// does no harm, nothing needs recursion, and every value has the same few bytes.
enum PickleValue: Sendable {
  case none
  case bool(Bool)
  case integer(Int)
  case real(Double)
  /// A whole number beyond `Int`.
  case number
  /// Bytes of the pickle, not yet known to be UTF-8.
  case string(PickleRange)
  /// Python's bytes and byte arrays, whose contents are not used.
  case bytes
  /// Items of the table of tuples.
  case tuple(PickleRange)
  /// In the table of lists.
  case list(Int)
  case set
  case dictionary(Int)
  /// Something inert, in the table of objects.
  case object(Int)
  /// A name that means something here.
  case global(TorchGlobal)
  /// Any other name, in the table of names: whatever is made with it is an inert object.
  case name(Int)
  case storage(Int)
  case tensor(Int)

  /// What kind of value it is, for messages.
  var kind: String {
    switch self {
    case .none: "None"
    case .bool: "a truth value"
    case .integer, .real, .number: "a number"
    case .string: "a string"
    case .bytes: "bytes"
    case .tuple(let items): "a tuple of \(items.count)"
    case .list: "a list"
    case .set: "a set"
    case .dictionary: "a dictionary"
    case .object: "an object"
    case .global(let global): "the name \(global.name)"
    case .name: "a name"
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

/// A name of Python's: `module.name`. Text of the pickle, never looked up anywhere.
struct PickleName: Sendable {
  let module, name: PickleRange
}

/// Something inert that a name makes: a namespace, an enumeration's value, a path.
struct PickleObject: Sendable {
  /// In the table of names.
  let name: Int
  /// Its items or attributes, in the table of dictionaries; nil where it has none with names.
  var contents: Int?
}

/// A storage that a pickle names.
struct TorchStorage: Sendable {
  let type: TorchStorageType
  let key: PickleRange
  /// The number of elements.
  let count: Int
}

/// What a pickle says about a tensor; nothing of it is checked but the kinds of value.
struct TorchClaim: Sendable {
  /// In the table of storages.
  let storage: Int
  let offset: Int
  /// In the table of tuples.
  let shape, strides: PickleRange
}
