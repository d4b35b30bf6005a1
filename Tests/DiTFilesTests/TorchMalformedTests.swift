import DiTFiles
import DiTTensor
import Foundation
import Testing

/// A torch file that must be refused, and the line that says why.
struct MalformedTorch: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let bytes: [UInt8]
  let message: String

  init(_ name: String, _ bytes: [UInt8], _ message: String) {
    testDescription = name
    self.bytes = bytes
    self.message = message
  }

  init(_ name: String, _ archive: ZipBytes, _ message: String) { self.init(name, archive.bytes, message) }

  /// A pickle in a well-formed archive.
  init(_ name: String, pickle: [UInt8], _ message: String) { self.init(name, torchArchive(pickle), message) }

  /// The instructions of a pickle between PROTO and STOP; errors count from PROTO.
  init(_ name: String, run instructions: [UInt8], _ message: String) {
    self.init(name, pickle: Pickle.whole(instructions), message)
  }

  /// The dictionary `{"x": tensor}`.
  init(_ name: String, x tensor: [UInt8], _ message: String) { self.init(name, torchArchive(x: tensor), message) }
}

extension MalformedTorch {
  private static let zip = "expected a file of torch.save: a ZIP archive, or pickles as before torch 1.6, found "
  private static let whole = torchArchive()
  private static let wide = torchArchive(wide: true)
  private static let dataEnd = whole.directory
  private static let legacyMagic: [UInt8] = [
    0x80, 2, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, 0x2E,
  ]

  /// A file of torch before 1.6 with the dictionary `{"x": tensor}` of four floats.
  private static func legacy(
    little isLittle: Bool = true, keys: [String] = ["0"], size: [UInt8] = little(4, 8), data: Int = 0
  ) -> [UInt8] {
    let system = Pickle.dictionary([("little_endian", [isLittle ? 0x88 : 0x89])])
    let list: [UInt8] = [0x5D, 0x28] + keys.flatMap(Pickle.string) + [0x65]
    let pickles = [Pickle.integer(1001), system, Pickle.dictionary([("x", Pickle.tensor())]), list].map(Pickle.whole)
    return legacyMagic + pickles.joined() + size + [UInt8](repeating: 0, count: data)
  }

  private static func legacyEnd(_ count: Int) -> String {
    "storage 0: expected its size and as many elements of 4 bytes, found \(count) bytes: the file is cut off"
  }
  private static let pickleSize = Pickle.whole(Pickle.dictionary([("x", Pickle.tensor())])).count

  static let formats: [MalformedTorch] = [
    .init("no bytes", [UInt8](), zip + "a file of 0 bytes that begins with nothing"),
    .init("text", Array("weights!!".utf8), zip + "a file of 9 bytes that begins with 77 65 69 67 68 74 73 21"),
    .init("torch before 1.6, cut off", legacyMagic, "byte 15: expected STOP, found the pickle's end"),
    .init(
      "torch before 1.6, another version", legacyMagic + Pickle.whole(Pickle.integer(1002)),
      "version: expected 1001, found another"),
    .init(
      "torch before 1.6, big-endian", legacy(little: false), "byte order: expected little, found another"),
    .init("torch before 1.6, no storage's size", legacy(size: []), legacyEnd(0)),
    .init("torch before 1.6, a storage cut off", legacy(size: little(4, 8), data: 15), legacyEnd(23)),
    .init("torch before 1.6, a size that wraps", legacy(size: little(1 << 62 + 4, 8), data: 16), legacyEnd(24)),
    .init(
      "torch before 1.6, a storage of another size", legacy(size: little(3, 8), data: 16),
      "storage 0: expected 4 elements of F32, found 12 bytes"),
    .init(
      "torch before 1.6, keys of no storage", legacy(keys: ["1"]),
      "storages: expected keys of the pickle's storages, found another"),
    .init(
      "torch before 1.6, no keys", legacy(keys: []),
      "storage 0: expected a storage of the pickle, found no storage of that key"),
    .init(
      "plain pickle", Pickle.whole(Pickle.dictionary([])), zip + "a plain pickle, which torch.save does not write"),
    .init("two bytes", [0x50, 0x4B], "ZIP archive: expected at least the 22 bytes of its end record, found 2"),
    .init(
      "safetensors", fileBytes("{}"), zip + "a file of 10 bytes that begins with 02 00 00 00 00 00 00 00"),
  ]

