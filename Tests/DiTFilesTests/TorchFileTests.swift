import DiTFiles
import DiTTensor
import Foundation
import Testing

@Suite("Reading torch .pt files") struct TorchFileTests {
  let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  /// Every tensor against the contiguous copy that torch itself made of it.
  @Test(
    "Every tensor of a .pt file equals the contiguous copy torch made of it",
    arguments: [
      ("plain", "", nil), ("module", "", nil), ("training", "ema.", "ema"), ("training", "model.", "model"),
      ("legacy", "", nil), ("protocol4", "", nil), ("protocol5", "", nil),
    ])
  func readsWhatTorchReads(_ name: String, prefix: String, section: String?) throws {
    let path = torchFixture("\(name).pt")
    let isPlain = ["legacy", "protocol4", "protocol5"].contains(name)
    let expected = try SafetensorsFile(contentsOf: torchFixture("\(isPlain ? "plain" : name).safetensors"))
    let choice = section.map { TreeChoice.named([$0]) } ?? .whole
    let mapped = try TorchFile(contentsOf: path, tree: choice)
    let inMemory = try TorchFile(
      bytes: Array(Data(contentsOf: URL(filePath: path))), path: "memory", tree: choice)
    let names = expected.names.filter { $0.hasPrefix(prefix) }
    for file in [mapped, inMemory] {
      #expect(file.tree == [section].compactMap(\.self))
      let readable = file.entries.map(\.name).filter { !$0.hasPrefix("other.") }
      #expect(Set(readable.map { prefix + $0 }) == Set(names) && readable.count == names.count)
      for name in readable {
        let entry = try #require(file.entry(named: name))
        let reference = try expected.requireEntry(named: prefix + name)
        #expect(entry.dtype == reference.dtype && entry.shape == reference.shape, "\(name)")
        #expect(try file.numbers(name) == expected.numbers(prefix + name), "\(name)")
        if entry.dtype.isReadableInteger {
          #expect(try file.integers(name).values == expected.integers(prefix + name).values, "\(name)")
          #expect(throws: DiTError.self) { try file.slice(name) }
        } else {
          let slice = try file.slice(name)
          let values = try expected.tensor(prefix + name)
          #expect(slice.array == values.elements, "\(name)")
          #expect(try file.tensor(name) == values, "\(name)")
        }
      }
    }
    #expect(mapped.keys.map(\.name) == mapped.entries.map(\.name) && mapped.path == path)
  }

  /// What is not copied: contiguous F32, shared or not; what is: everything else.
  @Test("Contiguous F32 is used in the mapped file, and everything else is copied")
  func contiguousFloatsAreMapped() throws {
    let file = try TorchFile(contentsOf: torchFixture("plain.pt"))
    let mapped = ["f32", "shared", "parameter", "frozen", "rows", "offset", "scalar", "element", "one"]
    for name in mapped { #expect(try !file.slice(name).buffer.isMutable, "\(name) is a view of the file") }
    for name in ["transposed", "columns", "every.other", "permuted", "reversed", "expanded", "f16", "bf16", "f64"] {
      #expect(try file.slice(name).buffer.isMutable, "\(name)")
    }
    #expect(file.entry(named: "f32")?.storage == file.entry(named: "transposed")?.storage, "one storage")
    #expect(file.entry(named: "transposed")?.isContiguous == false && file.entry(named: "rows")?.isContiguous == true)
    #expect(try file.slice("empty").count == 0)
  }

  @Test("Other dtypes and unknown names in a .pt file are refused by tensor")
  func dtypesThatCannotBeRead() throws {
    let file = try TorchFile(contentsOf: torchFixture("plain.pt"))
    let others = file.entries.filter { $0.name.hasPrefix("other.") }
    #expect(others.map(\.dtype) == [.bool, .i8, .i16, .c64])
    for entry in others {
      let error = #expect(throws: DiTError.self) { try file.numbers(entry.name) }
      #expect(error?.tensor == entry.name && error?.found == entry.dtype.rawValue)
    }
    let error = #expect(throws: DiTError.self) { try file.slice("i64") }
    #expect(error?.expected == "F32, F16, BF16 or F64" && error?.found == "I64")
    #expect(throws: DiTError.self) { try file.integers("f32") }
    let missing = #expect(throws: DiTError.self) { try file.slice("g32") }
    #expect(
      missing?.description.hasSuffix("plain.pt: tensor g32: expected in the file, found no tensor of that name") == true
    )
  }

  /// Passed over, an optional one such as a position table would be taken for missing.
  @Test("A tensor of a storage that is not known is refused by name")
  func unknownStorage() throws {
    let unknown = Pickle.tensor(Pickle.storage("0", "Float8_e4m3fnStorage"))
    let pickle = Pickle.whole(Pickle.dictionary([("x", Pickle.tensor()), ("pos_embed", unknown)]))
    let error = #expect(throws: DiTError.self) { try TorchFile(bytes: torchArchive(pickle).bytes, path: "m") }
    #expect(error?.tensor == "pos_embed" && error?.found == "an object of torch.Float8_e4m3fnStorage")
  }

