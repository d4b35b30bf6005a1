import DiTKernels
import DiTModel
import DiTTensor
import TestSupport
import Testing

/// Positions, time frequencies, conditioning variants and sequences: outputs and the gradient of every tensor against
/// PyTorch (Scripts/fixtures/variants.py), each engine against the others, and a sample alone against its batch.
@Suite("Variants: positions, conditioning, sequences and attention") struct VariantTests {
  @Test("Outputs and every gradient of each variant are PyTorch's", arguments: Variant.all, Engine.exact)
  func torch(_ variant: Variant, _ engine: Engine) throws {
    let (batch, fixture) = (try variant.batch(), try variant.fixture())
    let network = try batch.network(engine)
    let expected = try fixture.doubles("output")
    #expect(mismatch(network.evaluate(batch), expected, within: .networkOutput) == nil)
    let dy = try fixture.floats("dy")
    for recomputes in [false, true] {
      let ws = TrainingWorkspace(network, samples: batch.samples, recomputes: recomputes)
      let (output, gradients) = network.differentiate(batch, outputGradient: dy, workspace: ws)
      #expect(mismatch(output, expected, within: .networkOutput) == nil)
      for parameter in batch.weights.table.trainableParameters {
        let found = try variant.rows(parameter, gradients[parameter.range].array)
        let name = "grad.\(parameter.name)"
        let exact = fixture.names.contains(name) ? try fixture.doubles(name) : found.map { _ in 0 }
        #expect(mismatch(found, exact, within: .networkGradient) == nil, "\(parameter.name), \(recomputes)")
      }
    }
  }

  /// What comes from other processes while the pass goes on.
  @Test("The forward pass reads no weights before it has said that it needs them", arguments: Variant.all)
  func needed(_ variant: Variant) throws {
    let batch = try variant.batch()
    let (_, all) = batch.copy()
    let (late, flat) = batch.copy()
    for parameter in batch.weights.table.trainableParameters { flat[parameter.range].fill(.nan) }
    var asked: [Int] = []
    func output(_ network: DiTNetwork, needs: ((Int) -> Void)?) -> [Float] {
      let output = MutableFloatSlice([Float](repeating: .nan, count: batch.outputCount))
      network.trainingForward(
        output: output.mutableSpan, images: batch.images.span, times: batch.times.span, labels: batch.labels.span,
        sequence: batch.sequence, workspace: TrainingWorkspace(network, samples: batch.samples), needs: needs)
      return output.array
    }
    let found = output(try late.network(Engine.exact[0])) { offset in
      let start = asked.last ?? 0
      flat[start..<offset].copy(from: all[start..<offset].reading)
      asked.append(offset)
    }
    #expect(bitDifference(found, output(try batch.network(Engine.exact[0]), needs: nil)) == nil)
    let c = variant.configuration
    let isBlockwise = c.embedders == .shared && !c.attention.hasGate
    #expect(asked.count == (isBlockwise ? c.depth + 2 : 1) && asked == asked.sorted() && asked.last == flat.count)
  }

  /// What is sent to other processes while the pass goes on.
  @Test(
    "What the backward pass calls finished does not change any more; it does so block by block", arguments: Variant.all)
  func finished(_ variant: Variant) throws {
    let (batch, fixture) = (try variant.batch(), try variant.fixture())
    let network = try batch.network(Engine.exact[0])
    var told: [(offset: Int, values: [Float])] = []
    let (_, gradients) = network.differentiate(batch, outputGradient: try fixture.floats("dy")) { offset, gradients in
      told.append((offset, gradients[offset..<gradients.count].array))
    }
    for (offset, values) in told {
      #expect(bitDifference(values, gradients[offset..<gradients.count].array) == nil, "from \(offset) on")
    }
    let c = variant.configuration
    let isTold = c.embedders == .shared && !c.attention.hasGate
    #expect(told.count == (isTold ? c.depth + 1 : 0) && told.map(\.offset) == told.map(\.offset).sorted(by: >))
  }

