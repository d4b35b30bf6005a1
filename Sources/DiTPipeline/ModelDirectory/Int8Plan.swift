import DiTDiffusion
import DiTKernels
import DiTModel
import DiTTensor
import Foundation

/// Which linear layers of a model's blocks int8 computes, decided by what each of them alone does to the network's output.
///
/// Errors of layers are nearly independent, so that their squares add up: a block whose layers together make too little to hold a
/// layer that makes too much is not looked into. Of a deep network that is most blocks.
///
/// The network is evaluated where a sampler asks it: images on their way from noise, each at another time from the first to the
/// last, of classes that are spread over all. Errors are ‖y − y'‖ / ‖y‖ of its outputs y in bf16.
public struct Int8Plan: Sendable {
  /// A linear layer's weight.
  public struct Layer: Sendable, Equatable {
    /// The tensor's name.
    public let name: String
    /// Its index among the network's tensors.
    let index: Int
    /// The block that it is in, from 0.
    public let block: Int
    /// The output's error with this layer alone in int8; nil where the block's is too small to ask.
    public internal(set) var error: Double?
    /// Whether it stays in bf16.
    public internal(set) var isWide = false
  }

  /// Of each block the output's error with that block's layers alone in int8.
  public let blocks: [Double]
  /// In the order of the blocks.
  public let layers: [Layer]
  /// The output's error with all layers in int8 that do not stay in bf16.
  public let error: Double
  /// That with all layers in int8.
  public let wholeError: Double

  /// What a user is told of it.
  var notes: [String] {
    let wide = layers.filter(\.isWide)
    let kept =
      wide.isEmpty
      ? "all \(layers.count) layers of the blocks"
      : "\(layers.count - wide.count) of \(layers.count) layers of the blocks, in bf16 "
        + Message.list(wide) { "\($0.name) (\($0.error.map(Self.text) ?? ""))" }
    let worst = blocks.indices.max { blocks[$0] < blocks[$1] }
    return [
      "int8: \(kept); the output's error \(Self.text(error)), of the most sensitive block alone "
        + "\(worst.map { "\(Self.text(blocks[$0])) (block \($0))" } ?? "none")"
    ]
  }

  static func text(_ error: Double) -> String { String(format: "%.2g", error) }

  /// The weights that stay in bf16, by their index.
  var wide: Set<Int> { Set(layers.filter(\.isWide).map(\.index)) }

  /// The metadata of a file that a plan was written into: the weights that stay in bf16, and ``error``.
  static let (wideKey, errorKey) = ("int8_bf16", "int8_error")

  /// A layer stays in bf16 where its square error is more than this share of the sum of all blocks'.
  public static let greatestShare = 0.1

  /// Measures a model.
  ///
  /// - Parameters:
  ///   - context: where to run.
  ///   - progress: called after each measurement with how many have been made, of how many; once the blocks are measured there
  ///     can be more.
  /// - Throws: `DiTError`, as `DiT.sample`.
  public init(
    _ configuration: ModelConfiguration, _ weights: Weights, context: ComputeContext,
    progress: (_ measured: Int, _ of: Int) -> Void = { _, _ in }
  ) throws {
    let model = try DiT(
      configuration: configuration, weights: weights, context: context, numerics: Numerics(precision: .bf16))
    let probe = try Probe(model)
    let c = configuration.network
    let stream = MutableFloatSlice(
      uninitialized: c.depth * model.network.streamElements(samples: Probe.count))
    let expected = probe.output(of: model.network, keeping: stream)
    /// - Parameter block: where the first of them is.
    func error(_ narrow: Set<Int>, all: Set<Int>, from block: Int = 0) -> Double {
      var weights = weights
      weights.wide = all.subtracting(narrow)
      let network = DiTNetwork(
        configuration.network, weights: weights, context: context, numerics: Numerics(precision: .int8),
        noise: model.network.attentionNoise)
      return Self.error(probe.output(of: network, from: block, of: stream), expected)
    }
    let table = weights.table
    let groups = table.layersOfBlocks.map { $0.map(\.weight) }
    let all = Set(groups.joined())
    var blocks: [Double] = []
    for (block, group) in groups.enumerated() {
      blocks.append(error(Set(group), all: all, from: block))
      progress(blocks.count, groups.count)
    }
    let limit = Self.greatestShare * blocks.reduce(0) { $0 + $1 * $1 }
    var layers = groups.enumerated().flatMap { block, group in
      group.map { Layer(name: table.parameters[$0].name, index: $0, block: block) }
    }
    let suspects = layers.indices.filter { blocks[layers[$0].block] * blocks[layers[$0].block] > limit }
    for (count, place) in suspects.enumerated() {
      let alone = error([layers[place].index], all: all, from: layers[place].block)
      layers[place].error = alone
      layers[place].isWide = alone * alone > limit
      progress(groups.count + count + 1, groups.count + suspects.count)
    }
    (self.blocks, self.layers) = (blocks, layers)
    let wide = Set(layers.filter(\.isWide).map(\.index))
    wholeError = error(all, all: all)
    self.error = wide.isEmpty ? wholeError : error(all.subtracting(wide), all: all)
  }

