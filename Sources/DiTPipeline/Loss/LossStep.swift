// Forward, loss and backward of one batch at given noise: what training, `dit loss` and their tests share.

import DiTDiffusion
import DiTModel
import DiTTensor

/// The training loss of N samples, and its gradient. The memory is made once; nothing below allocates.
package struct LossStep {
  package let shape: BatchShape
  /// x_*, (N, C, H, W).
  package let clean: MutableFloatSlice
  /// ε, (N, C, H, W).
  package let noise: MutableFloatSlice
  /// x_t, (N, C, H, W): written by ``addNoise(_:)``.
  package let noised: MutableFloatSlice
  /// The network's output at x_t, (N, C', H, W).
  package let output: MutableFloatSlice
  private let outputGradient: MutableFloatSlice
  package private(set) var levels: [NoiseLevel]
  package private(set) var losses: [SampleLoss]
  /// Empty for an unconditional network.
  package private(set) var labels: [Int]
  /// The times of `levels` as the network takes them.
  private var times: [Float]
  /// Nil for a network that no sequence conditions.
  package var sequence: SequenceInput?
  /// What ``differentiate`` drops in the network's blocks; nil: nothing.
  package var dropout: Dropout?
  /// What x_{t−1} is drawn with, (N, C, H, W); nil where L_seq is not part of the loss.
  package let posteriorNoise: MutableFloatSlice?
  /// λ_seq w_t L_seq. Private: a copy of its memory would be made anew when it is next written.
  private var consistency: SequenceTerm?

  package init(_ configuration: DiTConfiguration, samples: Int, consistency: SequenceObjective?) {
    let c = configuration
    shape = c.batchShape(samples)
    clean = MutableFloatSlice(zeros: shape.count)
    noise = MutableFloatSlice(zeros: shape.count)
    noised = MutableFloatSlice(zeros: shape.count)
    output = MutableFloatSlice(zeros: samples * c.outputElements)
    outputGradient = MutableFloatSlice(zeros: samples * c.outputElements)
    levels = [NoiseLevel](repeating: NoiseLevel(time: NetworkTime(0), signal: 1, spread: 0), count: samples)
    losses = [SampleLoss](repeating: .zero, count: samples)
    labels = [Int](repeating: 0, count: c.numClasses > 0 ? samples : 0)
    times = [Float](repeating: 0, count: samples)
    sequence = c.sequence == nil ? nil : SequenceInput(c, samples: samples)
    posteriorNoise = consistency == nil ? nil : MutableFloatSlice(zeros: shape.count)
    self.consistency = consistency.map { SequenceTerm($0, shape) }
  }

  /// w_t KL/n of each patch of what was evaluated, (N, L); nil where L_seq is not part of the loss.
  package var sequencePatches: [Double]? { consistency?.patches }

  /// Sets the noise level and the label of sample n; the latter is ignored by an unconditional network.
  package mutating func set(_ n: Int, level: NoiseLevel, label: Int) {
    levels[n] = level
    times[n] = level.time.value
    if !labels.isEmpty { labels[n] = label }
  }

  /// Sets all samples; `times` are the network's.
  package mutating func set(
    clean: Span<Float>, noise: Span<Float>, times: Span<Float>, labels: Span<Int>, on process: DiffusionProcess
  ) {
    precondition(times.count == shape.samples, "\(times.count) times for a batch of \(shape.samples)")
    precondition(self.labels.isEmpty || labels.count == shape.samples, "\(labels.count) labels for \(shape.samples)")
    self.clean.copy(from: clean)
    self.noise.copy(from: noise)
    for n in times.indices {
      set(n, level: process.level(atNetworkTime: times[n]), label: self.labels.isEmpty ? 0 : labels[n])
    }
  }

  // MARK: Forward, loss, backward

  /// x_t from x_*, ε and the noise levels.
  package func addNoise(_ schedule: NoiseSchedule) {
    var noised = noised.mutableSpan
    schedule.addNoise(clean: clean.span, noise: noise.span, levels: levels, into: &noised)
  }

  /// x_t, the network's output at it, and the losses.
  package mutating func evaluate(_ network: DiTNetwork, _ loss: TrainingLoss, _ workspace: TrainingWorkspace) {
    addNoise(loss.schedule)
    network.trainingForward(
      output: output.mutableSpan, images: noised.span, times: times.span, labels: labels.span, sequence: sequence,
      workspace: workspace)
    evaluate(loss)
  }

  /// The losses of the output that there is.
  package mutating func evaluate(_ loss: TrainingLoss) {
    var none = MutableSpan<Float>()
    evaluate(loss, gradient: &none, weight: 0)
  }

  /// The losses, and the gradient of weight · mean(losses) added to `gradients`.
  package mutating func differentiate(
    _ network: DiTNetwork, _ loss: TrainingLoss, _ workspace: TrainingWorkspace, into gradients: MutableFloatSlice,
    weight: Double, needs: ((_ offset: Int) -> Void)? = nil, finished: ((_ offset: Int) -> Void)? = nil
  ) {
    addNoise(loss.schedule)
    let (noised, times, labels) = (noised, times, labels)
    network.differentiate(
      images: noised.span, times: times.span, labels: labels.span, sequence: sequence, dropout: dropout, output: output,
      outputGradient: outputGradient, into: gradients, workspace: workspace, needs: needs,
      finished: finished
    ) { evaluate(loss, gradient: &$0, weight: weight) }
  }

  /// The losses; also the gradient of weight · mean(losses) by the output, unless `gradient` is empty.
  private mutating func evaluate(_ loss: TrainingLoss, gradient: inout MutableSpan<Float>, weight: Double) {
    let (output, clean, noise, levels, shape) = (output, clean, noise, levels, shape)
    var values = losses.mutableSpan
    if gradient.isEmpty {
      loss.evaluate(
        output: output.span, clean: clean.span, noise: noise.span, levels: levels, shape: shape, losses: &values)
    } else {
      loss.evaluate(
        output: output.span, clean: clean.span, noise: noise.span, levels: levels, shape: shape, losses: &values,
        gradient: &gradient, weight: weight)
    }
    guard let drawn = posteriorNoise else { return }
    consistency?.add(
      to: &losses, gradient: &gradient, weight: weight, output: output.reading, clean: clean.reading,
      noise: noise.reading,
      drawn: drawn.reading, levels: levels, shape: shape)
  }

  /// The mse of every patch of what was evaluated, (N, L).
  package func patchErrors(_ loss: TrainingLoss, patchSize: Int, into means: inout MutableSpan<Float>) {
    loss.patchErrors(
      output: output.span, clean: clean.span, noise: noise.span, levels: levels, shape: shape, patchSize: patchSize,
      means: &means)
  }
}

extension DiTConfiguration {
  package func batchShape(_ samples: Int) -> BatchShape {
    BatchShape(samples: samples, channels: inChannels, height: inputHeight, width: inputWidth)
  }
}
