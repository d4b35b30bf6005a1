import CDiTKernels
import CKernelsTestSupport
import DiTTensor
import Foundation
import Synchronization
import TestSupport
import Testing

/// The worker pool by its C interface: every index runs once, whatever calls it and however often.
@Suite("The worker pool by its C interface") struct PoolTests {
  /// What idle workers sleep on.
  enum Sleep: CaseIterable {
    /// The address of the state, where the system can.
    case address
    case conditionVariable
  }

  /// A C pool, destroyed with the object.
  @safe final class Pool: @unchecked Sendable {
    let pointer: OpaquePointer
    private let sleep: Sleep

    init?(threads: Int, _ sleep: Sleep = .address) {
      let count = Int32(threads)
      let made =
        switch sleep {
        case .address: unsafe dit_pool_create(count, count)
        case .conditionVariable: unsafe condition_pool_create(count, count)
        }
      guard let pool = unsafe made else { return nil }
      unsafe pointer = pool
      self.sleep = sleep
    }

    deinit {
      switch sleep {
      case .address: unsafe dit_pool_destroy(pointer)
      case .conditionVariable: unsafe condition_pool_destroy(pointer)
      }
    }

    /// What ``run(_:_:)`` hands to C.
    private final class Box {
      let body: (Int, Int) -> Void
      init(_ body: @escaping (Int, Int) -> Void) { self.body = body }
    }

    /// Runs `body(index, worker)` for every index below `count`.
    func run(_ count: Int, _ body: @escaping (Int, Int) -> Void) {
      let box = unsafe Unmanaged.passRetained(Box(body))
      defer { unsafe box.release() }
      let task: DiTTask = { context, index, worker in
        unsafe Unmanaged<Box>.fromOpaque(context).takeUnretainedValue().body(index, worker)
      }
      switch sleep {
      case .address: unsafe dit_pool_run(pointer, task, box.toOpaque(), count)
      case .conditionVariable: unsafe condition_pool_run(pointer, task, box.toOpaque(), count)
      }
    }
  }

  /// How often each index of a job ran; a worker's number that is out of range counts a thousandfold. Plain memory: by
  /// the pool's promise an index has one writer, and is read when the job has ended.
  struct Tally: Sendable {
    private let counts: Buffer
    private let threads: Int

    init(_ count: Int, threads: Int) {
      counts = Buffer(count: count)
      self.threads = threads
    }

    private var elements: MutableFloatSlice { MutableFloatSlice(counts) }

    func note(_ index: Int, _ worker: Int) {
      elements[index] += (0..<threads).contains(worker) ? 1 : 1000
    }

    /// nil when every index ran once.
    var problem: String? {
      elements.array.enumerated().first { $1 != 1 }.map { "index \($0) of \(counts.count) ran \($1) times" }
    }
  }

  /// Where `threads` workers meet: each waits until all have come. A worker that does not come in ten minutes, however
  /// busy the machine, never does.
  final class Meeting: Sendable {
    private let here = Atomic(0)
    private let missed = Atomic(false)
    private let threads: Int

    init(_ threads: Int) { self.threads = threads }

    func join() {
      here.add(1, ordering: .sequentiallyConsistent)
      let deadline = ContinuousClock.now + .seconds(600)
      while here.load(ordering: .sequentiallyConsistent) < threads {
        guard ContinuousClock.now < deadline else { return missed.store(true, ordering: .sequentiallyConsistent) }
        sched_yield()
      }
    }

    /// Whether no one's wait ended at the deadline.
    var tookPlace: Bool { !missed.load(ordering: .sequentiallyConsistent) }
  }

  private static func check(_ pool: Pool, threads: Int, _ count: Int) -> String? {
    let tally = Tally(count, threads: threads)
    pool.run(count) { tally.note($0, $1) }
    return tally.problem
  }

