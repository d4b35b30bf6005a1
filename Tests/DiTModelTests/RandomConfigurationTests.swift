import DiTKernels
import DiTModel
import DiTTensor
import Foundation
import TestSupport
import Testing

/// Seeded random configurations against the Double reference: outputs by both passes, and the gradient of every tensor.
///
/// `DIT_RANDOM_CONFIGURATIONS=1000` in the environment draws the seeds 0 ..< 1000 instead of the usual 0 ..< 48. A failure
/// prints its seed, its configuration, and the smallest configuration found that fails too.
@Suite struct RandomConfigurationTests {
  private static let seeds: Range<UInt64> = {
    let asked = ProcessInfo.processInfo.environment["DIT_RANDOM_CONFIGURATIONS"].flatMap { UInt64($0) }
    return 0..<(asked ?? 48)
  }()

  @Test("The network is the Double reference in every configuration drawn", arguments: seeds)
  func networkIsReference(_ seed: UInt64) throws {
    let trial = Trial(seed: seed)
    guard let failure = try trial.failure() else { return }
    let (smallest, its) = try trial.shrunk()
    Issue.record("seed \(seed): \(failure)\n\(trial)\nsmallest that fails: \(its ?? failure)\n\(smallest)")
  }

  @Test("The configurations drawn contain every option")
  func everyOptionIsDrawn() {
    let trials = (UInt64(0)..<48).map { Trial(seed: $0) }
    var drawn = Set<String>()
    for trial in trials { drawn.formUnion(trial.options) }
    var options = PositionEncoding.allCases.map { "position \($0)" }
    options += TimeFrequencies.allCases.map { "time \($0)" } + Conditioning.allCases.map { "conditioning \($0)" }
    options += Embedders.allCases.map { "embedders \($0)" } + Precision.training.map { "\($0)" }
    options += AttentionConfiguration.Mask.allCases.map { "mask \($0)" }
    options += AttentionConfiguration.Window.allCases.map { "window \($0)" }
    options += AttentionConfiguration.Distance.allCases.map { "distance \($0)" }
    options += AttentionConfiguration.Temperature.allCases.map { "temperature \($0)" }
    options += Normalization.allCases.map { "norm \($0)" } + Trial.feedForwards.map { "mlp \($0.rawValue)" }
    options += ResidualGates.allCases.map { "gates \($0)" }
    options += ["text", "image", "embeddings", "no sequence", "flow", "recomputes", "no classes", "many tokens"]
    options += ["mlp_hidden", "q/k norm", "bottleneck", "in-context tokens", "tokens that join later"]
    options += ["no qkv bias", "no proj bias", "no mlp bias", "no bottleneck bias", "all groups"]
    #expect(options.filter { !drawn.contains($0) }.isEmpty)
  }

  @Test("Every configuration that can be drawn is one that a model may have")
  func everyTrialIsValid() throws {
    for seed in UInt64(0)..<2000 { try Trial(seed: seed).c.validate() }
  }

  @Test("The Double reference is PyTorch's network in every variant that has a fixture", arguments: Variant.all)
  func referenceIsTorch(_ variant: Variant) throws {
    let (batch, fixture) = (try variant.batch(), try variant.fixture())
    let output = ReferenceNetwork(batch).output(
      batch.images.doubles, batch.times, batch.labels, sequence: try variant.reference())
    // The features are rounded to Float32, here and there by other libraries.
    #expect(mismatch(output, try fixture.doubles("output"), within: .networkReordered) == nil)
  }

  @Test("Shrinking ends at the smallest configuration that still fails")
  func shrinking() throws {
    let trial = try #require((0..<48).map { Trial(seed: $0) }.first { $0.depth == 3 && $0.c.attention.mask == .hard })
    let plain = DiTConfiguration()
    let (smallest, _) = try trial.shrunk { $0.c.attention.mask == .hard && $0.depth > 1 ? "fails" : nil }
    #expect(smallest.depth == 2 && smallest.c.attention.mask == .hard)
    #expect(smallest.samples == 1 && smallest.c.tokens == 1 && smallest.c.numHeads == 1 && smallest.c.numClasses == 0)
    #expect(smallest.c.position == .sincos && smallest.c.sequence == nil && smallest.threads == 1)
    #expect(smallest.c.norm == plain.norm && smallest.c.mlp == plain.mlp && smallest.c.bias == plain.bias)
    #expect(!smallest.c.qkNorm && smallest.c.patchBottleneck == nil && smallest.c.conditionTokens == 0)
  }
}

