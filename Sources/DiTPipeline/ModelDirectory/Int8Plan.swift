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
  ///   - configuration: of the model.
  ///   - weights: all tensors of the network.
  ///   - context: where to run.
  ///   - memory: bytes of the residual stream before each block that are kept, of as many of the eight images at once as fit, at
  ///     least one. The plan does not depend on it.
  ///   - progress: called after each measurement of a block or a layer with how many have been made, of how many; once the blocks
  ///     are measured there can be more.
  /// - Throws: `DiTError`, as `DiT.sample`.
  public init(
    _ configuration: ModelConfiguration, _ weights: Weights, context: ComputeContext, memory: Int = 1 << 30,
    progress: (_ measured: Int, _ of: Int) -> Void = { _, _ in }
  ) throws {
    let measurement = try Measurement(configuration, weights, context, memory)
    let table = weights.table
    let groups = table.layersOfBlocks.map { $0.map(\.weight) }
    let all = Set(groups.joined())
    let blocks = measurement.errors(groups.enumerated().map { (Set($1), $0) }) { progress($0, groups.count) }
    let limit = Self.greatestShare * blocks.reduce(0) { $0 + $1 * $1 }
    var layers = groups.enumerated().flatMap { block, group in
      group.map { Layer(name: table.parameters[$0].name, index: $0, block: block) }
    }
    let suspects = layers.indices.filter { blocks[layers[$0].block] * blocks[layers[$0].block] > limit }
    let alone = measurement.errors(suspects.map { ([layers[$0].index], layers[$0].block) }) {
      progress(groups.count + $0, groups.count + suspects.count)
    }
    for (place, error) in zip(suspects, alone) {
      layers[place].error = error
      layers[place].isWide = error * error > limit
    }
    (self.blocks, self.layers) = (blocks, layers)
    let wide = Set(layers.filter(\.isWide).map(\.index))
    let whole = measurement.errors(wide.isEmpty ? [(all, 0)] : [(all, 0), (all.subtracting(wide), 0)]) { _ in }
    (wholeError, error) = (whole[0], whole[whole.count - 1])
  }
}

/// A network in bf16, and what layers in int8 change of its outputs.
private struct Measurement {
  let configuration: DiTConfiguration
  let weights: Weights
  let context: ComputeContext
  let network: DiTNetwork
  let probe: Probe
  let all: Set<Int>
  /// Images at once.
  let group: Int

  init(_ configuration: ModelConfiguration, _ weights: Weights, _ context: ComputeContext, _ memory: Int) throws {
    let model = try DiT(
      configuration: configuration, weights: weights, context: context, numerics: Numerics(precision: .bf16))
    (network, probe) = (model.network, try Probe(model))
    (self.configuration, self.weights, self.context) = (configuration.network, weights, context)
    all = Set(weights.table.layersOfBlocks.joined().map(\.weight))
    let image = 4 * configuration.network.depth * network.streamElements(samples: 1)
    group = min(Probe.count, max(1, memory / image))
  }

  /// The output's error of each choice of layers in int8, all of them in `block` and behind it.
  ///
  /// - Parameter progress: called as they are made with how many have been, of all images.
  func errors(_ choices: [(layers: Set<Int>, block: Int)], _ progress: (Int) -> Void) -> [Double] {
    guard !choices.isEmpty else { return [] }
    func elements(_ images: Int) -> Int { configuration.depth * network.streamElements(samples: images) }
    let memory = MutableFloatSlice(uninitialized: elements(group))
    var (differences, square) = ([Double](repeating: 0, count: choices.count), 0.0)
    let groups = (Probe.count + group - 1) / group
    var made = 0
    for first in stride(from: 0, to: Probe.count, by: group) {
      let images = first..<min(first + group, Probe.count)
      let stream = memory[0..<elements(images.count)]  // the last images can be fewer
      let expected = probe.output(of: network, images, keeping: stream)
      for value in expected { square += Double(value) * Double(value) }
      for (index, choice) in choices.enumerated() {
        var weights = weights
        weights.wide = all.subtracting(choice.layers)
        let narrow = DiTNetwork(
          configuration, weights: weights, context: context, numerics: Numerics(precision: .int8),
          noise: network.attentionNoise)
        let found = probe.output(of: narrow, images, from: choice.block, of: stream)
        for (a, b) in zip(found, expected) { differences[index] += (Double(a) - Double(b)) * (Double(a) - Double(b)) }
        made += 1
        if made % groups == 0 { progress(made / groups) }
      }
    }
    return differences.map { $0 == 0 ? 0 : ($0 / square).squareRoot() }  // a new network's outputs are all 0
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

  /// The output for some of the images, with the residual stream before each block.
  func output(of network: DiTNetwork, _ range: Range<Int>, keeping stream: MutableFloatSlice) -> [Float] {
    let size = network.configuration.imageElements
    return output(
      of: network, range, images: Array(images[range.lowerBound * size..<range.upperBound * size]), from: 0, stream)
  }

  /// The output of the blocks from `block` on, on the stream that was kept.
  func output(of network: DiTNetwork, _ range: Range<Int>, from block: Int, of stream: MutableFloatSlice) -> [Float] {
    output(of: network, range, images: nil, from: block, stream)
  }

  private func output(
    of network: DiTNetwork, _ range: Range<Int>, images: [Float]?, from block: Int, _ stream: MutableFloatSlice
  ) -> [Float] {
    let (c, count) = (network.configuration, range.count)
    let perTime = times.count / Self.count
    let modulation = Modulation(
      c, rows: count, values: MutableFloatSlice(zeros: Modulation.elements(c, rows: count)))
    network.modulate(
      times: Array(times[range.lowerBound * perTime..<range.upperBound * perTime]),
      labels: labels.isEmpty ? [] : Array(labels[range]), into: modulation)
    let output = MutableFloatSlice(zeros: count * c.outputElements)
    network.forward(
      output: output.mutableSpan, images: images, stream: stream, from: block, modulation: modulation,
      sequence: sequence.map { network.embed($0.samples(range)) }, samples: count,
      workspace: InferenceWorkspace(network, samples: count))
    return output.array
  }
}