  private static func error(_ found: [Float], _ expected: [Float]) -> Double {
    var (difference, square) = (0.0, 0.0)
    for (a, b) in zip(found, expected) {
      difference += (Double(a) - Double(b)) * (Double(a) - Double(b))
      square += Double(b) * Double(b)
    }
    return difference == 0 ? 0 : (difference / square).squareRoot()  // a new network's outputs are all 0
  }
}

/// What a network is asked in ``Int8Plan``.
private struct Probe {
  static let count = 8

  private var images: [Float] = []
  private var times: [Float] = []
  private let labels: [Int]
  private let sequence: SequenceInput?

  init(_ model: DiT) throws {
    let (c, count) = (model.configuration.network, Self.count)
    labels = c.numClasses > 0 ? (0..<count).map { $0 * c.numClasses / count } : []
    sequence = try c.input(nil, samples: count)
    let name: SamplerName = c.isToldGuidance ? .meanflow : model.schedule.process.path == .linear ? .euler : .ddim
    let options = SamplingOptions(
      sampler: Sampler(name, steps: count), guidance: Guidance(scale: 1), batch: count)
    let told = options.guidance.resolved(c, model.schedule.process, model.configuration.sampling.guidance)
      .told(c, try model.process(options.sampler))
    let (size, perTime) = (c.imageElements, max(1, c.timeInputs))
    var (images, times): ([Float], [Float]) = ([], [])
    _ = try model.sample(c.numClasses > 0 ? .classes(labels) : .none(count: count), options: options) { progress in
      guard let evaluation = progress.evaluation else { return true }
      let step = progress.step - 1
      images += evaluation.x[step * size..<(step + 1) * size].array
      times += told[step * perTime..<(step + 1) * perTime]
      return true
    }
    (self.images, self.times) = (images, times)
  }

  /// The output, with the residual stream before each block.
  func output(of network: DiTNetwork, keeping stream: MutableFloatSlice) -> [Float] {
    output(of: network, images: images, from: 0, stream)
  }

  /// The output of the blocks from `block` on, on the stream that was kept.
  func output(of network: DiTNetwork, from block: Int, of stream: MutableFloatSlice) -> [Float] {
    output(of: network, images: nil, from: block, stream)
  }

  private func output(
    of network: DiTNetwork, images: [Float]?, from block: Int, _ stream: MutableFloatSlice
  ) -> [Float] {
    let (c, count) = (network.configuration, Self.count)
    let modulation = Modulation(
      c, rows: count, values: MutableFloatSlice(zeros: Modulation.elements(c, rows: count)))
    network.modulate(times: times, labels: labels, into: modulation)
    let output = MutableFloatSlice(zeros: count * c.outputElements)
    network.forward(
      output: output.mutableSpan, images: images, stream: stream, from: block, modulation: modulation,
      sequence: sequence.map { network.embed($0) }, samples: count,
      workspace: InferenceWorkspace(network, samples: count))
    return output.array
  }
}
