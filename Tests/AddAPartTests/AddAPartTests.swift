import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation
import TestSupport
import Testing

/// CONTRIBUTING's "Add a part" done from outside: one file, one word, and the whole machine takes it.
@Suite struct AddAPartTests {
  private static func configuration() -> DiTConfiguration {
    var c = DiTConfiguration(
      inputHeight: 6, inputWidth: 10, patchSize: 2, inChannels: 2, hiddenSize: 24, depth: 2, numHeads: 3, mlpRatio: 2.5,
      numClasses: 3, learnSigma: false)
    c.mlp = SquaredReLU.kind
    return c
  }

  /// A network of random weights, everything that goes in, and the way through it.
  private struct Network {
    let c: DiTConfiguration
    let flat: MutableFloatSlice
    let network: DiTNetwork
    let images, target: [Float]
    let times: [Float] = [10, 900]
    let labels = [0, 3]

    init(gemm: GEMM, threads: Int) throws {
      c = AddAPartTests.configuration()
      var draw = Draw(seed: 5)
      let (weights, flat) = Weights.initialized(c, seed: 1)
      for parameter in weights.table.trainableParameters {
        let fanIn = parameter.shape.count == 1 ? 16 : parameter.count / parameter.shape[0]
        flat[parameter.range].copy(from: draw.normal(parameter.count, deviation: 1 / Float(fanIn).squareRoot()).span)
      }
      self.flat = flat
      images = draw.normal(2 * c.imageElements)
      target = draw.normal(2 * c.outputElements)
      let context = try ComputeContext(threads: threads, workers: threads, instructionSet: .supported)
      network = DiTNetwork(c, weights: weights, context: context, numerics: Numerics(gemm: gemm))
    }

    /// Σ target · output and, unless it is nil, its gradient added to `gradients`.
    func loss(_ gradients: MutableFloatSlice? = nil) -> Double {
      let output = MutableFloatSlice(zeros: 2 * c.outputElements)
      let ws = TrainingWorkspace(network, samples: 2)
      network.trainingForward(
        output: output.mutableSpan, images: images.span, times: times.span, labels: labels.span, workspace: ws)
      if let gradients {
        network.backward(
          gradients: gradients, outputGradient: target.span, images: images.span, labels: labels.span, samples: 2,
          workspace: ws)
      }
      return zip(output.array, target).reduce(0) { $0 + Double($1.0) * Double($1.1) }
    }
  }

  @Test("A part from outside has the gradients that differences of its loss give", arguments: [GEMM.blas, .packed])
  func gradients(gemm: GEMM) throws {
    let n = try Network(gemm: gemm, threads: 2)
    let gradients = MutableFloatSlice(zeros: n.network.weights.table.elementCount)
    _ = n.loss(gradients)
    for name in [
      "blocks.0.mlp.fc1.weight", "blocks.1.mlp.fc2.weight", "blocks.0.mlp.fc1.bias", "x_embedder.proj.weight",
    ] {
      let parameter = try #require(n.network.weights.table.parameter(named: name))
      var draw = Draw(seed: 11)
      let direction = draw.normal(parameter.count)
      let values = n.flat[parameter.range].array
      func at(_ step: Float) -> Double {
        n.flat[parameter.range].copy(from: zip(values, direction).map { $0 + step * $1 }.span)
        return n.loss()
      }
      let h: Float = 1e-3
      let difference = (at(h) - at(-h)) / Double(2 * h)
      n.flat[parameter.range].copy(from: values.span)
      let slope = zip(gradients[parameter.range].array, direction).reduce(0) { $0 + Double($1.0) * Double($1.1) }
      #expect(
        abs(slope - difference) <= 1e-2 * max(1, abs(difference)), "\(name): \(slope), by differences \(difference)")
    }
  }

  @Test("A part from outside computes the same in inference as in training, at any thread count")
  func inference() throws {
    let (one, two) = (try Network(gemm: .packed, threads: 1), try Network(gemm: .packed, threads: 2))
    #expect(one.loss().bitPattern == two.loss().bitPattern)
    let modulation = Modulation(two.c, rows: 2, values: MutableFloatSlice(zeros: Modulation.elements(two.c, rows: 2)))
    two.network.modulate(times: two.times, labels: two.labels, into: modulation)
    let (inferred, trained) = (
      MutableFloatSlice(zeros: 2 * two.c.outputElements), MutableFloatSlice(zeros: 2 * two.c.outputElements)
    )
    two.network.forward(
      output: inferred.mutableSpan, images: two.images.span, modulation: modulation, samples: 2,
      workspace: InferenceWorkspace(two.network, samples: 2))
    two.network.trainingForward(
      output: trained.mutableSpan, images: two.images.span, times: two.times.span, labels: two.labels.span,
      workspace: TrainingWorkspace(two.network, samples: 2))
    #expect(zip(inferred.array, trained.array).allSatisfy { abs($0 - $1) <= 2e-5 })
  }

  @Test("config.json takes the word of a part from outside, and names the words there are for another")
  func configuration() throws {
    let written = ModelConfiguration(network: Self.configuration())
    let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = folder.appending(path: "config.json").path
    try written.write(to: path)
    #expect(try ModelConfiguration(contentsOf: path).network == Self.configuration())
    let text = try String(contentsOfFile: path, encoding: .utf8).replacingOccurrences(of: "squared_relu", with: "cubed")
    try text.write(toFile: path, atomically: true, encoding: .utf8)
    let error = #expect(throws: DiTError.self) { try ModelConfiguration(contentsOf: path) }
    #expect("\(try #require(error))".contains("squared_relu"))
  }
}
