import DiTDistributed
import DiTTensor
import Foundation
import Synchronization

/// Ranks that are threads of this process: a communicator without MPI.
public final class LocalGroup: Sendable {
  public let size: Int
  private let shared: Shared
  /// Of calls in the background.
  private let second: Shared

  public init(_ size: Int) {
    self.size = size
    (shared, second) = (Shared(size), Shared(size))
  }

  /// Runs `body` on a thread for each rank, and gives what each returns.
  ///
  /// - Throws: the error that came first; the others are not waited for longer than their calls last.
  public func run<Result: Sendable>(_ body: @escaping @Sendable (any Communicator) throws -> Result) throws -> [Result]
  {
    let results = Mutex<[Int: Swift.Result<Result, any Error>]>([:])
    let first = Mutex<(any Error)?>(nil)
    let threads = (0..<size).map { rank in
      let thread = Thread { [shared, second] in
        let member = Member(rank, shared, second)
        let result = Swift.Result { try body(member) }
        results.withLock { $0[rank] = result }
        if case .failure(let error) = result {
          first.withLock { $0 = $0 ?? error }
          shared.leave()
          second.leave()
        }
        shared.end()
      }
      thread.stackSize = 16 << 20
      return thread
    }
    for thread in threads { thread.start() }
    shared.waitForEnd()
    if let error = first.withLock({ $0 }) { throw error }
    let found = results.withLock { $0 }
    return try (0..<size).map { try found[$0]!.get() }
  }
}

/// Where the ranks meet: each call is two meetings, one after all have said what they have and one after all have taken it.
private final class Shared: @unchecked Sendable {
  let size: Int
  private let condition = NSCondition()
  private var arrived = 0
  private var round = 0
  private var ended = 0
  private var isBroken = false
  /// What each rank offers in the present call.
  var offers: [Any?]

  init(_ size: Int) {
    self.size = size
    offers = [Any?](repeating: nil, count: size)
  }

  /// Waits for all ranks.
  func meet() throws(DiTError) {
    condition.lock()
    defer { condition.unlock() }
    let own = round
    arrived += 1
    if arrived == size {
      (arrived, round) = (0, round + 1)
      condition.broadcast()
    }
    while round == own, !isBroken { condition.wait() }
    if round == own {
      throw DiTError(
        .option, DiTError.Subject(.option("distributed")), expected: "every rank",
        found: "one that has ended with an error")
    }
  }

  func offer(_ value: Any, of rank: Int) {
    condition.lock()
    offers[rank] = value
    condition.unlock()
  }

  func leave() {
    condition.lock()
    isBroken = true
    condition.broadcast()
    condition.unlock()
  }

  func end() {
    condition.lock()
    ended += 1
    condition.broadcast()
    condition.unlock()
  }

  func waitForEnd() {
    condition.lock()
    while ended < size { condition.wait() }
    condition.unlock()
  }
}

private final class Member: Communicator {
  let rank: Int
  let shared: Shared
  private let second: Shared
  var size: Int { shared.size }
  var background: any Communicator { Member(rank, second, second) }

  init(_ rank: Int, _ shared: Shared, _ second: Shared) {
    (self.rank, self.shared, self.second) = (rank, shared, second)
  }

  private func all<Value>(_ value: Value, take: ([Value]) -> Void) throws(DiTError) {
    shared.offer(value, of: rank)
    try shared.meet()
    take(shared.offers.map { $0 as! Value })
    try shared.meet()
  }

  func exchange(
    _ source: FloatSlice, _ parts: [Range<Int>], into target: MutableFloatSlice, _ places: [Range<Int>]
  ) throws(DiTError) {
    try all((source, parts)) { offers in
      for (other, (source, parts)) in offers.enumerated() {
        precondition(parts[rank].count == places[other].count, "rank \(other) sends another count to \(rank)")
        target[places[other]].copy(from: source[parts[rank]].span)
      }
    }
  }

  func gather(_ buffer: MutableFloatSlice, _ parts: [Range<Int>]) throws(DiTError) {
    try all((buffer.reading, parts)) { offers in
      for (other, (source, theirs)) in offers.enumerated() where other != rank {
        precondition(theirs == parts, "ranks that cut a buffer otherwise")
        buffer[parts[other]].copy(from: source[parts[other]].span)
      }
    }
  }

  func gather(_ bytes: [UInt8]) throws(DiTError) -> [[UInt8]] {
    var found: [[UInt8]] = []
    try all(bytes) { found = $0 }
    return found
  }

  func broadcast(_ bytes: [UInt8]) throws(DiTError) -> [UInt8] {
    var found: [[UInt8]] = []
    try all(bytes) { found = $0 }
    return found[0]
  }

  func barrier() throws(DiTError) { try all(0) { _ in } }
}
