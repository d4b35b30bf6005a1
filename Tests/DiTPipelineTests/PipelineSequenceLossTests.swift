import DiTDiffusion
import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation
import Testing

/// The prior's file, and the term in a model's loss. The oracle of its numbers is DiTDiffusionTests'.
@Suite("The sequence loss of a model, and its prior's file") struct SequenceLossTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  /// 3×6×10 in patches of 2.
  private static func prior() throws -> SequencePrior {
    let images = normal([9, 3, 6, 10], seed: 5)
    return try SequencePrior(fitting: 9, of: smallNetwork.inputGrid, context: ComputeContext(threads: 1)) { i, image in
      for j in 0..<180 { image[j] = images.elements[i * 180 + j] }
    }
  }

  @Test("A prior is written and read back equal")
  func thePriorComesBack() throws {
    let prior = try Self.prior()
    #expect(try SequencePrior(directory: directory.path, for: smallNetwork) == nil)
    try prior.write(to: directory("sequence_prior.safetensors"))
    #expect(try SequencePrior(directory: directory.path, for: smallNetwork) == prior)
    let file = try SafetensorsFile(contentsOf: directory("sequence_prior.safetensors"))
    #expect(Set(file.names) == ["mean", "covariance", "patch_size"])
    #expect(file.entry(named: "mean")?.shape == [3, 6, 10] && file.entry(named: "mean")?.dtype == .f64)
    #expect(file.entry(named: "covariance")?.shape == [60, 60])
    #expect(try file.integers("patch_size").values == [2])
  }

  @Test("Prior files that do not fit the model are refused by tensor")
  func priorsThatDoNotFitAreRefused() throws {
    let path = directory("sequence_prior.safetensors")
    let prior = try Self.prior()
    try prior.write(to: path)
    var other = smallNetwork
    other.inputWidth = 12
    #expect(throws: DiTError.self) { try SequencePrior(directory: directory.path, for: other) }

    func message(_ edit: (inout [Double], inout [Double], inout Int) -> Void) throws -> String {
      var (mean, covariance, patch) = (prior.mean, prior.covariance, 2)
      edit(&mean, &covariance, &patch)
      try SafetensorsWriter.write(
        [
          TensorSource("mean", shape: [3, 6, 10], doubles: mean),
          TensorSource("covariance", shape: [60, 60], doubles: covariance),
          TensorSource("patch_size", shape: [], integers: [patch]),
        ], to: path)
      let model = try randomModel(smallNetwork)
      let error = #expect(throws: DiTError.self) {
        _ = try SequenceConditionals(directory: directory.path, for: model)
      }
      return error?.description ?? ""
    }
    #expect(try message { _, _, patch in patch = 1 }.contains("tensor patch_size: expected 2, found 1"))
    #expect(try message { mean, _, _ in mean[0] = .nan }.contains("tensor mean: expected finite numbers"))
    #expect(
      try message { _, covariance, _ in covariance[1] += 1 }.contains("tensor covariance: expected a symmetric matrix"))
    #expect(
      try message { _, covariance, _ in covariance[0] = -9 }.contains(
        "tensor covariance: expected a positive semi-definite matrix"))
  }

  /// Terms, map and gradients of more samples than one pass holds; a weight's gradient against central differences. The
  /// term is a quadratic of the last layer's bias, so that no step is too long.
  @Test("The term adds to loss and gradient, the gradient being the slope by central differences")
  func theTermIsDifferentiated() throws {
    let model = try randomModel(smallNetwork)
    let count = 70
    let (clean, noise) = (normal([count, 3, 6, 10], seed: 1), normal([count, 3, 6, 10], seed: 2))
    let times = (0..<count).map { Float($0 * 14) }
    let labels = (0..<count).map { $0 % 5 }
    let input = SequenceLossInput(
      try SequenceConditionals(Self.prior(), context: model.context), weight: 10,
      posteriorNoise: normal([count, 3, 6, 10], seed: 3))
    let plain = try model.lossAndGradients(clean: clean, times: times, labels: labels, noise: noise)
    let report = try model.lossAndGradients(
      clean: clean, times: times, labels: labels, noise: noise, consistency: input)

    let map = try #require(report.report.sequencePatches)
    #expect(map.shape == [count, 15] && plain.report.sequencePatches == nil)
    for n in 0..<count {
      let seq = try #require(report.report.losses[n].seq)
      let mean = map.elements[n * 15..<(n + 1) * 15].reduce(0) { $0 + Double($1) } / 15
      #expect(abs(seq - mean) <= 1e-6 * abs(seq) && (seq > 0) == (n > 0), "sample \(n): \(seq), map \(mean)")
      #expect(abs(report.report.losses[n].loss - plain.report.losses[n].loss - 10 * seq) < 1e-9, "sample \(n)")
    }
    let alone = try model.loss(clean: clean, times: times, labels: labels, noise: noise, consistency: input)
    #expect(Difference(alone.losses.compactMap(\.seq), report.report.losses.compactMap(\.seq)).relative <= 1e-5)

    let table = report.table
    let bias = try #require(table.parameter(named: "final_layer.linear.bias"))
    for element in [0, 7] {  // of ε, row 0; the output's order is row, column, channel
      var means: [Double] = []
      for sign: Float in [-1, 1] {
        let flat = model.network.weights.flattened()
        flat[bias.range.lowerBound + element] += sign * 0.5
        let moved = try DiT(
          configuration: model.configuration, weights: Weights(table, flat: flat.reading), context: model.context)
        let losses = try moved.loss(clean: clean, times: times, labels: labels, noise: noise, consistency: input)
        means.append(losses.losses.reduce(0) { $0 + ($1.seq ?? 0) } / Double(count))
      }
      let at = bias.range.lowerBound + element
      let found = Double(report.flat[at] - plain.flat[at]) / 10
      let slope = means[1] - means[0]
      #expect(abs(found - slope) < 1e-4 * abs(slope), "element \(element): \(found), slope \(slope)")
    }
  }

  @Test("Draws of another shape are refused by name")
  func drawsOfAnotherShapeAreRefused() throws {
    let model = try randomModel(smallNetwork)
    let input = SequenceLossInput(
      try SequenceConditionals(Self.prior(), context: model.context), weight: 1,
      posteriorNoise: Tensor(zeros: [2, 3, 6, 5]))
    let images = normal([2, 3, 6, 10], seed: 1)
    let error = #expect(throws: DiTError.self) {
      _ = try model.loss(clean: images, times: [1, 2], labels: [0, 1], noise: images, consistency: input)
    }
    #expect(error?.name == "posterior_noise")
  }
}