  @Test("The average is preferred in a training checkpoint, and another section can be asked for")
  func sectionsOfATrainingCheckpoint() throws {
    let path = torchFixture("training.pt")
    let average = try TorchFile(contentsOf: path)
    #expect(average.tree == ["ema"] && average.isAverage, "the average is preferred")
    #expect(average.arguments.integer("num_classes") == 1000 && average.arguments.integer("image_size") == 256)
    #expect(try TorchFile(contentsOf: path, tree: .named(["none", "model"])).tree == ["model"])
    #expect(
      try TorchFile(contentsOf: path, tree: .trained).tensor("0.weight")
        != TorchFile(contentsOf: path, tree: .average).tensor("0.weight"))
    let error = #expect(throws: DiTError.self) { try TorchFile(contentsOf: path, tree: .named(["best"])) }
    #expect(
      error?.expected == "a tree under best" && error?.found == "weights under ema, model alone"
        && error?.name == "weights")
    // A tensor may be called like a section.
    let tensors = Pickle.whole(Pickle.dictionary([("ema", Pickle.tensor()), ("b", Pickle.tensor())]))
    let plain = try TorchFile(bytes: torchArchive(tensors).bytes, path: "m")
    #expect(plain.tree.isEmpty && plain.entries.map(\.name) == ["ema", "b"])
  }

  /// The short and the 64-bit form, bytes between entries, a protocol of its own, lists and sets beside the tensors.
  @Test("64-bit ZIP records, gaps between entries and lists beside the tensors are accepted")
  func archivesThatOthersWrite() throws {
    for wide in [false, true] {
      let file = try TorchFile(bytes: torchArchive(wide: wide).bytes, path: "m")
      #expect(try file.tensor("x") == Tensor(shape: [4], elements: [1, 2, 3, 4]))
    }
    let pickle = Pickle.whole(Pickle.dictionary([("x", Pickle.tensor(shape: [2, 2], strides: [1, 2]))]))
    let spaced = try TorchFile(
      bytes: torchArchive(pickle, more: [.init("a/byteorder", Array("little".utf8))], gap: 3).bytes, path: "m")
    #expect(try spaced.slice("x").array == [1, 3, 2, 4])
    // 64-bit sizes and place of an entry, in its record of the directory alone.
    let entry = torchArchive()
    var bytes = entry.bytes
    let (record, size) = (entry.records[1], entry.locals[1])
    let extra = little(1, 2) + little(24, 2) + little(16, 8) + little(16, 8) + little(size, 8)
    for (value, at, count) in [(~0, 20, 4), (~0, 24, 4), (~0, 42, 4), (extra.count, 30, 2)] {
      bytes.replaceSubrange(record + at..<record + at + count, with: little(value, count))
    }
    bytes.insert(contentsOf: extra, at: record + 46 + 8)
    let end = bytes.count - 22
    bytes.replaceSubrange(end + 12..<end + 16, with: little(end - entry.directory, 4))
    #expect(try TorchFile(bytes: bytes, path: "m").tensor("x").elements == [1, 2, 3, 4])
    // A list and a number in the optimizer's part, a dictionary that holds itself, a set.
    let rest: [UInt8] = [0x5D, 0x28, 0x4B, 1, 0x47, 0, 0, 0, 0, 0, 0, 0, 0, 0x65]
    let itself: [UInt8] = [0x7D, 0x71, 0] + Pickle.string("me") + [0x68, 0, 0x73]
    let checkpoint = Pickle.dictionary([
      ("opt", rest), ("loop", itself), ("set", [0x8F]), ("model", Pickle.dictionary([("x", Pickle.tensor())])),
    ])
    #expect(try TorchFile(bytes: torchArchive(Pickle.whole(checkpoint)).bytes, path: "m").tree == ["model"])
  }

  /// The first bytes decide, not the ending.
  @Test("The first bytes decide between safetensors and torch, not the file's ending")
  func formatsAreToldByTheirBytes() throws {
    let torch = directory("torch.safetensors")
    try FileManager.default.copyItem(atPath: torchFixture("plain.pt"), toPath: torch)
    let safetensors = directory("safetensors.pt")
    try FileManager.default.copyItem(atPath: fixture("dtypes.safetensors"), toPath: safetensors)
    #expect(try StateDictFile(contentsOf: torch).store is TorchFile)
    #expect(try StateDictFile(contentsOf: safetensors).store is SafetensorsFile)
    #expect(try StateDictFile(contentsOf: torchFixture("legacy.pt")).store is TorchFile)
    let text = directory("text.pt")
    try Data("weights".utf8).write(to: URL(filePath: text))
    let neither = #expect(throws: DiTError.self) { try StateDictFile(contentsOf: text) }
    #expect(
      neither?.description
        == "\(text): state dict: expected a safetensors file (a header that starts with '{') or a torch .pt file "
        + "(a ZIP archive, or a pickle), found a file of 7 bytes that begins with 77 65 69 67 68 74 73")
    #expect(throws: DiTError(file: directory("none"), .missing)) {
      try StateDictFile(contentsOf: directory("none"))
    }
  }
}
