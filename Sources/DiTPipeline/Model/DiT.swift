import DiTDiffusion
import DiTFiles
import DiTKernels
import DiTModel
import DiTTensor
import Foundation

/// A loaded Diffusion Transformer: what it is, its weights, and the diffusion process it was trained for.
///
/// Immutable: several threads may use one at once, each call with memory of its own.
///
/// Letters: N images of C×H×W, C' output channels (C, or 2C with a learned variance), T diffusion steps.
public struct DiT: Sendable {
  public let configuration: ModelConfiguration
  public let network: DiTNetwork
  /// β_t and ᾱ_t of all T steps.
  public let schedule: NoiseSchedule

  /// What was passed over or assumed when it was read, one line each, for the user.
  public private(set) var notes: [String] = []

  /// The names of the classes, in their order; nil where they are numbers.
  public var classNames: [String]? { configuration.classNames }

  /// Where the kernels run.
  public var context: ComputeContext { network.context }

  /// Loads the model that `path` stands for: a model directory, or a state dict with the published names, safetensors or
  /// torch `.pt`.
  ///
  /// - Parameters:
  ///   - path: a file or a directory.
  ///   - context: where to run; nil makes one with all processors.
  ///   - weights: which weights of a directory or a training checkpoint.
  ///   - heads: the number of heads where a state dict's shapes cannot tell.
  ///   - family: whose names a state dict has; nil lets the names tell.
  ///   - keys: what else they cannot tell; for state dicts only.
  ///   - numerics: the format of the operands and the matrix-multiplication backend; see `DiTNetwork`.
  /// - Throws: `DiTError`, also for a published name, which has no weights.
  public init(
    contentsOf path: String, context: ComputeContext? = nil, weights: WeightChoice = .emaPreferred, heads: Int? = nil,
    family: ModelFamily? = nil, keys: ModelKeys? = nil, numerics: Numerics = Numerics()
  ) throws {
    let model = try ModelReference(path).open(weights, hints: StateDictHints(heads: heads, family: family, keys: keys))
    guard let loaded = try model.weights() else {
      throw DiTError(file: path, .argument("weights"), expected: "a model with weights", found: "a published name")
    }
    try self.init(model.configuration, weights: loaded, context: context ?? ComputeContext(), numerics: numerics)
    notes = model.notes
  }

  /// The same, from a file's or folder's URL.
  public init(
    contentsOf url: URL, context: ComputeContext? = nil, weights: WeightChoice = .emaPreferred, heads: Int? = nil,
    family: ModelFamily? = nil, keys: ModelKeys? = nil, numerics: Numerics = Numerics()
  ) throws {
    try self.init(
      contentsOf: url.path(percentEncoded: false), context: context, weights: weights, heads: heads, family: family,
      keys: keys, numerics: numerics)
  }

  /// A model of given weights.
  ///
  /// - Parameters:
  ///   - configuration: of the network, the process and the sampling.
  ///   - weights: all tensors of the network.
  ///   - context: where to run.
  ///   - numerics: the format of the operands and the matrix-multiplication backend; see `DiTNetwork`.
  /// - Precondition: `weights` belong to the configuration's network, are finite and do not change; `numerics` are
  ///   supported.
  /// - Throws: `DiTError` when the configuration contradicts itself.
  public init(
    configuration: ModelConfiguration, weights: Weights, context: ComputeContext, numerics: Numerics = Numerics()
  ) throws(DiTError) {
    try self.init(
      CheckedConfiguration(configuration, file: ""), weights: weights, context: context, numerics: numerics)
  }

  package init(_ checked: CheckedConfiguration, weights: Weights, context: ComputeContext, numerics: Numerics) {
    configuration = checked.model
    schedule = checked.schedule
    network = DiTNetwork(
      configuration.network, weights: weights, context: context, numerics: numerics, weightsAreFixed: true,
      noise: schedule.attention)
  }

