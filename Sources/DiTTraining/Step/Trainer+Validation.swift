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
    let grid = model.network.inputGrid
    var map = PatchLossMap(steps: trainingLoss.schedule.steps, rows: grid.rows, columns: grid.columns)
    let averages = [(average, averageNetwork)] + zip(furtherAverages.map(\.values), furtherNetworks)
    var sums = [SampleLoss](repeating: .zero, count: averages.count)
    // One process measures all averages on each draw; of several each average is put together in the same memory.
    for pass in group.size == 1 ? [averages.indices] : averages.indices.map({ $0..<$0 + 1 }) {
      for index in pass { _ = try whole(averages[index].0) }
      try measure(averages[pass].map(\.1), mapsErrors: pass.lowerBound == 0) { samples, losses, errors in
        for (index, losses) in zip(pass, losses) {
          for loss in losses { sums[index] += loss }
        }
        if let errors { map.add(errors.span, at: levels(samples)) }
      }
    }
    let mean = sums[0] / validationSamples.count
    var report = ValidationReport(
      step: completedSteps, loss: mean.loss, mse: mean.mse, vb: mean.vb, cosine: mean.cosine, seq: mean.seq,
      samples: validationSamples.count, patches: map)
    report.furtherAverages = zip(furtherAverages, sums.dropFirst()).map {
      AverageLoss(decay: $0.decay, loss: $1.loss / Double(validationSamples.count))
    }
    return report
  }

  /// Measures networks on all held-out samples, a micro-batch of each rank at a time.
  ///
  /// - Parameter add: takes each micro-batch in the order of the samples: their places among those held out, each network's
  ///   losses, and, if they are asked for, the errors of the first one's patches, (n, L).
  private func measure(
    _ networks: [DiTNetwork], mapsErrors: Bool,
    add: (_ samples: Range<Int>, _ losses: [[SampleLoss]], _ errors: [Float]?) -> Void
  ) throws(DiTError) {
    let (total, tokens) = (validationSamples.count, mapsErrors ? model.network.tokens : 0)
    let parts = stride(from: 0, to: total, by: microBatch).map { $0..<min($0 + microBatch, total) }
    let own = stride(from: group.rank, to: parts.count, by: group.size).flatMap { parts[$0] }
    let reader = SampleReader(
      data, order: ListOrder(samples: own.map { validationSamples[$0] }), end: own.count,
      threads: training.loaderThreads)
    var batch = Batch(model.network, samples: microBatch, consistency: consistency)
    var place = 0
    for round in stride(from: 0, to: parts.count, by: group.size) {
      var losses = [[SampleLoss]](repeating: [], count: networks.count)
      var errors: [Float] = []
      var failure: DiTError?
      if round + group.rank < parts.count {
        let part = parts[round + group.rank]
        if part.count < microBatch { batch = Batch(model.network, samples: part.count, consistency: consistency) }
        do throws(DiTError) {
          for n in 0..<part.count { try fill(&batch, n, with: place + n, of: reader) }
          errors = [Float](repeating: 0, count: part.count * tokens)
          for (index, network) in networks.enumerated() {
            batch.evaluate(network, trainingLoss, workspace)
            losses[index] = batch.step.losses
            guard index == 0, mapsErrors else { continue }
            var span = errors.mutableSpan
            batch.step.patchErrors(trainingLoss, patchSize: model.network.patchSize, into: &span)
          }
        } catch {
          failure = error
        }
        place += part.count
      }
      try group.agree(on: failure)
      let found = try group.gather(Measured(losses: losses, errors: errors), samples: microBatch, tokens: tokens)
      for (part, measured) in zip(parts[round...], found) {
        let errors = mapsErrors ? Array(measured.errors.prefix(part.count * tokens)) : nil
        add(part, measured.losses.map { Array($0.prefix(part.count)) }, errors)
      }
    }
  }

  /// The noise levels of held-out samples, by their places among them.
  private func levels(_ places: Range<Int>) -> [NoiseLevel] {
    places.map { place in
      var choices = StreamPurpose.choices.stream(validationSamples[place], seed: Self.validationSeed)
      return trainingLoss.process.level(drawnBy: &choices)
    }
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
