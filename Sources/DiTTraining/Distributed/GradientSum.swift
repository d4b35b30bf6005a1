import DiTDistributed
import DiTKernels
import DiTTensor

/// The gradients of a step's V virtual ranks, added up in one order whatever ranks compute them.
///
/// Each virtual rank's gradient is a buffer; buffers are joined as soon as the tree allows, so that a rank of n virtual ranks has at
/// most ⌊log₂ n⌋ + 1 at once where n is a power of two. What is left is exchanged bucket by bucket: every rank gets all ranks' sums of
/// its own slices, and adds them in the tree's order.
package final class GradientSum {
  package let tree: AlignedTree
  private let group: any Communicator
  private let context: ComputeContext
  private let sharding: Sharding
  /// Where the sum comes to be; also the first virtual rank's.
  private let result: MutableFloatSlice
  /// Buffers that are free, the result last.
  private var free: [MutableFloatSlice]
  private var sum: TreeSum<MutableFloatSlice>
  /// What was begun and has not ended.
  private var begun: MutableFloatSlice?
  /// The nodes that each rank has left.
  private let nodes: [[AlignedTree.Node]]
  /// What the ranks send of one bucket: each node of each rank one after another.
  private let received: MutableFloatSlice
  /// Bytes that this rank has sent to others.
  package private(set) var sentBytes = 0

  package init(
    virtualRanks: Int, result: MutableFloatSlice, sharding: Sharding, group: any Communicator, context: ComputeContext
  ) {
    tree = AlignedTree(count: virtualRanks)
    (self.result, self.sharding, self.group, self.context) = (result, sharding, group, context)
    free = [result]
    sum = TreeSum(tree)
    let each = virtualRanks / group.size
    let tree = tree
    nodes = (0..<group.size).map { tree.nodes(of: $0 * each..<($0 + 1) * each) }
    let widest = sharding.buckets.map { $0.slices[sharding.rank].count }.max() ?? 0
    received = MutableFloatSlice(zeros: group.size == 1 ? 0 : widest * nodes.reduce(0) { $0 + $1.count })
  }

  /// The virtual ranks of this rank.
  package var own: Range<Int> {
    let each = tree.count / group.size
    return group.rank * each..<(group.rank + 1) * each
  }

  /// A buffer of zeros for the next virtual rank's gradient.
  package func begin() -> MutableFloatSlice {
    let buffer = free.popLast() ?? MutableFloatSlice(zeros: result.count)
    context.clear(buffer)
    begun = buffer
    return buffer
  }

  /// Takes the gradient of a virtual rank, in the order of their numbers.
  package func end(_ virtual: Int, _ gradient: MutableFloatSlice) {
    begun = nil
    sum.append(AlignedTree.Node(start: virtual, level: 0), gradient) { left, right in
      context.add(right.reading, to: left)
      free.append(right)
    }
  }

  /// Gives up what a step before has left, as after an error.
  package func reset() {
    if let begun { give(begun) }
    begun = nil
    for (_, buffer) in sum.open { give(buffer) }
    sum = TreeSum(tree)
  }

  private func give(_ buffer: MutableFloatSlice) {
    // The result is taken first, so that with one rank the sum is there without a copy.
    if buffer.buffer === result.buffer { free.append(buffer) } else { free.insert(buffer, at: 0) }
  }

  /// Puts the sum of all virtual ranks into the result: all of it with one rank, else this rank's slices.
  package func finish() throws(DiTError) {
    let own = sum.open.map(\.value)
    defer { reset() }
    guard group.size > 1 else { return }
    for bucket in sharding.buckets { try exchange(bucket, own) }
  }

  private func exchange(_ bucket: Sharding.Bucket, _ own: [MutableFloatSlice]) throws(DiTError) {
    let width = bucket.slices[group.rank].count
    let (rounds, parts) = (nodes.map(\.count).max() ?? 0, bucket.parts)
    let starts = nodes.indices.map { rank in nodes[..<rank].reduce(0) { $0 + $1.count } }
    for round in 0..<rounds {
      let empty = [Range<Int>](repeating: 0..<0, count: group.size)
      let isSent = round < own.count
      let places = nodes.indices.map { rank in
        let start = (starts[rank] + round) * width
        return round < nodes[rank].count ? start..<start + width : 0..<0
      }
      // Where there is nothing to send any buffer will do.
      let source = (isSent ? own[round] : result).reading[bucket.range]
      try group.exchange(source, isSent ? parts : empty, into: received, places)
      if isSent { sentBytes += (bucket.range.count - width) * MemoryLayout<Float>.size }
    }
    guard width > 0 else { return }
    var sum = TreeSum<MutableFloatSlice>(tree)
    for (rank, nodes) in nodes.enumerated() {
      for (number, node) in nodes.enumerated() {
        let start = (starts[rank] + number) * width
        sum.append(node, received[start..<start + width]) { left, right in context.add(right.reading, to: left) }
      }
    }
    result[bucket.slices[group.rank]].copy(from: sum.open[0].value.reading)
  }
}
