import DiTFiles
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation
import Testing

/// Tests/Fixtures/wrapped: one network's weights as every program that trains leaves them behind.
@Suite("State dicts as programs that train wrap them") struct WrappedStateDictTests {
  private static let folder = URL(filePath: networkFixture("")).deletingLastPathComponent().appending(path: "wrapped")
    .path(percentEncoded: false)
  private static let files = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter { name in
    name.hasSuffix(".pt") && ["trained", "average"].contains { name.hasPrefix($0) }
  }.sorted()

  /// The bits of every tensor, by published name.
  private func bits(_ store: some TensorStore) throws -> [String: [UInt32]] {
    try Dictionary(
      uniqueKeysWithValues: store.keys.map { ($0.name, try store.slice($0.name).array.map(\.bitPattern)) })
  }

  private func bits(_ path: String, _ choice: WeightChoice = .emaPreferred) throws -> [String: [UInt32]] {
    let model = try ModelReference(path).load(choice, hints: StateDictHints(heads: 2))
    #expect(model.configuration.network.numClasses == 3 && model.configuration.network.inputWidth == 4)
    let weights = try #require(model.weights)
    return Dictionary(
      uniqueKeysWithValues: zip(weights.table.parameters, weights.slices).map {
        ($0.name, $1.array.map(\.bitPattern))
      })
  }

  private func expected(_ name: String) throws -> [String: [UInt32]] {
    try bits(SafetensorsFile(contentsOf: "\(Self.folder)/\(name).safetensors"))
  }

  @Test("A wrapped state dict has the bits of the plain one", arguments: files)
  func wrappedIsPlain(_ name: String) throws {
    #expect(try bits("\(Self.folder)/\(name)") == expected(name.hasPrefix("average") ? "average" : "trained"))
  }

  @Test("No kind of file is missing among the fixtures")
  func allKindsAreThere() {
    #expect(Self.files.count == 34, "\(Self.files)")
  }

  @Test("--weights chooses between an average and the trained weights, whatever they are called", arguments: files)
  func choices(_ name: String) throws {
    let path = "\(Self.folder)/\(name)"
    if name.hasPrefix("trained") {
      #expect(try bits(path, .model) == expected("trained"))
      let error = #expect(throws: (any Error).self) { try bits(path, .ema) }
      #expect(
        "\(try #require(error))".contains("weights: expected a training checkpoint or a model directory with ema"))
    } else {
      // torch's AveragedModel has the names of DDP, so that nothing tells that it is an average.
      let isAlone = ["average-swa.pt", "average-accelerate.pt"].contains(name)
      #expect(try name == "average-swa.pt" || bits(path, .ema) == expected("average"))
      #expect(try isAlone || bits(path, .model) == expected("trained"))
    }
  }

  @Test(
    "Prefixes of a safetensors file are taken off, per tree",
    arguments: [
      ["module."], ["_orig_mod."], ["net."], ["model."], ["_orig_mod.module.net.model."],
      ["ema.module.", "model._orig_mod."],
    ])
  func safetensorsPrefixes(_ prefixes: [String]) throws {
    let directory = try TemporaryDirectory()
    let sets = try ["average", "trained"].map { try SafetensorsFile(contentsOf: "\(Self.folder)/\($0).safetensors") }
    let tensors = try zip(prefixes, prefixes.count == 1 ? [sets[1]] : sets).flatMap { prefix, file in
      try file.names.map { TensorSource(prefix + $0, try file.tensor($0)) }
    }
    try SafetensorsWriter.write(tensors, to: directory("m.safetensors"))
    #expect(try bits(directory("m.safetensors")) == expected(prefixes.count == 1 ? "trained" : "average"))
    #expect(try bits(directory("m.safetensors"), .model) == expected("trained"))
  }

  @Test("Names that do not belong to a network are listed in the error")
  func namesThatAreThere() throws {
    let directory = try TemporaryDirectory()
    let tensors = ["decoder.a", "decoder.b"].map { TensorSource($0, Tensor(shape: [1], elements: [0])) }
    try SafetensorsWriter.write(tensors, to: directory("m.safetensors"))
    let error = #expect(throws: DiTError.self) { try ModelReference(directory("m.safetensors")).configuration() }
    #expect(
      error?.tensor == "x_embedder.proj.weight" && error?.found == "no such tensor among decoder.a, decoder.b")
  }
}