  /// bf16: near, no more and no less, as for the published options.
  @Test("In bf16 each variant is near PyTorch, no more and no less", arguments: Variant.all, Engine.bf16)
  func bf16(_ variant: Variant, _ engine: Engine) throws {
    let (batch, fixture) = (try variant.batch(), try variant.fixture())
    let network = try batch.network(engine)
    let (output, gradients) = network.differentiate(batch, outputGradient: try fixture.floats("dy"))
    // Inference computes the conditioning over packed weights, training by OpenBLAS.
    for (path, found) in [("training", output), ("inference", network.evaluate(batch))] {
      let error = distance(found, try fixture.doubles("output"))
      #expect((1e-4...1e-2).contains(error), "\(path): \(error)")
    }
    for parameter in batch.weights.table.trainableParameters {
      let name = "grad.\(parameter.name)"
      guard fixture.names.contains(name) else { continue }
      let found = try variant.rows(parameter, gradients[parameter.range].array)
      let error = distance(found, try fixture.doubles(name))
      // A temperature multiplies the logits, and with them what q and k were rounded by.
      let limit = variant.configuration.attention.isStandard ? 3e-2 : 6e-2
      #expect(error < limit, "\(parameter.name): \(error)")
    }
  }

  /// Each sample's sequence, class and time are its own, and padding is nobody's.
  @Test("A sample of each variant alone has the output it has in a batch", arguments: Variant.all, Engine.exact)
  func samplesAlone(_ variant: Variant, _ engine: Engine) throws {
    let batch = try variant.batch()
    let network = try batch.network(engine)
    let alone = (0..<batch.samples).flatMap { network.evaluate(batch.sample($0)) }
    #expect(bitDifference(network.evaluate(batch), alone) == nil)
  }

  /// Rows computed once, for others too and in another order, then copied.
  @Test("Modulation and sequences computed in advance give the same output", arguments: Variant.all, Engine.exact)
  func hoisted(_ variant: Variant, _ engine: Engine) throws {
    let batch = try variant.batch()
    let (network, c) = (try batch.network(engine), batch.configuration)
    let hoisted = network.modulation(
      [500] + batch.times.reversed() + [0], batch.labels.isEmpty ? [] : [0] + batch.labels.reversed() + [1])
    let values = MutableFloatSlice([Float](repeating: .nan, count: Modulation.elements(c, rows: batch.samples + 1)))
    let copied = Modulation(c, rows: batch.samples + 1, values: values)
    copied.copyRows((0..<batch.samples).map { batch.samples - $0 }, from: hoisted)
    var sequence: SequenceTokens?
    if let input = batch.sequence {
      let embedded = network.embed(input)
      var tokens = SequenceTokens(c, samples: batch.samples + 1)
      for n in 0..<batch.samples { tokens.copySample(n, from: embedded, n) }
      sequence = tokens
    }
    let output = MutableFloatSlice(zeros: batch.outputCount)
    network.forward(
      output: output.mutableSpan, images: batch.images.span, modulation: copied, sequence: sequence,
      samples: batch.samples, workspace: InferenceWorkspace(network, samples: batch.samples + 2))
    #expect(bitDifference(output.array, network.evaluate(batch)) == nil)
  }

  /// What lies in a text's padding, or in an image that is not there, changes nothing.
  @Test(
    "What lies in the padding of a sequence changes no bit",
    arguments: Variant.all.filter { $0.configuration.sequence != nil })
  func paddingIsNotSeen(_ variant: Variant) throws {
    var batch = try variant.batch()
    let network = try batch.network(Engine.exact[0])
    let c = batch.configuration
    let dy = try variant.fixture().floats("dy")
    let before = network.differentiate(batch, outputGradient: dy)
    var dirty = SequenceInput(c, samples: batch.samples, content: batch.sequence?.content)
    for n in 0..<batch.samples {
      switch dirty.content {
      case .text: dirty.set(n, text: [UInt8](repeating: 200, count: c.sequenceLength).span)
      case .image: dirty.set(n, image: [Float](repeating: 9, count: c.inChannels * 12).span)
      case .embeddings:
        dirty.set(n, embeddings: [Float](repeating: 9, count: c.sequenceLength * c.hiddenSize).span)
      }
    }
    let full = dirty
    try variant.fill(&dirty)
    batch.sequence = dirty
    let after = network.differentiate(batch, outputGradient: dy)
    #expect(bitDifference(after.output, before.output) == nil)
    #expect(bitDifference(after.gradients.array, before.gradients.array) == nil)
    batch.sequence = full
    #expect(mismatch(network.evaluate(batch), before.output.doubles, within: .networkReordered) != nil, "not read")
  }

