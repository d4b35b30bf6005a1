import DiTKernels
import DiTModel
import DiTTensor
import TestSupport
import Testing

/// Networks of other parts than the published ones: outputs and the gradient of every tensor against PyTorch
/// (Scripts/fixtures/parts.py, which Scripts/check_published.py compares with the programs of JiT, pMF and LightningDiT).
@Suite("Parts that the field uses now, and the blocks made of them") struct PartsTests {
  @Test("Outputs and every gradient of each part are PyTorch's", arguments: Part.all, Engine.exact)
  func torch(_ part: Part, _ engine: Engine) throws {
    let (batch, fixture) = (try part.batch(), try part.fixture())
    let network = try batch.network(engine)
    let expected = try fixture.doubles("output")
    #expect(mismatch(network.evaluate(batch), expected, within: .networkOutput) == nil)
    let dy = try fixture.floats("dy")
    for recomputes in [false, true] {
      let ws = TrainingWorkspace(network, samples: batch.samples, recomputes: recomputes)
      let (output, gradients) = network.differentiate(batch, outputGradient: dy, workspace: ws)
      #expect(mismatch(output, expected, within: .networkOutput) == nil)
      for parameter in batch.weights.table.trainableParameters {
        let (found, exact) = (gradients[parameter.range].array, try fixture.doubles("grad.\(parameter.name)"))
        #expect(mismatch(found, exact, within: .networkGradient) == nil, "\(parameter.name), \(recomputes)")
      }
    }
  }

  @Test("In bf16 each part is near PyTorch, no more and no less", arguments: Part.all, Engine.bf16)
  func bf16(_ part: Part, _ engine: Engine) throws {
    let (batch, fixture) = (try part.batch(), try part.fixture())
    let network = try batch.network(engine)
    let dy = try fixture.floats("dy")
    for recomputes in [false, true] {
      let ws = TrainingWorkspace(network, samples: batch.samples, recomputes: recomputes)
      let (output, gradients) = network.differentiate(batch, outputGradient: dy, workspace: ws)
      for (path, found) in [("training", output), ("inference", network.evaluate(batch))] {
        let error = distance(found, try fixture.doubles("output"))
        #expect((1e-4...1e-2).contains(error), "\(path): \(error)")
      }
      for parameter in batch.weights.table.trainableParameters {
        let exact = try fixture.doubles("grad.\(parameter.name)")
        let error = distance(gradients[parameter.range].array, exact)
        #expect(error < 3e-2, "\(parameter.name), \(recomputes): \(error)")
      }
    }
  }

  @Test("The Double reference is PyTorch's network of every part", arguments: Part.all)
  func referenceIsTorch(_ part: Part) throws {
    let fixture = try part.fixture()
    let output = ReferenceNetwork(part.configuration, tensors: try part.tensors()).output(
      try fixture.doubles("x"), try fixture.floats("t"), try fixture.integers("y"))
    // The time features are rounded to Float32, here and there by other libraries.
    #expect(mismatch(output, try fixture.doubles("output"), within: .networkReordered) == nil)
  }

  @Test("A sample of each part alone has the output it has in a batch", arguments: Part.all, Engine.exact)
  func samplesAlone(_ part: Part, _ engine: Engine) throws {
    let batch = try part.batch()
    let network = try batch.network(engine)
    let alone = (0..<batch.samples).flatMap { network.evaluate(batch.sample($0)) }
    #expect(bitDifference(network.evaluate(batch), alone) == nil)
  }

  /// Rows computed once, for others too and in another order, then copied.
  @Test("A condition computed in advance gives the same output", arguments: Part.all, Engine.exact)
  func hoisted(_ part: Part, _ engine: Engine) throws {
    let batch = try part.batch()
    let (network, c) = (try batch.network(engine), batch.configuration)
    let told = (0..<batch.samples).reversed().flatMap { batch.sample($0).times }
    let other = [Float](repeating: 0.5, count: c.timeInputs)
    let hoisted = network.modulation(
      other + told + other, batch.labels.isEmpty ? [] : [0] + batch.labels.reversed() + [1])
    let values = MutableFloatSlice([Float](repeating: .nan, count: Modulation.elements(c, rows: batch.samples + 1)))
    let copied = Modulation(c, rows: batch.samples + 1, values: values)
    copied.copyRows((0..<batch.samples).map { batch.samples - $0 }, from: hoisted)
    let output = MutableFloatSlice(zeros: batch.outputCount)
    network.forward(
      output: output.mutableSpan, images: batch.images.span, modulation: copied, samples: batch.samples,
      workspace: InferenceWorkspace(network, samples: batch.samples + 2))
    #expect(bitDifference(output.array, network.evaluate(batch)) == nil)
  }

