import DiTDiffusion
import DiTModel
import DiTTensor

extension Trainer {
  /// The seed of the held-out samples' t and ε: the same for every run, so that runs can be compared.
  static let validationSeed: UInt64 = 0x7661_6C69_6461_7465

  /// The mean loss of the **averaged** (EMA) weights over the held-out samples, each at a t and an ε that depend on its
  /// index alone; labels as they are, no flips. The further averages of `ema_decays` are measured on the same draws. Nil when
  /// nothing is held out.
  ///
  /// - Throws: `DiTError` when a sample cannot be read.
  public func validate() throws(DiTError) -> ValidationReport? {
    guard !validationSamples.isEmpty else { return nil }
    let reader = SampleReader(
      data, order: ListOrder(samples: validationSamples), end: validationSamples.count,
      threads: training.loaderThreads)
    var sum = SampleLoss.zero
    var further = [Double](repeating: 0, count: furtherNetworks.count)
    let (network, size) = (model.network, model.network.patchSize)
    let grid = network.inputGrid
    var map = PatchLossMap(steps: trainingLoss.schedule.steps, rows: grid.rows, columns: grid.columns)
    var patches = [Float](repeating: 0, count: microBatch * network.tokens)
    var batch = Batch(model.network, samples: microBatch, consistency: consistency)
    var start = 0
    while start < validationSamples.count {
      let count = min(microBatch, validationSamples.count - start)
      if count < microBatch {
        batch = Batch(model.network, samples: count, consistency: consistency)
        patches = [Float](repeating: 0, count: count * network.tokens)
      }
      for n in 0..<count { try fill(&batch, n, with: start + n, of: reader) }
      batch.evaluate(averageNetwork, trainingLoss, workspace)
      for loss in batch.step.losses { sum += loss }
      var errors = patches.mutableSpan
      batch.step.patchErrors(trainingLoss, patchSize: size, into: &errors)
      map.add(patches.span, at: batch.step.levels)
      for (index, average) in furtherNetworks.enumerated() {
        batch.evaluate(average, trainingLoss, workspace)
        for loss in batch.step.losses { further[index] += loss.loss }
      }
      start += count
    }
    let mean = sum / validationSamples.count
    var report = ValidationReport(
      step: completedSteps, loss: mean.loss, mse: mean.mse, vb: mean.vb, cosine: mean.cosine, seq: mean.seq,
      samples: validationSamples.count, patches: map)
    report.furtherAverages = zip(furtherAverages, further).map {
      AverageLoss(decay: $0.decay, loss: $1 / Double(validationSamples.count))
    }
    return report
  }

  private func fill(
    _ batch: inout Batch, _ n: Int, with number: Int, of reader: SampleReader
  ) throws(DiTError) {
    let index = reader.index(number)
    var choices = StreamPurpose.choices.stream(index, seed: Self.validationSeed)
    var noise = StreamPurpose.noise.stream(index, seed: Self.validationSeed)
    try batch.put(
      n, from: reader, number: number, flipped: false, level: trainingLoss.process.level(drawnBy: &choices),
      label: data.labels?[index] ?? 0, noise: &noise)
    batch.putSequence(n, from: data, index: index, flipped: false, isDropped: false)
    batch.drawPosterior(n, number: index, seed: Self.validationSeed)
  }
}
