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
    var sum = SampleLoss.zero
    let averages = [(average, averageNetwork)] + zip(furtherAverages.map(\.values), furtherNetworks)
    // One process measures all averages on each draw; of several each average is put together in the same memory.
    let passes = group.size == 1 ? [averages] : averages.map { [$0] }
    var further: [Double] = []
    for (number, pass) in passes.enumerated() {
      for (values, _) in pass { _ = try whole(values) }
      let found = try measure(pass.map(\.1))
      if number == 0 {
        for loss in found.losses[0] { sum += loss }
        for (start, errors) in found.patches {
          map.add(errors.span, at: levels(start..<start + errors.count / model.network.tokens))
        }
      }
      for losses in found.losses.dropFirst(number == 0 ? 1 : 0) { further.append(losses.reduce(0) { $0 + $1.loss }) }
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

  /// The losses of networks on all held-out samples, and where the first's errors lie, by the sample with which they begin. Ranks
  /// take turns with micro-batches.
  private func measure(
    _ networks: [DiTNetwork]
  ) throws(DiTError) -> (losses: [[SampleLoss]], patches: [(start: Int, errors: [Float])]) {
    let (total, tokens) = (validationSamples.count, model.network.tokens)
    let parts = stride(from: 0, to: total, by: microBatch).map { $0..<min($0 + microBatch, total) }
    let own = parts.indices.filter { $0 % group.size == group.rank }.map { parts[$0] }
    let samples = own.flatMap { $0.map { validationSamples[$0] } }
    let reader = SampleReader(
      data, order: ListOrder(samples: samples), end: samples.count, threads: training.loaderThreads)
    var losses = [[SampleLoss]](repeating: [], count: networks.count)
    var patches: [Float] = []
    var batch = Batch(model.network, samples: microBatch, consistency: consistency)
    var (place, failure) = (0, DiTError?.none)
    do throws(DiTError) {
      for part in own {
        if part.count < microBatch { batch = Batch(model.network, samples: part.count, consistency: consistency) }
        for n in 0..<part.count { try fill(&batch, n, with: place + n, of: reader) }
        for (index, network) in networks.enumerated() {
          batch.evaluate(network, trainingLoss, workspace)
          losses[index] += batch.step.losses
          guard index == 0 else { continue }
          var errors = [Float](repeating: 0, count: part.count * tokens)
          var span = errors.mutableSpan
          batch.step.patchErrors(trainingLoss, patchSize: model.network.patchSize, into: &span)
          patches += errors
        }
        place += part.count
      }
    } catch {
      failure = error
    }
    try group.agree(on: failure)
    guard group.size > 1 else {
      return (losses, parts.map { ($0.lowerBound, Array(patches[$0.lowerBound * tokens..<$0.upperBound * tokens])) })
    }
    return try gathered(losses, patches, parts)
  }

  /// What all ranks have measured, in the order of the samples.
  private func gathered(
    _ losses: [[SampleLoss]], _ patches: [Float], _ parts: [Range<Int>]
  ) throws(DiTError) -> (losses: [[SampleLoss]], patches: [(start: Int, errors: [Float])]) {
    let tokens = model.network.tokens
    // Every rank sends as many as the first, which has the most.
    let most = parts.indices.filter { $0 % group.size == 0 }.reduce(0) { $0 + parts[$1].count }
    func padded<Value>(_ values: [Value], _ count: Int, with value: Value) -> [Value] {
      values + [Value](repeating: value, count: count - values.count)
    }
    var all: [[SampleLoss]] = []
    for own in losses { all.append(try group.gather(padded(own, most, with: own.first ?? emptyLoss))) }
    let errors = try group.gather(padded(patches.map(Double.init), most * tokens, with: 0))
    var places = [Int](repeating: 0, count: group.size)
    var (ordered, maps) = ([[SampleLoss]](repeating: [], count: losses.count), [(start: Int, errors: [Float])]())
    for (number, part) in parts.enumerated() {
      let rank = number % group.size
      let start = places[rank]
      for index in losses.indices {
        ordered[index] += all[index][rank * most + start..<rank * most + start + part.count]
      }
      maps.append((part.lowerBound, errors[rank][start * tokens..<(start + part.count) * tokens].map(Float.init)))
      places[rank] += part.count
    }
    return (ordered, maps)
  }

  /// What a rank without samples sends.
  private var emptyLoss: SampleLoss {
    var loss = SampleLoss.zero
    if model.diffusion.variance == .learnedRange { loss.vb = 0 }
    if model.diffusion.loss == .mseAndCosine { loss.cosine = 0 }
    if consistency != nil { loss.seq = 0 }
    return loss
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