/// One network, one batch, one way of computing it, all from a seed.
private struct Trial: CustomStringConvertible {
  let seed: UInt64
  var c: DiTConfiguration
  var samples, threads: Int
  var engine: Engine
  var recomputes, isFlow, hasEmbeddings: Bool

  /// The package's own: other tests of the process may have added theirs.
  static let feedForwards: [FeedForwardKind] = [.gelu, .swiglu]

  var depth: Int { c.depth }
  private var isHalf: Bool { engine.numerics.precision == .bf16 }

  init(seed: UInt64) {
    self.seed = seed
    var random = Philox(seed: seed, stream: 7)
    func any<T>(_ list: [T]) -> T { list[Int.random(in: list.indices, using: &random)] }
    func isDrawn(oneIn n: Int) -> Bool { Int.random(in: 0..<n, using: &random) == 0 }

    let hasManyTokens = isDrawn(oneIn: 8)
    let patch = hasManyTokens ? 1 : any([1, 2, 2, 3, 4])
    let (rows, columns) =
      hasManyTokens ? (any([15, 16, 17]), any([15, 18, 20])) : (any([1, 2, 3, 4]), any([1, 2, 3, 5]))
    let heads = any([1, 2, 3, 4])
    let sizes = [4, 8, 12, 16, 20, 6, 2].filter { $0 * heads % 4 == 0 && $0 * heads <= (hasManyTokens ? 16 : 48) }
    c = DiTConfiguration(
      inputHeight: patch * rows, inputWidth: patch * columns, patchSize: patch, inChannels: any([1, 2, 3, 4]),
      hiddenSize: any(sizes) * heads, depth: hasManyTokens ? 1 : any([1, 2, 3]), numHeads: heads,
      mlpRatio: any([0.5, 1, 1.5, 2, 4]), numClasses: any([0, 1, 3, 5]), classDropoutProb: any([0, 0.1]),
      learnSigma: any([false, true]))
    c.conditioning = any(Conditioning.allCases)
    c.timeFrequencies = any(TimeFrequencies.allCases)
    c.norm2Epsilon = any([1e-6, 1e-5])
    c.position = any(c.headSize % 4 == 0 ? PositionEncoding.allCases : [.sincos, .learned])
    c.attention.temperature = any(AttentionConfiguration.Temperature.allCases)
    if isDrawn(oneIn: 3) == false {
      c.attention.mask = any([.soft, .hard])
      c.attention.window = any(AttentionConfiguration.Window.allCases)
      c.attention.distance = any(AttentionConfiguration.Distance.allCases)
    }
    if c.conditioning == .tokens { c.attention = AttentionConfiguration(temperature: c.attention.temperature) }
    if c.conditioning == .adaLNZero || c.conditioning == .adaLN, !c.attention.hasGate {
      c.embedders = any(Embedders.allCases)
    }
    c.sequence = any([
      nil, nil, .text(length: any([1, 4, 9])), .image(height: patch * any([1, 2]), width: patch * any([1, 3])),
    ])
    hasEmbeddings = c.sequence != nil && isDrawn(oneIn: 3)
    (c.norm, c.mlp, c.qkNorm) = (any(Normalization.allCases), any(Self.feedForwards), any([false, true]))
    c.mlpHidden = any([nil, nil, 1, 7, 33])
    c.patchBottleneck = any([nil, 1, 3, 17])
    (c.bias.qkv, c.bias.proj, c.bias.mlp) = (any([true, true, false]), any([true, true, false]), any([true, false]))
    if c.patchBottleneck != nil { c.bias.patchBottleneck = any([true, false]) }
    if c.conditioning != .adaLNZero { c.residualGates = any(ResidualGates.allCases) }
    if c.conditioning == .adaLNZero || c.conditioning == .adaLN, c.embedders == .shared, c.numClasses > 0 {
      c.inContextTokens = any([0, 1, 4])
      if c.inContextTokens > 0, c.sequence == nil { c.inContextStart = Int.random(in: 0..<c.depth, using: &random) }
    }
    if c.conditioning == .tokens {
      c.tokenGroups = TokenGroups(
        classes: c.numClasses > 0 ? any([1, 3]) : 0, omega: any([0, 1, 2]), tMin: any([0, 1, 2]), tMax: any([0, 1, 2]),
        time: any([1, 2]))
    }
    samples = hasManyTokens ? any([1, 2]) : any([1, 2, 3, 4])
    threads = any([1, 2, 3])
    engine = any(Engine.all)
    recomputes = any([false, true])
    isFlow = isDrawn(oneIn: 4)
    // Logits a hundred times larger lose all that bf16 has.
    if isHalf, c.attention.temperature == .inverseSqrtBeta { c.attention.temperature = .standard }
  }

