import DiTKernels
import DiTModel
import DiTTensor
import TestSupport
import Testing

/// A new network: xavier-uniform products, small tables, and zeros where the published network has them.
@Suite("Weights of a new network") struct InitializationTests {
  private static let configuration = DiTConfiguration(
    inputHeight: 12, inputWidth: 20, patchSize: 4, inChannels: 3, hiddenSize: 40, depth: 2, numHeads: 5, numClasses: 5)

  private static func values(_ name: String, seed: UInt64 = 1) throws -> [Double] {
    let slice = Weights.initialized(configuration, seed: seed).weights[name]
    return try #require(slice).array.doubles
  }

  /// U(−a, a) with a = √(6 / (fanIn + fanOut)): never beyond, up to the bound, and of variance a²/3. The patch embedding's
  /// weight counts as [D, C·P²].
  @Test(
    "Linear weights are uniform within the Xavier bound",
    arguments: [
      ("x_embedder.proj.weight", 48 + 40), ("blocks.0.attn.qkv.weight", 40 + 120),
      ("blocks.1.attn.proj.weight", 40 + 40),
      ("blocks.0.mlp.fc1.weight", 40 + 160), ("blocks.1.mlp.fc2.weight", 160 + 40),
    ])
  func xavier(_ name: String, _ fans: Int) throws {
    let (values, bound) = (try Self.values(name), (6 / Double(fans)).squareRoot())
    #expect(values.allSatisfy { abs($0) <= bound * (1 + 1e-6) })
    #expect((values.max() ?? 0) > 0.98 * bound && (values.min() ?? 0) < -0.98 * bound)
    let variance = dot(values, values) / Double(values.count)
    // A mean of n squares of a uniform: its deviation is √(4/5 / n) of itself.
    #expect(abs(variance / (bound * bound / 3) - 1) < 4.5 * (0.8 / Double(values.count)).squareRoot())
  }

  /// N(0, 0.02²).
  @Test(
    "Embedding tables and time weights are normal with deviation 0.02",
    arguments: ["t_embedder.mlp.0.weight", "t_embedder.mlp.2.weight", "y_embedder.embedding_table.weight"])
  func small(_ name: String) throws {
    let values = try Self.values(name)
    let n = Double(values.count)
    #expect(abs(values.reduce(0, +) / n) < 4.5 * 0.02 / n.squareRoot())
    #expect(abs(dot(values, values) / n / 4e-4 - 1) < 4.5 * (2 / n).squareRoot())
    #expect(values.contains { abs($0) > 0.04 }, "a normal has tails that a uniform has not")
  }

  @Test("Biases, modulation and the last layer start at zero, and nothing else does")
  func zeros() throws {
    let (weights, flat) = Weights.initialized(Self.configuration, seed: 1)
    for (parameter, slice) in zip(weights.table.parameters, weights.slices) {
      let isZero =
        parameter.name.hasSuffix("bias") || parameter.name.contains("adaLN") || parameter.name.contains("final")
      #expect(slice.array.allSatisfy { $0 == 0 } == isZero, "\(parameter.name)")
    }
    // The padding between tensors is zero too, and the slices are views of the flat buffer.
    var rest = flat.array
    for parameter in weights.table.parameters {
      #expect(bitDifference(weights[parameter.name]?.array ?? [], Array(rest[parameter.range])) == nil)
      for i in parameter.range { rest[i] = 0 }
    }
    #expect(rest.allSatisfy { $0 == 0 })
  }