  @Test("Every index of a job runs exactly once", arguments: [1, 2, 3, 8], Sleep.allCases)
  func everyIndexOnce(_ threads: Int, _ sleep: Sleep) throws {
    let pool = try #require(Pool(threads: threads, sleep))
    if sleep == .address { #expect(unsafe dit_pool_threads(pool.pointer) == Int32(threads)) }
    for count in [0, 1, 2, 3, 5, 7, 17, 1000] { #expect(Self.check(pool, threads: threads, count) == nil) }
  }

  /// Jobs so small that workers come late to most of them; every thousandth after a pause in which they fall asleep.
  @Test("Thousands of tiny jobs run every index once, after pauses too", arguments: [2, 3], Sleep.allCases)
  func tinyJobs(_ threads: Int, _ sleep: Sleep) throws {
    let pool = try #require(Pool(threads: threads, sleep))
    var problems: [String] = []
    for job in 0..<8000 {
      if job % 1000 == 999 { Thread.sleep(forTimeInterval: 0.003) }
      if let problem = Self.check(pool, threads: threads, 1 + job % 5) { problems.append("job \(job): \(problem)") }
    }
    #expect(problems == [])
  }

  /// All workers come, also from sleep, and the caller, who ends its share first, waits for them.
  @Test("The caller waits for workers that finish later", arguments: Sleep.allCases)
  func callerWaits(_ sleep: Sleep) throws {
    let pool = try #require(Pool(threads: 3, sleep))
    for round in 0..<6 {
      if round % 2 == 1 { Thread.sleep(forTimeInterval: 0.003) }
      let (tally, meeting) = (Tally(3, threads: 3), Meeting(3))
      pool.run(3) { index, worker in
        meeting.join()
        if worker > 0 { Thread.sleep(forTimeInterval: 0.004) }
        tally.note(index, worker)
      }
      try #require(meeting.tookPlace, "a worker slept through the job")
      #expect(tally.problem == nil)
    }
  }

  /// Workers that begin together and race for a hundred thousand indices.
  @Test("Workers racing for a hundred thousand indices run each once", arguments: [2, 3], Sleep.allCases)
  func workersRaceForIndices(_ threads: Int, _ sleep: Sleep) throws {
    let pool = try #require(Pool(threads: threads, sleep))
    for _ in 0..<4 {
      let (tally, meeting) = (Tally(100_000, threads: threads), Meeting(threads))
      pool.run(100_000) { index, worker in
        if index < threads { meeting.join() }
        tally.note(index, worker)
      }
      try #require(meeting.tookPlace, "a worker slept through the job")
      #expect(tally.problem == nil)
    }
  }

  /// Four host threads that begin together; their jobs take turns, though each gives the others time to come between.
  @Test("Jobs of several host threads take turns on one pool")
  func sharedByHosts() throws {
    let pool = try #require(Pool(threads: 3))
    let problems = Mutex<[String]>([])
    let (group, meeting) = (DispatchGroup(), Meeting(4))
    for host in 0..<4 {
      Thread(group) {
        meeting.join()
        for job in 0..<300 {
          let tally = Tally(20 + (job + host) % 7, threads: 3)
          pool.run(20 + (job + host) % 7) { index, worker in
            if index % 8 == host { sched_yield() }
            tally.note(index, worker)
          }
          if let problem = tally.problem { problems.withLock { $0.append("host \(host), job \(job): \(problem)") } }
        }
      }
    }
    group.wait()
    #expect(problems.withLock { $0 } == [])
  }

  /// Made and destroyed at once, idle, asleep and at work, several at a time.
  @Test("Pools can be made and destroyed idle, asleep and at work", arguments: Sleep.allCases)
  func createAndDestroy(_ sleep: Sleep) throws {
    for round in 0..<200 {
      let pools = try (1...3).map { try #require(Pool(threads: $0, sleep)) }
      if round % 50 == 49 { Thread.sleep(forTimeInterval: 0.003) }
      guard round % 2 == 0 else { continue }
      for (i, pool) in pools.enumerated() { #expect(Self.check(pool, threads: i + 1, 5) == nil) }
    }
  }

  /// A job inside a task runs on the spot, as the worker that asked, and leaves the outer job intact.
  @Test("A job started inside a task runs on that worker and leaves the outer job intact", arguments: [1, 2, 3])
  func nestedJobs(_ threads: Int) throws {
    let pool = try #require(Pool(threads: threads))
    let (outer, inner) = (Tally(50, threads: threads), Tally(50 * 7, threads: threads))
    let strays = Atomic(0)
    let meeting = Meeting(threads)
    pool.run(50) { index, worker in
      if index < threads { meeting.join() }
      pool.run(7) { nestedIndex, nestedWorker in
        if nestedWorker != worker { strays.add(1, ordering: .relaxed) }
        inner.note(index * 7 + nestedIndex, nestedWorker)
      }
      outer.note(index, worker)
    }
    #expect(outer.problem == nil)
    #expect(inner.problem == nil)
    #expect(strays.load(ordering: .relaxed) == 0)
    #expect(Self.check(pool, threads: threads, 100) == nil)
  }

  @Test("Impossible numbers of threads give no pool")
  func impossibleThreads() {
    for threads in [-1, 0, 1025] { #expect(Pool(threads: threads) == nil) }
  }
}