  /// What is drawn of the options that tests want to see.
  var options: Set<String> {
    let (a, numerics) = (c.attention, engine.numerics)
    var options: Set = [
      "position \(c.position)", "time \(c.timeFrequencies)", "conditioning \(c.conditioning)",
      "embedders \(c.embedders)", "mask \(a.mask)", "window \(a.window)", "distance \(a.distance)",
      "temperature \(a.temperature)", "\(numerics.precision)", "norm \(c.norm)", "mlp \(c.mlp.rawValue)",
      "gates \(c.residualGates)",
    ]
    let parts: [(String, Bool)] = [
      ("mlp_hidden", c.mlpHidden != nil), ("q/k norm", c.qkNorm), ("bottleneck", c.patchBottleneck != nil),
      ("in-context tokens", c.inContextTokens > 0), ("tokens that join later", c.inContextStart > 0),
      ("no qkv bias", !c.bias.qkv), ("no proj bias", !c.bias.proj), ("no mlp bias", !c.bias.mlp),
      ("no bottleneck bias", !c.bias.patchBottleneck), ("all groups", c.tokenGroups?.inputs == 4),
    ]
    options.formUnion(parts.filter(\.1).map(\.0))
    switch c.sequence {
    case nil: options.insert("no sequence")
    case .text: options.insert(hasEmbeddings ? "embeddings" : "text")
    case .image: options.insert(hasEmbeddings ? "embeddings" : "image")
    }
    if isFlow { options.insert("flow") }
    if recomputes { options.insert("recomputes") }
    if c.numClasses == 0 { options.insert("no classes") }
    if c.tokens > 200 { options.insert("many tokens") }
    return options
  }

  var description: String {
    "\(c)\n\(samples) samples, \(threads) threads, \(engine), recomputes: \(recomputes), flow: \(isFlow), "
      + "embeddings: \(hasEmbeddings)"
  }

  // MARK: The comparison

  private var noise: AttentionNoise {
    let published = AttentionNoise.published
    return AttentionNoise(
      betas: published.betas, alphasCumprod: published.alphasCumprod, linearTime: isFlow ? .thousandths : nil)
  }

  /// The batch, and its sequences as the reference takes them.
  private func batch() -> (Case, [ReferenceNetwork.Sequence]?) {
    var random = Philox(seed: seed, stream: 8)
    // The time is the last of the numbers that the network is told.
    let times = (0..<samples * c.timeInputs).map { place in
      if place % c.timeInputs < c.timeInputs - 1 { return random.uniform() }
      return isFlow ? 1000 * random.uniform() : Float(Int.random(in: 0..<1000, using: &random))
    }
    var batch = Case(random: c, times: times, seed: seed + 1000)
    guard c.sequence != nil else { return (batch, nil) }
    var input = SequenceInput(c, samples: samples, content: hasEmbeddings ? .embeddings : nil)
    let sequences = (0..<samples).map { n in
      let count = Int.random(in: 0...c.sequenceLength, using: &random)
      switch input.content {
      case .text:
        let bytes = (0..<count).map { _ in UInt8.random(in: 1...255, using: &random) }
        input.set(n, text: bytes.span)
        return ReferenceNetwork.Sequence.text(bytes)
      case .image:
        guard count > 0 else { return .image(nil) }
        let image = random.normal(count: c.sequenceLength * c.patchSize * c.patchSize * c.inChannels)
        input.set(n, image: image.span)
        return .image(image)
      case .embeddings:
        let rows = random.normal(count: count * c.hiddenSize)
        input.set(n, embeddings: rows.span)
        return .embeddings(rows)
      }
    }
    batch.sequence = input
    return (batch, sequences)
  }