  /// Tokens a thousand times smaller than elsewhere, q and k of a hundredth: there ε is a good part of the mean square. The
  /// second norm's own ε is large enough to be seen anywhere.
  @Test("RMSNorm's ε is 1e-6, and a block's second norm has its own", arguments: Engine.exact)
  func epsilon(_ engine: Engine) throws {
    var c = DiTConfiguration(
      inputHeight: 6, inputWidth: 10, patchSize: 2, inChannels: 1, hiddenSize: 24, depth: 1, numHeads: 2, mlpRatio: 2,
      numClasses: 3, learnSigma: false)
    (c.norm, c.qkNorm, c.position, c.norm2Epsilon) = (.rms, true, .rope, 1e-3)
    var (batch, flat) = Case(random: c, times: [999, 3, 437], seed: 96).copy()
    batch.images = batch.images.map { $0 / 1024 }
    let table = batch.weights.table
    flat[try #require(table.parameter(named: "x_embedder.proj.bias")).range].fill(0)
    for (name, width) in [("blocks.0.attn.qkv.weight", 24), ("blocks.0.attn.qkv.bias", 1)] {
      let start = try #require(table.parameter(named: name)).offset
      for i in start..<start + 2 * 24 * width { flat[i] /= 128 }
    }
    let expected = ReferenceNetwork(batch).output(batch.images.doubles, batch.times, batch.labels)
    let network = try batch.network(engine)
    #expect(mismatch(network.evaluate(batch), expected, within: .networkOutput) == nil)
    let (training, _) = network.differentiate(batch, outputGradient: upstream(batch))
    #expect(mismatch(training, expected, within: .networkOutput) == nil)
  }

  /// As counted by Scripts/check_published.py over the programs' own networks; pMF keeps q, k and v apart.
  @Test("The published networks of these parts have the parameters that their programs have")
  func publishedCounts() throws {
    func jit(_ name: String, patch: Int, _ d: Int, depth: Int, heads: Int, bottleneck: Int, start: Int) -> Published {
      var c = DiTConfiguration(
        inputHeight: 16 * patch, inputWidth: 16 * patch, patchSize: patch, inChannels: 3, hiddenSize: d, depth: depth,
        numHeads: heads, learnSigma: false)
      (c.norm, c.mlp, c.qkNorm, c.position) = (.rms, .swiglu, true, .sincosRope)
      (c.patchBottleneck, c.inContextTokens, c.inContextStart) = (bottleneck, 32, start)
      c.bias.patchBottleneck = false
      return Published(name: name, configuration: c)
    }
    var pmf = DiTConfiguration(
      inputHeight: 256, inputWidth: 256, patchSize: 16, inChannels: 3, hiddenSize: 768, depth: 16, numHeads: 12,
      learnSigma: false)
    (pmf.norm, pmf.mlp, pmf.qkNorm, pmf.position) = (.rms, .swiglu, true, .learnedRope)
    (pmf.conditioning, pmf.residualGates, pmf.patchBottleneck) = (.tokens, .vector, 128)
    pmf.tokenGroups = TokenGroups(classes: 8, omega: 4, tMin: 2, tMax: 2, time: 4)
    (pmf.bias.qkv, pmf.bias.proj, pmf.bias.mlp) = (false, false, false)
    var lightning = DiTConfiguration(
      inputHeight: 16, inputWidth: 16, patchSize: 1, inChannels: 32, hiddenSize: 1152, depth: 28, numHeads: 16,
      learnSigma: false)
    (lightning.norm, lightning.mlp, lightning.position) = (.rms, .swiglu, .sincosRope)
    let expected: [(Published, tensors: Int, parameters: Int)] = [
      (jit("JiT-B/16", patch: 16, 768, depth: 12, heads: 12, bottleneck: 128, start: 4), 183, 131_320_320),
      (jit("JiT-B/32", patch: 32, 768, depth: 12, heads: 12, bottleneck: 128, start: 4), 183, 133_387_008),
      (jit("JiT-L/16", patch: 16, 1024, depth: 24, heads: 16, bottleneck: 128, start: 8), 351, 459_139_808),
      (jit("JiT-L/32", patch: 32, 1024, depth: 24, heads: 16, bottleneck: 128, start: 8), 351, 461_796_320),
      (jit("JiT-H/16", patch: 16, 1280, depth: 32, heads: 16, bottleneck: 256, start: 10), 463, 952_842_048),
      (jit("JiT-H/32", patch: 32, 1280, depth: 32, heads: 16, bottleneck: 256, start: 10), 463, 956_383_296),
      (Published(name: "pMF-B/16", configuration: pmf), 190, 118_234_240),
      (Published(name: "LightningDiT-XL/1", configuration: lightning), 349, 675_256_736),
    ]
    for (network, tensors, parameters) in expected {
      try network.configuration.validate()
      let table = ParameterTable(network.configuration)
      #expect(table.parameters.count == tensors, "\(network.name)")
      #expect(table.parameterCount == parameters, "\(network.name)")
    }
  }

  private struct Published {
    let name: String
    let configuration: DiTConfiguration
  }

  /// Of `jit`: 15 image tokens, 4 more in the second of two blocks; D 24, SwiGLU 45, patches of 12 through 5 in, 12 out.
  @Test("Multiply-adds of a network whose tokens join at a block are those counted by hand")
  func multiplyAdds() throws {
    let c = try #require(Part.all.first { $0.name == "jit" }).configuration
    func block(_ tokens: Int) -> Int { tokens * (4 * 24 * 24 + 3 * 24 * 45) + 2 * tokens * tokens * 24 }
    let ends = 15 * (5 * 12 + 5 * 24) + 15 * 24 * 12 + 256 * 24 + 24 * 24
    let modulation = (6 * 2 + 2) * 24 * 24
    #expect(c.multiplyAdds == block(15) + block(19) + ends + modulation)
    #expect(c.totalTokens == 19 && c.tokens(ofBlock: 0) == 15 && c.tokens(ofBlock: 1) == 19)
  }
}

/// The root of the mean square of the error, as a share of the expected numbers' own.
private func distance(_ found: [Float], _ expected: [Double]) -> Double {
  let difference = zip(found, expected).map { Double($0) - $1 }
  return (dot(difference, difference) / dot(expected, expected)).squareRoot()
}

/// A case of Scripts/fixtures/parts.py.
struct Part: CustomTestStringConvertible, Sendable {
  let name: String
  let configuration: DiTConfiguration
  /// Of its weights.
  let seed: Int

