import DiTDiffusion
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import TestSupport
import Testing

@Suite("Classes between others")
struct MixtureTests {
  private func network(_ change: (inout DiTConfiguration) -> Void = { _ in }) -> DiTConfiguration {
    var network = smallNetwork
    network.numClasses = 4
    network.learnSigma = false
    change(&network)
    return network
  }

  /// Shared and per-block tables, tokens in context, no null class.
  @Test(
    "A mixture of one class has that class's bits, whatever kind of network; the old classes and the null class keep theirs"
  )
  func mixturesOfOne() throws {
    let networks = [
      network(), network { $0.embedders = .perBlock },
      network { ($0.inContextTokens, $0.inContextStart) = (2, 1) }, network { $0.classDropoutProb = 0 },
    ]
    for network in networks {
      let model = try randomModel(network)
      let mixed = try model.addingMixtures([[2: 1], [0: 0.25, 3: 0.75]])
      #expect(mixed.configuration.network.numClasses == 6)
      let x = normal([6, network.inChannels, network.inputHeight, network.inputWidth], seed: 4)
      let same = Tensor(shape: x.shape, elements: (0..<6).flatMap { _ in x.prefix(1).elements })
      let times = [Float](repeating: 300, count: 6)
      let null = network.hasNullClass
      let old = try model.predict(images: same, times: times, labels: [0, 1, 2, 3, null ? 4 : 3, 2])
      let new = try mixed.predict(images: same, times: times, labels: [0, 1, 2, 3, null ? 6 : 3, 4])
      #expect(new == old, "\(network.conditioning) \(network.embedders)")
      let between = try mixed.predict(images: same.prefix(1), times: [300], labels: [5])
      #expect(between != old.range(0..<1) && between != old.range(3..<4))
    }
  }

  @Test("Embeddings are summed by weight, and classes have names")
  func sums() throws {
    var model = try DiT(contentsOf: networkFixture("digits"), context: ComputeContext(threads: 1, workers: 1))
    var configuration = model.configuration
    configuration.classNames = (0..<10).map { "n\($0)" }
    model = try DiT(configuration: configuration, weights: model.network.weights, context: model.context)
    let mixed = try model.addingMixtures([[3: 0.5, 8: 0.25, 10: 0.25]])
    let (old, new) = (
      try #require(model.network.weights["y_embedder.embedding_table.weight"]).array,
      try #require(mixed.network.weights["y_embedder.embedding_table.weight"]).array
    )
    let d = configuration.network.hiddenSize
    #expect(new.count == old.count + d && Array(new[..<(10 * d)]) == Array(old[..<(10 * d)]))
    #expect(Array(new[(11 * d)...]) == Array(old[(10 * d)...]), "the null class stays last")
    for i in 0..<d {
      let rows = [3, 8, 10].map { Double(old[$0 * d + i]) }
      let sum = 0.5 * rows[0] + 0.25 * rows[1] + 0.25 * rows[2]
      #expect(new[10 * d + i] == Float(sum))
    }
    #expect(mixed.configuration.className(10) == "0.5 n3 + 0.25 n8 + 0.25 10")
    #expect(try mixed.sample(.classes([3, 10])).labels == [3, 10])
  }

  @Test("What is no mixture is refused by name")
  func refusals() throws {
    let (model, plain) = (try randomModel(network()), try randomModel(network { $0.numClasses = 0 }))
    let cases: [(DiT, [[Int: Double]], String)] = [
      (plain, [[0: 1]], "classes: expected none, as the model is unconditional, found 1 mixtures"),
      (model, [[0: 1], [:]], "classes: expected at least one class in a mixture, found none"),
      (model, [[5: 1]], "classes: expected 0…4, found 5"), (model, [[-1: 1]], "classes: expected 0…4, found -1"),
      (model, [[0: .nan]], "classes: expected finite weights, found nan of class 0"),
      (model, [[0: 1], [1: 1e300]], "classes: expected finite sums of embeddings, found others in mixture 1"),
    ]
    for (model, mixtures, message) in cases {
      let error = #expect(throws: DiTError.self) { try model.addingMixtures(mixtures) }
      #expect(error?.description == message)
    }
  }
}
