import DiTEngine

/// A training step on one batch, again and again: forward; loss = mean((output[:, :C] − target)²); backward; AdamW on
/// every tensor but the position table; an average of the weights if wanted.
final class TrainingWork: Work {
  struct Options {
    var variant = Variant()
    /// Whether the backward pass computes activations again.
    var recompute = false
    /// Whether the step ends with the moving average.
    var averages = false
  }

  /// The last step's, of before its update.
  private(set) var loss = 0.0
  private let network: DiTNetwork
  private let inputs: Inputs
  private let target: FloatSlice
  private let workspace: TrainingWorkspace
  private let output, outputGradient: MutableFloatSlice
  private let weights, gradients, firstMoment, secondMoment: MutableFloatSlice
  /// What AdamW updates, with the averages that go along.
  private let trained: [(range: Range<Int>, averages: [MovingAverage])]
  private var step = 0

  /// - Parameter start: the first weights, which are copied.
  /// - Throws: ``BenchError`` when the inputs have no target, or for what the engine does not have.
  init(
    _ configuration: DiTConfiguration, start: Weights, _ inputs: Inputs, context: ComputeContext, _ options: Options
  ) throws {
    guard let target = inputs.target else { throw BenchError("tensor target: expected for training, found none") }
    let table = start.table
    weights = start.flattened()
    network = try makeNetwork(
      configuration, weights: Weights(table, flat: weights.reading), context: context, options.variant,
      weightsAreFixed: false)
    workspace = TrainingWorkspace(network, samples: inputs.samples, recomputes: options.recompute)
    self.inputs = inputs
    self.target = target
    output = MutableFloatSlice(zeros: inputs.samples * configuration.outputElements)
    outputGradient = MutableFloatSlice(zeros: inputs.samples * configuration.outputElements)
    gradients = MutableFloatSlice(zeros: table.elementCount)
    firstMoment = MutableFloatSlice(zeros: table.elementCount)
    secondMoment = MutableFloatSlice(zeros: table.elementCount)
    let average = options.averages ? MutableFloatSlice(zeros: table.elementCount) : nil
    trained = table.trainable.map { range in
      (range, average.map { [MovingAverage($0[range], decay: 0.999)] } ?? [])
    }
  }

  /// Bytes of activations and their gradients.
  var workspaceBytes: Int { workspace.byteCount }
  /// Multiply-adds and additions of a step, the backward pass counted as two forwards.
  var operations: Double { 6 * Double(inputs.samples * network.configuration.multiplyAdds) }

  func run() {
    step += 1
    network.context.clear(gradients)
    let (images, times, labels) = (inputs.images, inputs.times, inputs.labels)
    network.differentiate(
      images: images.span, times: times.span, labels: labels.span, output: output, outputGradient: outputGradient,
      into: gradients, workspace: workspace
    ) { differentiateLoss(&$0) }
    update()
  }

  /// loss = mean((output[:, :C] − target)²): dloss/doutput; channels from C on keep their zeros.
  private func differentiateLoss(_ gradient: inout MutableSpan<Float>) {
    let (size, stride) = (network.configuration.imageElements, network.configuration.outputElements)
    let scale = 2 / Float(inputs.samples * size)
    let (output, target) = (output, target)
    let (predicted, wanted) = (output.span, target.span)
    var sum = 0.0
    for n in 0..<inputs.samples {
      for i in 0..<size {
        let difference = predicted[n * stride + i] - wanted[n * size + i]
        sum += Double(difference) * Double(difference)
        gradient[n * stride + i] = scale * difference
      }
    }
    loss = sum / Double(inputs.samples * size)
  }

  private func update() {
    for (range, averages) in trained {
      network.context.adamW(
        weights: weights[range], firstMoment: firstMoment[range], secondMoment: secondMoment[range],
        gradient: gradients[range].reading, gradientScale: 1, learningRate: 1e-4, step: step,
        constants: AdamW(weightDecay: 0.05), averages: averages)
    }
  }
}
