// Directories as diffusers' save_pretrained writes them (Tests/Fixtures/diffusers), against what diffusers computes.

import DiTDiffusers
import DiTDiffusion
import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation
import Testing

/// Tests/Fixtures/diffusers/…
private func fixture(_ path: String) -> String {
  URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures/diffusers/\(path)").path(percentEncoded: false)
}

private let names = ["pipeline", "differing", "old"]

/// The fixture's inputs through a model.
private func output(_ model: DiT, _ name: String) throws -> (found: Tensor, file: SafetensorsFile) {
  let file = try SafetensorsFile(contentsOf: fixture("\(name).safetensors"))
  let found = try model.predict(
    images: file.tensor("x"), times: file.integers("t").values.map { Float($0) }, labels: file.integers("y").values)
  return (found, file)
}

/// A model with another network configuration but the same weights.
private func changed(_ model: DiT, _ change: (inout DiTConfiguration) -> Void) throws -> DiT {
  var configuration = model.configuration
  change(&configuration.network)
  let weights = Weights(ParameterTable(configuration.network), slices: model.network.weights.slices)
  return try DiT(configuration: configuration, weights: weights, context: model.context)
}

@Suite("Directories of diffusers: reading and conversion") struct DiffusersTests {
  @Test(
    "A diffusers directory gives diffusers' output", arguments: names,
    InstructionSet.allCases.filter { $0 <= .supported })
  func outputAgrees(name: String, level: InstructionSet) throws {
    let (found, file) = try output(
      DiT(contentsOf: fixture(name), context: ComputeContext(instructionSet: level)), name)
    for expected in ["output", "output64"] {
      let difference = try Difference(found, file.tensor(expected))
      #expect(difference.relative <= 1e-5, "\(name) \(expected): \(difference)")
    }
  }

  /// The published numerics would be seen.
  @Test("The published numerics instead of diffusers' miss its output", arguments: names)
  func publishedNumericsMissTheOutput(name: String) throws {
    let model = try DiT(contentsOf: fixture(name), context: ComputeContext(threads: 1))
    let changes: [(inout DiTConfiguration) -> Void] = [
      { $0.timeFrequencies = .dit }, { $0.norm2Epsilon = 1e-6 },
    ]
    for change in changes {
      let (found, file) = try output(changed(model, change), name)
      #expect(try Difference(found, file.tensor("output")).relative > 5e-5)
    }
  }

  @Test("Sizes, embedders, class names and scheduler are read from a diffusers directory")
  func configurationIsRead() throws {
    let pipeline = try ModelReference(fixture("pipeline")).configuration()
    let n = pipeline.network
    let sizes: [Int] = [n.numHeads, n.hiddenSize, n.depth, n.inputHeight, n.inputWidth, n.numClasses]
    #expect(sizes == [2, 16, 2, 6, 6, 5] as [Int])
    #expect(n.learnSigma && n.hasNullClass && n.timeFrequencies == .diffusers && n.norm2Epsilon == 1e-5)
    #expect(n.embedders == .shared)
    #expect(pipeline.className(0) == "tench, Tinca tinca")
    #expect(pipeline.autoencoder == nil)
    #expect(pipeline.sampling.sampler.name == .ddim && pipeline.sampling.sampler.schedule == nil)
    #expect(pipeline.diffusersScheduler?.clipSample == false)
    let differing = try ModelReference(fixture("differing")).configuration()
    #expect(differing.network.embedders == .perBlock && differing.sampling.sampler.name == .dpmpp)
    let old = try ModelReference(fixture("old")).configuration()
    #expect(!old.network.learnSigma && old.network.norm2Epsilon == 1e-5 && old.diffusersScheduler == nil)
    #expect(try ModelReference(fixture("old")) == .directory(fixture("old")))
    #expect(try ModelReference(fixture("pipeline")) == .diffusers(fixture("pipeline")))
  }

  // MARK: Embedders of every block