  static let ends: [MalformedTorch] = [
    .init(
      "a byte appended", whole.bytes + [0],
      "ZIP archive: expected its end record in the last 22 bytes, found none: the file is cut off, or goes on"),
    .init(
      "a byte missing", whole.bytes.dropLast(),
      "ZIP archive: expected its end record in the last 22 bytes, found none: the file is cut off, or goes on"),
    .init(
      "a comment", whole.with(3, 2, at: whole.end + 20).bytes + [1, 2, 3],
      "ZIP archive: expected its end record in the last 22 bytes, found none: the file is cut off, or goes on"),
    .init("second disk", whole.with(1, 2, at: whole.end + 4), "ZIP archive: expected one disk, found several"),
    .init(
      "entries on another disk", whole.with(1, 2, at: whole.end + 8), "ZIP archive: expected one disk, found several"),
    .init(
      "directory longer than the file", whole.with(1 << 30, 4, at: whole.end + 12),
      "ZIP archive: expected a directory of at most \(whole.end) bytes, found 1073741824"),
    .init(
      "directory elsewhere", whole.with(dataEnd - 1, 4, at: whole.end + 16),
      "ZIP archive: expected a directory that ends at byte \(whole.end), where its end record begins, found "
        + "\(whole.end - dataEnd) bytes from byte \(dataEnd - 1)"),
    .init(
      "an entry too many", whole.with(3, 2, at: whole.end + 8).with(3, 2, at: whole.end + 10),
      "ZIP archive: expected at most 2 entries in \(whole.end - dataEnd) bytes, found 3"),
    .init(
      "65,534 entries", whole.with(0xFFFE, 2, at: whole.end + 8).with(0xFFFE, 2, at: whole.end + 10),
      "ZIP archive: expected at most 2 entries in \(whole.end - dataEnd) bytes, found 65534"),
    .init(
      "an entry not counted", whole.with(1, 2, at: whole.end + 8).with(1, 2, at: whole.end + 10),
      "ZIP archive: expected 1 entries in the directory, found 54 bytes more"),
    .init(
      "fields that refer to a record", whole.with(0xFFFF_FFFF, 4, at: whole.end + 16),
      "ZIP archive: expected a 64-bit end record, as the short one refers to it, found none"),
    .init(
      "64-bit record elsewhere", wide.with(wide.wideEnd - 1, 8, at: wide.wideEnd + 56 + 8),
      "ZIP archive: expected the 64-bit end record at byte \(wide.wideEnd), found it at byte \(wide.wideEnd - 1)"),
    .init(
      "64-bit record beyond 2^63", wide.with(-1, 8, at: wide.wideEnd + 56 + 8),
      "ZIP archive: expected the 64-bit end record at byte \(wide.wideEnd), found it at byte 2⁶³"),
    .init(
      "64-bit record on another disk", wide.with(1, 4, at: wide.wideEnd + 16),
      "ZIP archive: expected one disk, found several"),
    .init(
      "64-bit directory beyond 2^63", wide.with(.min, 8, at: wide.wideEnd + 48),
      "ZIP archive: expected a directory inside the file, found one beyond byte 2⁶³"),
    .init(
      "64-bit record that differs", wide.with(1, 8, at: wide.wideEnd + 40),
      "ZIP archive: expected two end records that agree, found two that differ"),
    .init(
      "2^62 entries",
      wide.with(1 << 62, 8, at: wide.wideEnd + 24).with(1 << 62, 8, at: wide.wideEnd + 32)
        .with(0xFFFF, 2, at: wide.end + 8).with(0xFFFF, 2, at: wide.end + 10),
      "ZIP archive: expected at most 2 entries in \(wide.wideEnd - wide.directory) bytes, found \(1 << 62)"),
  ]

