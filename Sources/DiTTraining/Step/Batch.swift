import DiTDiffusion
import DiTModel
import DiTPipeline
import DiTTensor

/// One micro-batch: what is drawn, and its loss. Made once; nothing below allocates.
struct Batch {
  private(set) var step: LossStep
  /// One context image.
  private var mirror: [Float]

  /// - Parameter dropout: the rate inside the blocks.
  init(_ configuration: DiTConfiguration, samples: Int, consistency: SequenceObjective?, dropout: Double = 0) {
    step = LossStep(configuration, samples: samples, consistency: consistency)
    if dropout > 0 { step.dropout = Dropout(rate: dropout, keys: [UInt64](repeating: 0, count: samples)) }
    mirror = [Float](repeating: 0, count: configuration.sequenceLength * configuration.inputGrid.patchElements)
  }

  private func range(_ n: Int) -> Range<Int> {
    n * step.shape.elementsPerSample..<(n + 1) * step.shape.elementsPerSample
  }

  /// Puts the `number`-th sample of `reader` at place n, with its noise level, label and noise.
  ///
  /// - Throws: `DiTError` where it cannot be read.
  mutating func put(
    _ n: Int, from reader: SampleReader, number: Int, flipped: Bool, level: NoiseLevel, label: Int,
    noise random: inout Philox
  ) throws(DiTError) {
    var image = step.clean[range(n)].mutableSpan
    try reader.copy(number, flipped: flipped, into: &image)
    var noise = step.noise[range(n)].mutableSpan
    random.fillNormal(&noise)
    step.set(n, level: level, label: label)
  }

  /// Puts given values at all places; `times` are the network's.
  mutating func put(
    clean: Span<Float>, noise: Span<Float>, times: Span<Float>, labels: Span<Int>, on process: DiffusionProcess
  ) {
    step.set(clean: clean, noise: noise, times: times, labels: labels, on: process)
  }

  /// Draws what is dropped in the blocks for place n: of sample `number` under `seed`.
  mutating func drawDropout(_ n: Int, number: Int, seed: UInt64) {
    guard step.dropout != nil else { return }
    var random = StreamPurpose.dropout.stream(number, seed: seed)
    step.dropout?.keys[n] = random.next()
  }

  /// Draws what x_{t−1} of place n is made of, where L_seq wants it: of sample `number` under `seed`.
  func drawPosterior(_ n: Int, number: Int, seed: UInt64) {
    guard let drawn = step.posteriorNoise else { return }
    var random = StreamPurpose.posterior.stream(number, seed: seed)
    var noise = drawn[range(n)].mutableSpan
    random.fillNormal(&noise)
  }

  /// Puts the sequence of sample `index` of `data` at place n; an empty one when it is dropped.
  mutating func putSequence(_ n: Int, from data: Dataset, index: Int, flipped: Bool, isDropped: Bool) {
    guard step.sequence != nil else { return }
    if isDropped {
      step.sequence?.clear(n)
    } else if var input = step.sequence.take() {
      data.setSequence(n, of: &input, index: index, flipped: flipped, mirror: &mirror)
      step.sequence = input
    }
  }

  /// x_t, the network's output at it, and the losses.
  mutating func evaluate(_ network: DiTNetwork, _ loss: TrainingLoss, _ workspace: TrainingWorkspace) {
    step.evaluate(network, loss, workspace)
  }

  /// The losses, and the gradient of weight · mean(losses) added to `gradients`.
  mutating func differentiate(
    _ network: DiTNetwork, _ loss: TrainingLoss, _ workspace: TrainingWorkspace, into gradients: MutableFloatSlice,
    weight: Double, needs: ((_ offset: Int) -> Void)? = nil, finished: ((_ offset: Int) -> Void)? = nil
  ) {
    step.differentiate(
      network, loss, workspace, into: gradients, weight: weight, needs: needs, finished: finished)
  }
}

extension SampleLoss {
  /// Sums, to be divided by the number of samples.
  static func += (sum: inout SampleLoss, next: SampleLoss) {
    sum.loss += next.loss
    sum.mse += next.mse
    if let vb = next.vb { sum.vb = (sum.vb ?? 0) + vb }
    if let cosine = next.cosine { sum.cosine = (sum.cosine ?? 0) + cosine }
    if let seq = next.seq { sum.seq = (sum.seq ?? 0) + seq }
  }

  static func / (sum: SampleLoss, count: Int) -> SampleLoss {
    var mean = sum
    mean.loss /= Double(count)
    mean.mse /= Double(count)
    if let vb = sum.vb { mean.vb = vb / Double(count) }
    if let cosine = sum.cosine { mean.cosine = cosine / Double(count) }
    if let seq = sum.seq { mean.seq = seq / Double(count) }
    return mean
  }
}
