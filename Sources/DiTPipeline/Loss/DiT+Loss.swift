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
  public let flat: FloatSlice

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
  ///   - times: `t`, (N): training indices 0…T−1, or on a linear path the network's real times.
  ///   - labels: `y`, (N), classes or the null class; none for an unconditional model.
  ///   - noise: `noise`, ε, (N, C, H, W).
  ///   - sequence: N sequences for a model that takes them; nil are empty ones.
  ///   - weighting: how much each noise level counts.
  ///   - consistency: the sequence-consistency term; not on a linear path.
  /// - Throws: `DiTError`, also when a loss is not finite.
  public func loss(
    clean: Tensor, times: [Float], labels: [Int], noise: Tensor, sequence: ConditioningSequence? = nil,
    weighting: LossWeighting = .uniform, consistency: SequenceLossInput? = nil
  ) throws -> LossReport {
    let c = configuration.network
    let inputs = try LossInputs(self, clean, times, labels, noise, consistency)
    let sequences = try c.input(sequence, samples: inputs.samples)
    let batch = min(inputs.samples, BatchPlan.inference(c, passes: 1))
    let loss = TrainingLoss(schedule, weighting: weighting)
    let workspace = InferenceWorkspace(network, samples: batch)
    let values = MutableFloatSlice(zeros: Modulation.elements(c, rows: batch))
    var report = inputs.report
    var step: LossStep?
    for range in batches(inputs.samples, of: batch) {
      var part = inputs.step(range, step.take())
      part.addNoise(schedule)
      let modulation = Modulation(c, rows: range.count, values: values)
      network.modulate(
        times: Array(times[range]), labels: labels.isEmpty ? [] : Array(labels[range]), into: modulation)
      network.forward(
        output: part.output.mutableSpan, images: part.noised.span, modulation: modulation,
        sequence: sequences.map { network.embed($0.samples(range)) }, samples: range.count, workspace: workspace)
      part.evaluate(loss)
      report.take(range, of: part, loss, c)
      step = part
    }
    try report.checkFinite()
    return report
  }

  /// The loss and the gradient of its mean over the samples. Parameters as in
  /// ``loss(clean:times:labels:noise:sequence:weighting:consistency:)``.
  ///
  /// - Throws: `DiTError`, also when a loss or the gradient is not finite.
  public func lossAndGradients(
    clean: Tensor, times: [Float], labels: [Int], noise: Tensor, sequence: ConditioningSequence? = nil,
    weighting: LossWeighting = .uniform, consistency: SequenceLossInput? = nil
  ) throws -> LossGradients {
    let c = configuration.network
    let inputs = try LossInputs(self, clean, times, labels, noise, consistency)
    let sequences = try c.input(sequence, samples: inputs.samples)
    let batch = min(inputs.samples, BatchPlan.training(c))
    let loss = TrainingLoss(schedule, weighting: weighting)
    let workspace = TrainingWorkspace(network, samples: batch)
    let gradients = MutableFloatSlice(zeros: network.weights.table.elementCount)
    var report = inputs.report
    var step: LossStep?
    for range in batches(inputs.samples, of: batch) {
      var part = inputs.step(range, step.take())
      part.sequence = sequences?.samples(range)
      part.differentiate(
        network, loss, workspace, into: gradients, weight: Double(range.count) / Double(inputs.samples))
      report.take(range, of: part, loss, c)
      step = part
    }
    try report.checkFinite()
    for parameter in network.weights.table.trainableParameters {
      guard let bad = gradients[parameter.range].span.firstNotFinite else { continue }
      throw DiTError(overflow: "grad.\(parameter.name)", image: 0, found: gradients[parameter.range][bad])
    }
    return LossGradients(report: report, table: network.weights.table, flat: gradients.reading)
  }
}

/// What a loss is computed at, checked.
private struct LossInputs {
  let samples: Int
  private let model: DiT
  private let clean, noise: Tensor
  private let times: [Float]
  private let labels: [Int]
  private let consistency: SequenceLossInput?

  init(
    _ model: DiT, _ clean: Tensor, _ times: [Float], _ labels: [Int], _ noise: Tensor,
    _ consistency: SequenceLossInput?
  ) throws(DiTError) {
    let (c, process) = (model.configuration.network, model.schedule.process)
    try c.checkTimeAlone("for a loss")
    samples = try c.checkImages(clean, "x0")
    guard noise.shape == clean.shape else {
      throw DiTError(argument: "noise", expected: "the shape \(clean.shape) of x0", found: "\(noise.shape)")
    }
    try noise.checkFinite("noise")
    try c.checkCount(times.count, samples, "t")
    try process.checkTimes(times, whole: process.path.hasWholeTimes)
    try c.checkLabels(labels, samples)
    try consistency?.check(model, clean)
    self.model = model
    (self.clean, self.noise, self.times, self.labels) = (clean, noise, times, labels)
    self.consistency = consistency
  }

  /// The samples in `range`, in the memory of a step of as many if one is given.
  func step(_ range: Range<Int>, _ used: LossStep?) -> LossStep {
    let c = model.configuration.network
    var step: LossStep
    if let used, used.shape.samples == range.count {
      step = used
    } else {
      let objective = consistency.map {
        SequenceObjective($0.conditionals, weight: $0.weight, schedule: model.schedule, context: model.context)
      }
      step = LossStep(c, samples: range.count, consistency: objective)
    }
    let elements = range.elements(c.imageElements)
    let labeled = labels.isEmpty ? 0..<0 : range
    step.set(
      clean: clean.elements.span.extracting(elements), noise: noise.elements.span.extracting(elements),
      times: times.span.extracting(range), labels: labels.span.extracting(labeled),
      on: model.schedule.process)
    if let consistency, let target = step.posteriorNoise {
      target.copy(from: consistency.posteriorNoise.elements.span.extracting(elements))
    }
    return step
  }

  /// A report of as many samples, still without values.
  var report: LossReport {
    LossReport(samples: samples, patches: model.configuration.network.tokens, hasSequence: consistency != nil)
  }
}

extension LossReport {
  fileprivate init(samples: Int, patches: Int, hasSequence: Bool) {
    losses = [SampleLoss](repeating: .zero, count: samples)
    patchErrors = Tensor(zeros: [samples, patches])
    sequencePatches = hasSequence ? Tensor(zeros: [samples, patches]) : nil
  }

  /// Throws unless every loss is finite.
  fileprivate func checkFinite() throws(DiTError) {
    guard let image = losses.firstIndex(where: { !$0.loss.isFinite }) else { return }
    throw DiTError(overflow: "loss", image: image, found: Float(losses[image].loss))
  }

  /// Takes the losses and the maps of the samples in `range` from the step that has evaluated them.
  fileprivate mutating func take(_ range: Range<Int>, of step: LossStep, _ loss: TrainingLoss, _ c: DiTConfiguration) {
    losses.replaceSubrange(range, with: step.losses)
    let places = range.elements(c.tokens)
    var map = [Float](repeating: 0, count: places.count)
    var means = map.mutableSpan
    step.patchErrors(loss, patchSize: c.patchSize, into: &means)
    patchErrors.elements.replaceSubrange(places, with: map)
    if let patches = step.sequencePatches {
      sequencePatches?.elements.replaceSubrange(places, with: patches.prefix(places.count).map { Float($0) })
    }
  }
}