  static let entries: [MalformedTorch] = [
    .init(
      "no record", whole.with(0, 4, at: whole.records[1]),
      "ZIP archive: expected a directory entry at byte 56 of the directory, found none"),
    .init(
      "record longer than the directory", whole.with(60_000, 2, at: whole.records[1] + 32),
      "ZIP archive: expected a directory entry of at most 54 bytes, found 60054"),
    .init(
      "name that is not UTF-8", whole.with(0xFF, 1, at: whole.records[0] + 46),
      "ZIP archive: expected entry names in UTF-8, found one that is not"),
    .init(
      "name without a character", ZipBytes([.init("", [])]),
      "ZIP archive: expected entry names in UTF-8, found an empty one"),
    .init(
      "a name twice", torchArchive(Pickle.whole(Pickle.dictionary([])), more: [.init("a/data/0", [])]),
      "entry a/data/0: expected each name once, found it again"),
    .init(
      "entry on another disk", whole.with(1, 2, at: whole.records[1] + 34),
      "entry a/data/0: expected one disk, found several"),
    .init(
      "deflated", whole.with(8, 2, at: whole.records[1] + 10).with(8, 2, at: whole.locals[1] + 8),
      "entry a/data/0: expected stored bytes, found compressed (method 8)"),
    .init(
      "unknown method", whole.with(99, 2, at: whole.records[0] + 10).with(99, 2, at: whole.locals[0] + 8),
      "entry a/data.pkl: expected stored bytes, found compressed (method 99)"),
    .init(
      "encrypted", whole.with(0x801, 2, at: whole.records[1] + 8).with(0x801, 2, at: whole.locals[1] + 6),
      "entry a/data/0: expected stored bytes, found encrypted"),
    .init(
      "stored in two sizes", whole.with(15, 4, at: whole.records[1] + 20),
      "entry a/data/0: expected one size, as it is stored, found 15 and 16 bytes"),
    .init(
      "64-bit size that is not there", whole.with(0xFFFF_FFFF, 4, at: whole.records[1] + 24),
      "entry a/data/0: expected its 64-bit sizes and place, found none that fit"),
    .init(
      "header beyond the data", whole.with(dataEnd - 29, 4, at: whole.records[1] + 42),
      "entry a/data/0: expected a local header before byte \(dataEnd), found it at byte \(dataEnd - 29)"),
    .init(
      "header elsewhere", whole.with(whole.locals[1] - 1, 4, at: whole.records[1] + 42),
      "entry a/data/0: expected its local header at byte \(whole.locals[1] - 1), found none"),
    .init(
      "another name in the header", whole.with(0x62, 1, at: whole.locals[1] + 30),
      "entry a/data/0: expected the same name in its local header, found another"),
    .init(
      "another method in the header", whole.with(8, 2, at: whole.locals[1] + 8),
      "entry a/data/0: expected the same method in its local header, found another"),
    .init(
      "encrypted says the header", whole.with(0x801, 2, at: whole.locals[1] + 6),
      "entry a/data/0: expected the same method in its local header, found another"),
    .init(
      "another size in the header", whole.with(15, 4, at: whole.locals[1] + 22),
      "entry a/data/0: expected the same sizes and checksum in its local header, found 15 for 16"),
    .init(
      "another checksum in the header", whole.with(0x1235, 4, at: whole.locals[1] + 14),
      "entry a/data/0: expected the same sizes and checksum in its local header, found 4661 for 4660"),
    .init(
      "data beyond the directory",
      whole.with(17, 4, at: whole.records[1] + 20).with(17, 4, at: whole.records[1] + 24),
      "entry a/data/0: expected data before byte \(dataEnd), found 17 bytes from byte \(dataEnd - 16)"),
    .init(
      "extra field beyond its bytes",
      { () -> ZipBytes in
        var archive = torchArchive()
        archive.bytes.replaceSubrange(
          archive.locals[1] + 38..<archive.locals[1] + 42, with: little(1, 2) + little(9, 2))
        return archive.with(4, 2, at: archive.locals[1] + 28)
          .with(12, 4, at: archive.records[1] + 20).with(12, 4, at: archive.records[1] + 24)
      }(), "entry a/data/0: expected extra fields inside its 4 bytes, found one that is longer"),
    .init(
      "overlapping entries",
      whole.with(pickleSize + 1, 4, at: whole.records[0] + 20).with(pickleSize + 1, 4, at: whole.records[0] + 24)
        .with(pickleSize + 1, 4, at: whole.locals[0] + 18).with(pickleSize + 1, 4, at: whole.locals[0] + 22),
      "entry a/data/0: expected it behind byte \(whole.locals[1] + 1), found it at byte \(whole.locals[1]): an overlap with "
        + "a/data.pkl"),
  ]

