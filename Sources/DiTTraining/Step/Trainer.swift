// One training step:
//
//   g = ∇ mean over the batch of loss(x_t, t, y, ε)      accumulated over micro-batches
//   g = g · min(1, clip / ‖g‖)
//   w = AdamW(w, g),  e = decay · e + (1 − decay) · w
//
// The weights, gradients, moments and average are flat buffers over one parameter table; the position table is fixed.

import DiTDiffusion
import DiTDistributed
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor

/// A network in training: its values, its optimizer's state and its place in the data. Touches no file.
///
/// The same configuration, data and seed give the same bytes at any number of threads and at any time, whether the data are
/// in memory or read in the background. After the first step, ``step()`` of one virtual rank allocates nothing. One caller at a
/// time. Of several processes each has a trainer, and all make the same calls.
public final class Trainer {
  public var model: ModelConfiguration { checked.model }
  public let training: TrainingConfiguration
  public let data: Dataset
  public let context: ComputeContext
  /// The processes that train together.
  public let group: any Communicator
  /// Names, shapes and offsets of the flat buffers.
  public let table: ParameterTable
  /// Flat: the network in training. Waits for what other processes have to send of it: of several processes ask again after each
  /// step, as what was got before may be on its way then.
  public var weights: MutableFloatSlice {
    weightGather?.wait()
    return ownWeights
  }
  /// The average, which validation and sampling use: flat, or of several processes what `sharding` says this one has.
  public let average: MutableFloatSlice
  /// The other averages of `ema_decays`, as ``average``, with their decays.
  public let furtherAverages: [(decay: Double, values: MutableFloatSlice)]
  /// AdamW's moments, as ``average``.
  public let firstMoment, secondMoment: MutableFloatSlice
  /// Flat: the last step's gradients, before clipping. Of several processes only this one's slices are the sum, until an average
  /// takes their place.
  public let gradients: MutableFloatSlice
  /// Steps done.
  public internal(set) var completedSteps = 0
  /// AdamW's steps before the run began, where it took up another program's moments; for its bias correction.
  public internal(set) var earlierSteps = 0
  /// Samples drawn since the run began: the data cursor, and with the seed all of the random state.
  public internal(set) var samplesSeen = 0
  /// The indices of the held-out samples.
  public let validationSamples: [Int]
  /// Samples whose gradients are computed at a time.
  public let microBatch: Int
  /// What L_seq compares with; nil without λ_seq.
  public let sequencePrior: SequencePrior?

  /// What of the weights' averages and moments this process has.
  package let sharding: Sharding

  /// ``weights``, of which some may be on their way.
  private let ownWeights: MutableFloatSlice
  /// Sends and gets while the network computes; nil where that waits.
  let weightGather: WeightGather?

  let checked: CheckedConfiguration
  let network, averageNetwork: DiTNetwork
  /// The networks of ``furtherAverages``.
  let furtherNetworks: [DiTNetwork]
  let trainingLoss: TrainingLoss
  let consistency: SequenceObjective?
  let workspace: TrainingWorkspace
  private var batch: Batch
  private let reader: SampleReader
  /// Which of the samples drawn are this process's.
  private let share: SampleShare
  /// Adds up the gradients of several virtual ranks; nil where there is one.
  private let sum: GradientSum?
  var norm: FlatNorm
  /// What is trained, with the averages that go along: ``average`` and ``furtherAverages``.
  private var trained: [TrainedPart]
  /// The averages' decays without warm-up.
  private let decays: [Double]

  /// A run at its start.
  ///
  /// - Parameters:
  ///   - model: what is trained.
  ///   - training: the settings.
  ///   - data: what it is trained on.
  ///   - start: the first weights, flat with the parameter table's offsets, which are copied; a new network's, drawn from
  ///     the seed, when left out.
  ///   - prior: what L_seq compares with; fitted to the samples that are trained on when left out. Ignored without λ_seq.
  ///   - context: where to run.
  ///   - group: the processes that train together, each with a trainer of the same settings and data.
  ///   - overlapsExchange: whether gradients go to other processes while the backward pass makes those that come before them, and new
  ///     weights come while the next forward pass uses those that are there; changes no bit.
  /// - Throws: `DiTError` when the parts are unusable or do not fit.
  public convenience init(
    model: ModelConfiguration, training: TrainingConfiguration, data: Dataset, start: FloatSlice? = nil,
    prior: SequencePrior? = nil, context: ComputeContext, group: any Communicator = SingleProcess(),
    overlapsExchange: Bool = true
  ) throws {
    try self.init(
      model: model, training: training, data: data, prior: prior, context: context, group: group,
      overlapsExchange: overlapsExchange, start: start.map { start in { $0.copy(from: start.span) } })
  }

