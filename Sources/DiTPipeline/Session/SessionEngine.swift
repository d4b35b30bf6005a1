import DiTDiffusion
import DiTModel
import DiTTensor

/// The images on their way in a session, and the network that they share: one evaluation serves all of them, each at its own
/// time. Of one thread.
final class SessionEngine {
  /// An image on its way, in memory that stays when it goes.
  final class Slot {
    /// x, what the network was asked about, its (guided) prediction, noise, and what multi-step samplers keep.
    let x, asked, output, noise, memory: MutableFloatSlice
    /// The modulation of the next evaluations: for each the conditional row, then the unconditional one.
    let modulation: Modulation
    var prepared = 0..<0
    var request: SessionRequest?
    /// Which image of the request.
    var image = 0
    var evaluation = 0
    var random = Philox(seed: 0)

    init(_ c: DiTConfiguration) {
      func floats(_ count: Int) -> MutableFloatSlice { MutableFloatSlice(zeros: count) }
      (x, asked, noise) = (floats(c.imageElements), floats(c.imageElements), floats(c.imageElements))
      output = floats(c.outputElements)
      memory = floats(SessionEngine.memoryArrays * c.imageElements)
      modulation = Modulation(
        c, rows: 2 * SessionEngine.chunk, values: floats(Modulation.elements(c, rows: 2 * SessionEngine.chunk)))
    }
  }

  /// Evaluations whose modulation is made at once.
  static let chunk = 8
  /// No sampler keeps more.
  static let memoryArrays = 6

  private let model: DiT
  private let slots: [Slot]
  private let workspace: InferenceWorkspace
  private let modulationWorkspace: ModulationWorkspace
  private let inputs, outputs: MutableFloatSlice
  private let rows: Modulation
  private var sequences: SequenceTokens?
  private let emptySequence: SequenceTokens?
  private var queue: [SessionRequest] = []
  private var times: [Float] = []
  private var labels: [Int] = []
  /// For each slot at hand its row, and that of its unconditional pass.
  private var places: [(slot: Int, unconditional: Int?)] = []

  init(_ model: DiT, batch: Int) {
    let c = model.configuration.network
    self.model = model
    slots = (0..<batch).map { _ in Slot(c) }
    workspace = InferenceWorkspace(model.network, samples: 2 * batch)
    modulationWorkspace = ModulationWorkspace(model.network, rows: 2 * Self.chunk)
    inputs = MutableFloatSlice(zeros: 2 * batch * c.imageElements)
    outputs = MutableFloatSlice(zeros: 2 * batch * c.outputElements)
    rows = Modulation(c, rows: 2 * batch, values: MutableFloatSlice(zeros: Modulation.elements(c, rows: 2 * batch)))
    sequences = c.sequence.map { _ in SequenceTokens(c, samples: 2 * batch) }
    emptySequence = c.sequence.map { _ in SequenceTokens(c, samples: 1) }
    places.reserveCapacity(batch)
    times.reserveCapacity(2 * Self.chunk * max(1, c.timeInputs))
    labels.reserveCapacity(2 * Self.chunk)
  }

  /// Whether there is nothing to do.
  var isIdle: Bool { queue.isEmpty && slots.allSatisfy { $0.request == nil } }

  func add(_ request: SessionRequest) { queue.append(request) }

  /// Ends all requests.
  func close() {
    while let request = queue.first { leave(request, .failure(CancellationError())) }
    for slot in slots { if let request = slot.request { leave(request, .failure(CancellationError())) } }
  }

  /// One evaluation of all images at hand, and what their samplers make of it.
  func step() {
    dropStopped()
    admit()
    place()
    guard !places.isEmpty else { return }
    evaluate()
    for place in places.indices { advance(places[place].slot, row: place, places[place].unconditional) }
  }

  // MARK: Requests

  private func dropStopped() {
    while let request = queue.first(where: \.isStopped) { leave(request, .success(finished(request))) }
    for slot in slots {
      if let request = slot.request, request.isStopped { leave(request, .success(finished(request))) }
    }
  }

  /// How many of the first images are done.
  private func finished(_ request: SessionRequest) -> Int {
    request.isDone.firstIndex(of: false) ?? request.count
  }

  /// Takes a request out of the queue and its images out of their slots.
  private func leave(_ request: SessionRequest, _ outcome: Result<Int, any Error>) {
    queue.removeAll { $0 === request }
    for slot in slots where slot.request === request { slot.request = nil }
    request.finish(outcome)
  }