  /// Counts of tensors, of parameters and of multiply-adds, by hand from the published state-dict names.
  @Test("Parameters and multiply-adds of each variant are those counted by hand")
  func parametersAndMultiplyAdds() throws {
    for variant in Variant.all {
      let (c, fixture) = (variant.configuration, try variant.fixture())
      try c.validate()
      let table = ParameterTable(c)
      let stored = try fixture.names.filter { $0.hasPrefix("weights.") }.map { name in
        name.hasSuffix("text_embedder.table") ? 256 * c.hiddenSize : try fixture.shape(name).reduce(1, *)
      }
      #expect(table.parameterCount == stored.reduce(0, +), "\(variant.name)")
      let frozen = c.position == .sincos ? c.tokens * c.hiddenSize : 0
      #expect(table.trainableCount == table.parameterCount - frozen, "\(variant.name)")
      let first = c.position == .sincos ? table.parameters[1].offset : 0
      #expect(table.trainable == [first..<table.elementCount], "\(variant.name)")
    }
    // 16 image tokens and 2 + 7 before them; D = 16, two blocks, MLP 32; patches of 8 in, 16 out.
    let c = try #require(Variant.all.first { $0.name == "text_rope_in_context" }).configuration
    #expect(c.totalTokens == 25)
    let block = 25 * (3 * 16 * 16 + 16 * 16 + 2 * 16 * 32) + 2 * 25 * 25 * 16
    #expect(c.multiplyAdds == 2 * block + 16 * 16 * (8 + 16) + 256 * 16 + 16 * 16)
  }

  @Test(
    "Positions are resampled as PyTorch interpolates them",
    arguments: ["4x4to8x8", "4x4to2x2", "3x5to7x4", "2x6to2x6", "1x3to2x5"])
  func resampling(_ name: String) throws {
    let fixture = try Fixture("variants/resampled")
    let sizes = name.split { !$0.isNumber }.compactMap { Int($0) }
    let (table, expected) = try (fixture.floats("\(name).from"), fixture.doubles("\(name).to"))
    let output = MutableFloatSlice(zeros: expected.count)
    resamplePositions(
      output: output.mutableSpan, table: table.span, from: (sizes[0], sizes[1]),
      to: (sizes[2], sizes[3]), width: 6)
    #expect(mismatch(output.array, expected, within: .roundings(4)) == nil)
  }
}

/// The root of the mean square of the error, as a share of the expected numbers' own.
private func distance(_ found: [Float], _ expected: [Double]) -> Double {
  let difference = zip(found, expected).map { Double($0) - $1 }
  return (dot(difference, difference) / dot(expected, expected)).squareRoot()
}

/// A case of Scripts/fixtures/variants.py.
struct Variant: CustomTestStringConvertible, Sendable {
  let name: String
  let configuration: DiTConfiguration

  var testDescription: String { name }

  private static let square = DiTConfiguration(
    inputHeight: 8, inputWidth: 8, patchSize: 2, inChannels: 2, hiddenSize: 16, depth: 2, numHeads: 2, mlpRatio: 2,
    numClasses: 5)
  private static let oblong = DiTConfiguration(
    inputHeight: 4, inputWidth: 10, patchSize: 2, inChannels: 1, hiddenSize: 24, depth: 1, numHeads: 2, mlpRatio: 1,
    numClasses: 3, learnSigma: false)

  static let all: [Variant] = [
    Variant("learned_literal_adaln", square) {
      $0.position = .learned
      $0.timeFrequencies = .literal
      $0.conditioning = .adaLN
    },
    Variant("rope_additive", oblong) {
      $0.position = .rope
      $0.conditioning = .additive
    },
    Variant("in_context", oblong) { $0.conditioning = .inContext },
    Variant("text", oblong) {
      $0.numClasses = 0
      $0.sequence = .text(length: 9)
    },
    Variant("text_rope_in_context", square) {
      $0.sequence = .text(length: 7)
      $0.position = .rope
      $0.conditioning = .inContext
    },
    Variant("image_adaln", oblong) {
      $0.sequence = .image(height: 2, width: 6)
      $0.conditioning = .adaLN
    },
    Variant("sqrt_beta", oblong) { $0.attention.temperature = .sqrtBeta },
    Variant("inverse_sqrt_beta_text", oblong) {
      $0.numClasses = 0
      $0.sequence = .text(length: 9)
      $0.attention.temperature = .inverseSqrtBeta
    },
    Variant("soft_signal", square) { $0.attention = AttentionConfiguration(mask: .soft, window: .signal) },
    Variant("hard_noise_grid", oblong) {
      $0.attention = AttentionConfiguration(temperature: .sqrtBeta, mask: .hard, window: .noise, distance: .grid)
    },
    Variant("soft_noise_text", oblong) {
      $0.sequence = .text(length: 8)
      $0.conditioning = .adaLN
      $0.attention = AttentionConfiguration(mask: .soft, window: .noise)
    },
    Variant("soft_grid_in_context", square) {
      $0.conditioning = .inContext
      $0.position = .rope
      $0.attention = AttentionConfiguration(mask: .soft, window: .signal, distance: .grid)
    },
    Variant("hard_signal_additive", oblong) {
      $0.conditioning = .additive
      $0.attention = AttentionConfiguration(mask: .hard, window: .signal)
    },
    Variant("embeddings_additive", square) {
      $0.sequence = .text(length: 5)
      $0.position = .learned
      $0.conditioning = .additive
    },
  ]

