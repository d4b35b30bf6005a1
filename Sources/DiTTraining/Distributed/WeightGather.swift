import DiTDistributed
import DiTTensor

/// Gives every rank every rank's new weights, bucket by bucket from the first on, while the next forward pass already uses those that
/// have come.
final class WeightGather {
  private let sharding: Sharding
  private let group: any Communicator
  private let thread: CommunicationThread
  private let flat: MutableFloatSlice
  /// What to wait for before a bucket is used.
  private var numbers: [Int] = []

  init(_ flat: MutableFloatSlice, _ sharding: Sharding, _ group: any Communicator, _ thread: CommunicationThread) {
    (self.flat, self.sharding, self.thread) = (flat, sharding, thread)
    self.group = group.background
  }

  /// Begins, after this rank has updated its slices.
  func begin() {
    numbers = sharding.buckets.map { [flat, group] bucket in
      thread.add { () throws(DiTError) in try group.gather(flat[bucket.range], bucket.parts) }
    }
  }

  /// Waits until all weights before an offset are there, as far as nothing has failed.
  func wait(upTo offset: Int) {
    guard let last = sharding.buckets.lastIndex(where: { $0.range.lowerBound < offset }), last < numbers.count else {
      return
    }
    thread.wait(for: numbers[last])
  }

  /// Waits for all of them, as far as nothing has failed.
  func wait() { wait(upTo: flat.count) }

  /// Waits for all of them.
  ///
  /// - Throws: what failed in the background.
  func settle() throws(DiTError) { try thread.wait() }
}