  /// Gives free slots to the images that wait, in the order in which they were asked for.
  private func admit() {
    for slot in slots where slot.request == nil {
      guard let request = queue.first else { return }
      begin(slot, request)
      if request.next == request.count { queue.removeFirst() }
    }
  }

  private func begin(_ slot: Slot, _ request: SessionRequest) {
    let (plan, size) = (request.plan, slot.x.count)
    if request.tokens == nil, let sequence = plan.sequence { request.tokens = model.network.embed(sequence) }
    (slot.request, slot.image, slot.evaluation, slot.prepared) = (request, request.next, 0, 0..<0)
    request.next += 1
    let n = slot.image
    slot.random = Philox(seed: plan.seed, stream: UInt64(plan.share.number(n)))
    let start = slot.x
    var x = start.mutableSpan
    if let given = plan.start.givenNoise {
      let noise = given.elements.span
      for i in 0..<size { x[i] = noise[n * size + i] }
      slot.random = Philox(seed: plan.seed, stream: UInt64(plan.share.number(n)), position: UInt64((size + 3) / 4))
    } else {
      slot.random.fillNormal(&x)
    }
    plan.known?.keep(noise: start.reading, of: n)
    let (signal, spread) = plan.level
    if signal != 0, case .image(let images, _, _) = plan.start {
      let clean = images.elements.span
      for i in 0..<size { x[i] = Float(signal * Double(clean[(n * size + i) % clean.count]) + spread * Double(x[i])) }
    } else if spread != 1 {
      for i in 0..<size { x[i] = Float(spread * Double(x[i])) }
    }
  }

  // MARK: A round

  /// The conditional rows, then the unconditional ones of those that are guided at their time.
  private func place() {
    places.removeAll(keepingCapacity: true)
    for (index, slot) in slots.enumerated() where slot.request != nil { places.append((index, nil)) }
    var row = places.count
    for place in places.indices {
      let slot = slots[places[place].slot]
      guard let plan = slot.request?.plan, plan.isGuided[slot.evaluation] else { continue }
      places[place].unconditional = row
      row += 1
    }
    for (place, (index, unconditional)) in places.enumerated() {
      let slot = slots[index]
      prepare(slot)
      slot.asked.take(slot.x)
      fill(place, slot, 0)
      if let unconditional { fill(unconditional, slot, 1) }
    }
  }

  /// Input, modulation and sequence of a row.
  private func fill(_ row: Int, _ slot: Slot, _ half: Int) {
    let size = slot.x.count
    inputs[row * size..<(row + 1) * size].take(slot.x)
    rows.copyRow(row, from: slot.modulation, 2 * (slot.evaluation - slot.prepared.lowerBound) + half)
    guard let emptySequence else { return }
    if half == 0, let tokens = slot.request?.tokens {
      sequences?.copySample(row, from: tokens, slot.image)
    } else {
      sequences?.copySample(row, from: emptySequence, 0)
    }
  }

  /// Makes the modulation of the next evaluations, unless it is there.
  private func prepare(_ slot: Slot) {
    guard !slot.prepared.contains(slot.evaluation), let plan = slot.request?.plan else { return }
    let c = model.configuration.network
    let inputsPerTime = max(1, c.timeInputs)
    let last = min(slot.evaluation + Self.chunk, plan.times.count)
    slot.prepared = slot.evaluation..<last
    times.removeAll(keepingCapacity: true)
    labels.removeAll(keepingCapacity: true)
    for evaluation in slot.prepared {
      for half in 0..<2 {
        for i in 0..<inputsPerTime { times.append(plan.told[evaluation * inputsPerTime + i]) }
        if !plan.labels.isEmpty {
          labels.append(half == 0 || !c.hasNullClass ? plan.labels[slot.image] : c.numClasses)
        }
      }
    }
    let count = 2 * slot.prepared.count
    // Fewer rows lie elsewhere in the same memory, so that a short chunk is filled up with its last evaluation.
    for _ in count..<slot.modulation.rows {
      for _ in 0..<inputsPerTime { times.append(times[times.count - inputsPerTime]) }
      if !plan.labels.isEmpty { labels.append(labels[labels.count - 1]) }
    }
    let (times, labels) = (times, labels)
    model.network.modulate(
      times: times.span, labels: labels.span, into: slot.modulation, workspace: modulationWorkspace)
  }