  static let archives: [MalformedTorch] = [
    .init(
      "no entries", ZipBytes([]),
      "ZIP archive: expected one …/data.pkl, as in a file of torch.save, found no entries"),
    .init(
      "another kind of archive", ZipBytes([.init("x.npy", [1]), .init("y.npy", [])]),
      "ZIP archive: expected one …/data.pkl, as in a file of torch.save, found x.npy, y.npy"),
    .init(
      "two pickles", ZipBytes([.init("a/data.pkl", []), .init("b/data.pkl", [])]),
      "ZIP archive: expected one …/data.pkl, as in a file of torch.save, found 2 of them"),
    .init(
      "TorchScript", torchArchive([], more: [.init("a/code/__torch__.py", [])]),
      "entry a/code/__torch__.py: expected a state dict, as torch.save writes it, found a TorchScript archive, which holds "
        + "code"),
    .init(
      "TorchScript's constants", torchArchive([], more: [.init("a/constants.pkl", [])]),
      "entry a/constants.pkl: expected a state dict, as torch.save writes it, found a TorchScript archive, which holds code"
    ),
    .init(
      "big-endian", torchArchive([], more: [.init("a/byteorder", Array("big".utf8))]),
      "entry a/byteorder: expected little, found big"),
    .init(
      "storage that is not there", x: Pickle.tensor(Pickle.storage("7")),
      "entry a/data/7: expected a storage of the pickle, found no such entry"),
    .init(
      "storage outside its folder", x: Pickle.tensor(Pickle.storage("../data.pkl")),
      "entry a/data/../data.pkl: expected a storage of the pickle, found no such entry"),
    .init(
      "storage of another size", x: Pickle.tensor(Pickle.storage(count: 5)),
      "entry a/data/0: expected 5 elements of F32, found 16 bytes"),
    .init(
      "storage of another type", x: Pickle.tensor(Pickle.storage("0", "HalfStorage")),
      "entry a/data/0: expected 4 elements of F16, found 16 bytes"),
    .init(
      "storage of a negative size", x: Pickle.tensor(Pickle.storage(count: -4)),
      "entry a/data/0: expected -4 elements of F32, found 16 bytes"),
    .init(
      "storage size that wraps to 16", x: Pickle.tensor(Pickle.storage(count: 1 << 62 + 4)),
      "entry a/data/0: expected \(1 << 62 + 4) elements of F32, found 16 bytes"),
  ]

