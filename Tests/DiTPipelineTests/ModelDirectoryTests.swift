import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation
import Testing

@Suite("Model directories, state dicts and references to them") struct ModelDirectoryTests {
  let configuration = ModelConfiguration(network: smallNetwork, classNames: ["a", "b", "c", "d"])

  func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(filePath: path)) }

  @Test("A model directory is read back equal, with reproducible bytes and no stale average")
  func comesBackEqual() throws {
    let temporary = try TemporaryDirectory()
    let path = temporary("models/new")
    let (model, ema) = (randomWeights(smallNetwork, seed: 1), randomWeights(smallNetwork, seed: 2))
    try ModelDirectory.write(configuration, model: model, ema: ema, to: path)
    let directory = try ModelDirectory(contentsOf: path)
    #expect(directory.configuration == configuration)
    #expect(try directory.weights().flattened().array == ema.flattened().array)
    #expect(try directory.weights(.ema).flattened().array == ema.flattened().array)
    #expect(try directory.weights(.model).flattened().array == model.flattened().array)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: path).sorted()
        == ["config.json", "ema.safetensors", "model.safetensors"])

    let again = temporary("again")
    try ModelDirectory.write(configuration, model: model, ema: ema, to: again)
    for name in ["config.json", "ema.safetensors", "model.safetensors"] {
      #expect(try bytes("\(path)/\(name)") == bytes("\(again)/\(name)"), "\(name): the same bytes, no time, no path")
    }

    try ModelDirectory.write(configuration, model: ema, ema: nil, to: path + "/")
    let rewritten = try ModelDirectory(contentsOf: path + "/")
    #expect(try rewritten.weights().flattened().array == ema.flattened().array, "a stale average must not be preferred")
    #expect(throws: DiTError(file: "\(path)/ema.safetensors", .missing)) { try rewritten.weightsPath(.ema) }
  }

  @Test("A directory with only the average is a model")
  func averageAloneIsAModel() throws {
    let temporary = try TemporaryDirectory()
    try ModelDirectory.write(configuration, model: nil, ema: randomWeights(smallNetwork), to: temporary.path)
    let model = try DiT(contentsOf: temporary.path)
    #expect(model.configuration == configuration)
    #expect(throws: DiTError(file: "\(temporary.path)/model.safetensors", .missing)) {
      try DiT(contentsOf: temporary.path, weights: .model)
    }
  }

  @Test("F32 weights are mapped, and bf16 weights are widened")
  func weightsAreMappedAndConverted() throws {
    let temporary = try TemporaryDirectory()
    let weights = randomWeights(smallNetwork)
    try weights.write(to: temporary("f32.safetensors"))
    let mapped = try Weights(contentsOf: temporary("f32.safetensors"), configuration: smallNetwork)
    #expect(mapped.flattened().array == weights.flattened().array)
    #expect(mapped.slices.allSatisfy { !$0.buffer.isMutable }, "F32 is viewed in the file")
    try weights.write(to: temporary("bf16.safetensors"), as: .bf16)
    let rounded = try Weights(contentsOf: temporary("bf16.safetensors"), configuration: smallNetwork)
    let difference = Difference(
      Tensor(shape: [weights.table.elementCount], elements: rounded.flattened().array),
      Tensor(shape: [weights.table.elementCount], elements: weights.flattened().array))
    #expect(difference.relative <= 0x1p-8 && difference.relative > 1e-4, "\(difference)")
  }

  @Test("All missing, unexpected and misshaped tensors are in one error")
  func everyMismatchIsInOneError() throws {
    let temporary = try TemporaryDirectory()
    let path = temporary("m.safetensors")
    let weights = randomWeights(smallNetwork)
    var sources: [TensorSource] = []
    for (parameter, slice) in zip(weights.table.parameters, weights.slices) {
      switch parameter.name {
      case "pos_embed", "blocks.1.attn.proj.bias", "t_embedder.mlp.0.weight": break
      case "blocks.0.mlp.fc1.weight": sources.append(TensorSource(parameter.name, slice, shape: [24, 96]))
      default: sources.append(TensorSource(parameter.name, slice, shape: parameter.shape))
      }
    }
    sources.append(TensorSource("blocks.2.attn.qkv.weight", Tensor(zeros: [2])))
    try SafetensorsWriter.write(sources, to: path)
    let error = #expect(throws: DiTError.self) { try Weights(contentsOf: path, configuration: smallNetwork) }
    #expect(
      error?.mismatch?.missing == ["t_embedder.mlp.0.weight", "blocks.1.attn.proj.bias"], "pos_embed may be absent")
    #expect(error?.mismatch?.unexpected == ["blocks.2.attn.qkv.weight"])
    #expect(
      error?.mismatch?.misshaped == [.init(name: "blocks.0.mlp.fc1.weight", expected: [96, 24], found: [24, 96])])

    var deep = smallNetwork
    deep.depth = 1_000_000
    let blocks = #expect(throws: DiTError.self) { try Weights(contentsOf: path, configuration: deep) }
    #expect(blocks?.name == "tensors" && blocks?.kind == .content)
  }

  @Test("A missing table of fixed positions is computed")
  func missingPositionsAreComputed() throws {
    let temporary = try TemporaryDirectory()
    let path = temporary("m.safetensors")
    let weights = randomWeights(smallNetwork)
    let sources = zip(weights.table.parameters, weights.slices).filter { $0.0.name != "pos_embed" }
      .map { TensorSource($0.name, $1, shape: $0.shape) }
    try SafetensorsWriter.write(sources, to: path)
    let read = try Weights(contentsOf: path, configuration: smallNetwork)
    #expect(read.flattened().array == weights.flattened().array)
  }

  /// config.json may name another input size than the table's: a fixed table is computed, a learned one resampled.
  @Test("For another input size fixed positions are computed and learned ones resampled")
  func anotherInputSize() throws {
    let temporary = try TemporaryDirectory()
    for position in [PositionEncoding.sincos, .learned, .rope] {
      var network = smallNetwork
      network.position = position
      let path = temporary("\(position).safetensors")
      let weights = randomWeights(network)
      try weights.write(to: path)
      var larger = network
      (larger.inputHeight, larger.inputWidth) = (12, 20)
      let read = try Weights(contentsOf: path, configuration: larger)
      #expect(read["x_embedder.proj.weight"]?.array == weights["x_embedder.proj.weight"]?.array)
      guard position != .rope else { continue }
      let expected = MutableFloatSlice(zeros: 60 * 24)
      if position == .sincos {
        sinCosPositions(output: expected.mutableSpan, rows: 6, columns: 10, width: 24)
      } else {
        let table = try #require(weights["pos_embed"])
        resamplePositions(output: expected.mutableSpan, table: table.span, from: (3, 5), to: (6, 10), width: 24)
      }
      #expect(read["pos_embed"]?.array == expected.array, "\(position)")
      // 15 rows are no square, nor of these proportions; the values tell their grid, as a learned table begins as the fixed.
      (larger.inputHeight, larger.inputWidth) = (8, 8)
      #expect(try Weights(contentsOf: path, configuration: larger)["pos_embed"]?.count == 16 * 24)
      let flat = weights.flattened()
      let table = try #require(weights.table.parameter(named: "pos_embed"))
      flat[table.range].fill(0.5)
      try Weights(weights.table, flat: flat.reading).write(to: path)
      let error = #expect(throws: DiTError.self) { try Weights(contentsOf: path, configuration: larger) }
      #expect(error?.tensor == "pos_embed" && error?.found == "15 rows")
    }
    var learned = smallNetwork
    learned.position = .learned
    let path = temporary("none.safetensors")
    let weights = randomWeights(smallNetwork)
    let sources = zip(weights.table.parameters, weights.slices).filter { $0.0.name != "pos_embed" }
      .map { TensorSource($0.name, $1, shape: $0.shape) }
    try SafetensorsWriter.write(sources, to: path)
    let error = #expect(throws: DiTError.self) { try Weights(contentsOf: path, configuration: learned) }
    #expect(error?.mismatch?.missing == ["pos_embed"], "a learned table cannot be computed")
  }

  // MARK: State dicts

  /// A state dict of this network; a model read back from it must be the same.
  func stateDict(_ network: DiTConfiguration, heads: Int?) throws -> ModelConfiguration {
    let temporary = try TemporaryDirectory()
    try randomWeights(network).write(to: temporary("m.safetensors"))
    return try ModelReference(temporary("m.safetensors")).load(hints: StateDictHints(heads: heads)).configuration
  }

  @Test("A state dict's sizes are read from its shapes")
  func sizesAreReadFromShapes() throws {
    var network = DiTConfiguration(
      inputHeight: 12, inputWidth: 12, patchSize: 4, inChannels: 3, hiddenSize: 40, depth: 2, numHeads: 5,
      mlpRatio: 3.3, numClasses: 6)
    network.mlpRatio = 132.0 / 40
    #expect(try stateDict(network, heads: 5) == ModelConfiguration(network: network))
    network.learnSigma = false
    network.mlpRatio = 0.025  // a hidden layer of one
    #expect(try stateDict(network, heads: 5) == ModelConfiguration(network: network))
    network.numClasses = 0
    #expect(try stateDict(network, heads: 5) == ModelConfiguration(network: network))
    var published = DiTConfiguration(depth: 1)
    published.inputHeight = 8
    published.inputWidth = 8
    published.numClasses = 3
    #expect(try stateDict(published, heads: nil).network == published, "heads of hidden size 384")
    #expect(try stateDict(published, heads: 12).network.numHeads == 12)
  }

  /// Every hidden layer width must come back; for the last three, m / d · d rounds to less than m.
  @Test("Every MLP width survives being stored as a ratio")
  func mlpSizesSurviveTheRatio() throws {
    for (hidden, size) in [(24, 23), (40, 123), (28, 61), (44, 49), (52, 15)] {
      var network = smallNetwork
      network.inputWidth = 6
      (network.hiddenSize, network.numHeads, network.depth) = (hidden, 2, 1)
      network.mlpRatio = (Double(size) + 0.25) / Double(hidden)
      #expect(network.mlpSize == size)
      #expect(try stateDict(network, heads: 2).network.mlpSize == size)
    }
  }

  @Test("What shapes do not tell, as the heads, must be given")
  func whatShapesDoNotTellIsAskedFor() throws {
    let temporary = try TemporaryDirectory()
    var network = smallNetwork
    network.inputWidth = 6
    let path = temporary("m.safetensors")
    try randomWeights(network).write(to: path)
    let heads = #expect(throws: DiTError.self) { try ModelReference(path).configuration() }
    #expect(
      heads?.description
        == "\(path): heads: expected the number of heads to be given, found hidden size 24, for which none is published"
    )
    for count in [5, 0] {
      let error = #expect(throws: DiTError.self) {
        try ModelReference(path).configuration(hints: StateDictHints(heads: count))
      }
      #expect(["heads", "num_heads"].contains(error?.name) && error?.kind == .content, "by which --heads is told")
    }

    try randomWeights(smallNetwork).write(to: path)  // 3×5 patches
    let oblong = try ModelReference(path).configuration(hints: StateDictHints(heads: 3)).network
    #expect(oblong.inputHeight == 6 && oblong.inputWidth == 10, "the table's values tell")

    try SafetensorsWriter.write([TensorSource("w", Tensor(zeros: [2]))], to: path)
    let other = #expect(throws: DiTError.self) {
      try ModelReference(path).configuration(hints: StateDictHints(heads: 3))
    }
    #expect(
      other?.description
        == "\(path): tensor x_embedder.proj.weight: expected [D, C, P, P], found no such tensor among w")
  }

  // MARK: References

  @Test("A word means a published name, a directory or a state dict, or is refused")
  func wordsMeanModels() throws {
    #expect(try ModelReference("DiT-XL/8") == .published("DiT-XL/8"))
    #expect(try ModelReference(networkFixture("digits")) == .directory(networkFixture("digits")))
    let file = networkFixture("digits/model.safetensors")
    #expect(try ModelReference(file) == .stateDict(file))
    #expect(throws: DiTError(file: "DiT-M/2", .missing)) { try ModelReference("DiT-M/2") }
    #expect(throws: DiTError(file: "", .missing)) { try ModelReference("") }

    let published = try ModelReference("DiT-B/4").load()
    #expect(published.weights == nil && published.configuration == ModelConfiguration(published: "DiT-B/4"))
    let error = #expect(throws: DiTError.self) { try DiT(contentsOf: "DiT-B/4") }
    #expect(error?.description == "DiT-B/4: weights: expected a model with weights, found a published name")
    #expect(throws: DiTError.self) {
      try ModelReference(networkFixture("digits")).configuration(hints: StateDictHints(heads: 2))
    }
    #expect(
      try ModelReference(networkFixture("digits")).configuration(hints: StateDictHints(heads: 4)).network.numHeads == 4)
    let temporary = try TemporaryDirectory()
    let empty = #expect(throws: DiTError.self) { try DiT(contentsOf: temporary.path) }
    #expect(
      empty?.description == "\(temporary.path): expected config.json and weights in it, as in a run's folder or one of "
        + "its checkpoints, found no config.json")
    try published.configuration.write(to: temporary("config.json"))
    #expect(throws: DiTError(file: temporary("model.safetensors"), .missing)) {
      try ModelConversion(temporary.path, to: .dit, weights: nil)
    }
  }

  /// A state dict and the directory it lies in are one model.
  @Test("A state dict predicts exactly as the directory it lies in")
  func stateDictPredictsLikeItsDirectory() throws {
    let directory = try DiT(contentsOf: networkFixture("latent"))
    let file = try DiT(contentsOf: networkFixture("latent/model.safetensors"), heads: 3)
    #expect(file.configuration == directory.configuration)
    let x = normal([2, 4, 8, 8], seed: 1)
    let outputs = try [directory, file].map { try $0.predict(images: x, times: [3, 900], labels: [7, 0]) }
    #expect(outputs[0] == outputs[1])
  }

  @Test("A failed write leaves what was there")
  func failedWriteLeavesTheOldModel() throws {
    let temporary = try TemporaryDirectory()
    let file = try temporary.write("a file", to: "occupied")
    let error = #expect(throws: DiTError.self) {
      try ModelDirectory.write(configuration, model: randomWeights(smallNetwork), ema: nil, to: file)
    }
    #expect(error?.description == "\(file): cannot create the directory: File exists")
    #expect(try String(contentsOfFile: file, encoding: .utf8) == "a file")
    #expect(try FileManager.default.contentsOfDirectory(atPath: temporary.path) == ["occupied"])
  }
}
