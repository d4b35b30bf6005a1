import DiTDiffusion
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Dispatch
import Foundation
import Synchronization
import Testing

@Suite("Sessions, and runs as sequences of steps") struct SessionTests {
  private func digits(threads: Int = 1) throws -> DiT {
    try DiT(
      contentsOf: networkFixture("digits"), context: ComputeContext(threads: threads, workers: threads),
      numerics: Numerics(gemm: .packed))
  }

  private func options(
    _ name: SamplerName, _ steps: Int = 5, seed: UInt64 = 4,
    guidance: Guidance = Guidance(scale: 1.5, interval: 200...900)
  ) -> SamplingOptions {
    SamplingOptions(sampler: Sampler(name, steps: steps), guidance: guidance, seed: seed)
  }

  /// What is asked for, alone and beside others.
  private struct Call: Sendable {
    let classes: [Int]
    let options: SamplingOptions
    var start = Start.noise
    var inpainting: Inpainting?
  }

  private func calls() -> [Call] {
    let names: [SamplerName] = [.ddim, .ddpm, .dpmpp, .unipc, .heun, .pndm, .eulerAncestral, .deis]
    let image = Tensor(shape: [1, 1, 8, 8], elements: (0..<64).map { Float($0 % 9) / 4 - 1 })
    let mask = Tensor(shape: [1, 1, 8, 8], elements: (0..<64).map { $0 % 8 < 4 ? 1 : 0 })
    var calls = names.enumerated().map { n, name in
      Call(classes: [n, (n + 3) % 10], options: options(name, 3 + n, seed: UInt64(n)))
    }
    calls.append(Call(classes: [1, 2, 3], options: options(.dpmpp, 8), start: .image(image, strength: 0.6)))
    calls.append(
      Call(classes: [5], options: options(.ddim, 6), inpainting: Inpainting(image: image, mask: mask)))
    calls.append(Call(classes: [0, 9], options: options(.ddpm, 4, guidance: Guidance(scale: 1))))
    return calls
  }

  @Test("A session gives every request the bits of a run alone, whatever its batch", arguments: [1, 3, 8])
  func bitsOfARunAlone(batch: Int) throws {
    let model = try digits()
    let session = model.session(batch: batch)
    for call in calls() {
      let alone = try model.sample(
        .classes(call.classes), options: call.options, start: call.start, inpainting: call.inpainting)
      let found = try session.sample(
        .classes(call.classes), options: call.options, start: call.start, inpainting: call.inpainting)
      #expect(found == alone, "\(call.options.sampler)")
    }
  }

  /// Requests of other samplers, lengths, classes, starts and masks, at the same time: rows of one evaluation differ in time.
  @Test("Requests that run together do not see each other")
  func concurrentRequests() async throws {
    let model = try digits(threads: 2)
    let session = model.session(batch: 4)
    let calls = calls()
    let expected = try calls.map {
      try model.sample(.classes($0.classes), options: $0.options, start: $0.start, inpainting: $0.inpainting)
    }
    try await withThrowingTaskGroup(of: (Int, Samples).self) { group in
      for (n, call) in calls.enumerated() {
        group.addTask {
          let run = session.sampling(
            .classes(call.classes), options: call.options, start: call.start, inpainting: call.inpainting)
          return (n, try await run.samples)
        }
      }
      for try await (n, samples) in group { #expect(samples == expected[n], "request \(n)") }
    }
  }

  @Test("Texts, own embeddings and context images share a session too")
  func sequences() throws {
    var network = DiTConfiguration(
      inputHeight: 4, inputWidth: 4, patchSize: 2, inChannels: 2, hiddenSize: 24, depth: 2, numHeads: 2, numClasses: 0)
    network.sequence = .text(length: 6)
    let model = try randomModel(network)
    let session = model.session(batch: 3)
    let options = SamplingOptions(sampler: Sampler(.ddim, steps: 4), guidance: Guidance(scale: 2), seed: 1)
    let prompts = ["a", "seven", "", "abcdef"]
    #expect(
      try session.sample(.prompts(prompts), options: options) == model.sample(.prompts(prompts), options: options))
  }