  /// A run that starts from another model's weights; the other parameters as in
  /// ``init(model:training:data:start:prior:context:group:overlapsExchange:)``.
  public convenience init(
    model: ModelConfiguration, training: TrainingConfiguration, data: Dataset, start: StartingWeights,
    prior: SequencePrior? = nil, context: ComputeContext, group: any Communicator = SingleProcess(),
    overlapsExchange: Bool = true
  ) throws {
    try self.init(
      model: model, training: training, data: data, prior: prior, context: context, group: group,
      overlapsExchange: overlapsExchange, start: start.copy)
    guard let moments = start.moments else { return }
    for parameter in table.trainableParameters {
      let (first, second) = try moments.moments(parameter.name)
      for (own, values) in [(firstMoment, first), (secondMoment, second)] {
        for (part, local) in sharding.owned(of: parameter.range) { own[local].copy(from: values[part]) }
        values.releasePages()
      }
    }
    earlierSteps = moments.steps
  }

  /// - Parameter start: writes the first weights into the flat zeros that it is given.
  private init(
    model: ModelConfiguration, training: TrainingConfiguration, data: Dataset, prior: SequencePrior?,
    context: ComputeContext, group: any Communicator, overlapsExchange: Bool, start: ((MutableFloatSlice) -> Void)?
  ) throws {
    let checked = try CheckedConfiguration(model, file: "model configuration")
    try training.validate()
    try model.network.checkTimeAlone("to be trained here")
    try data.check(for: model.network)
    guard training.virtualRanks % group.size == 0 else {
      throw DiTError(
        key: "training.virtual_ranks", expected: "a multiple of the run's \(group.size) processes",
        found: "\(training.virtualRanks)")
    }
    guard training.exchange == .fp32 || training.virtualRanks > 1 else {
      throw DiTError(
        key: "training.exchange", expected: "fp32 where virtual_ranks is 1 and nothing is ever sent", found: "bf16")
    }
    try group.requireSame(model, training, data)
    let split = try Split(data, modulus: training.validationModulus)
    let table = ParameterTable(model.network)
    let first = start.map { Self.flat(table, filledBy: $0) }
    let weights = first ?? Weights.initialized(model.network, seed: UInt64(training.seed)).flat
    self.checked = checked
    self.training = training
    self.data = data
    self.context = context
    self.group = group
    self.table = table
    ownWeights = weights
    let sharding = Sharding(
      trained: table.trainable, count: table.elementCount, rank: group.rank, size: group.size)
    self.sharding = sharding
    average = MutableFloatSlice(zeros: sharding.ownedCount)
    decays = training.decays
    furtherAverages = decays.dropFirst().map { ($0, MutableFloatSlice(zeros: sharding.ownedCount)) }
    firstMoment = MutableFloatSlice(zeros: sharding.ownedCount)
    secondMoment = MutableFloatSlice(zeros: sharding.ownedCount)
    gradients = MutableFloatSlice(zeros: table.elementCount)
    for values in [average] + furtherAverages.map(\.values) { sharding.copy(weights.reading, to: values) }
    validationSamples = split.validation
    microBatch = training.microBatch(tokens: model.network.totalTokens)
    let numerics = training.numerics
    let schedule = checked.schedule
    let noise = schedule.attention
    func network(of flat: MutableFloatSlice) -> DiTNetwork {
      DiTNetwork(
        model.network, weights: Weights(table, flat: flat.reading), context: context, numerics: numerics, noise: noise)
    }
    self.network = network(of: weights)
    // Of several processes none has an average whole: it is put together where the gradients are, when it is asked for.
    averageNetwork = network(of: group.size == 1 ? average : gradients)
    let (isAlone, gathered) = (group.size == 1, gradients)
    furtherNetworks = furtherAverages.map { network(of: isAlone ? $0.values : gathered) }
    trainingLoss = TrainingLoss(schedule, weighting: training.weighting)
    sequencePrior = try training.sequencePrior(prior, model, data, split.training, context)
    consistency = try sequencePrior.map {
      SequenceObjective(
        try SequenceConditionals($0, context: context), weight: training.lambdaSeq, schedule: schedule,
        context: context)
    }
    workspace = TrainingWorkspace(
      self.network, samples: microBatch, recomputes: training.recompute, drops: training.projDropout > 0)
    batch = Batch(
      model.network, samples: microBatch, consistency: consistency, dropout: training.projDropout)
    share = SampleShare(batch: training.batch, rank: group.rank, size: group.size)
    let order = DataOrder(samples: split.training, seed: UInt64(training.seed))
    reader = SampleReader(
      data, order: group.size == 1 ? order : SharedOrder(order, share),
      end: training.steps * share.count, threads: training.loaderThreads)
    let thread = overlapsExchange && group.size > 1 ? CommunicationThread() : nil
    weightGather = thread.map { WeightGather(weights, sharding, group, $0) }
    sum =
      training.virtualRanks == 1
      ? nil
      : GradientSum(
        virtualRanks: training.virtualRanks, result: gradients, sharding: sharding, group: group, context: context,
        exchange: training.exchange, thread: thread)
    norm = FlatNorm(table.trainable)
    let averaged = [average] + furtherAverages.map(\.values)
    let ranges =
      group.size == 1 ? table.trainable.map { (flat: $0, local: $0) } : sharding.owned.filter { !$0.flat.isEmpty }
    trained = ranges.map { flat, local in
      TrainedPart(range: flat, local: local, averages: averaged.map { MovingAverage($0[local], decay: 0) })
    }
  }

