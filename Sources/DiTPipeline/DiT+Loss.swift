import DiTDiffusion
import DiTModel
import DiTTensor

/// The loss of each sample, and the gradient of their mean.
public struct LossGradients: Sendable {
  public let losses: [SampleLoss]
  /// Where the tensors lie in `flat`.
  public let table: ParameterTable
  /// The gradient, flat with the table's offsets; zero where nothing is trained.
  public let flat: Slice

  /// The gradient of every trainable parameter, in the table's order. Copies.
  public var named: [(name: String, tensor: Tensor)] {
    table.trainableParameters.map { ($0.name, Tensor(shape: $0.shape, elements: flat[$0.range].array)) }
  }
}

extension DiT {
  /// The training loss at given noise, without label dropout or flips.
  ///
  /// - Parameters:
  ///   - clean: `x0`, (N, C, H, W).
  ///   - times: `t`, (N), in 0…T−1.
  ///   - labels: `y`, (N), classes or the null class; none for an unconditional model.
  ///   - noise: `noise`, ε, (N, C, H, W).
  /// - Throws: ``InputError``.
  public func loss(
    clean: Tensor, times: [Int], labels: [Int], noise: Tensor
  ) throws(InputError) -> [SampleLoss] {
    let (samples, noised) = try noised(clean, times, labels, noise)
    let output = try predict(images: noised, times: times.map(Float.init), labels: labels)
    var losses = [SampleLoss](repeating: .zero, count: samples)
    var target = losses.mutableSpan
    HybridLoss(schedule).evaluate(
      output: output.elements.span, clean: clean.elements.span, noise: noise.elements.span, timesteps: times,
      shape: configuration.network.batchShape(samples), losses: &target)
    return losses
  }

  /// The loss and the gradient of its mean over the samples. Parameters as in ``loss(clean:times:labels:noise:)``.
  ///
  /// - Throws: ``InputError``.
  public func lossAndGradients(
    clean: Tensor, times: [Int], labels: [Int], noise: Tensor
  ) throws(InputError) -> LossGradients {
    let (samples, noised) = try noised(clean, times, labels, noise)
    let batch = min(samples, BatchPlan.training(configuration.network))
    let pass = GradientPass(self, batch: batch)
    let losses = batches(samples, of: batch).flatMap { range in
      pass.add(range, of: samples, clean: clean, noised: noised, times: times, labels: labels, noise: noise)
    }
    return LossGradients(losses: losses, table: network.weights.table, flat: pass.gradients)
  }

  /// N and x_t = √ᾱ_t x0 + √(1−ᾱ_t) ε, all inputs checked.
  private func noised(
    _ clean: Tensor, _ times: [Int], _ labels: [Int], _ noise: Tensor
  ) throws(InputError) -> (samples: Int, images: Tensor) {
    let c = configuration.network
    let samples = try c.checkImages(clean, "x0")
    guard noise.shape == clean.shape else {
      throw InputError("noise", expected: "the shape \(clean.shape) of x0", found: "\(noise.shape)")
    }
    try c.checkCount(times.count, samples, "t")
    for time in times where !(0..<schedule.steps ~= time) {
      throw InputError("t", expected: "times in 0…\(schedule.steps - 1)", found: "\(time)")
    }
    try c.checkLabels(labels, samples)
    var elements = [Float](repeating: 0, count: clean.count)
    var target = elements.mutableSpan
    schedule.addNoise(
      clean: clean.elements.span, noise: noise.elements.span, timesteps: times, into: &target)
    return (samples, Tensor(shape: clean.shape, elements: elements))
  }
}

/// Adds up the gradients of sub-batches.
private struct GradientPass {
  let model: DiT
  let workspace: TrainingWorkspace
  let gradients, output, outputGradient: Slice

  init(_ model: DiT, batch: Int) {
    let c = model.configuration.network
    self.model = model
    workspace = TrainingWorkspace(model.network, samples: batch)
    gradients = Slice(zeros: model.network.weights.table.elementCount)
    output = Slice(zeros: batch * c.outputElements)
    outputGradient = Slice(zeros: batch * c.outputElements)
  }

  /// The losses of the samples in `range`; adds their part of the gradient of the mean over all `samples`.
  func add(
    _ range: Range<Int>, of samples: Int, clean: Tensor, noised: Tensor, times: [Int], labels: [Int], noise: Tensor
  ) -> [SampleLoss] {
    let c = model.configuration.network
    let inputs = range.elements(c.imageElements)
    let output = output[0..<range.count * c.outputElements]
    let outputGradient = outputGradient[0..<range.count * c.outputElements]
    let images = noised.elements.span.extracting(inputs)
    let times = Array(times[range])
    let realTimes = times.map(Float.init)
    let labels = labels.isEmpty ? [] : Array(labels[range])
    var losses = [SampleLoss](repeating: .zero, count: range.count)

    model.network.trainingForward(
      output: output.mutableSpan, images: images, times: realTimes.span, labels: labels.span, workspace: workspace)
    var lossSpan = losses.mutableSpan
    var gradientSpan = outputGradient.mutableSpan
    HybridLoss(model.schedule).evaluate(
      output: output.span, clean: clean.elements.span.extracting(inputs),
      noise: noise.elements.span.extracting(inputs), timesteps: times, shape: c.batchShape(range.count),
      losses: &lossSpan, gradient: &gradientSpan, weight: Double(range.count) / Double(samples))
    model.network.backward(
      gradients: gradients, outputGradient: outputGradient.span, images: images, labels: labels.span,
      samples: range.count, workspace: workspace)
    return losses
  }
}

extension DiTConfiguration {
  func batchShape(_ samples: Int) -> BatchShape {
    BatchShape(samples: samples, channels: inChannels, height: inputHeight, width: inputWidth)
  }
}
