// Networks and batches for the tests of the model.

import DiTFiles
import DiTKernels
import DiTModel
import DiTTensor
import Foundation
import TestSupport

/// How a network is computed: an instruction set, a format, and who multiplies.
struct Engine: CustomStringConvertible, Sendable {
  let level: InstructionSet
  var numerics: Numerics
  /// Nil for what is faster.
  var nativeBF16: Bool?

  /// float32 at every level: OpenBLAS, and packed.
  static let exact: [Engine] = InstructionSet.runnable.flatMap { level in
    [GEMM.blas, .packed].map { Engine(level: level, numerics: Numerics(gemm: $0)) }
  }

  /// bf16 at every level, with and without the CPU's own products where it has them.
  static let bf16: [Engine] = {
    let half = Numerics(precision: .bf16)
    let levels = InstructionSet.runnable.map { Engine(level: $0, numerics: half, nativeBF16: false) }
    let native = Engine(level: .supported, numerics: half, nativeBF16: true)
    return levels + ((try? native.context().hasNativeBF16) == true ? [native] : [])
  }()

  /// int8 at every level; for inference.
  static let int8 = bf16.map { engine in
    var engine = engine
    engine.numerics.precision = .int8
    return engine
  }

  static let all = exact + bf16
  /// Those whose weights are packed.
  static let packed = all.filter { $0.numerics.gemm != .blas }

  func context(threads: Int = 2) throws -> ComputeContext {
    try ComputeContext(
      threads: threads, workers: threads, instructionSet: level, nativeBF16: nativeBF16)
  }

  var description: String {
    let who = numerics.precision == .fp32 ? "fp32 \(numerics.gemm)" : numerics.precision.rawValue
    return "\(level), \(who)" + (nativeBF16 == true ? " of the CPU" : "")
  }
}

/// A network with what it is evaluated on.
struct Case: Sendable {
  let configuration: DiTConfiguration
  var weights: Weights
  var images: [Float]
  /// What the network is told of each sample: the time, or the numbers of its groups of tokens.
  var times: [Float]
  var labels: [Int]
  var sequence: SequenceInput?

  var samples: Int { times.count / configuration.timeInputs }
  var outputCount: Int { samples * configuration.outputElements }

  func network(_ engine: Engine, threads: Int = 2, weightsAreFixed: Bool = false) throws -> DiTNetwork {
    try DiTNetwork(
      configuration, weights: weights, context: engine.context(threads: threads), numerics: engine.numerics,
      weightsAreFixed: weightsAreFixed, noise: .published)
  }

  /// The same with weights of its own, flat, that may be changed.
  func copy() -> (batch: Case, flat: MutableFloatSlice) {
    let table = weights.table
    let flat = MutableFloatSlice(zeros: table.elementCount)
    for (parameter, slice) in zip(table.parameters, weights.slices) { flat[parameter.range].copy(from: slice.span) }
    let batch = Case(
      configuration: configuration, weights: Weights(table, flat: flat.reading), images: images, times: times,
      labels: labels,
      sequence: sequence)
    return (batch, flat)
  }

  /// One sample of the batch.
  func sample(_ n: Int) -> Case {
    var one = self
    let size = configuration.imageElements
    one.images = Array(images[n * size..<(n + 1) * size])
    one.times = Array(times[n * configuration.timeInputs..<(n + 1) * configuration.timeInputs])
    one.labels = labels.isEmpty ? [] : [labels[n]]
    one.sequence = sequence?.samples(n..<n + 1)
    return one
  }
}

extension Case {
  /// Random weights, nowhere zero, so that every gradient is felt; outputs are of order 1.
  init(random configuration: DiTConfiguration, times: [Float], seed: UInt64) {
    var draw = Draw(seed: seed)
    let (weights, flat) = Weights.initialized(configuration, seed: seed)
    for parameter in weights.table.trainableParameters {
      let fanIn = parameter.shape.count == 1 ? 16 : parameter.count / parameter.shape[0]
      flat[parameter.range].copy(
        from: draw.normal(parameter.count, deviation: 1 / Float(fanIn).squareRoot()).span)
    }
    self.configuration = configuration
    self.weights = weights
    self.times = times
    let samples = times.count / configuration.timeInputs
    images = draw.normal(samples * configuration.imageElements)
    // The null class first, and one label twice where there are enough samples.
    let null = configuration.labelRows - 1
    labels = null < 0 ? [] : (0..<samples).map { max(0, null - ($0 + 1) / 2) }
  }

  /// A folder of Tests/Fixtures/network, and what `forward.safetensors` evaluates.
  init(fixture name: String) throws {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    configuration = try decoder.decode(
      ConfigurationFile.self, from: Data(contentsOf: URL(filePath: Fixture.path("\(name)/config.json")))
    ).configuration
    let model = try SafetensorsFile(contentsOf: Fixture.path("\(name)/model.safetensors"))
    let table = ParameterTable(configuration)
    weights = Weights(table, slices: try table.parameters.map { try model.slice($0.name) })
    let forward = try Fixture("\(name)/forward")
    images = try forward.floats("x")
    times = try forward.integers("t").map(Float.init)
    labels = forward.names.contains("y") ? try forward.integers("y") : []
  }