  private func evaluate() {
    let c = model.configuration.network
    let count = places.count + places.count { $0.unconditional != nil }
    let (input, output) = (inputs[0..<count * c.imageElements], outputs[0..<count * c.outputElements])
    model.network.forward(
      output: output.mutableSpan, images: input.span, modulation: rows, sequence: sequences, samples: count,
      workspace: workspace)
  }

  /// Goes on with an image's sampler.
  private func advance(_ index: Int, row: Int, _ unconditional: Int?) {
    let (c, slot) = (model.configuration.network, slots[index])
    guard let request = slot.request else { return }  // it left when another of its images failed
    let (plan, shape, size) = (request.plan, c.batchShape(1), c.outputElements)
    let (conditional, prediction) = (outputs[row * size..<(row + 1) * size], slot.output)
    request.evaluatedImages += unconditional == nil ? 1 : 2
    if let unconditional {
      let other = outputs[unconditional * size..<(unconditional + 1) * size]
      var output = prediction.mutableSpan
      plan.guidance.combine(conditional: conditional.span, unconditional: other.span, shape: shape, into: &output)
    } else {
      prediction.take(conditional)
    }
    let (evaluation, process) = (slot.evaluation, plan.process)
    let step = process.step(ofEvaluation: evaluation) + 1
    if let (_, found) = prediction.span.notFinite(images: 1) {
      let cause = unconditional == nil ? "" : "under guidance \(plan.guidance.scale) "
      let error = DiTError(
        overflow: "prediction", image: slot.image, found: found,
        place: "\(cause)at step \(step) of \(process.stepCount)")
      return leave(request, .failure(error))
    }
    let (image, normal, kept) = (slot.x, slot.noise, slot.memory[0..<process.memoryArrays * shape.count])
    if process.needsNoise(at: evaluation) {
      var noise = normal.mutableSpan
      slot.random.fillNormal(&noise)
    }
    var x = image.mutableSpan
    var memory = kept.mutableSpan
    process.advance(
      evaluation, x: &x, shape: shape, output: prediction.span, noise: normal.span, memory: &memory)
    slot.evaluation += 1
    guard slot.evaluation == plan.times.count || process.step(ofEvaluation: slot.evaluation) + 1 != step else { return }
    plan.known?.restore(&x, slot.image..<slot.image + 1, step: step)
    finishStep(slot, request, step)
  }

  private func finishStep(_ slot: Slot, _ request: SessionRequest, _ step: Int) {
    let (plan, count) = (request.plan, request.plan.process.stepCount)
    let x = slot.x
    if let (_, found) = x.span.notFinite(images: 1) {
      let error = DiTError(
        overflow: "samples", image: slot.image, found: found, place: "after step \(step) of \(count)")
      return leave(request, .failure(error))
    }
    request.completedSteps += 1
    if request.isListening { request.tell(progress(slot, request, step)) }
    guard slot.evaluation == plan.times.count else { return }
    request.result[slot.image * x.count..<(slot.image + 1) * x.count].take(x)
    request.isDone[slot.image] = true
    slot.request = nil
    if request.completedSteps == request.count * count { leave(request, .success(request.count)) }
  }

  /// The step of one image.
  private func progress(_ slot: Slot, _ request: SessionRequest, _ step: Int) -> SamplingProgress {
    let (process, evaluation) = (request.plan.process, slot.evaluation - 1)
    let last = LastEvaluation(
      shape: model.configuration.network.batchShape(1), x: FloatSlice(slot.asked.array),
      outputs: FloatSlice(slot.output.array), guidance: nil,
      reading: process.cleanReading(at: evaluation).map { .all(noised: $0.noised, output: $0.output) }
        ?? .ofProcess(request.plan.times[evaluation]))
    return SamplingProgress(
      step: step, steps: process.stepCount, time: request.plan.times[evaluation], images: slot.image..<slot.image + 1,
      count: request.count, completedSteps: request.completedSteps, totalSteps: request.count * process.stepCount,
      evaluatedImages: request.evaluatedImages, shape: request.imageShape, elements: FloatSlice(slot.x.array),
      schedule: model.schedule, evaluation: last)
  }
}

extension MutableFloatSlice {
  fileprivate func take(_ other: MutableFloatSlice) { copy(from: other.span) }
}