  /// LayerNorms of their own begin as the identity, a sequence's tables are small, learned positions begin as the fixed.
  @Test("Optional parts start as documented: norms as identity, positions as the fixed ones")
  func options() throws {
    var c = Self.configuration
    (c.conditioning, c.position, c.sequence) = (.additive, .learned, .text(length: 6))
    let weights = Weights.initialized(c, seed: 1).weights
    for (parameter, slice) in zip(weights.table.parameters, weights.slices) where parameter.name.contains("norm") {
      let value: Float = parameter.name.hasSuffix("weight") ? 1 : 0
      #expect(slice.array.allSatisfy { $0 == value }, "\(parameter.name)")
    }
    for name in ["text_embedder.table", "text_embedder.pos_embed"] {
      let values = try #require(weights[name]).array.doubles
      let n = Double(values.count)
      #expect(abs(dot(values, values) / n / 4e-4 - 1) < 4.5 * (2 / n).squareRoot(), "\(name)")
    }
    let fixed = Weights.initialized(Self.configuration, seed: 1).weights["pos_embed"]?.array
    #expect(weights["pos_embed"]?.array == fixed)
  }

  @Test("New gates and norms of any kind are one, tokens of their own small, and a first output is zero")
  func parts() throws {
    for part in Part.all {
      let weights = Weights.initialized(part.configuration, seed: 3).weights
      for (parameter, slice) in zip(weights.table.parameters, weights.slices) {
        let (name, values) = (parameter.name, slice.array)
        if name.hasSuffix("_scale") || name.contains("norm") && name.hasSuffix("weight") {
          #expect(values.allSatisfy { $0 == 1 }, "\(part.name): \(name)")
        } else if name.hasSuffix("_tokens") || name == "in_context_posemb" {
          #expect(values.allSatisfy { abs($0) < 0.2 } && values.contains { $0 != 0 }, "\(part.name): \(name)")
        }
      }
      let batch = try part.batch()
      let fresh = Case(
        configuration: part.configuration, weights: weights, images: batch.images, times: batch.times,
        labels: batch.labels)
      #expect(try fresh.network(Engine.exact[0]).evaluate(fresh).allSatisfy { $0 == 0 }, "\(part.name)")
    }
  }

  /// Not square, and odd in both extents: torch's table for 3 × 5 patches. Both round a Double formula to Float.
  @Test("Position tables are the fixtures' torch tables", arguments: Case.fixtures)
  func positions(_ name: String) throws {
    let configuration = try Case(fixture: name).configuration
    let found = try #require(Weights.initialized(configuration, seed: 1).weights["pos_embed"])
    try #expect(mismatch(found.array, Fixture("\(name)/model").doubles("pos_embed"), within: .roundings(2)) == nil)
  }

  /// A seed is a network; each tensor has a stream of its own.
  @Test("A seed decides every weight, and each tensor has a stream of its own")
  func seeds() throws {
    let again = Weights.initialized(Self.configuration, seed: 1).flat.array
    #expect(bitDifference(Weights.initialized(Self.configuration, seed: 1).flat.array, again) == nil)
    #expect(bitDifference(Weights.initialized(Self.configuration, seed: 2).flat.array, again) != nil)
    let (a, b) = (try Self.values("blocks.0.attn.qkv.weight"), try Self.values("blocks.1.attn.qkv.weight"))
    #expect(abs(dot(a, b) / (dot(a, a) * dot(b, b)).squareRoot()) < 4.5 / Double(a.count).squareRoot())
  }

  /// With its last layer at zero the first output is exactly zero, so the first error of ε is its variance, 1.
  @Test("A new network's output is zero, and only its last layer has a gradient", arguments: Engine.all)
  func firstOutputIsZero(_ engine: Engine) throws {
    let (weights, _) = Weights.initialized(Self.configuration, seed: 3)
    var draw = Draw(seed: 94)
    let images = draw.normal(2 * Self.configuration.imageElements)
    let batch = Case(
      configuration: Self.configuration, weights: weights, images: images, times: [0, 999], labels: [5, 0])
    let network = try batch.network(engine)
    #expect(network.evaluate(batch).allSatisfy { $0 == 0 })
    let (output, gradients) = network.differentiate(batch, outputGradient: upstream(batch))
    #expect(output.allSatisfy { $0 == 0 })
    // Only the last layer can learn from it at first.
    for parameter in weights.table.parameters {
      let isZero = gradients[parameter.range].array.allSatisfy { $0 == 0 }
      #expect(isZero == !parameter.name.hasPrefix("final_layer.linear"), "\(parameter.name)")
    }
  }
}