  var testDescription: String { name }

  private static let single = DiTConfiguration(
    inputHeight: 6, inputWidth: 10, patchSize: 2, inChannels: 1, hiddenSize: 16, depth: 1, numHeads: 2, mlpRatio: 2,
    numClasses: 3, learnSigma: false)

  private static let cases: [(name: String, base: DiTConfiguration, edit: @Sendable (inout DiTConfiguration) -> Void)] =
    [
      (
        "jit", single,
        {
          ($0.inChannels, $0.hiddenSize, $0.depth, $0.numClasses, $0.mlpRatio) = (3, 24, 2, 4, 4)
          ($0.position, $0.norm, $0.mlp, $0.mlpHidden, $0.qkNorm) = (.sincosRope, .rms, .swiglu, 45, true)
          ($0.patchBottleneck, $0.inContextTokens, $0.inContextStart) = (5, 4, 1)
          $0.bias.patchBottleneck = false
        }
      ),
      (
        "pmf", single,
        {
          ($0.inputWidth, $0.inChannels, $0.hiddenSize, $0.depth, $0.numHeads) = (6, 3, 20, 2, 1)
          ($0.position, $0.norm, $0.mlp, $0.mlpHidden, $0.qkNorm) = (.learnedRope, .rms, .swiglu, 27, true)
          ($0.conditioning, $0.residualGates, $0.patchBottleneck) = (.tokens, .vector, 7)
          $0.tokenGroups = TokenGroups(classes: 3, omega: 2, tMin: 1, tMax: 1, time: 2)
          ($0.bias.qkv, $0.bias.proj, $0.bias.mlp) = (false, false, false)
        }
      ),
      (
        "lightningdit", single,
        {
          ($0.inputHeight, $0.inputWidth, $0.patchSize, $0.inChannels) = (3, 3, 1, 5)
          ($0.hiddenSize, $0.depth, $0.position, $0.norm, $0.mlp) = (24, 2, .sincosRope, .rms, .swiglu)
        }
      ),
      ("rms", single, { $0.norm = .rms }),
      ("rms_in_context", single, { ($0.norm, $0.conditioning) = (.rms, .inContext) }),
      ("swiglu", single, { ($0.mlp, $0.mlpHidden) = (.swiglu, 19) }),
      ("qk_norm", single, { $0.qkNorm = true }),
      ("sincos_rope", single, { $0.position = .sincosRope }),
      ("learned_rope", single, { $0.position = .learnedRope }),
      ("bottleneck", single, { ($0.patchBottleneck, $0.inChannels) = (3, 3) }),
      ("in_context_tokens", single, { $0.inContextTokens = 3 }),
      (
        "in_context_tokens_later", single,
        { ($0.depth, $0.inContextTokens, $0.inContextStart) = (2, 2, 1) }
      ),
      (
        "tokens", single,
        { ($0.conditioning, $0.tokenGroups) = (.tokens, TokenGroups(classes: 2, time: 1)) }
      ),
      ("vector_gates", single, { ($0.conditioning, $0.residualGates) = (.adaLN, .vector) }),
      ("no_bias", single, { ($0.bias.qkv, $0.bias.proj, $0.bias.mlp) = (false, false, false) }),
      ("swiglu_no_bias", single, { ($0.mlp, $0.bias.mlp) = (.swiglu, false) }),
    ]

