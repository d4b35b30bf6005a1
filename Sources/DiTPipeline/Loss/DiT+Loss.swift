import DiTDiffusion
import DiTModel
import DiTTensor

/// The loss of each sample, and where in it the error lies.
public struct LossReport: Equatable, Sendable {
  /// N.
  public fileprivate(set) var losses: [SampleLoss]
  /// The mse of each patch, (N, L) with the patches row-major. A sample's mean is its mse.
  public fileprivate(set) var patchErrors: Tensor
  /// The sequence-consistency term of each patch, w_t KL/n, (N, L): a sample's mean is its seq. Nil without the term.
  public fileprivate(set) var sequencePatches: Tensor?
}

/// A report, and the gradient of the mean of its losses.
public struct LossGradients: Sendable {
  public let report: LossReport
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
  ///   - times: `t`, (N): training indices 0…T−1, or of a flow the network's real time 1000·s in 0…1000.
  ///   - labels: `y`, (N), classes or the null class; none for an unconditional model.
  ///   - noise: `noise`, ε, (N, C, H, W).
  ///   - sequence: N sequences for a model that takes them; nil are empty ones.
  ///   - weighting: how much each noise level counts.
  ///   - consistency: the sequence-consistency term; not of a flow.
  /// - Throws: ``InputError``.
  public func loss(
    clean: Tensor, times: [Float], labels: [Int], noise: Tensor, sequence: ConditioningSequence? = nil,
    weighting: LossWeighting = .uniform, consistency: SequenceLossInput? = nil
  ) throws(InputError) -> LossReport {
    let inputs = try LossInputs(self, clean, times, labels, noise)
    let output = try predict(images: inputs.noised, times: times, labels: labels, sequence: sequence)
    let loss = TrainingLoss(schedule, weighting: weighting)
    var report = LossReport(samples: inputs.samples, patches: configuration.network.tokens)
    var pass = try consistency.map { input throws(InputError) in
      try SequencePass(input, self, clean: clean, batch: inputs.samples)
    }
    var none = MutableSpan<Float>()
    report.fill(
      0..<inputs.samples, loss, &pass, inputs, output: output.elements.span, configuration.network, gradient: &none,
      weight: 0)
    report.sequencePatches = pass?.patches
    return report
  }

  /// The loss and the gradient of its mean over the samples. Parameters as in
  /// ``loss(clean:times:labels:noise:sequence:weighting:consistency:)``.
  ///
  /// - Throws: ``InputError``.
  public func lossAndGradients(
    clean: Tensor, times: [Float], labels: [Int], noise: Tensor, sequence: ConditioningSequence? = nil,
    weighting: LossWeighting = .uniform, consistency: SequenceLossInput? = nil
  ) throws(InputError) -> LossGradients {
    let inputs = try LossInputs(self, clean, times, labels, noise)
    let sequences = try configuration.network.input(sequence, samples: inputs.samples)
    let batch = min(inputs.samples, BatchPlan.training(configuration.network))
    let pass = GradientPass(self, TrainingLoss(schedule, weighting: weighting), batch: batch)
    var report = LossReport(samples: inputs.samples, patches: configuration.network.tokens)
    var term = try consistency.map { input throws(InputError) in
      try SequencePass(input, self, clean: clean, batch: batch)
    }
    for range in batches(inputs.samples, of: batch) {
      pass.add(range, of: inputs, sequence: sequences?.samples(range), &term, into: &report)
    }
    report.sequencePatches = term?.patches
    return LossGradients(report: report, table: network.weights.table, flat: pass.gradients)
  }
}

/// What a loss is computed at, checked.
private struct LossInputs {
  let samples: Int
  let clean, noise, noised: Tensor
  let levels: [NoiseLevel]
  let times: [Float]
  let labels: [Int]

  init(
    _ model: DiT, _ clean: Tensor, _ times: [Float], _ labels: [Int], _ noise: Tensor
  ) throws(InputError) {
    let (c, schedule) = (model.configuration.network, model.schedule)
    samples = try c.checkImages(clean, "x0")
    guard noise.shape == clean.shape else {
      throw InputError("noise", expected: "the shape \(clean.shape) of x0", found: "\(noise.shape)")
    }
    try c.checkCount(times.count, samples, "t")
    try schedule.checkTimes(times, whole: schedule.configuration.prediction != .flow)
    try c.checkLabels(labels, samples)
    levels = times.map { schedule.level(atNetworkTime: $0) }
    var elements = [Float](repeating: 0, count: clean.count)
    var target = elements.mutableSpan
    schedule.addNoise(clean: clean.elements.span, noise: noise.elements.span, levels: levels, into: &target)
    (self.clean, self.noise, self.times, self.labels) = (clean, noise, times, labels)
    noised = Tensor(shape: clean.shape, elements: elements)
  }
}