  static let fixtures = ["digits", "latent", "oblong", "unconditional", "head72", "nonull", "pixels"]

  /// 2 × 3 tokens, three heads of 4, an MLP of 18: small enough for differences of every kind.
  static let tiny = Case(
    random: DiTConfiguration(
      inputHeight: 4, inputWidth: 6, patchSize: 2, inChannels: 2, hiddenSize: 12, depth: 2, numHeads: 3, mlpRatio: 1.5,
      numClasses: 3), times: [999, 3, 437], seed: 91)

  /// 300 tokens, so that attention takes its other path, in several blocks of queries and parts of rows; widths that are 8
  /// more than a multiple of 16.
  static let long = Case(
    random: DiTConfiguration(
      inputHeight: 15, inputWidth: 20, patchSize: 1, inChannels: 1, hiddenSize: 24, depth: 2, numHeads: 3, mlpRatio: 3,
      numClasses: 2, learnSigma: false), times: [12, 700], seed: 92)

  /// 16 tokens of width 32: an image alone is below the sizes from which a row's bits do not depend on their number.
  static let square = Case(
    random: DiTConfiguration(
      inputHeight: 8, inputWidth: 8, patchSize: 2, inChannels: 1, hiddenSize: 32, depth: 1, numHeads: 4, numClasses: 3),
    times: [999, 3, 437], seed: 97)
}

/// The keys of config.json that these fixtures use.
private struct ConfigurationFile: Decodable {
  let inputSize: [Int]
  let patchSize, inChannels, hiddenSize, depth, numHeads, numClasses: Int
  let mlpRatio, classDropoutProb: Double?
  let learnSigma: Bool?

  var configuration: DiTConfiguration {
    DiTConfiguration(
      inputHeight: inputSize[0], inputWidth: inputSize[1], patchSize: patchSize, inChannels: inChannels,
      hiddenSize: hiddenSize, depth: depth, numHeads: numHeads, mlpRatio: mlpRatio ?? 4, numClasses: numClasses,
      classDropoutProb: classDropoutProb ?? 0.1, learnSigma: learnSigma ?? true)
  }
}

extension DiTNetwork {
  /// The modulation of a batch.
  func modulation(_ times: [Float], _ labels: [Int]) -> Modulation {
    let rows = times.count / configuration.timeInputs
    let modulation = Modulation(
      configuration, rows: rows, values: MutableFloatSlice(zeros: Modulation.elements(configuration, rows: rows)))
    modulate(times: times, labels: labels, into: modulation)
    return modulation
  }

  /// One evaluation by the inference path.
  func evaluate(_ batch: Case, cache: StepCache? = nil) -> [Float] {
    let output = MutableFloatSlice([Float](repeating: .nan, count: batch.outputCount))
    forward(
      output: output.mutableSpan, images: batch.images.span, modulation: modulation(batch.times, batch.labels),
      sequence: batch.sequence.map { embed($0) }, samples: batch.samples,
      workspace: InferenceWorkspace(self, samples: batch.samples), cache: cache)
    return output.array
  }

  /// One evaluation by the training path and the gradient, flat, of Σ outputGradient ⊙ output.
  func differentiate(
    _ batch: Case, outputGradient: [Float], workspace: TrainingWorkspace? = nil,
    finished: ((_ offset: Int, _ gradients: MutableFloatSlice) -> Void)? = nil
  ) -> (output: [Float], gradients: MutableFloatSlice) {
    let ws = workspace ?? TrainingWorkspace(self, samples: batch.samples)
    let output = MutableFloatSlice([Float](repeating: .nan, count: batch.outputCount))
    let gradients = MutableFloatSlice(zeros: weights.table.elementCount)
    trainingForward(
      output: output.mutableSpan, images: batch.images.span, times: batch.times.span, labels: batch.labels.span,
      sequence: batch.sequence, workspace: ws)
    backward(
      gradients: gradients, outputGradient: outputGradient.span, images: batch.images.span, labels: batch.labels.span,
      sequence: batch.sequence, samples: batch.samples, workspace: ws,
      finished: finished.map { finished in { finished($0, gradients) } })
    return (output.array, gradients)
  }
}

/// A fixed upstream gradient for a case's output.
func upstream(_ batch: Case) -> [Float] {
  var draw = Draw(seed: 93)
  return draw.normal(batch.outputCount)
}

extension AttentionNoise {
  /// The published linear schedule.
  static let published: AttentionNoise = {
    let betas = (0..<1000).map { 1e-4 + (0.02 - 1e-4) * Double($0) / 999 }
    var product = 1.0
    let alphasCumprod = betas.map { beta in
      product *= 1 - beta
      return product
    }
    return AttentionNoise(betas: betas, alphasCumprod: alphasCumprod)
  }()
}