  private static func flat(_ table: ParameterTable, filledBy fill: (MutableFloatSlice) -> Void) -> MutableFloatSlice {
    let flat = MutableFloatSlice(zeros: table.elementCount)
    fill(flat)
    return flat
  }

  /// Bytes of gradients that this process has sent to others.
  package var sentBytes: Int { sum?.sentBytes ?? 0 }

  // MARK: A step

  /// Draws a batch and updates the weights and their average.
  ///
  /// - Throws: `DiTError` with a ``Divergence`` when the loss or the gradient's norm is not finite, when a sample
  ///   cannot be read. Nothing but `gradients` has then changed. Of kind `communication` when other processes do not answer: the trainer
  ///   is of no use any more.
  public func step() throws -> StepReport {
    if let sum { return try step(sum) }
    context.clear(gradients)
    var sum = SampleLoss.zero
    let parts = training.batch / microBatch
    for part in 0..<parts {
      try draw(from: samplesSeen + part * microBatch)
      sum += differentiate(weight: 1 / Double(parts))
    }
    return try update(sum / training.batch, samples: training.batch)
  }

  /// The same with several virtual ranks, each with a gradient of its own, of this and the other processes.
  private func step(_ sum: GradientSum) throws -> StepReport {
    sum.reset()
    let parts = training.virtualBatch / microBatch
    var losses: [SampleLoss] = []
    var gradient = sum.begin()
    func differentiate(finished: ((_ offset: Int) -> Void)? = nil) {
      batch.differentiate(
        network, trainingLoss, workspace, into: gradient, weight: 1 / Double(parts * training.virtualRanks),
        needs: weightGather.map { gather in { gather.wait(upTo: $0) } }, finished: finished)
      losses += batch.step.losses
    }
    var failure: DiTError?
    do throws(DiTError) {
      for virtual in sum.own {
        for part in 0..<parts {
          try draw(from: samplesSeen + virtual * training.virtualBatch + part * microBatch)
          if part < parts - 1 { differentiate() }
        }
        guard virtual != sum.own.last else { break }
        differentiate()
        sum.end(virtual)
        gradient = sum.begin()
      }
    } catch {
      failure = error
    }
    // From here on nothing fails on one rank alone: gradients may be sent while the last ones are made.
    try group.agree(on: failure)
    differentiate(finished: sum.ready)
    try sum.finish()
    var mean = SampleLoss.zero
    for loss in try group.gather(losses) { mean += loss }
    return try update(mean / training.batch, samples: training.batch)
  }

