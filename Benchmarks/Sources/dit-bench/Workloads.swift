import DiffusionTransformers

/// A network with every weight disturbed, so that no product is with zeros.
struct Workload {
  let network: DiTNetwork
  let flat: Slice
  let images: Slice
  let output: Slice
  let samples: Int

  init(_ configuration: DiTConfiguration, samples: Int, context: ComputeContext) {
    let (weights, flat) = Weights.initialised(configuration, seed: 1)
    var random = Philox(seed: 2)
    let trainable = flat[weights.table.trainable]
    var values = trainable.mutableSpan
    for index in stride(from: 0, to: values.count, by: 3) { values[index] += 0.02 * (random.uniform() - 0.5) }
    network = DiTNetwork(configuration, weights: weights, context: context)
    self.flat = flat
    self.samples = samples
    images = Slice(random.normal(count: samples * configuration.imageElements))
    output = Slice(zeros: samples * configuration.outputElements)
  }

  var multiplyAdds: Double { Double(samples * network.configuration.multiplyAdds) }
  private var times: [Float] { (0..<samples).map { Float(100 + 37 * $0 % 800) } }
  private var labels: [Int] { (0..<samples).map { $0 % max(network.configuration.numClasses, 1) } }

  /// The network once, as a sampler calls it: the modulation is already there.
  func forward(count: Int) -> Measurement {
    let c = network.configuration
    let modulation = Modulation(c, rows: samples, values: Slice(zeros: Modulation.elements(c, rows: samples)))
    network.modulate(times: times, labels: labels, into: modulation)
    let workspace = InferenceWorkspace(c, samples: samples, context: network.context)
    return Measurement(count: count) {
      network.forward(
        output: output.mutableSpan, images: images.span, modulation: modulation, samples: samples,
        workspace: workspace)
    }
  }

  /// Forward, backward, AdamW and EMA.
  func trainingStep(count: Int) -> Measurement {
    let table = network.weights.table
    let workspace = TrainingWorkspace(network.configuration, samples: samples, context: network.context)
    let buffers = (0..<4).map { _ in Slice(zeros: table.elementCount) }
    let (gradients, weights) = (buffers[0], flat[table.trainable])
    let (g, m, v, e) = (
      gradients[table.trainable], buffers[1][table.trainable], buffers[2][table.trainable],
      buffers[3][table.trainable]
    )
    let (times, labels) = (times, labels)
    var step = 0
    return Measurement(count: count) {
      step += 1
      network.trainingForward(
        output: output.mutableSpan, images: images.span, times: times.span, labels: labels.span,
        workspace: workspace)
      gradients.fill(0)
      network.backward(
        gradients: gradients, outputGradient: output.span, images: images.span, labels: labels.span,
        samples: samples, workspace: workspace)
      network.context.adamW(
        weights: weights.mutableSpan, firstMoment: m.mutableSpan, secondMoment: v.mutableSpan, gradient: g.span,
        gradientScale: 1, learningRate: 1e-6, step: step, constants: AdamW())
      network.context.exponentialMovingAverage(e.mutableSpan, weights: weights.span, decay: 0.999)
    }
  }

  /// Two ways to the same numbers: the inference and the training forward pass. The largest difference over the largest
  /// value.
  func disagreement() -> Float {
    _ = forward(count: 1)
    let expected = output.array
    let workspace = TrainingWorkspace(network.configuration, samples: samples, context: network.context)
    let (times, labels) = (times, labels)
    network.trainingForward(
      output: output.mutableSpan, images: images.span, times: times.span, labels: labels.span, workspace: workspace)
    let difference = zip(expected, output.array).map { abs($0 - $1) }.max() ?? 0
    return difference / (expected.map { abs($0) }.max() ?? 1)
  }
}
