/// The opcodes of Python's pickles that are read: those that Python writes by protocols 2 to 5, and no others.
enum PickleOpcode: UInt8 {
  case proto = 0x80
  case frame = 0x95
  case stop = 0x2E
  case global = 0x63
  case stackGlobal = 0x93
  case reduce = 0x52
  case newObject = 0x81
  case newObjectWithNames = 0x92
  case build = 0x62
  case mark = 0x28
  case pop = 0x30
  case popMark = 0x31
  case tuple = 0x74
  case tuple1 = 0x85
  case tuple2 = 0x86
  case tuple3 = 0x87
  case emptyTuple = 0x29
  case emptyList = 0x5D
  case emptyDictionary = 0x7D
  case emptySet = 0x8F
  case addItems = 0x90
  case frozenSet = 0x91
  case append = 0x61
  case appends = 0x65
  case setItem = 0x73
  case setItems = 0x75
  case none = 0x4E
  case newTrue = 0x88
  case newFalse = 0x89
  case binInt = 0x4A
  case binInt1 = 0x4B
  case binInt2 = 0x4D
  case long1 = 0x8A
  case long4 = 0x8B
  case binFloat = 0x47
  case binUnicode = 0x58
  case shortBinUnicode = 0x8C
  case binUnicode8 = 0x8D
  case binString = 0x54
  case shortBinString = 0x55
  case binBytes = 0x42
  case shortBinBytes = 0x43
  case binBytes8 = 0x8E
  case byteArray8 = 0x96
  case binGet = 0x68
  case longBinGet = 0x6A
  case binPut = 0x71
  case longBinPut = 0x72
  case memoize = 0x94
  case binPersistentID = 0x51

  /// What Python calls an opcode that is not read.
  static func refusedName(_ byte: UInt8) -> String {
    refused[byte] ?? SafetensorsProblem.character(byte)
  }

  private static let refused: [UInt8: String] = [
    0x32: "DUP", 0x46: "FLOAT", 0x49: "INT", 0x4C: "LONG", 0x50: "PERSID", 0x53: "STRING", 0x56: "UNICODE",
    0x64: "DICT", 0x67: "GET", 0x69: "INST", 0x6C: "LIST", 0x6F: "OBJ", 0x70: "PUT", 0x82: "EXT1", 0x83: "EXT2",
    0x84: "EXT4", 0x97: "NEXT_BUFFER", 0x98: "READONLY_BUFFER",
  ]
}