extension LossReport {
  fileprivate init(samples: Int, patches: Int) {
    losses = [SampleLoss](repeating: .zero, count: samples)
    patchErrors = Tensor(zeros: [samples, patches])
  }

  /// The losses and the map of the samples in `range`, and the gradient of weight · mean(loss) by the output, unless it
  /// is empty; `output` and `gradient` are of those samples alone.
  fileprivate mutating func fill(
    _ range: Range<Int>, _ loss: TrainingLoss, _ consistency: inout SequencePass?, _ inputs: LossInputs,
    output: Span<Float>, _ c: DiTConfiguration,
    gradient: inout MutableSpan<Float>, weight: Double
  ) {
    let elements = range.elements(c.imageElements)
    let clean = inputs.clean.elements.span.extracting(elements)
    let noise = inputs.noise.elements.span.extracting(elements)
    let (levels, shape) = (Array(inputs.levels[range]), c.batchShape(range.count))
    var values = [SampleLoss](repeating: .zero, count: range.count)
    var losses = values.mutableSpan
    if gradient.isEmpty {
      loss.evaluate(output: output, clean: clean, noise: noise, levels: levels, shape: shape, losses: &losses)
    } else {
      loss.evaluate(
        output: output, clean: clean, noise: noise, levels: levels, shape: shape, losses: &losses,
        gradient: &gradient, weight: weight)
    }
    consistency?.add(
      range, clean: inputs.clean, noise: inputs.noise, output: output, levels: levels, losses: &values,
      gradient: &gradient, weight: weight)
    self.losses.replaceSubrange(range, with: values)
    var map = [Float](repeating: 0, count: range.count * c.tokens)
    var means = map.mutableSpan
    loss.patchErrors(
      output: output, clean: clean, noise: noise, levels: levels, shape: shape, patchSize: c.patchSize, means: &means)
    patchErrors.elements.replaceSubrange(range.elements(c.tokens), with: map)
  }
}

/// Adds up the gradients of sub-batches.
private struct GradientPass {
  let model: DiT
  let loss: TrainingLoss
  let workspace: TrainingWorkspace
  let gradients, output, outputGradient: Slice

  init(_ model: DiT, _ loss: TrainingLoss, batch: Int) {
    let c = model.configuration.network
    self.model = model
    self.loss = loss
    workspace = TrainingWorkspace(model.network, samples: batch)
    gradients = Slice(zeros: model.network.weights.table.elementCount)
    output = Slice(zeros: batch * c.outputElements)
    outputGradient = Slice(zeros: batch * c.outputElements)
  }

  /// Reports the samples in `range`; adds their part of the gradient of the mean over all samples.
  func add(
    _ range: Range<Int>, of inputs: LossInputs, sequence: SequenceInput?, _ consistency: inout SequencePass?,
    into report: inout LossReport
  ) {
    let c = model.configuration.network
    let output = output[0..<range.count * c.outputElements]
    let outputGradient = outputGradient[0..<range.count * c.outputElements]
    let images = inputs.noised.elements.span.extracting(range.elements(c.imageElements))
    let times = Array(inputs.times[range])
    let labels = inputs.labels.isEmpty ? [] : Array(inputs.labels[range])

    model.network.trainingForward(
      output: output.mutableSpan, images: images, times: times.span, labels: labels.span,
      sequence: sequence, workspace: workspace)
    var gradient = outputGradient.mutableSpan
    report.fill(
      range, loss, &consistency, inputs, output: output.span, c, gradient: &gradient,
      weight: Double(range.count) / Double(inputs.samples))
    model.network.backward(
      gradients: gradients, outputGradient: outputGradient.span, images: images, labels: labels.span,
      sequence: sequence, samples: range.count, workspace: workspace)
  }
}

extension DiTConfiguration {
  func batchShape(_ samples: Int) -> BatchShape {
    BatchShape(samples: samples, channels: inChannels, height: inputHeight, width: inputWidth)
  }
}