  /// Equal copies compute what one does, bit for bit, and their gradients add up to the one's.
  @Test("Equal embedders per block compute what a shared one does, and their gradients add up")
  func copiesAreOne() throws {
    let shared = try randomModel(smallNetwork)
    var network = smallNetwork
    network.embedders = .perBlock
    let table = ParameterTable(network)
    let slices = table.parameters.map { parameter in
      let name = parameter.name
      let embedder = name.firstRange(of: "t_embedder") ?? name.firstRange(of: "y_embedder")
      let source = embedder.map { String(name[$0.lowerBound...]) } ?? name
      return shared.network.weights[source] ?? .empty
    }
    let copies = try DiT(
      configuration: ModelConfiguration(network: network), weights: Weights(table, slices: slices),
      context: shared.context)
    let (x, noise) = (normal([3, 3, 6, 10], seed: 1), normal([3, 3, 6, 10], seed: 2))
    let (times, labels): ([Float], [Int]) = ([0, 500, 999], [0, 3, 4])
    let outputs = try [shared, copies].map { try $0.predict(images: x, times: times, labels: labels) }
    #expect(outputs[0] == outputs[1])

    let gradients = try [shared, copies].map {
      try $0.lossAndGradients(clean: x, times: times, labels: labels, noise: noise).named
    }
    for (name, expected) in gradients[0] {
      let parts = gradients[1].filter { $0.name == name || $0.name.hasSuffix(".\(name)") }
      #expect(parts.count == (name.contains("_embedder") && !name.hasPrefix("x_") ? network.depth : 1), "\(name)")
      let sum = parts.dropFirst().reduce(parts[0].tensor.elements) { zip($0, $1.tensor.elements).map { $0 + $1 } }
      let difference = Difference(Tensor(shape: expected.shape, elements: sum), expected)
      #expect(difference.relative <= 1e-5, "\(name): \(difference)")
    }
  }

  // MARK: Conversion

  /// diffusers → model directory → diffusers → model directory: the same function, the same weights to the bit.
  @Test("Converting to and fro keeps the output and every weight bit for bit", arguments: names)
  func roundTripIsExact(name: String) throws {
    let directory = try TemporaryDirectory()
    let steps: [(String, ModelConversion.Format)] = [("a", .dit), ("b", .diffusers), ("c", .dit)]
    var source = fixture(name)
    for (name, format) in steps {
      try ModelConversion(source, to: format).write(to: directory(name))
      source = directory(name)
    }
    let first = try output(DiT(contentsOf: fixture(name)), name).found
    for step in ["a", "b", "c"] {
      #expect(try output(DiT(contentsOf: directory(step)), name).found == first, "\(step)")
    }
    let original = try DiffusersDirectory.weights(
      in: name == "old" ? fixture(name) : fixture("\(name)/transformer"))
    let written = try DiffusersDirectory.weights(in: directory("b/transformer"))
    for (key, _) in original.keys {
      #expect(try original.slice(key).array == written.slice(key).array, "\(key)")
    }
    let configurations = try ["a", "c"].map { try ModelDirectory(contentsOf: directory($0)).configuration }
    #expect(configurations[0] == configurations[1] || name == "old")  // which alone gets a scheduler
    #expect(configurations[0].network == configurations[1].network)
    let bytes = try ["a", "c"].map { try Data(contentsOf: URL(filePath: directory("\($0)/model.safetensors"))) }
    #expect(bytes[0] == bytes[1])
  }

  @Test("A conversion to bf16 keeps its bits to and fro, with positions in Float32")
  func halfPrecisionIsKept() throws {
    let directory = try TemporaryDirectory()
    try ModelConversion(fixture("differing"), to: .dit).write(to: directory("bf16"), as: .bf16)
    let file = try SafetensorsFile(contentsOf: directory("bf16/model.safetensors"))
    for entry in file.header.entries { #expect(entry.dtype == (entry.name == "pos_embed" ? .f32 : .bf16)) }
    try ModelConversion(directory("bf16"), to: .diffusers).write(to: directory("b"), as: .bf16)
    try ModelConversion(directory("b"), to: .dit).write(to: directory("c"), as: .bf16)
    #expect(
      try Data(contentsOf: URL(filePath: directory("c/model.safetensors")))
        == Data(contentsOf: URL(filePath: directory("bf16/model.safetensors"))))
  }