  /// What is wrong: a message, or nil.
  func failure() throws -> String? {
    try c.validate()
    let (batch, sequences) = batch()
    let network = try DiTNetwork(
      c, weights: batch.weights, context: engine.context(threads: threads), numerics: engine.numerics, noise: noise)
    var reference = ReferenceNetwork(batch, noise: noise)
    let images = batch.images.doubles
    func output() -> [Double] { reference.output(images, batch.times, batch.labels, sequence: sequences) }

    let expected = output()
    let dy = upstream(batch)
    let ws = TrainingWorkspace(network, samples: samples, recomputes: recomputes)
    let (training, gradients) = network.differentiate(batch, outputGradient: dy, workspace: ws)
    for (name, found) in [("inference", network.evaluate(batch)), ("training", training)] {
      if let problem = compare(found, expected, reference, batch.times) { return "\(name): \(problem)" }
    }
    // dy · output is a function of the weights: along a random direction it changes by direction · gradient.
    let trained = batch.weights.table.trainableParameters
    let groups = c.tokens > 100 ? [trained] : trained.map { [$0] }
    var draw = Draw(seed: seed + 2000)
    for group in groups {
      let start = reference.tensors
      let directions = group.map { draw.normal($0.count).doubles }
      let ends = [1e-5, -1e-5].map { step in
        for (parameter, direction) in zip(group, directions) {
          reference.tensors[parameter.name] = zip(start[parameter.name] ?? [], direction).map { $0 + step * $1 }
        }
        return dot(dy.doubles, output())
      }
      reference.tensors = start
      let slope = (ends[0] - ends[1]) / 2e-5
      let found = zip(group, directions).reduce(0) { $0 + dot(gradients[$1.0.range].array.doubles, $1.1) }
      let size = zip(group, directions).reduce(0) { sum, pair in
        let g = gradients[pair.0.range].array.doubles
        return sum + dot(g, g)
      }.squareRoot()
      let limit = (isHalf ? 6e-2 : 1e-4) * max(size, floor(dy))
      let name = group.count == 1 ? group[0].name : "all gradients"
      if !(abs(found - slope) <= limit) { return "\(name): slope \(slope), found \(found), allowed ±\(limit)" }
    }
    return nil
  }

  /// A gradient below this is the rounding of a sum that is zero: the keys' bias has none.
  private func floor(_ dy: [Float]) -> Double { 1e-2 * dot(dy.doubles, dy.doubles).squareRoot() }

  private func compare(
    _ found: [Float], _ expected: [Double], _ reference: ReferenceNetwork, _ times: [Float]
  ) -> String? {
    guard isHalf else {
      // A temperature multiplies the logits, and with them the rounding of q·k.
      let hottest =
        reference.times(times).map { reference.temperature($0) }.reduce(0, max) * Double(c.headSize).squareRoot()
      return mismatch(found, expected, within: hottest > 2 ? .networkGradient : .networkOutput)
    }
    let difference = zip(found, expected).map { Double($0) - $1 }
    let error = (dot(difference, difference) / dot(expected, expected)).squareRoot()
    return error < 2e-2 ? nil : "root mean square error \(error) in bf16"
  }

  // MARK: Shrinking

