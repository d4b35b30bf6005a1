import DiTEngine
import Foundation
import Testing

/// The whole engine against PyTorch in one file: begin reading here.
///
/// `Tests/Fixtures/golden/golden.safetensors` holds a Diffusion Transformer of two blocks with random weights, a batch of
/// four images, and what diffusers' network, torch's automatic differentiation and torch's AdamW make of them in Double
/// (`Scripts/fixtures/golden.py`). The three tests below follow one training step from its input to its end:
///
///  1. forward:  x_t, t, y → the noise ε̂ and the variance's share v that the network predicts
///  2. backward: the loss of every image, and the gradient of the mean loss by every weight
///  3. update:   ten steps of AdamW; each step's loss depends on all weights that the steps before it wrote
///
/// Each runs with both ways of multiplying matrices, OpenBLAS's and the package's own, at the instruction set that the
/// process uses (`DIT_ISA=portable swift test …` chooses one). What is allowed is for Float against Double: PyTorch's own
/// Float32 is off by 1.8e-7 in the output, 4.9e-7 in the worst gradient and 8.3e-8 in the losses.
@Suite struct GoldenTests {
  /// Letters: N = 4 images of C = 1 channel and 8 × 8 pixels, cut into 2 × 2 patches: 16 tokens of width D = 32.
  private let golden: Golden

  init() throws {
    golden = try Golden()
  }

  @Test("A forward pass gives PyTorch's output", arguments: [GEMM.blas, .packed])
  func forward(_ gemm: GEMM) throws {
    let model = try golden.model(gemm)

    // (N, 1, 8, 8), (N), (N) → (N, 2, 8, 8): ε̂, then v.
    let output = try model.predict(images: golden.images("x"), times: golden.times, labels: golden.labels)

    #expect(output.shape == [4, 2, 8, 8])
    #expect(difference(output.elements, try golden.doubles("output")) < 1e-5)
  }

  @Test("The loss of every image and the gradient of every weight are PyTorch's", arguments: [GEMM.blas, .packed])
  func backward(_ gemm: GEMM) throws {
    let model = try golden.model(gemm)

    // loss = mean (ε − ε̂)² + VB(v); t = 0, the null class and a class that comes twice are in the batch.
    let result = try model.lossAndGradients(
      clean: golden.images("x0"), times: golden.times, labels: golden.labels, noise: golden.images("noise"))

    let losses = result.report.losses
    #expect(difference(losses.map { Float($0.loss) }, try golden.doubles("loss")) < 1e-5)
    #expect(difference(losses.map { Float($0.mse) }, try golden.doubles("mse")) < 1e-5)
    #expect(difference(losses.map { Float($0.vb ?? .nan) }, try golden.doubles("vb")) < 1e-5)

    // Every tensor but the fixed position table: the names are the published state dict's.
    let names = result.named.map { "grad.\($0.name)" }
    #expect(names.sorted() == golden.names.filter { $0.hasPrefix("grad.") }.sorted())
    for (name, gradient) in result.named {
      let error = difference(gradient.elements, try golden.doubles("grad.\(name)"))
      #expect(error < 1e-4, "\(name): relative error \(error)")
    }
  }

  @Test("Ten training steps have PyTorch's losses", arguments: [GEMM.blas, .packed])
  func update(_ gemm: GEMM) throws {
    let trainer = try golden.trainer(gemm)
    let (clean, noise) = try (golden.images("x0"), golden.images("noise"))

    // The same batch ten times: forward, loss, backward, AdamW.
    let losses = try (0..<10).map { _ in
      try trainer.step(
        clean: clean.elements.span, noise: noise.elements.span, times: golden.times.span, labels: golden.labels.span
      ).loss
    }

    let expected = try golden.doubles("losses")
    #expect(difference(losses.map { Float($0) }, expected) < 1e-5, "found \(losses), expected \(expected)")
    // They are losses of a network that learns: a step that does nothing would not be seen in the first.
    #expect(expected[9] < 0.6 * expected[0])
  }
}

/// The fixture, and the network that it is of.
private struct Golden {
  /// The sizes; everything else is the published DiT's: sine-cosine positions, adaLN-Zero, a null class, a learned
  /// variance, 1000 steps with β from 1e-4 to 0.02.
  let configuration = ModelConfiguration(
    network: DiTConfiguration(
      inputHeight: 8, inputWidth: 8, patchSize: 2, inChannels: 1, hiddenSize: 32, depth: 2, numHeads: 4,
      numClasses: 10))
  let times: [Float]
  let labels: [Int]
  private let file: SafetensorsFile

  init() throws {
    let path = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Fixtures/golden/golden.safetensors").path(percentEncoded: false)
    file = try SafetensorsFile(contentsOf: path)
    times = try file.integers("t").values.map { Float($0) }
    labels = try file.integers("y").values
  }

  var names: [String] { file.names }

  func images(_ name: String) throws -> Tensor { try file.numbers(name) }

  func doubles(_ name: String) throws -> [Double] { try file.doubles(name).values }

  /// The weights in one buffer, each tensor at its place of the parameter table.
  private func weights() throws -> FloatSlice {
    let table = ParameterTable(configuration.network)
    let flat = MutableFloatSlice(zeros: table.elementCount)
    for parameter in table.parameters {
      let tensor = try file.tensor("weights.\(parameter.name)")
      try #require(tensor.shape == parameter.shape, "\(parameter.name)")
      flat[parameter.range].copy(from: tensor.elements.span)
    }
    return flat.reading
  }

  func model(_ gemm: GEMM) throws -> DiT {
    try DiT(
      configuration: configuration, weights: Weights(ParameterTable(configuration.network), flat: weights()),
      context: ComputeContext(threads: 2), numerics: Numerics(gemm: gemm))
  }

  /// AdamW as the fixture sets torch's: rate 1e-3 without warm-up or decay, β 0.9 and 0.999, ε 1e-8, weight decay 0.05
  /// (the defaults), and no clipping.
  func trainer(_ gemm: GEMM) throws -> Trainer {
    var training = TrainingConfiguration()
    (training.learningRate, training.warmupSteps, training.schedule) = (1e-3, 0, .constant)
    (training.batch, training.validationModulus, training.gemm) = (4, 0, gemm)
    // The trainer wants a data set to draw from; the steps here are given their batch.
    let data = try Dataset(images("x0"), labels: [0, 3, 7, 3], name: "golden")
    return try Trainer(
      model: configuration, training: training, data: data, start: weights(), context: ComputeContext(threads: 2))
  }
}

/// max |found − expected| / max |expected|; infinite when the counts differ or a number is not finite.
private func difference(_ found: [Float], _ expected: [Double]) -> Double {
  guard found.count == expected.count, found.allSatisfy(\.isFinite) else { return .infinity }
  let largest = expected.reduce(0) { max($0, abs($1)) }
  return zip(found, expected).reduce(0) { max($0, abs(Double($1.0) - $1.1)) } / largest
}
