import DiTDistributed
import DiTKernels
import DiTTensor

/// The gradients of a step's V virtual ranks, added up in one order whatever ranks compute them.
///
/// Each virtual rank's gradient is a buffer; buffers are joined as soon as the tree allows, so that a rank of n virtual ranks has at
/// most ⌊log₂ n⌋ + 1 at once where n is a power of two. This rank's last gradient is joined bucket by bucket from the end to
/// the start, and what is left of a bucket is exchanged at once: every rank gets all ranks' sums of its own slices, and adds them in
/// the tree's order. Where ``ready(from:)`` is called while that gradient is made, a thread does so behind its back.
package final class GradientSum {
  package let tree: AlignedTree
  private let group: any Communicator
  private let context: ComputeContext
  private let sharding: Sharding
  private let isRounded: Bool
  /// Where the sum comes to be; also the first virtual rank's.
  private let result: MutableFloatSlice
  /// Buffers that are free, the result last.
  private var free: [MutableFloatSlice]
  private var sum: TreeSum<MutableFloatSlice>
  /// What was begun and has not ended.
  private var begun: MutableFloatSlice?
  /// The nodes that each rank has left.
  private let nodes: [[AlignedTree.Node]]
  private let exchange: BucketExchange
  /// Exchanges what is ready, by the group's calls in the background; nil where that waits for the end.
  private let thread: CommunicationThread?
  /// Buckets of this step that are not on their way.
  private var waiting: Int
  /// The last one that is.
  private var number = 0
  /// Bytes that this rank has sent to others.
  package private(set) var sentBytes = 0

  /// - Parameter thread: exchanges buckets as soon as they are ready.
  package init(
    virtualRanks: Int, result: MutableFloatSlice, sharding: Sharding, group: any Communicator, context: ComputeContext,
    exchange: GradientExchange = .fp32, thread: CommunicationThread? = nil
  ) {
    tree = AlignedTree(count: virtualRanks)
    (self.result, self.sharding, self.group, self.context) = (result, sharding, group, context)
    isRounded = exchange == .bf16
    free = [result]
    sum = TreeSum(tree)
    let each = virtualRanks / group.size
    let tree = tree
    nodes = (0..<group.size).map { tree.nodes(of: $0 * each..<($0 + 1) * each) }
    self.exchange = BucketExchange(
      exchange, counts: nodes.map(\.count), sharding: sharding, group: thread == nil ? group : group.background,
      context: context)
    self.thread = thread
    waiting = sharding.buckets.count
  }

  /// The virtual ranks of this rank.
  package var own: Range<Int> {
    let each = tree.count / group.size
    return group.rank * each..<(group.rank + 1) * each
  }

  /// Buffers that are kept for the next step, once one has ended.
  package var bufferCount: Int { free.count }

  /// A buffer of zeros for the next virtual rank's gradient.
  package func begin() -> MutableFloatSlice {
    let buffer = free.popLast() ?? MutableFloatSlice(zeros: result.count)
    context.clear(buffer)
    begun = buffer
    return buffer
  }

  /// Takes the gradient that was begun, of a virtual rank that is not this rank's last; in the order of their numbers.
  package func end(_ virtual: Int) {
    guard let gradient = begun else { preconditionFailure("a gradient that was not begun") }
    begun = nil
    if isRounded { context.roundToBFloat16(gradient, by: .threads) }
    append(AlignedTree.Node(start: virtual, level: 0), gradient, to: &sum, by: .threads) { free.append($0) }
  }

  /// Says that of this rank's last gradient everything from an offset on is there; offsets descend.
  package func ready(from offset: Int) {
    guard let thread else { return }
    while waiting > 0, sharding.buckets[waiting - 1].range.lowerBound >= offset {
      waiting -= 1
      let bucket = sharding.buckets[waiting]
      number = thread.add { [self] () throws(DiTError) in try send(bucket, by: .caller) }
    }
  }

  /// Takes this rank's last gradient, which was begun, and puts the sum of all virtual ranks into the result: all of it with
  /// one rank, else this rank's slices.
  package func finish() throws(DiTError) {
    guard let gradient = begun else { preconditionFailure("a gradient that was not begun") }
    defer { reset() }
    guard group.size > 1 else {
      begun = nil
      if isRounded { context.roundToBFloat16(gradient, by: .threads) }
      return append(last, gradient, to: &sum, by: .threads) { free.append($0) }
    }
    try thread?.wait()
    while waiting > 0 {
      waiting -= 1
      try send(sharding.buckets[waiting], by: .threads)
    }
  }

  /// The tree's node of this rank's last virtual rank.
  private var last: AlignedTree.Node { AlignedTree.Node(start: own.upperBound - 1, level: 0) }

  /// Joins a bucket's last gradient with this rank's others, and exchanges what that leaves.
  private func send(_ bucket: Sharding.Bucket, by loop: FlatLoop) throws(DiTError) {
    guard let gradient = begun?[bucket.range] else { preconditionFailure("a gradient that was not begun") }
    var own = TreeSum<MutableFloatSlice>(tree)
    for (node, buffer) in sum.open { append(node, buffer[bucket.range], to: &own, by: loop) }
    if isRounded { context.roundToBFloat16(gradient, by: loop) }
    append(last, gradient, to: &own, by: loop)
    let (all, sent) = try exchange(bucket, own.open.map(\.value.reading))
    sentBytes += sent
    let slice = bucket.slices[group.rank]
    guard !slice.isEmpty else { return }
    var total = TreeSum<MutableFloatSlice>(tree)
    for (node, values) in zip(nodes.joined(), all) { append(node, values, to: &total, by: loop) }
    result[slice].copy(from: total.open[0].value.reading)
  }

  /// Joins what comes next with its neighbors. The sum of all stays float32 in any case.
  ///
  /// - Parameter free: is given what is not needed any more.
  private func append(
    _ node: AlignedTree.Node, _ values: MutableFloatSlice, to sum: inout TreeSum<MutableFloatSlice>, by loop: FlatLoop,
    free: (MutableFloatSlice) -> Void = { _ in }
  ) {
    sum.append(node, values) { left, right, parent in
      let isTotal = tree.places(parent).count == tree.count
      context.add(right.reading, to: left, rounded: isRounded && !isTotal, by: loop)
      free(right)
    }
  }

  /// Gives up what a step before has left, as after an error.
  package func reset() {
    thread?.wait(for: number)
    if let begun { give(begun) }
    begun = nil
    for (_, buffer) in sum.open { give(buffer) }
    sum = TreeSum(tree)
    waiting = sharding.buckets.count
  }

  private func give(_ buffer: MutableFloatSlice) {
    // The result is taken first, so that with one rank the sum is there without a copy.
    if buffer.buffer === result.buffer { free.append(buffer) } else { free.insert(buffer, at: 0) }
  }
}
