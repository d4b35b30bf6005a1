import DiTDistributed
import DiTKernels
import DiTTensor

/// How gradients go from process to process.
public enum GradientExchange: String, CaseIterable, Sendable {
  /// As they are.
  case fp32
  /// At half the bytes: each virtual rank's gradient and each partial sum rounded to bf16, wherever they come to be, so that
  /// the number of processes changes no bit. Sums are made in float32, and the last one stays it.
  case bf16

  /// Elements of float32 that hold so many numbers on their way.
  func words(_ count: Int) -> Int { self == .bf16 ? ComputeContext.packedBFloat16(count) : count }
}

/// The nodes of one bucket on their way: each rank's node of a round goes in slices to their owners, who so get all ranks' nodes of
/// their own slice.
struct BucketExchange {
  let exchange: GradientExchange
  let sharding: Sharding
  let group: any Communicator
  let context: ComputeContext
  /// How many nodes each rank has.
  let counts: [Int]
  /// A round's slices packed, and everything that comes, packed; empty where numbers go as they are.
  private let packed, arrived: MutableFloatSlice
  /// Everything that comes: each node of each rank one after another, of a slice's width.
  private let received: MutableFloatSlice

  init(
    _ exchange: GradientExchange, counts: [Int], sharding: Sharding, group: any Communicator, context: ComputeContext
  ) {
    (self.exchange, self.counts) = (exchange, counts)
    (self.sharding, self.group, self.context) = (sharding, group, context)
    let (nodes, isAlone) = (counts.reduce(0, +), group.size == 1)
    let widest = sharding.buckets.map { $0.slices[sharding.rank].count }.max() ?? 0
    let isPacked = exchange == .bf16 && !isAlone
    let longest = sharding.buckets.map { $0.slices.reduce(0) { $0 + exchange.words($1.count) } }.max() ?? 0
    packed = MutableFloatSlice(zeros: isPacked ? longest : 0)
    arrived = MutableFloatSlice(zeros: isPacked ? exchange.words(widest) * nodes : 0)
    received = MutableFloatSlice(zeros: isAlone ? 0 : widest * nodes)
  }

  /// Sends this rank's nodes of a bucket.
  ///
  /// - Parameter own: the nodes, each of the bucket's length.
  /// - Returns: what all ranks' nodes are of this rank's slice, in the order of the ranks, until the next call; and the bytes that were
  ///   sent to others.
  func callAsFunction(_ bucket: Sharding.Bucket, _ own: [FloatSlice]) throws(DiTError) -> (
    nodes: [MutableFloatSlice], sentBytes: Int
  ) {
    let slices = bucket.parts
    let widths = slices.map { exchange.words($0.count) }
    let starts = widths.indices.map { widths[..<$0].reduce(0, +) }
    let parts = exchange == .bf16 ? zip(starts, widths).map { $0..<$0 + $1 } : slices
    let (width, target) = (widths[group.rank], exchange == .bf16 ? arrived : received)
    let firsts = counts.indices.map { counts[..<$0].reduce(0, +) }
    var sent = 0
    for round in 0..<(counts.max() ?? 0) {
      let isSent = round < own.count
      let places = counts.indices.map { rank in
        let start = (firsts[rank] + round) * width
        return round < counts[rank] ? start..<start + width : 0..<0
      }
      if isSent, exchange == .bf16 {
        for (slice, part) in zip(slices, parts) { context.packBFloat16(own[round][slice], into: packed[part]) }
      }
      let source = isSent && exchange == .fp32 ? own[round] : packed.reading
      let empty = [Range<Int>](repeating: 0..<0, count: group.size)
      try group.exchange(source, isSent ? parts : empty, into: target, places)
      if isSent { sent += (widths.reduce(0, +) - width) * MemoryLayout<Float>.size }
    }
    let elements = slices[group.rank].count
    let nodes = (0..<counts.reduce(0, +)).map { received[$0 * elements..<($0 + 1) * elements] }
    if exchange == .bf16 {
      for (place, node) in nodes.enumerated() {
        context.unpackBFloat16(arrived[place * width..<(place + 1) * width].reading, into: node)
      }
    }
    return (nodes, sent)
  }
}