  static let pickles: [MalformedTorch] = [
    .init("no instructions", pickle: [], "data.pkl byte 0: expected STOP, found the pickle's end"),
    .init("nothing at STOP", pickle: [0x80, 2, 0x2E], "data.pkl byte 2: expected one value at STOP, found 0"),
    .init("two values at STOP", run: [0x4E, 0x4E], "data.pkl byte 4: expected one value at STOP, found 2"),
    .init("open mark at STOP", run: [0x4E, 0x28], "data.pkl byte 4: expected one value at STOP, found 1"),
    .init(
      "bytes behind STOP", pickle: Pickle.whole([0x4E]) + [0x4E],
      "data.pkl byte 3: expected STOP at the end, found 1 bytes more"),
    .init(
      "protocol 6", pickle: [0x80, 6, 0x4E, 0x2E],
      "data.pkl byte 0: expected a pickle of protocol 2 to 5, found protocol 6"),
    .init(
      "protocol 1", pickle: [0x80, 1, 0x4E, 0x2E],
      "data.pkl byte 0: expected a pickle of protocol 2 to 5, found protocol 1"),
    .init(
      "protocol twice", run: [0x80, 2, 0x4E],
      "data.pkl byte 2: expected the protocol once, at the beginning, found it again"),
    .init(
      "os.system", run: Pickle.global("posix", "system") + Pickle.tuple([Pickle.string("true")]) + [0x52],
      "data.pkl byte 2: expected data, found posix.system, by which Python would run code: the file is refused"),
    .init(
      "os.system by protocol 4", run: Pickle.string("os") + Pickle.string("system") + [0x93],
      "data.pkl byte 20: expected data, found os.system, by which Python would run code: the file is refused"),
    .init(
      "eval", run: Pickle.global("builtins", "eval"),
      "data.pkl byte 2: expected data, found builtins.eval, by which Python would run code: the file is refused"),
    .init(
      "a name in place of tensors", run: Pickle.global("torch.serialization", "load"),
      "expected a dictionary of tensors, found the name torch.serialization.load"),
    .init(
      "a whole module", run: Pickle.global("models", "DiT") + [0x29, 0x81],
      "expected a dictionary of tensors, found an object of models.DiT"),
    .init(
      "name over two lines", run: Pickle.global("a\u{85}b", "c"),
      "expected a dictionary of tensors, found the name a\\u{85}b.c"),
    .init(
      "a name of 1025 bytes", run: Pickle.global("a", String(repeating: "b", count: 1025)),
      "data.pkl byte 2: expected names of at most 1024 bytes, found a longer one"),
    .init(
      "name without an end", run: Array("ctorch".utf8),
      "data.pkl byte 2: expected a name that ends with its line, found the pickle's end"),
    .init(
      "global that is not UTF-8", run: [0x63, 0xFF, 0x0A, 0x61, 0x0A],
      "data.pkl byte 2: expected names in UTF-8, found one that is not"),
    .init(
      "INST", run: Array("(iposix\nsystem\n".utf8),
      "data.pkl byte 3: expected an opcode of protocols 2 to 5, found INST, which is not read"),
    .init(
      "OBJ", run: [0x28, 0x6F], "data.pkl byte 3: expected an opcode of protocols 2 to 5, found OBJ, which is not read"),
    .init(
      "EXT1", run: [0x82, 1], "data.pkl byte 2: expected an opcode of protocols 2 to 5, found EXT1, which is not read"),
    .init(
      "DUP", run: [0x4E, 0x32], "data.pkl byte 3: expected an opcode of protocols 2 to 5, found DUP, which is not read"),
    .init("STACK_GLOBAL of nothing", run: [0x93], "data.pkl byte 2: expected 2 values on the stack, found 0"),
    .init(
      "STACK_GLOBAL of numbers", run: [0x4B, 1, 0x4B, 1, 0x93],
      "data.pkl byte 6: expected a module and a name, found a number and a number"),
    .init("MEMOIZE of nothing", run: [0x94], "data.pkl byte 2: expected 1 values on the stack, found 0"),
    .init("a frame cut off", pickle: [0x80, 4, 0x95, 1], "data.pkl byte 2: expected 8 bytes in the pickle, found 1"),
    .init(
      "bytes of 2⁶³", run: [0x8E] + little(.min, 8), "data.pkl byte 2: expected a length below 2⁶³, found a larger one"),
    .init(
      "text of an exabyte", run: [0x8D] + little(1 << 60, 8),
      "data.pkl byte 2: expected \(1 << 60) bytes in the pickle, found 1"),
    .init("pop of nothing", run: [0x30], "data.pkl byte 2: expected 1 values on the stack, found 0"),
    .init(
      "set items of a list", run: [0x5D, 0x28, 0x4E, 0x90], "data.pkl byte 5: expected a set to add to, found a list"),
    .init(
      "arguments by name that are none", run: [0x4E, 0x4E, 0x4E, 0x92],
      "data.pkl byte 5: expected arguments by name, found another value"),
    .init(
      "a view of a storage",
      run: Pickle.tuple([
        Pickle.string("storage"), Pickle.global("torch", "FloatStorage"), Pickle.string("0"), Pickle.string("cpu"),
        Pickle.integer(4), [0x4B, 1],
      ]) + [0x51], "data.pkl byte 62: expected a storage that is no view of another, found a view"),
    .init(
      "INT of protocol 0", run: Array("I01\n".utf8),
      "data.pkl byte 2: expected an opcode of protocols 2 to 5, found INT, which is not read"),
    .init(
      "no opcode", run: [0],
      "data.pkl byte 2: expected an opcode of protocols 2 to 5, found byte 0x0, which is not read"),
    .init("string cut off", run: [0x58] + little(50, 4), "data.pkl byte 2: expected 50 bytes in the pickle, found 1"),
    .init(
      "string of 4 GB", run: [0x58] + little(0xFFFF_FFFF, 4),
      "data.pkl byte 2: expected 4294967295 bytes in the pickle, found 1"),
    .init("number cut off", pickle: [0x80, 2, 0x4A, 1, 2], "data.pkl byte 2: expected 4 bytes in the pickle, found 2"),
    .init("long number cut off", run: [0x8A, 9, 1], "data.pkl byte 2: expected 9 bytes in the pickle, found 2"),
    .init("tuple of too much", run: [0x4E, 0x87], "data.pkl byte 3: expected 3 values on the stack, found 1"),
    .init("tuple without a mark", run: [0x4E, 0x74], "data.pkl byte 3: expected a mark on the stack, found none"),
    .init("below a mark", run: [0x4E, 0x28, 0x4E, 0x86], "data.pkl byte 5: expected 2 values on the stack, found 1"),
    .init(
      "nothing remembered", run: [0x68, 0], "data.pkl byte 2: expected one of the 0 values remembered, found number 0"),
    .init(
      "four billion remembered", run: [0x4E, 0x72] + little(0xFFFF_FFFF, 4),
      "data.pkl byte 3: expected number 0 to be remembered next, found number 4294967295"),
    .init("remembering nothing", run: [0x71, 0], "data.pkl byte 2: expected 1 values on the stack, found 0"),
    .init(
      "append to a tuple", run: [0x29, 0x4E, 0x61], "data.pkl byte 4: expected a list to append to, found a tuple of 0"),
    .init(
      "append to nothing", run: [0x28, 0x4E, 0x65], "data.pkl byte 4: expected a list to append to, found nothing"),
    .init(
      "item of a list", run: [0x5D, 0x4E, 0x4E, 0x73],
      "data.pkl byte 5: expected a dictionary to set items of, found a list"),
    .init(
      "item of nothing", run: [0x28, 0x4E, 0x4E, 0x75],
      "data.pkl byte 5: expected a dictionary to set items of, found nothing"),
    .init(
      "key without a value", run: [0x7D, 0x28, 0x4E, 0x75],
      "data.pkl byte 5: expected a value for each key, found a key without one"),
    .init(
      "call of a number", run: [0x4B, 1, 0x29, 0x52],
      "data.pkl byte 5: expected a name and its arguments, found a number and a tuple of 0"),
    .init(
      "call of a storage's type", run: Pickle.global("torch", "FloatStorage") + [0x29, 0x52],
      "data.pkl byte 23: expected a use that a state dict makes of torch.FloatStorage, found it with 0 arguments"),
    .init(
      "dictionary from a list", run: Pickle.global("collections", "OrderedDict") + Pickle.tuple([[0x5D]]) + [0x52],
      "data.pkl byte 30: expected a use that a state dict makes of collections.OrderedDict, found it with 1 arguments"),
    .init(
      "tensor as a new object", run: Pickle.global("torch._utils", "_rebuild_tensor_v2") + [0x29, 0x81],
      "data.pkl byte 36: expected a use that a state dict makes of torch._utils._rebuild_tensor_v2, found it with 0 arguments"
    ),
    .init(
      "attributes of a list", run: [0x5D, 0x7D, 0x62],
      "data.pkl byte 4: expected an object and its attributes, found a list and a dictionary"),
    .init(
      "persistent number", run: [0x4B, 1, 0x51],
      "data.pkl byte 4: expected 'storage', its type, key, location and size, found a number"),
    .init(
      "persistent module",
      run: Pickle.tuple([Pickle.string("module"), [0x4E], [0x4E], [0x4E], [0x4E]]) + [0x51],
      "data.pkl byte 19: expected 'storage', its type, key, location and size, found a tuple of 5"),
    .init(
      "tensor of too few arguments", run: Pickle.rebuild([Pickle.storage(), Pickle.integer(0)]),
      "data.pkl byte 106: expected a storage, an offset, sizes and strides for a tensor, found a storage, a number"),
    .init(
      "tensor of no storage", run: Pickle.rebuild([[0x4E], [0x4B, 0], [0x29], [0x29], [0x89], [0x7D]]),
      "data.pkl byte 44: expected a storage, an offset, sizes and strides for a tensor, found None, a number, a tuple of 0, "
        + "a tuple of 0, a truth value, a dictionary"),
    .init(
      "conjugate view", x: Pickle.tensor(more: [Pickle.dictionary([("conj", [0x88])])]),
      "data.pkl byte 179: expected a tensor without metadata (a conjugate or negative view), found a dictionary"),
    .init(
      "parameter of a number",
      run: Pickle.global("torch._utils", "_rebuild_parameter") + Pickle.tuple([[0x4E], [0x88], [0x7D]]) + [0x52],
      "data.pkl byte 40: expected a tensor and two more arguments for a parameter, found None, a truth value, a dictionary"
    ),
    .init(
      "half a million instructions", run: [UInt8](repeating: 0x4E, count: 1 << 19),
      "data.pkl byte 524289: expected at most 524288 instructions, found more"),
  ]

