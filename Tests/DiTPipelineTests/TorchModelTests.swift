import DiTFiles
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation
import Testing

/// Models from torch's `.pt`: Tests/Fixtures/torch/network.pt, whose average is the network of network/nonull, and whose
/// trained weights differ from it by one in the last bias.
@Suite("Models from torch .pt files") struct TorchModelTests {
  let path = URL(filePath: networkFixture("")).deletingLastPathComponent().appending(path: "torch/network.pt")
    .path(percentEncoded: false)

  @Test(
    "A .pt model predicts what PyTorch predicts, for average and trained weights",
    arguments: WeightChoice.common)
  func predictsWhatTorchPredicts(_ choice: WeightChoice) throws {
    let model = try DiT(contentsOf: path, weights: choice, heads: 3)
    let file = try open("nonull/forward.safetensors")
    let output = try model.predict(
      images: file.tensor("x"), times: file.integers("t").values.map { Float($0) }, labels: file.labels())
    var expected = try file.tensor("output64")
    if choice == .model { expected = Tensor(shape: expected.shape, elements: expected.elements.map { $0 + 1 }) }
    let difference = Difference(output, expected)
    #expect(difference.relative <= 1e-5, "\(choice): \(difference)")
  }

  @Test("Weights of a .pt file are mapped, and sizes read from their shapes")
  func weightsAreMappedAndConfigured() throws {
    let loaded = try ModelReference(path).load(hints: StateDictHints(heads: 3))
    let (network, weights) = (loaded.configuration.network, loaded.weights)
    #expect(network.inputHeight == 6 && network.patchSize == 2 && network.inChannels == 3 && network.hiddenSize == 24)
    // A state dict's last row is read as the null class.
    #expect(network.depth == 1 && network.numClasses == 5 && network.learnSigma)
    #expect(weights?.slices.allSatisfy { !$0.buffer.isMutable } == true, "F32 is viewed in the file")
    let directory = try ModelDirectory(contentsOf: networkFixture("nonull")).weights()
    #expect(weights?.flattened().array == directory.flattened().array)
  }

  /// A plain state dict is what is asked for by `model`, but no average.
  @Test("A plain state dict has trained weights and no average")
  func choicesOfAPlainStateDict() throws {
    let file = networkFixture("latent/model.safetensors")
    #expect(throws: Never.self) { try DiT(contentsOf: file, weights: .model, heads: 3) }
    let error = #expect(throws: DiTError.self) { try DiT(contentsOf: file, weights: .ema, heads: 3) }
    #expect(
      error?.description
        == "\(file): weights: expected a training checkpoint or a model directory with ema, found a plain state dict")
  }

  /// Without a position table the input size is the published one, and the table is computed.
  @Test("Without a position table the published input size is taken, or the size asked for")
  func absentPositionsAreComputed() throws {
    let temporary = try TemporaryDirectory()
    var network = DiTConfiguration(depth: 1)
    network.numClasses = 3
    func write(_ network: DiTConfiguration, without name: String) throws -> String {
      let weights = randomWeights(network)
      let sources = zip(weights.table.parameters, weights.slices).filter { $0.0.name != name }
        .map { TensorSource($0.name, $1, shape: $0.shape) }
      try SafetensorsWriter.write(sources, to: temporary("m.safetensors"))
      return temporary("m.safetensors")
    }
    let loaded = try ModelReference(write(network, without: "pos_embed")).load()
    #expect(loaded.configuration == ModelConfiguration(network: network))
    #expect(loaded.weights?.flattened().array == randomWeights(network).flattened().array)

    network.patchSize = 5
    (network.inputHeight, network.inputWidth) = (10, 10)
    let odd = try write(network, without: "pos_embed")
    let error = #expect(throws: DiTError.self) { try ModelReference(odd).configuration() }
    #expect(error?.tensor == "pos_embed" && error?.expected?.contains("patches of 5") == true)
  }
}
