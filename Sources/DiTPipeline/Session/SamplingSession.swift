import DiTDiffusion
import DiTModel
import DiTTensor
import Dispatch
import Foundation
import Synchronization

/// A model at work for many callers: their images share the evaluations of the network, each at its own time, class and sampler,
/// in memory that the session owns.
///
///     let session = model.session(batch: 8)
///     let samples = try session.sample(.classes([207, 360]))          // from any thread
///     for try await step in session.sampling(.classes([88])) { … }    // from any task
///
/// Images run in the order in which they were asked for, at most `batch` at a time, whatever `SamplingOptions.batch` says. Image n
/// of a request has the bits that ``DiT/sample(_:options:start:inpainting:progress:)`` gives it, whatever runs beside it, with
/// products over packed weights. A step allocates nothing but what a listener is told. The network runs on a thread of the
/// session's own, which ends with the session; a request that waits holds the session, and ``sampling(_:options:start:inpainting:)``
/// also a thread that sleeps.
public final class SamplingSession: Sendable {
  public let model: DiT
  /// Images at once.
  public let batch: Int
  private let inbox: Inbox

  /// What the session's thread is told.
  private final class Inbox: Sendable {
    struct Content {
      var requests: [SessionRequest] = []
      var isClosed = false
    }

    let content = Mutex(Content())
    let arrived = DispatchSemaphore(value: 0)

    /// What came since the last time; waits for something if there is nothing to do.
    func take(waiting: Bool) -> Content {
      if waiting { arrived.wait() }
      return content.withLock { content in
        defer { content.requests = [] }
        return content
      }
    }
  }

  /// - Precondition: `batch` is at least 1.
  init(_ model: DiT, batch: Int) {
    precondition(batch > 0, "a session of \(batch) images")
    (self.model, self.batch) = (model, batch)
    let inbox = Inbox()
    self.inbox = inbox
    let thread = Thread {
      let engine = SessionEngine(model, batch: batch)
      while true {
        let news = inbox.take(waiting: engine.isIdle)
        for request in news.requests { engine.add(request) }
        if news.isClosed { return engine.close() }
        engine.step()
      }
    }
    thread.name = "dit session"
    thread.stackSize = 8 << 20
    thread.start()
  }

  deinit {
    inbox.content.withLock { $0.isClosed = true }
    inbox.arrived.signal()
  }

  /// Images of a condition, as ``DiT/sample(_:options:start:inpainting:progress:)`` makes them; waits for them.
  ///
  /// - Throws: as `DiT.sample`; `DiTError` also for `dopri5`, whose steps are not known beforehand, and for the
  ///   generator ``RandomStream/torch``, whose noise depends on how many images run together.
  public func sample(
    _ condition: Condition, options: SamplingOptions? = nil, start: Start = .noise, inpainting: Inpainting? = nil
  ) throws -> Samples {
    try sample(condition, options, start, inpainting, isListening: false) { _ in true }
  }

  /// The same with progress.
  ///
  /// - Parameters:
  ///   - condition: classes, names, prompts or others, one for each image.
  ///   - options: nil are the model's own.
  ///   - start: what the run begins with.
  ///   - inpainting: what of the images is given.
  ///   - progress: called after each step of each image, on the caller's thread; a slow one is not told of all. False
  ///     stops, and the samples are then the first images that are done.
  public func sample(
    _ condition: Condition, options: SamplingOptions? = nil, start: Start = .noise, inpainting: Inpainting? = nil,
    progress: (SamplingProgress) throws -> Bool
  ) throws -> Samples {
    try sample(condition, options, start, inpainting, isListening: true, progress)
  }

  /// The same as a sequence of steps, each of one image; a slow listener, for whom the others do not wait, is not told of all.
  /// A request that is cancelled leaves the session after the evaluation at hand, also one that still waits for its turn.
  public func sampling(
    _ condition: Condition, options: SamplingOptions? = nil, start: Start = .noise, inpainting: Inpainting? = nil
  ) -> SamplingSequence {
    SamplingSequence(name: "dit request") { control in
      try self.sample(condition, options, start, inpainting, isListening: true, control.report) { request in
        control.onStop { request.stop() }
      }
    }
  }

  private func sample(
    _ condition: Condition, _ options: SamplingOptions?, _ start: Start, _ inpainting: Inpainting?, isListening: Bool,
    _ progress: (SamplingProgress) throws -> Bool, begun: (SessionRequest) -> Void = { _ in }
  ) throws -> Samples {
    let asked = try model.check(condition, options, start, inpainting)
    if asked.taken == 0 { return asked.untouched(inpainting) }
    let request = SessionRequest(
      try plan(asked, start, inpainting), count: asked.count,
      imageShape: Array(model.configuration.network.imageShape(1).dropFirst()), isListening: isListening)
    inbox.content.withLock { $0.requests.append(request) }
    inbox.arrived.signal()
    begun(request)
    return try request.wait(progress)
  }

  private func plan(
    _ asked: DiT.Asked, _ start: Start, _ inpainting: Inpainting?
  ) throws(DiTError) -> SessionRequest.Plan {
    let (c, options) = (model.configuration.network, asked.options)
    guard case .steps(let whole) = asked.method else {
      throw DiTError(
        option: "sampler", expected: "one whose steps are known beforehand, in a session",
        found: options.sampler.name.rawValue)
    }
    guard options.random == .philox else {
      throw DiTError(option: "rng", expected: "philox, in a session", found: options.random.rawValue)
    }
    if let caching = options.caching {
      throw DiTError(
        option: "cache", expected: "none in a session, whose images are at different steps", found: "\(caching)")
    }
    guard options.guidance.every == 1 else {
      throw DiTError(option: "guidance_every", expected: "1 in a session", found: "\(options.guidance.every)")
    }
    let first = whole.stepCount - asked.taken
    let process = whole.starting(at: first)
    let guidance = options.guidance.resolved(c, model.schedule.process, model.configuration.sampling.guidance)
    precondition(process.memoryArrays <= SessionEngine.memoryArrays, "\(process.memoryArrays) arrays of memory")
    return SessionRequest.Plan(
      process: process, times: process.evaluations,
      isGuided: guidance.decidingTimes(process).map { guidance.needsSecondPass(c, at: $0) },
      told: guidance.told(c, process), guidance: guidance, seed: options.seed, share: options.share,
      labels: asked.labels,
      sequence: asked.sequence, start: start,
      level: first == 0 ? (0, whole.startScale) : whole.level(beforeStep: first),
      known: inpainting.map { KnownPart($0, count: asked.count, process: process) })
  }
}

extension DiT {
  /// A session of this model, with memory for so many images at once.
  ///
  /// - Precondition: `batch` is at least 1.
  public func session(batch: Int = 8) -> SamplingSession { SamplingSession(self, batch: batch) }
}