  private static let noTensors =
    "expected a dictionary of tensors, or a training checkpoint with one under ema, model or the like, found "

  static let dictionaries: [MalformedTorch] = [
    .init("a list", run: [0x5D], "expected a dictionary of tensors, found a list"),
    .init("a tensor alone", run: Pickle.tensor(), "expected a dictionary of tensors, found a tensor"),
    .init(
      "a namespace", run: Pickle.global("argparse", "Namespace") + [0x29, 0x81],
      "expected a dictionary of tensors, found an object of argparse.Namespace"),
    .init(
      "an empty dictionary", run: [0x7D],
      noTensors + "an empty dictionary"),
    .init(
      "no tensors", run: Pickle.dictionary([("epoch", [0x4B, 3]), ("state_dict", [0x7D])]),
      noTensors + "one with the keys epoch, state_dict"),
    .init(
      "a number for a name",
      run: [0x7D] + Pickle.string("a") + Pickle.tensor() + [0x73, 0x4B, 1] + Pickle.tensor() + [0x73],
      "expected tensors' names of at most 1024 bytes as keys, found a number"),
    .init(
      "a name that is not UTF-8", run: [0x7D, 0x55, 1, 0xFF] + Pickle.tensor() + [0x73],
      "expected tensors' names of at most 1024 bytes as keys, found a string"),
    .init(
      "a tensor's name twice", run: Pickle.dictionary([("x", Pickle.tensor()), ("x", Pickle.tensor())]),
      "tensor x: expected each name once, found it again"),
    .init(
      "no tensor in the section", run: Pickle.dictionary([("ema", Pickle.dictionary([("step", [0x4B, 7])]))]),
      noTensors + "one with the keys ema"),
    .init(
      "dictionaries in dictionaries, each twice",
      run: (0..<14).reduce(Pickle.dictionary([("x", Pickle.tensor())])) { inner, place in
        inner + [0x71, UInt8(place), 0x30, 0x7D]
          + ["ema", "model"].flatMap { Pickle.string($0) + [0x68, UInt8(place), 0x73] }
      }, "expected at most 4096 dictionaries with state dicts, found more"),
  ]

