import DiTDistributed
import DiTKernels
import DiTTensor

// What ranks do with flat buffers of which each has slices.

extension Sharding {
  /// What of a range of the flat buffer this rank has: as a part of the range, and in the rank's own buffers.
  func owned(of range: Range<Int>) -> [(part: Range<Int>, local: Range<Int>)] {
    owned.compactMap { flat, local in
      let common = flat.clamped(to: range)
      guard !common.isEmpty else { return nil }
      let start = local.lowerBound + common.lowerBound - flat.lowerBound
      return (
        common.lowerBound - range.lowerBound..<common.upperBound - range.lowerBound, start..<start + common.count
      )
    }
  }

  /// Copies this rank's slices of a flat buffer into one of its own; with one rank everything.
  func copy(_ flat: FloatSlice, to own: MutableFloatSlice) {
    guard size > 1 else { return own.copy(from: flat) }
    for (range, local) in owned { own[local].copy(from: flat[range]) }
  }

  /// Gives every rank every rank's slices of a flat buffer.
  func gather(_ flat: MutableFloatSlice, _ group: any Communicator) throws(DiTError) {
    guard size > 1 else { return }
    for bucket in buckets { try group.gather(flat[bucket.range], bucket.parts) }
  }

  /// The norm of a flat buffer's trained ranges, of which this rank has its slices: the squares of each block of each range are
  /// added, then those of the ranges, as one process does.
  func norm(_ flat: MutableFloatSlice, _ group: any Communicator, _ context: ComputeContext) throws(DiTError) -> Double
  {
    let counts = buckets.map { bucket in bucket.slices.map { ($0.count + Self.block - 1) / Self.block } }
    let most = (0..<size).map { rank in counts.reduce(0) { $0 + $1[rank] } }.max() ?? 0
    var own: [Double] = []
    for bucket in buckets {
      let slice = bucket.slices[rank]
      var sums = [Double](repeating: 0, count: ComputeContext.normScratch(slice.count))
      _ = context.sumOfSquares(flat[slice].reading, scratch: sums.mutableSpan)
      own += sums
    }
    own += [Double](repeating: 0, count: most - own.count)
    let all = try group.gather(own)
    var places = [Int](repeating: 0, count: size)
    var (total, range, end) = (0.0, 0.0, buckets.first?.range.lowerBound ?? 0)
    for (bucket, counts) in zip(buckets, counts) {
      if bucket.range.lowerBound != end { (total, range) = (total + range, 0) }  // another range of the table begins
      for rank in 0..<size {
        for _ in 0..<counts[rank] {
          range += all[rank][places[rank]]
          places[rank] += 1
        }
      }
      end = bucket.range.upperBound
    }
    return (total + range).squareRoot()
  }
}
