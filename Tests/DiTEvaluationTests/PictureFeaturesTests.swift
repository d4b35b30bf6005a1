import DiTDistributed
import DiTEvaluation
import DiTFeatures
import DiTKernels
import DiTTensor
import Foundation
import TestSupport
import Testing

@Suite("Distances in a network's features") struct PictureFeaturesTests {
  private let context: ComputeContext

  init() throws { context = try ComputeContext(threads: 2) }

  /// Gray pictures of 8 bits, read as x/127.5 − 1.
  private func pictures(_ name: String, _ count: Int, labels: [Int]? = nil) -> SampleSet {
    let bytes = hashed(name, count * 64).map { UInt8(256 * $0) }
    return SampleSet(name: name, shape: [1, 8, 8], store: ByteStore(depth: 64, bytes: bytes), labels: labels)
  }

  /// The outputs straight from the network.
  private func outputs(_ set: SampleSet, _ network: FeatureNetwork, _ output: FeatureOutput) throws -> SampleSet {
    let bytes = hashed(set.name, set.count * 64).map { Float(UInt8(256 * $0)) }
    let found = try network.outputs([output], count: set.count, shape: (1, 8, 8)) { index, target in
      for i in target.indices { target[i] = bytes[index * 64 + i] }
    }
    return SampleSet(set.name, depth: try #require(network.count(of: output)), found[0], labels: set.labels)
  }

  @Test("Every measure of features is that of the network's numbers taken for samples; copies stay in pixels")
  func measures() throws {
    let network = try FeatureNetwork(HashedWeights("efficientnet"), context: context)
    let labels = (0..<20).map { $0 % 2 }
    let (a, b) = (pictures("a", 20, labels: labels), pictures("b", 20, labels: labels))
    var counts: [Int] = []
    let features = try [a, b].map {
      try PictureFeatures(of: .samples($0), by: network) { done, total in counts.append(100 * total + done) }
    }
    #expect(counts == [2000, 2020, 2000, 2020] && features[0].spatial == nil && features[0].logits?.depth == 1000)
    var options = EvaluationOptions()
    options.resamples = 3
    let found = try Evaluation(
      of: .samples(a), against: .samples(b), in: (features[0], features[1]), options: options, on: context)
    let plain = try evaluate(try outputs(a, network, .features), try outputs(b, network, .features)) { options in
      (options.resamples, options.copies) = (3, false)
    }
    #expect(found.frechet == plain.frechet && found.precisionRecall == plain.precisionRecall)
    #expect(found.densityCoverage == plain.densityCoverage && found.classes == plain.classes && found.classes != nil)
    #expect(found.bootstrap == plain.bootstrap && found.bootstrap != nil && found.dimensions == 1280)
    #expect(found.spatialFrechet == nil && found.inceptionScore == nil, "it is no Inception")
    #expect(
      found.warnings.first?.hasSuffix("as many samples, or take more of them") == true
        && plain.warnings.first?.hasSuffix("or use fewer principal components") == true)
    #expect(found.copies == (try evaluate(a, b).copies))

    let statistics = EvaluationInput.statistics(try Statistics(of: try outputs(b, network, .features), on: context))
    let kept = try PictureFeatures(of: statistics, by: network)
    let against = try Evaluation(of: .samples(a), against: statistics, in: (features[0], kept), on: context)
    #expect(agrees(against.frechet?.value, try #require(found.frechet?.value), 1e-9))
    #expect(against.precisionRecall == nil && against.copies == nil)
  }

  @Test("Inception's spatial features give sFID, its classes the Inception Score")
  func inception() throws {
    let network = try FeatureNetwork(HashedWeights("inception"), context: context)
    let (a, b) = (pictures("a", 3), pictures("b", 3))
    let features = try [a, b].map { try PictureFeatures(of: .samples($0), by: network) }
    let options = EvaluationOptions(measures: [.frechet, .spatial, .inception])
    let found = try Evaluation(
      of: .samples(a), against: .samples(b), in: (features[0], features[1]), options: options, on: context)
    let spatial = try [a, b].map { try outputs($0, network, .spatial) }
    #expect(found.spatialFrechet == (try evaluate(spatial[0], spatial[1]) { $0 = options }.frechet))
    #expect(found.spatialFrechet != found.frechet && found.inceptionScore?.parts == 1)
    #expect(found.precisionRecall == nil && found.copies == nil && found.classes == nil)
    #expect(
      found.warnings.map { String($0.prefix { $0 != "g" }) } == [
        "a: 3 samples of 2048 numbers ", "b: 3 samples of 2048 numbers ", "a: 3 samples of 2023 numbers ",
        "b: 3 samples of 2023 numbers ",
      ])

    // As ADM's archives: statistics of all pictures, and some of the pictures.
    let parts = try [FeatureOutput.features, .spatial].map {
      try Statistics(of: try outputs(b, network, $0), on: context)
    }
    let archive = EvaluationInput.samples(pictures("c", 5), statistics: parts[0], spatial: parts[1])
    let kept = try PictureFeatures(of: archive, by: network, outputs: [.features])
    let against = try Evaluation(
      of: .samples(a), against: archive, in: (features[0], kept),
      options: EvaluationOptions(measures: [.frechet, .spatial]), on: context)
    #expect(agrees(against.frechet?.value, try #require(found.frechet?.value), 1e-9))
    #expect(agrees(against.spatialFrechet?.value, try #require(found.spatialFrechet?.value), 1e-9))
    #expect(kept.features.set?.count == 5)
  }

  @Test("The Inception Score is torch-fidelity's")
  func score() throws {
    let fixture = try Fixture("inception", folder: "features")
    let found = try InceptionScore(SampleSet("logits", depth: 12, try fixture.floats("score.logits")))
    let expected = try fixture.doubles("score")
    #expect(agrees(found.mean, expected[0], 1e-9) && agrees(found.standardDeviation, expected[1], 1e-9))
    #expect(found.parts == 10)
  }

  @Test("Any number of processes finds the same features")
  func shared() throws {
    let weights = try HashedWeights("efficientnet")
    let set = pictures("a", 11)
    let alone = try PictureFeatures(
      of: .samples(set), by: FeatureNetwork(weights, context: context), outputs: [.features])
    let numbers = try #require(try alone.features.set?.elements(0..<11))
    let found = try LocalGroup(3).run { group in
      let network = try FeatureNetwork(weights, context: ComputeContext(threads: 1))
      return try PictureFeatures(of: .samples(set), by: network, outputs: [.features], group: group)
        .features.set?.elements(0..<11)
    }
    #expect(found == [numbers, numbers, numbers])
  }

  @Test("Samples that are no pictures, and statistics of other features, are refused by name")
  func refused() throws {
    let network = try FeatureNetwork(HashedWeights("efficientnet"), context: context)
    let latents = SampleSet(
      name: "l", shape: [4, 2, 2], store: FloatStore(depth: 16, elements: Array(repeating: 0, count: 32)))
    let first = #expect(throws: DiTError.self) { try PictureFeatures(of: .samples(latents), by: network) }
    #expect(first?.found == "samples of shape [4, 2, 2]")
    let other = try Statistics(name: "s.npz", mean: [0, 0], covariance: [1, 0, 0, 1])
    let second = #expect(throws: DiTError.self) { try PictureFeatures(of: .statistics(other), by: network) }
    #expect(
      "\(try #require(second))".hasPrefix("s.npz: mu")
        && second?.expected == "1280 numbers, as efficientnet-lite0's features are")
    #expect(second?.found == "2")
  }
}