  static let tensors: [MalformedTorch] = [
    .init(
      "nine extents", x: Pickle.tensor(shape: [Int](repeating: 1, count: 9), strides: [Int](repeating: 1, count: 9)),
      "tensor x: expected at most 8 extents, found 9"),
    .init(
      "an extent that is no number",
      x: Pickle.rebuild([
        Pickle.storage(), Pickle.integer(0), Pickle.tuple([Pickle.string("4")]), Pickle.tuple([[0x4B, 1]]), [0x89],
        Pickle.hooks,
      ]), "tensor x: expected sizes and strides in whole numbers, found a string"),
    .init(
      "extents without strides", x: Pickle.tensor(shape: [2, 2], strides: [1]),
      "tensor x: expected a stride for each of 2 extents, found 1"),
    .init(
      "negative extent", x: Pickle.tensor(shape: [-4], strides: [1]),
      "tensor x: expected offset, extents and strides of 0 or more, found 0, [-4] and [1]"),
    .init(
      "negative stride", x: Pickle.tensor(offset: Pickle.integer(3), strides: [-1]),
      "tensor x: expected offset, extents and strides of 0 or more, found 3, [4] and [-1]"),
    .init(
      "negative offset", x: Pickle.tensor(offset: Pickle.integer(-1)),
      "tensor x: expected offset, extents and strides of 0 or more, found -1, [4] and [1]"),
    .init(
      "an element too many", x: Pickle.tensor(shape: [5]),
      "tensor x: expected elements inside the storage's 4, found offset 0, shape [5], strides [1]"),
    .init(
      "an offset too far", x: Pickle.tensor(offset: Pickle.integer(1)),
      "tensor x: expected elements inside the storage's 4, found offset 1, shape [4], strides [1]"),
    .init(
      "a stride too far", x: Pickle.tensor(shape: [2, 2], strides: [3, 1]),
      "tensor x: expected elements inside the storage's 4, found offset 0, shape [2, 2], strides [3, 1]"),
    .init(
      "an empty tensor outside", x: Pickle.tensor(offset: Pickle.integer(5), shape: [0], strides: [1]),
      "tensor x: expected elements inside the storage's 4, found offset 5, shape [0], strides [1]"),
    .init(
      "a number outside", x: Pickle.tensor(offset: Pickle.integer(4), shape: [], strides: []),
      "tensor x: expected elements inside the storage's 4, found offset 4, shape [], strides []"),
    .init(
      "extents whose product wraps to 0", x: Pickle.tensor(shape: [1 << 32, 1 << 32], strides: [0, 0]),
      "tensor x: expected a size that fits 64 bits, found shape [4294967296, 4294967296]"),
    .init(
      "strides whose sum wraps to 0",
      x: Pickle.tensor(shape: [2, 2, 2], strides: [.max, .max, 2]),
      "tensor x: expected elements inside the storage's 4, found offset 0, shape [2, 2, 2], strides "
        + "[9223372036854775807, 9223372036854775807, 2]"),
    .init(
      "strides whose product wraps to 0", x: Pickle.tensor(shape: [5], strides: [1 << 62]),
      "tensor x: expected elements inside the storage's 4, found offset 0, shape [5], strides [4611686018427387904]"),
    .init(
      "one element a billion times", x: Pickle.tensor(shape: [1 << 30], strides: [0]),
      "tensor x: expected at most \(torchArchive(x: Pickle.tensor(shape: [0], strides: [0])).bytes.count) elements in all, as "
        + "many as the file has bytes, found tensors that share more of them"),
  ]