  @Test("A run's steps are all told, with images and estimates of their own, and its samples are the blocking call's")
  func stepsOfARun() async throws {
    let model = try digits()
    let options = options(.dpmpp, 6)
    var states: [Tensor] = []
    var estimates: [Tensor] = []
    let expected = try model.sample(.classes([3, 7]), options: options) {
      states.append($0.x)
      estimates.append($0.estimate ?? $0.x)
      return true
    }
    let run = model.sampling(.classes([3, 7]), options: options)
    var steps: [SamplingProgress] = []
    for try await step in run { steps.append(step) }
    #expect(steps.map(\.step) == Array(1...6))
    #expect(steps.map(\.x) == states && steps.compactMap(\.estimate) == estimates, "each step's own, later too")
    #expect(try await run.samples == expected && run.finished == expected)
    let alone = model.sampling(.classes([3, 7]), options: options)
    #expect(try await alone.samples == expected, "without anybody who hears of steps")
    let left = model.sampling(.classes([3, 7]), options: options)
    for try await _ in left { break }
    #expect(try await left.samples == expected, "a loop that was left early leaves the run going")
  }

  @Test("A session tells of each image's steps")
  func stepsOfASession() async throws {
    let session = try digits().session(batch: 2)
    let run = session.sampling(.classes([3, 7, 1]), options: options(.ddim, 3))
    var seen: [Int: [Int]] = [:]
    for try await step in run {
      #expect(step.images.count == 1 && step.count == 3 && step.x.shape == [1, 1, 8, 8] && step.totalSteps == 9)
      seen[step.images.lowerBound, default: []].append(step.step)
    }
    let samples = try await run.samples
    #expect(samples.isComplete && seen.values.allSatisfy { $0 == $0.sorted() })
  }

  @Test("Errors in what is asked for come with the first step, in runs and in sessions")
  func errorsAreThrown() async throws {
    let model = try digits()
    let session = model.session()
    await #expect(throws: DiTError.self) { try await model.sampling(.classes([10])).samples }
    await #expect(throws: DiTError.self) { for try await _ in model.sampling(.classes([10])) {} }
    #expect(throws: DiTError.self) { try session.sample(.classes([10])) }
    let torch = SamplingOptions(sampler: Sampler(.ddim, steps: 2), guidance: Guidance(scale: 1), random: .torch)
    #expect(throws: DiTError.self) { try session.sample(.classes([1]), options: torch) }
  }

  /// One image at a time, so that some are done when the run stops.
  @Test("A cancelled task throws CancellationError after the step at hand, and what is done can be had")
  func cancellation() async throws {
    let model = try digits()
    var options = options(.ddim, 4)
    options.batch = 1
    let whole = try model.sample(.classes([1, 2, 3, 4]), options: options)
    let run = model.sampling(.classes([1, 2, 3, 4]), options: options)
    let task = Task {
      for try await step in run where step.completedSteps == 9 {
        unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
      }
    }
    await #expect(throws: CancellationError.self) { try await task.value }
    await #expect(throws: CancellationError.self) { try await run.samples }
    let finished = try #require(run.finished)
    #expect(!finished.isComplete && 2...4 ~= finished.labels.count)
    #expect(finished.images == whole.images.prefix(finished.labels.count))

    let never = model.sampling(.classes([1]), options: options)
    never.cancel()
    await #expect(throws: CancellationError.self) { try await never.samples }
  }