  /// Updates with a given batch of `microBatch` samples in place of drawn ones: no label dropout, no flips. The data
  /// cursor stays.
  ///
  /// - Parameters:
  ///   - clean: x_*, (N, C, H, W).
  ///   - noise: ε, (N, C, H, W).
  ///   - times: t of each sample as the network takes it: a training index, or a real time of a linear path.
  ///   - labels: y of each sample, `numClasses` for the null class; ignored by an unconditional network.
  /// - Throws: `DiTError` with a ``Divergence``.
  public func step(
    clean: Span<Float>, noise: Span<Float>, times: Span<Float>, labels: Span<Int>
  ) throws(DiTError) -> StepReport {
    precondition(group.size == 1, "a given batch is one process's")
    context.clear(gradients)
    batch.put(clean: clean, noise: noise, times: times, labels: labels, on: trainingLoss.process)
    for n in 0..<microBatch {
      let number = completedSteps * microBatch + n
      batch.drawPosterior(n, number: number, seed: UInt64(training.seed))
      batch.drawDropout(n, number: number, seed: UInt64(training.seed))
    }
    let sum = differentiate(weight: 1)
    return try update(sum / microBatch, samples: 0)
  }

  /// Fills the micro-batch with the samples drawn as number `first`, `first` + 1, …
  private func draw(from first: Int) throws(DiTError) {
    for n in 0..<microBatch {
      let number = first + n
      let place = share.place(of: number)
      let index = reader.index(place)
      var random = StreamPurpose.choices.stream(number, seed: UInt64(training.seed))
      let level = trainingLoss.process.level(drawnBy: &random)
      let isDropped = Double(random.uniform()) < model.network.classDropoutProb
      let isFlipped = random.next() >> 63 == 1 && training.flip
      let label = isDropped ? model.network.numClasses : data.labels?[index] ?? 0
      var noise = StreamPurpose.noise.stream(number, seed: UInt64(training.seed))
      try batch.put(n, from: reader, number: place, flipped: isFlipped, level: level, label: label, noise: &noise)
      batch.putSequence(n, from: data, index: index, flipped: isFlipped, isDropped: isDropped)
      batch.drawPosterior(n, number: number, seed: UInt64(training.seed))
      batch.drawDropout(n, number: number, seed: UInt64(training.seed))
    }
  }

  /// Adds the micro-batch's gradients; returns the sum of its losses.
  private func differentiate(weight: Double) -> SampleLoss {
    batch.differentiate(network, trainingLoss, workspace, into: gradients, weight: weight)
    var sum = SampleLoss.zero
    for loss in batch.step.losses { sum += loss }
    return sum
  }

  private func update(_ loss: SampleLoss, samples: Int) throws(DiTError) -> StepReport {
    let next = completedSteps + 1
    let norm = try group.size == 1 ? norm.value(gradients, context) : sharding.norm(gradients, group, context)
    guard loss.loss.isFinite, norm.isFinite else {
      throw DiTError(Divergence(step: next, loss: loss.loss, gradientNorm: norm))
    }
    let rate = training.learningRate(step: next)
    optimize(step: next, rate: Float(rate), scale: Float(clippingScale(norm)))
    if let weightGather { weightGather.begin() } else { try sharding.gather(weights, group) }
    completedSteps = next
    samplesSeen += samples
    return StepReport(
      step: next, loss: loss.loss, mse: loss.mse, vb: loss.vb, cosine: loss.cosine, seq: loss.seq,
      gradientNorm: norm, learningRate: rate, samplesSeen: samplesSeen)
  }

  /// min(1, clip / (‖g‖ + 10⁻⁶)), as torch clips.
  private func clippingScale(_ norm: Double) -> Double {
    training.gradientClip > 0 ? min(1, training.gradientClip / (norm + 1e-6)) : 1
  }

  private func optimize(step: Int, rate: Float, scale: Float) {
    for part in trained.indices {
      for index in decays.indices {
        trained[part].averages[index].decay = Float(training.emaDecay(decays[index], step: step))
      }
      let (range, local) = (trained[part].range, trained[part].local)
      context.adamW(
        weights: weights[range], firstMoment: firstMoment[local], secondMoment: secondMoment[local],
        gradient: gradients[range].reading, gradientScale: scale, learningRate: rate, step: earlierSteps + step,
        constants: training.adamW, averages: trained[part].averages)
    }
  }
}

/// What AdamW updates in one call: a range of the flat buffers, and that range of each average.
private struct TrainedPart {
  let range: Range<Int>
  /// Where that lies in the averages and moments.
  let local: Range<Int>
  var averages: [MovingAverage]
}