  /// The network once: what it predicts, then v with a learned variance. On a linear path a second half of the output's
  /// channels means nothing, and is left out.
  ///
  /// - Parameters:
  ///   - images: `x`, (N, C, H, W).
  ///   - times: `t`, (N), training indices 0…T−1, or on a linear path real times in 0…1000 or 0…1. A network that is told
  ///     guidance is not told them.
  ///   - labels: `y`, (N), classes or the null class `num_classes`; none for an unconditional model.
  ///   - sequence: N sequences for a model that takes them; nil are empty ones.
  ///   - step: what a network that is told guidance is told; nil for every other one.
  /// - Returns: (N, C', H, W), on a linear path (N, C, H, W).
  /// - Throws: `DiTError`, also when the output is not finite.
  public func predict(
    images: Tensor, times: [Float], labels: [Int], sequence: ConditioningSequence? = nil, step: StepInputs? = nil
  ) throws -> Tensor {
    let c = configuration.network
    let samples = try c.checkImages(images, "x")
    try c.checkCount(times.count, samples, "t")
    let process = schedule.process
    try process.checkTimes(times)
    try c.checkLabels(labels, samples)
    let inputs = try self.inputs(times, step)
    let sequences = try c.input(sequence, samples: samples)

    let batch = min(samples, BatchPlan.inference(c, passes: 1))
    let workspace = InferenceWorkspace(network, samples: batch)
    let values = MutableFloatSlice(zeros: Modulation.elements(c, rows: batch))
    let output = MutableFloatSlice(zeros: samples * c.outputElements)
    for range in batches(samples, of: batch) {
      let modulation = Modulation(c, rows: range.count, values: values)
      network.modulate(
        times: Array(inputs[range].joined()), labels: labels.isEmpty ? [] : Array(labels[range]), into: modulation)
      network.forward(
        output: output[range.elements(c.outputElements)].mutableSpan,
        images: images.elements.span.extracting(range.elements(c.imageElements)), modulation: modulation,
        sequence: sequences.map { network.embed($0.samples(range)) }, samples: range.count, workspace: workspace)
      if let (image, found) = output[range.elements(c.outputElements)].span.notFinite(images: range.count) {
        throw DiTError(overflow: "output", image: range.lowerBound + image, found: found)
      }
    }
    guard c.outChannels > c.inChannels, !process.learnsVariance else {
      return Tensor(shape: [samples, c.outChannels, c.inputHeight, c.inputWidth], elements: output.array)
    }
    let predictions = (0..<samples).flatMap { n in
      output[n * c.outputElements..<n * c.outputElements + c.imageElements].array
    }
    return Tensor(shape: c.imageShape(samples), elements: predictions)
  }
}

extension DiT {
  /// What the network embeds for each image.
  private func inputs(_ times: [Float], _ step: StepInputs?) throws(DiTError) -> [[Float]] {
    let c = configuration.network
    guard c.isToldGuidance else {
      guard step == nil else {
        throw DiTError(argument: "h", expected: "none, as token_groups tell the network no guidance", found: "a step")
      }
      return times.map { [$0] }
    }
    guard let step else {
      throw DiTError(
        argument: "h", expected: "a step's length, as token_groups tell the network guidance", found: "none")
    }
    try step.check(c, schedule.process, samples: times.count)
    return times.indices.map { n in
      var row: [Float] = []
      step.append(n, of: c, to: &row)
      return row
    }
  }

  /// The mean velocity u of steps from t that a network which is told their length predicts: of x̂_* (x − x̂_*)/max(s, t_floor),
  /// negated for `1-s`.
  ///
  /// - Parameters:
  ///   - prediction: ``predict(images:times:labels:sequence:step:)`` of `images` and `times`.
  ///   - images: x, (N, C, H, W).
  ///   - times: t, (N).
  /// - Precondition: the path is linear and the shapes are one.
  public func meanVelocity(of prediction: Tensor, images: Tensor, times: [Float]) -> Tensor {
    precondition(prediction.shape == images.shape, "prediction \(prediction.shape), images \(images.shape)")
    precondition(times.count == images.shape[0], "\(times.count) times for \(images.shape[0]) images")
    let process = schedule.process
    guard let linearTime = process.linearTime else { preconditionFailure("path \(process.path.rawValue)") }
    let size = configuration.network.imageElements
    let (x, output) = (images.elements, prediction.elements)
    let velocities = times.indices.flatMap { n in
      let slope = process.velocity(s: linearTime.s(Double(times[n])))
      return (n * size..<(n + 1) * size).map { i in
        Float(linearTime.direction * (slope.noised * Double(x[i]) + slope.output * Double(output[i])))
      }
    }
    return Tensor(shape: images.shape, elements: velocities)
  }
}

extension Range<Int> {
  /// The elements of these images, each of `size`.
  func elements(_ size: Int) -> Range<Int> { lowerBound * size..<upperBound * size }
}