  @Test("A request that stops leaves the others alone")
  func stoppedRequests() throws {
    let model = try digits()
    let session = model.session(batch: 2)
    let options = options(.ddim, 20)
    // So many images that they would take minutes, as a caller that is kept waiting hears late of their steps.
    let many = Condition.classes(Array(repeating: 3, count: 10_000))
    let stopped = try session.sample(many, options: options) { $0.completedSteps < 100 }
    #expect(!stopped.isComplete && stopped.images.shape[0] == stopped.labels.count && stopped.labels.count >= 2)
    #expect(throws: CocoaError.self) {
      try session.sample(.classes([1]), options: options) { _ in throw CocoaError(.userCancelled) }
    }
    #expect(try session.sample(.classes([4]), options: options) == model.sample(.classes([4]), options: options))
  }

  @Test("An image that is no longer finite fails its request alone")
  func overflow() throws {
    let model = try digits()
    let session = model.session(batch: 2)
    let huge = Tensor(shape: [1, 1, 8, 8], elements: [Float](repeating: 3e38, count: 64))
    let options = options(.ddim, 3, guidance: Guidance(scale: 1))
    #expect(throws: DiTError.self) { try session.sample(.classes([1]), options: options, start: .given(huge)) }
    #expect(try session.sample(.classes([4]), options: options) == model.sample(.classes([4]), options: options))
  }

  /// More of them than Swift's pool has threads: each waits, as a computation does, until all have begun.
  @Test("Work runs on threads of its own, and Swift's pool is not kept from others")
  func threads() async throws {
    let (count, begun) = (3 * ProcessInfo.processInfo.activeProcessorCount + 5, Counter())
    let all = DispatchSemaphore(value: 0)
    let works = (0..<count).map { n in
      BackgroundWork<Int, Int>(name: "own") { _ in
        if begun.add() == count { for _ in 0..<count { all.signal() } }
        all.wait()
        return n
      }
    }
    let values = try await withThrowingTaskGroup(of: Int.self) { group in
      for work in works { group.addTask { try await work.value } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(values.sorted() == Array(0..<count))
  }

  /// The work may run ahead of a slow listener, but not without end.
  @Test("Work waits for a slow listener after a few events, and no event is lost")
  func backpressure() async throws {
    let told = Counter()
    let work = BackgroundWork<Int, Int>(name: "own", limit: 3) { control in
      for n in 1...20 {
        told.add()
        guard control.report(n) else { return -n }
      }
      return 20
    }
    let events = work.makeAsyncIterator()
    #expect(try await events.next() == 1)
    try await Task.sleep(for: .milliseconds(100))
    #expect(told.value <= 5)
    for n in 2...20 { #expect(try await events.next() == n) }
    #expect(try await events.next() == nil)
    #expect(try await work.value == 20)
  }

  @Test("Whoever waits for the value lets the work go on, also with a loop that has stopped taking events")
  func valueWithinALoop() async throws {
    let run = try digits().sampling(.classes([3]), options: options(.ddim, 20))
    var taken = 0
    for try await step in run {
      taken += 1
      if step.step == 1 { #expect(try await run.samples.isComplete) }
    }
    #expect(taken < 20, "steps that nobody took in time are not told")
  }

  @Test("Several loops over one run share its steps")
  func twoLoops() async throws {
    let run = try digits().sampling(.classes([3]), options: options(.ddim, 30))
    let counts = try await withThrowingTaskGroup(of: Int.self) { group in
      for _ in 0..<2 {
        group.addTask {
          var count = 0
          for try await _ in run { count += 1 }
          return count
        }
      }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(counts.reduce(0, +) == 30)
  }

  /// One slot, taken for a long time: the request that waits for it is cancelled.
  @Test(
    "A request that is cancelled while it waits for its turn ends at once, and images done before a stop can be had")
  func cancelledInTheQueue() async throws {
    let model = try digits()
    let session = model.session(batch: 1)
    // So many images of so many steps that they would take half an hour: this test's own turns may be minutes apart
    // while others have the threads.
    let long = session.sampling(.classes(Array(repeating: 3, count: 10_000)), options: options(.ddim, 1000))
    var steps = long.makeAsyncIterator()
    #expect(try await steps.next() != nil, "it has the only place")
    let waiting = session.sampling(.classes([5]), options: options(.ddim, 100))
    let task = Task { try await waiting.samples }
    try await Task.sleep(for: .milliseconds(5))
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(long.finished == nil, "while the other goes on")
    long.cancel()
    await #expect(throws: CancellationError.self) { try await long.samples }
    let done = try #require(long.finished)
    #expect(done.count < 10_000 && done.images.shape[0] == done.labels.count)
    let first = try model.sample(.classes([3, 3, 3]), options: options(.ddim, 1000)).images
    #expect(done.images.prefix(min(3, done.count)) == first.prefix(min(3, done.count)))
  }

  @Test("A run's work is let go when it has ended")
  func workIsLetGo() async throws {
    final class Held: Sendable {}
    weak var held: Held?
    let work: BackgroundWork<Int, Int>
    do {
      let object = Held()
      held = object
      work = BackgroundWork(name: "own") { [object] _ in withExtendedLifetime(object) { 1 } }
    }
    #expect(held != nil)
    #expect(try await work.value == 1)
    for _ in 0..<4000 where held != nil { try await Task.sleep(for: .milliseconds(5)) }  // the thread's own end
    #expect(held == nil)
  }

  private final class Counter: Sendable {
    private let count = Mutex(0)
    @discardableResult func add() -> Int {
      count.withLock { count in
        count += 1
        return count
      }
    }
    var value: Int { count.withLock { $0 } }
  }
}