  static let all: [Part] = cases.enumerated().map { index, entry in
    var configuration = entry.base
    entry.edit(&configuration)
    return Part(name: entry.name, configuration: configuration, seed: 900 + index)
  }

  /// All of them as batches; none where the fixtures are missing, which other tests say.
  static let batches = all.compactMap { try? $0.batch() }

  func fixture() throws -> Fixture { try Fixture("parts/\(name)") }

  /// The tensors that PyTorch's network has, whatever a table of ours says.
  func tensors() throws -> [String: [Double]] {
    let fixture = try fixture()
    let drawn = try fixture.names.filter { $0.hasPrefix("grad.") }.map { name in
      let own = String(name.dropFirst("grad.".count))
      return (own, weights(own, try fixture.shape(name)).doubles)
    }
    let stored = try fixture.names.filter { $0.hasPrefix("weights.") }.map { name in
      (String(name.dropFirst("weights.".count)), try fixture.doubles(name))
    }
    return Dictionary(uniqueKeysWithValues: drawn + stored)
  }

  /// The case with the weights of the formula; a fixed position table is the stored one.
  func batch() throws -> Case {
    let (c, fixture) = (configuration, try fixture())
    let table = ParameterTable(c)
    let gradients = table.trainableParameters.map { "grad.\($0.name)" }
    #expect(gradients.sorted() == fixture.names.filter { $0.hasPrefix("grad.") }.sorted())
    for parameter in table.trainableParameters {
      try #expect(parameter.shape == fixture.shape("grad.\(parameter.name)"), "\(parameter.name)")
    }
    let slices = try table.parameters.map { parameter in
      let stored = "weights.\(parameter.name)"
      return FloatSlice(
        fixture.names.contains(stored) ? try fixture.floats(stored) : weights(parameter.name, parameter.shape))
    }
    return Case(
      configuration: c, weights: Weights(table, slices: slices), images: try fixture.floats("x"),
      times: try fixture.floats("t"), labels: try fixture.integers("y"))
  }

  private func weights(_ name: String, _ shape: [Int]) -> [Float] { drawnWeights(name, shape, seed: seed) }
}