  private init(_ name: String, _ base: DiTConfiguration, _ edit: (inout DiTConfiguration) -> Void) {
    self.name = name
    var configuration = base
    edit(&configuration)
    self.configuration = configuration
  }

  /// All of them as batches; none where the fixtures are missing, which other tests say.
  static let batches = all.compactMap { try? $0.batch() }

  func fixture() throws -> Fixture { try Fixture("variants/\(name)") }

  func batch() throws -> Case {
    let (c, fixture) = (configuration, try fixture())
    let table = ParameterTable(c)
    let stored = table.parameters.map { "weights.\($0.name)" }
    #expect(stored.sorted() == fixture.names.filter { $0.hasPrefix("weights.") }.sorted())
    let slices = try table.parameters.map { parameter in
      let values = try fixture.floats("weights.\(parameter.name)")
      guard parameter.name == "text_embedder.table" else {
        try #expect(parameter.shape == fixture.shape("weights.\(parameter.name)"), "\(parameter.name)")
        return FloatSlice(values)
      }
      let (all, d) = (MutableFloatSlice(zeros: parameter.count), c.hiddenSize)
      for (n, row) in try fixture.integers("rows").enumerated() {
        all[row * d..<(row + 1) * d].copy(from: values[n * d..<(n + 1) * d].span)
      }
      return all.reading
    }
    var sequence: SequenceInput?
    if c.sequence != nil {
      var input = SequenceInput(c, samples: 3, content: fixture.names.contains("embeddings") ? .embeddings : nil)
      try fill(&input)
      sequence = input
    }
    return Case(
      configuration: c, weights: Weights(table, slices: slices), images: try fixture.floats("x"),
      times: try fixture.integers("t").map(Float.init),
      labels: fixture.names.contains("y") ? try fixture.integers("y") : [], sequence: sequence)
  }

  /// The fixture's sequences.
  func fill(_ input: inout SequenceInput) throws {
    let (c, fixture) = (configuration, try fixture())
    switch input.content {
    case .text:
      let (bytes, width) = try (fixture.integers("captions"), fixture.shape("captions")[1])
      for n in 0..<3 {
        let text = bytes[n * width..<(n + 1) * width].prefix { $0 > 0 }.map(UInt8.init)
        input.set(n, text: text.span)
      }
    case .image:
      let (values, counts) = try (fixture.floats("context"), fixture.integers("count"))
      let size = values.count / 3
      for n in 0..<3 {
        input.set(n, image: Array(values[n * size..<(n + 1) * size]).span)
        if counts[n] == 0 { input.clear(n) }
      }
    case .embeddings:
      let (values, counts) = try (fixture.floats("embeddings"), fixture.integers("count"))
      let size = c.sequenceLength * c.hiddenSize
      for n in 0..<3 {
        input.set(n, embeddings: Array(values[n * size..<n * size + counts[n] * c.hiddenSize]).span)
      }
    }
  }

  /// Of the text table the rows that the fixture has.
  func rows(_ parameter: Parameter, _ values: [Float]) throws -> [Float] {
    guard parameter.name == "text_embedder.table" else { return values }
    let d = configuration.hiddenSize
    let rows = try fixture().integers("rows")
    let others = Set(0..<256).subtracting(rows).flatMap { values[$0 * d..<($0 + 1) * d] }
    #expect(others.allSatisfy { $0 == 0 }, "rows of bytes that no text has")
    return rows.flatMap { values[$0 * d..<($0 + 1) * d] }
  }
}
