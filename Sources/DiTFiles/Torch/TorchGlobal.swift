/// The names of a pickle that mean something here. They are data: what they stand for in Python is never run.
enum TorchGlobal: Equatable, Sendable {
  case orderedDict
  case defaultDict
  case rebuildTensor
  case rebuildParameter
  /// What rebuilds a tensor with attributes of its own.
  case rebuildFromType
  case size
  case storage(TorchStorageType)

  /// Nil for every other name.
  init?(module: String, name: String) {
    switch (module, name) {
    case ("collections", "OrderedDict"): self = .orderedDict
    case ("collections", "defaultdict"): self = .defaultDict
    case ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor"): self = .rebuildTensor
    case ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state"):
      self = .rebuildParameter
    case ("torch._tensor", "_rebuild_from_type_v2"): self = .rebuildFromType
    case ("torch", "Size"): self = .size
    case ("torch", _), ("torch.storage", _):
      guard let type = TorchStorageType(rawValue: name) else { return nil }
      self = .storage(type)
    default: return nil
    }
  }

  var name: String {
    switch self {
    case .orderedDict: "collections.OrderedDict"
    case .defaultDict: "collections.defaultdict"
    case .rebuildTensor: "torch._utils._rebuild_tensor_v2"
    case .rebuildParameter: "torch._utils._rebuild_parameter"
    case .rebuildFromType: "torch._tensor._rebuild_from_type_v2"
    case .size: "torch.Size"
    case .storage(let type): "torch.\(type.rawValue)"
    }
  }

  /// Whether Python would run commands or other code by this name. Nothing runs here, but a file that asks for it is no
  /// checkpoint, and who has it should know.
  static func isRefused(module: String, name: String) -> Bool {
    if ["builtins", "__builtin__"].contains(module) { return runningBuiltins.contains(name) }
    return runningModules.contains(String(module.prefix { $0 != "." }))
  }

  private static let runningModules: Set<String> = [
    "asyncio", "bdb", "code", "codeop", "commands", "cProfile", "ctypes", "ftplib", "http", "httplib", "imaplib",
    "importlib", "marshal", "multiprocessing", "nt", "os", "pdb", "pickle", "_pickle", "pip", "popen2", "posix",
    "profile",
    "pty", "requests", "runpy", "shutil", "smtplib", "socket", "ssl", "subprocess", "sys", "tempfile", "timeit",
    "trace",
    "urllib", "urllib2", "venv", "webbrowser",
  ]

  private static let runningBuiltins: Set<String> = [
    "__import__", "breakpoint", "compile", "eval", "exec", "execfile", "exit", "file", "globals", "input", "locals",
    "open",
    "quit", "raw_input", "reload", "vars",
  ]
}

/// The element type of a storage, by torch's name for it.
enum TorchStorageType: String, Sendable {
  case float = "FloatStorage"
  case half = "HalfStorage"
  case bfloat16 = "BFloat16Storage"
  case double = "DoubleStorage"
  case long = "LongStorage"
  case int = "IntStorage"
  case short = "ShortStorage"
  case char = "CharStorage"
  case byte = "ByteStorage"
  case bool = "BoolStorage"
  case complexFloat = "ComplexFloatStorage"
  case complexDouble = "ComplexDoubleStorage"
  case quint8 = "QUInt8Storage"
  case qint8 = "QInt8Storage"
  case qint32 = "QInt32Storage"
  case untyped = "UntypedStorage"

  /// Nil for elements that have no type of their own here.
  var dtype: Dtype? {
    switch self {
    case .float: .f32
    case .half: .f16
    case .bfloat16: .bf16
    case .double: .f64
    case .long: .i64
    case .int: .i32
    case .short: .i16
    case .char: .i8
    case .byte: .u8
    case .bool: .bool
    case .complexFloat: .c64
    case .complexDouble, .quint8, .qint8, .qint32, .untyped: nil
    }
  }

  /// Bytes of an element.
  var size: Int {
    switch self {
    case .complexDouble: 16
    case .qint32: 4
    case .quint8, .qint8, .untyped: 1
    default: (dtype?.bitWidth ?? 8) / 8
    }
  }
}