  static let all = formats + ends + entries + archives + pickles + dictionaries + tensors
}

@Suite("Malformed torch files") struct TorchMalformedTests {
  @Test("A malformed .pt file is refused with the exact line, in memory and on disk", arguments: MalformedTorch.all)
  func isRefused(_ file: MalformedTorch) throws {
    let temporary = try TemporaryDirectory()
    let path = temporary("bad.pt")
    let error = #expect(throws: DiTError.self) { try TorchFile(bytes: file.bytes, path: path) }
    let line = error?.description ?? ""
    #expect(line == "\(path): \(file.message)")
    #expect(!line.contains("\n") && line.count < 500, "\(line)")
    guard !file.bytes.isEmpty else { return }
    try Data(file.bytes).write(to: URL(filePath: path))
    #expect(throws: try #require(error)) { try TorchFile(contentsOf: path) }
  }

  @Test("The malformed cases have names of their own")
  func malformedCasesDiffer() {
    #expect(MalformedTorch.all.count >= 40)
    #expect(Set(MalformedTorch.all.map(\.testDescription)).count == MalformedTorch.all.count)
  }

  /// Files that torch wrote and that are not state dicts.
  @Test(
    "Files that torch wrote and that are no state dicts are refused by reason",
    arguments: [
      ("tensor.pt", "expected a dictionary of tensors, found a tensor")
    ])
  func otherFilesOfTorchAreRefused(_ name: String, message: String) throws {
    let error = #expect(throws: DiTError.self) { try TorchFile(contentsOf: torchFixture(name)) }
    #expect(error?.description.contains("\(name): \(message)") == true)
  }

  /// A pickle beyond what is read is refused before it is copied.
  @Test("A pickle longer than the limit is refused before it is copied")
  func aLongPickleIsRefused() throws {
    let error = #expect(throws: DiTError.self) {
      try TorchFile(bytes: torchArchive([UInt8](repeating: 0x4E, count: 64 << 20 + 1)).bytes, path: "m")
    }
    #expect(error?.name == "entry a/data.pkl" && error?.found == "67108865")
  }

  /// A file cut anywhere is refused.
  @Test("A .pt file cut anywhere is refused", arguments: ["module", "legacy"])
  func everyPrefixIsRefused(_ name: String) throws {
    let whole = Array(try Data(contentsOf: URL(filePath: torchFixture("\(name).pt"))))
    #expect(throws: Never.self) { try TorchFile(bytes: whole, path: "whole") }
    let accepted = (0..<whole.count).filter { (try? TorchFile(bytes: Array(whole[..<$0]), path: "cut")) != nil }
    #expect(accepted.isEmpty, "lengths accepted: \(accepted.prefix(5)) of \(whole.count)")
  }

  /// A file with one byte changed is refused or read; nothing else happens.
  @Test(
    "A .pt file with one byte changed is refused or read, and does no harm",
    arguments: [("training", 0.5), ("legacy", 0.3), ("protocol5", 0.5)])
  func changedBytesDoNoHarm(_ name: String, share: Double) throws {
    let whole = Array(try Data(contentsOf: URL(filePath: torchFixture("\(name).pt"))))
    var refused = 0
    for i in whole.indices {
      for change: UInt8 in [0x01, 0x80] {
        var changed = whole
        changed[i] ^= change
        guard let file = try? TorchFile(bytes: changed, path: "changed") else {
          refused += 1
          continue
        }
        for entry in file.entries { _ = try? file.numbers(entry.name) }
      }
    }
    #expect(Double(refused) > share * Double(whole.count), "\(refused) of \(2 * whole.count) refused")
  }
}