  /// What makes a trial simpler, the largest simplifications first.
  private static let simplifications: [@Sendable (inout Trial) -> Void] = [
    { $0.samples = 1 }, { $0.samples -= 1 }, { $0.c.inContextStart = 0 }, { $0.c.depth = 1 }, { $0.c.depth -= 1 },
    { $0.c.sequence = nil }, { $0.c.inContextTokens = 0 }, { $0.c.inContextTokens /= 2 }, { $0.c.norm = .layer },
    { $0.c.mlp = .gelu }, { $0.c.mlpHidden = nil }, { $0.c.qkNorm = false },
    { ($0.c.patchBottleneck, $0.c.bias.patchBottleneck) = (nil, true) }, { $0.c.bias = Biases() },
    { ($0.c.bias.qkv, $0.c.bias.proj) = (true, true) }, { $0.c.bias.mlp = true }, { $0.c.residualGates = .adaLN },
    { $0.hasEmbeddings = false }, { $0.engine = Engine.exact[0] }, { $0.threads = 1 }, { $0.recomputes = false },
    { $0.isFlow = false }, { $0.c.attention = AttentionConfiguration() }, { $0.c.attention.temperature = .standard },
    { $0.c.attention.window = .full }, { $0.c.attention.distance = .raster }, { $0.c.position = .sincos },
    { ($0.c.conditioning, $0.c.tokenGroups, $0.c.residualGates) = (.adaLNZero, nil, .adaLN) },
    { trial in trial.c.tokenGroups = trial.c.tokenGroups.map { TokenGroups(classes: min(1, $0.classes), time: 1) } },
    { $0.c.embedders = .shared }, { $0.c.timeFrequencies = .dit },
    { $0.c.norm2Epsilon = DiTConfiguration.publishedEpsilon }, { $0.c.learnSigma = false },
    { trial in
      (trial.c.numClasses, trial.c.inContextTokens, trial.c.inContextStart) = (0, 0, 0)
      trial.c.tokenGroups?.classes = 0
    },
    { $0.c.inputHeight = $0.c.patchSize }, { $0.c.inputWidth = $0.c.patchSize },
    { $0.c.inputHeight = $0.c.inputHeight / $0.c.patchSize / 2 * $0.c.patchSize },
    { $0.c.inputWidth = $0.c.inputWidth / $0.c.patchSize / 2 * $0.c.patchSize }, { $0.c.inChannels = 1 },
    { trial in
      guard case .text(let length) = trial.c.sequence else { return }
      trial.c.sequence = .text(length: length / 2)
    },
    { trial in
      (trial.c.inputHeight, trial.c.inputWidth) = (
        trial.c.inputHeight / trial.c.patchSize, trial.c.inputWidth / trial.c.patchSize
      )
      if case .image(let height, let width) = trial.c.sequence {
        trial.c.sequence = .image(height: height / trial.c.patchSize, width: width / trial.c.patchSize)
      }
      trial.c.patchSize = 1
    },
    { trial in
      let size = trial.c.headSize
      trial.c.numHeads = 1
      trial.c.hiddenSize = max(4, size)
    },
    { $0.c.hiddenSize = $0.c.numHeads * 4 }, { $0.c.mlpRatio = 1 },
  ]

  /// The trial with all that does not matter turned off, and what it says.
  func shrunk(_ failure: (Trial) throws -> String? = { try $0.failure() }) throws -> (Trial, String?) {
    var (smallest, message): (Trial, String?) = (self, nil)
    var isShrinking = true
    while isShrinking {
      isShrinking = false
      for simplify in Self.simplifications {
        var candidate = smallest
        simplify(&candidate)
        guard candidate.samples > 0, "\(candidate)" != "\(smallest)", (try? candidate.c.validate()) != nil,
          let found = try failure(candidate)
        else { continue }
        (smallest, message, isShrinking) = (candidate, found, true)
      }
    }
    return (smallest, message)
  }
}

extension Variant {
  /// The fixture's sequences as the reference takes them.
  fileprivate func reference() throws -> [ReferenceNetwork.Sequence]? {
    let fixture = try fixture()
    guard configuration.sequence != nil else { return nil }
    func rows(_ name: String) throws -> [[Float]] {
      let values = try fixture.floats(name)
      return (0..<3).map { Array(values[$0 * values.count / 3..<($0 + 1) * values.count / 3]) }
    }
    if fixture.names.contains("embeddings") {
      let counts = try fixture.integers("count")
      return try rows("embeddings").enumerated().map { n, row in
        .embeddings(Array(row.prefix(counts[n] * configuration.hiddenSize)))
      }
    }
    if fixture.names.contains("context") {
      let counts = try fixture.integers("count")
      return try rows("context").enumerated().map { n, row in .image(counts[n] == 0 ? nil : row) }
    }
    let (bytes, width) = try (fixture.integers("captions"), fixture.shape("captions")[1])
    return (0..<3).map { n in .text(bytes[n * width..<(n + 1) * width].prefix { $0 > 0 }.map(UInt8.init)) }
  }
}