  @Test("Large weights are written in shards that read back equal")
  func largeWeightsAreSharded() throws {
    let directory = try TemporaryDirectory()
    let model = try DiT(contentsOf: fixture("pipeline"))
    let export = try DiffusersExport(
      model.configuration, weights: model.network.weights, vae: nil, name: "pipeline")
    try FileManager.default.createDirectory(atPath: directory("d"), withIntermediateDirectories: false)
    try export.write(to: directory("d"), as: .f32, shardBytes: 20_000)
    let files = try FileManager.default.contentsOfDirectory(atPath: directory("d/transformer"))
    #expect(files.filter { $0.hasSuffix(".safetensors") }.count > 3)
    #expect(try output(DiT(contentsOf: directory("d")), "pipeline").found == output(model, "pipeline").found)
  }

  /// A published model is written as it is, and the distance to what diffusers computes is measured.
  @Test("Converting a published model reports how far diffusers' output differs")
  func otherFrequenciesAreReported() throws {
    let directory = try TemporaryDirectory()
    let source = networkFixture("latent")
    let conversion = try ModelConversion(source, to: .diffusers)
    let notes = try conversion.write(to: directory("d"))
    let note = try #require(notes.first { $0.hasPrefix("time_frequencies") })
    let model = try DiT(contentsOf: source)
    let theirs = try DiT(contentsOf: directory("d"))
    #expect(theirs.configuration.network.timeFrequencies == .diffusers)
    #expect(theirs.configuration.network.norm2Epsilon == 1e-6)
    let export = try DiffusersExport(
      model.configuration, weights: model.network.weights, vae: nil, name: source)
    let measured = export.deviation(written: theirs.network.weights, context: model.context)
    #expect(measured > 1e-3 && note.contains(measured * 100 < 0.1 ? "e" : "%"))
    // What F16 has no number for.
    var slices = Array(theirs.network.weights.slices)
    slices[0] = FloatSlice([Float](repeating: .infinity, count: slices[0].count))
    let overflowed = Weights(ParameterTable(theirs.configuration.network), slices: slices)
    #expect(export.deviation(written: overflowed, context: model.context) == .infinity)
  }

  @Test("Options that diffusers does not have are refused by key")
  func whatDiffusersLacksIsRefused() throws {
    let model = try DiT(contentsOf: networkFixture("oblong"))
    let error = #expect(throws: DiTError.self) {
      try DiffusersExport(model.configuration, weights: model.network.weights, vae: nil, name: "oblong")
    }
    #expect(error?.name == "input_size")
    var network = smallNetwork
    network.inputWidth = network.inputHeight
    let keys: [(String, (inout DiTConfiguration) -> Void)] = [
      ("conditioning", { $0.conditioning = .additive }), ("position", { $0.position = .learned }),
      ("mlp_ratio", { $0.mlpRatio = 2 }), ("num_classes", { $0.numClasses = 0 }),
      ("class_dropout_prob", { $0.classDropoutProb = 0 }), ("time_frequencies", { $0.timeFrequencies = .literal }),
      ("attention", { $0.attention.temperature = .sqrtBeta }),
      ("text or context_image", { $0.sequence = .text(length: 3) }),
    ]
    #expect(network.diffusersProblem == nil)
    for (key, change) in keys {
      var other = network
      change(&other)
      #expect(other.diffusersProblem?.key == key)
    }
  }

  /// Nothing is overwritten unasked, and nothing that is no model ever.
  @Test("A conversion overwrites models only when told to, and other files never")
  func targetsAreSpared() throws {
    let directory = try TemporaryDirectory()
    let conversion = try ModelConversion(fixture("pipeline"), to: .dit)
    try conversion.write(to: directory("new"))
    func expectSpared(_ name: String, replacing: Bool) {
      let error = #expect(throws: DiTError.self) { try conversion.write(to: directory(name), replacing: replacing) }
      #expect(
        error?.file == directory(name) && (error?.name == "output" || error?.kind == .output),
        "\(error.map { "\($0)" } ?? "")")
    }
    expectSpared("new", replacing: false)
    try conversion.write(to: directory("new"), replacing: true)
    try FileManager.default.createDirectory(atPath: directory("other"), withIntermediateDirectories: false)
    try conversion.write(to: directory("other"))
    try FileManager.default.createDirectory(atPath: directory("mine"), withIntermediateDirectories: false)
    _ = try directory.write("precious", to: "mine/thesis.txt")
    expectSpared("mine", replacing: true)
    expectSpared("mine/thesis.txt", replacing: true)
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted() == ["mine", "new", "other"])
  }
}
