import DiTFiles
import DiTTensor
import Foundation
import Testing

/// What ``TorchWriter`` writes, read again by ``TorchFile``; that torch.load reads it, too, is checked outside the repository.
@Suite("torch files, written") struct TorchWriterTests {
  private static var tensors: [TensorSource] {
    [
      TensorSource("a", Tensor(shape: [2, 3], elements: [1, -2, 3.5, 4, .pi, 6])),
      TensorSource("b", Tensor(shape: [5], elements: [1, 1.00390625, -3, 0, 65504]), as: .bf16),
      TensorSource("c", Tensor(shape: [], elements: [0.5]), as: .f16),
      TensorSource("d", Tensor(shape: [0, 4], elements: [])),
    ]
  }

  private static var root: TorchWriter.Value {
    .dictionary([
      ("model", .stateDict([("net.a", 0), ("net.b", 1), ("net.c", 2), ("net.d", 3)])),
      ("model_ema1", .stateDict([("net.a", 0), ("net.b", 1)])),
      ("nothing", .none), ("epoch", .integer(300)),
      (
        "args",
        .dictionary([
          ("model", .text("JiT-B/16")), ("class_num", .integer(7)), ("seed", .integer(-3)), ("many", .integer(1 << 40)),
          ("noise_scale", .real(-0.1)), ("is", .bool(true)), ("is_not", .bool(false)), ("empty", .dictionary([])),
        ])
      ),
    ])
  }

  @Test("Tensors of every format, shared ones too, and arguments come back exactly")
  func roundTrip() throws {
    let temporary = try TemporaryDirectory()
    try TorchWriter.write(Self.root, tensors: Self.tensors, to: temporary("m.pth"))
    let model = try TorchFile(contentsOf: temporary("m.pth"), tree: .trained)
    #expect(model.entries.map(\.name) == ["a", "b", "c", "d"])
    #expect(model.entries.map(\.dtype) == [.f32, .bf16, .f16, .f32])
    #expect(try model.tensor("a") == Tensor(shape: [2, 3], elements: [1, -2, 3.5, 4, .pi, 6]))
    #expect(try model.tensor("b").elements == [1, 1, -3, 0, 65536])  // 1 + 2⁻⁸ is half way, to even
    #expect(try model.tensor("c") == Tensor(shape: [], elements: [0.5]))
    #expect(try model.tensor("d").shape == [0, 4])
    let average = try TorchFile(contentsOf: temporary("m.pth"))
    #expect(average.tree == ["model_ema1", "net"] && average.trees == [["model_ema1", "net"], ["model", "net"]])
    #expect(average.entry(named: "a")?.storage == model.entry(named: "a")?.storage, "a shared tensor is stored once")
    let arguments = model.arguments
    #expect(arguments.integer("epoch") == 300 && arguments.integer("class_num") == 7)
    #expect(arguments.integer("seed") == -3 && arguments.integer("many") == 1 << 40)
    #expect(arguments.real("noise_scale") == -0.1 && arguments.real("class_num") == 7)
    #expect(arguments.text("model") == "JiT-B/16")
    #expect(arguments.integer("noise_scale") == nil && arguments.text("is") == nil && arguments.real("model") == nil)
  }

  @Test("Storages are aligned as torch aligns them, checksums are right, and equal input gives equal bytes")
  func layout() throws {
    let temporary = try TemporaryDirectory()
    for name in ["1.pt", "2.pt"] { try TorchWriter.write(Self.root, tensors: Self.tensors, to: temporary(name)) }
    let bytes = try Data(contentsOf: URL(filePath: temporary("1.pt")))
    #expect(try bytes == Data(contentsOf: URL(filePath: temporary("2.pt"))))
    let archive = try ZipArchive(.memory([UInt8](bytes)))
    let names = ["data.pkl", "byteorder", "data/0", "data/1", "data/2", "data/3", "version"]
    #expect(archive.entries.map(\.name) == names.map { "archive/\($0)" })
    for entry in archive.entries {
      #expect(entry.range.lowerBound.isMultiple(of: 64), "\(entry.name)")
      #expect(Zlib.checksum([UInt8](bytes[entry.range]).span) == entry.checksum, "\(entry.name)")
    }
  }

  @Test("A source that fails leaves the file that was there, and nothing else")
  func failure() throws {
    struct Failed: Error {}
    let temporary = try TemporaryDirectory()
    try AtomicFile.write("old", to: temporary("m.pt"))
    let bad = TensorSource("x", shape: [3]) { (_: Int, _: inout MutableSpan<Float>) in throw Failed() }
    #expect(throws: Failed.self) {
      try TorchWriter.write(.stateDict([("x", 0)]), tensors: [bad], to: temporary("m.pt"))
    }
    #expect(try String(contentsOf: URL(filePath: temporary("m.pt")), encoding: .utf8) == "old")
    #expect(try Directory.names(temporary.path) == ["m.pt"])
  }
}
