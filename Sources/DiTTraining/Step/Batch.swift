import DiTDiffusion
import DiTModel
import DiTTensor

/// The memory of one micro-batch: what is drawn, what the network makes of it, and the losses. Made once; nothing below
/// allocates.
struct Batch {
  let shape: BatchShape
  let clean, noise, noised, output, outputGradient: Slice
  private(set) var levels: [NoiseLevel]
  private(set) var losses: [SampleLoss]
  /// Empty for an unconditional network.
  private(set) var labels: [Int]
  /// The times of `levels` as the network takes them.
  private var times: [Float]
  /// Nil for a network that no sequence conditions.
  private var sequence: SequenceInput?
  /// One context image.
  private var mirror: [Float]
  /// λ_seq w_t L_seq, where it is part of the loss.
  private var consistency: SequenceTerm?

  init(_ configuration: DiTConfiguration, samples: Int, consistency: SequenceObjective?) {
    let c = configuration
    shape = BatchShape(samples: samples, channels: c.inChannels, height: c.inputHeight, width: c.inputWidth)
    clean = Slice(zeros: shape.count)
    noise = Slice(zeros: shape.count)
    noised = Slice(zeros: shape.count)
    output = Slice(zeros: samples * c.outputElements)
    outputGradient = Slice(zeros: samples * c.outputElements)
    levels = [NoiseLevel](repeating: NoiseLevel(time: NetworkTime(0), signal: 1, spread: 0), count: samples)
    losses = [SampleLoss](repeating: .zero, count: samples)
    labels = [Int](repeating: 0, count: c.numClasses > 0 ? samples : 0)
    times = [Float](repeating: 0, count: samples)
    sequence = c.sequence == nil ? nil : SequenceInput(c, samples: samples)
    mirror = [Float](repeating: 0, count: c.sequenceLength * c.inputGrid.patchElements)
    self.consistency = consistency.map { SequenceTerm($0, shape) }
  }

  private func range(_ n: Int) -> Range<Int> {
    n * shape.elementsPerSample..<(n + 1) * shape.elementsPerSample
  }

  /// Puts the `number`-th sample of `reader` at place n, with its noise level, label and noise.
  ///
  /// - Throws: ``DatasetError`` where it cannot be read.
  mutating func put(
    _ n: Int, from reader: SampleReader, number: Int, flipped: Bool, level: NoiseLevel, label: Int,
    noise random: inout Philox
  ) throws(DatasetError) {
    var image = clean[range(n)].mutableSpan
    try reader.copy(number, flipped: flipped, into: &image)
    var noise = noise[range(n)].mutableSpan
    random.fillNormal(&noise)
    set(n, level: level, label: label)
  }

  /// Draws what x_{t−1} of place n is made of, where L_seq wants it: of sample `number` under `seed`.
  func drawPosterior(_ n: Int, number: Int, seed: UInt64) {
    guard let consistency else { return }
    var random = StreamPurpose.posterior.stream(number, seed: seed)
    var noise = consistency.noise[range(n)].mutableSpan
    random.fillNormal(&noise)
  }

  /// Puts given values at all places; `times` are the network's.
  mutating func put(
    clean: Span<Float>, noise: Span<Float>, times: Span<Float>, labels: Span<Int>, on schedule: NoiseSchedule
  ) {
    precondition(times.count == shape.samples, "\(times.count) times for a batch of \(shape.samples)")
    precondition(self.labels.isEmpty || labels.count == shape.samples, "\(labels.count) labels for \(shape.samples)")
    self.clean.copy(from: clean)
    self.noise.copy(from: noise)
    for n in times.indices {
      set(n, level: schedule.level(atNetworkTime: times[n]), label: self.labels.isEmpty ? 0 : labels[n])
    }
  }

  /// Puts the sequence of sample `index` of `data` at place n; an empty one when it is dropped.
  mutating func putSequence(_ n: Int, from data: Dataset, index: Int, flipped: Bool, isDropped: Bool) {
    guard sequence != nil else { return }
    if isDropped {
      sequence?.clear(n)
    } else if var input = sequence.take() {
      data.setSequence(n, of: &input, index: index, flipped: flipped, mirror: &mirror)
      sequence = input
    }
  }

  private mutating func set(_ n: Int, level: NoiseLevel, label: Int) {
    levels[n] = level
    times[n] = level.time.value
    if !labels.isEmpty { labels[n] = label }
  }

  /// x_t, the network's output at it, and the losses.
  mutating func evaluate(_ network: DiTNetwork, _ loss: TrainingLoss, _ workspace: TrainingWorkspace) {
    forward(network, loss, workspace)
    let (output, clean, noise, levels, shape) = (output, clean, noise, levels, shape)
    var values = losses.mutableSpan
    loss.evaluate(
      output: output.span, clean: clean.span, noise: noise.span, levels: levels, shape: shape, losses: &values)
    consistency?.add(to: &losses, output: output, clean: clean, noise: noise, levels: levels, shape: shape)
  }

  /// The mse of every patch of what was evaluated, (N, L).
  func patchErrors(_ loss: TrainingLoss, patchSize: Int, into means: inout MutableSpan<Float>) {
    loss.patchErrors(
      output: output.span, clean: clean.span, noise: noise.span, levels: levels, shape: shape, patchSize: patchSize,
      means: &means)
  }

  /// The losses, and the gradient of weight · mean(losses) added to `gradients`.
  mutating func differentiate(
    _ network: DiTNetwork, _ loss: TrainingLoss, _ workspace: TrainingWorkspace, into gradients: Slice, weight: Double
  ) {
    forward(network, loss, workspace)
    evaluate(loss, gradient: outputGradient, weight: weight)
    network.backward(
      gradients: gradients, outputGradient: outputGradient.span, images: noised.span, labels: labels.span,
      sequence: sequence, samples: shape.samples, workspace: workspace)
  }

  private mutating func evaluate(_ loss: TrainingLoss, gradient: Slice, weight: Double) {
    let (output, clean, noise, levels, shape) = (output, clean, noise, levels, shape)
    var values = losses.mutableSpan
    var slopes = gradient.mutableSpan
    loss.evaluate(
      output: output.span, clean: clean.span, noise: noise.span, levels: levels, shape: shape,
      losses: &values, gradient: &slopes, weight: weight)
    consistency?.add(
      to: &losses, gradient: gradient, weight: weight, output: output, clean: clean, noise: noise, levels: levels,
      shape: shape)
  }

  private func forward(_ network: DiTNetwork, _ loss: TrainingLoss, _ workspace: TrainingWorkspace) {
    var noised = noised.mutableSpan
    loss.schedule.addNoise(clean: clean.span, noise: noise.span, levels: levels, into: &noised)
    network.trainingForward(
      output: output.mutableSpan, images: self.noised.span, times: times.span, labels: labels.span,
      sequence: sequence, workspace: workspace)
  }
}

extension SampleLoss {
  /// Sums, to be divided by the number of samples.
  static func += (sum: inout SampleLoss, next: SampleLoss) {
    sum.loss += next.loss
    sum.mse += next.mse
    if let vb = next.vb { sum.vb = (sum.vb ?? 0) + vb }
    if let seq = next.seq { sum.seq = (sum.seq ?? 0) + seq }
  }

  static func / (sum: SampleLoss, count: Int) -> SampleLoss {
    var mean = sum
    mean.loss /= Double(count)
    mean.mse /= Double(count)
    if let vb = sum.vb { mean.vb = vb / Double(count) }
    if let seq = sum.seq { mean.seq = seq / Double(count) }
    return mean
  }
}
