import DiTKernels

/// Which of the trained elements of a flat buffer each rank updates and keeps the moments and averages of (ZeRO-1; Rajbhandari et
/// al. 2020).
///
/// The trained ranges are cut into blocks of 65,536 elements, over which norms are summed, and runs of blocks into buckets, which
/// are sent at once. Of each bucket every rank has a slice of whole blocks. So sums over blocks are the same whatever P is, and no
/// message is larger than a bucket.
package struct Sharding: Equatable, Sendable {
  package struct Bucket: Equatable, Sendable {
    /// In the flat buffer.
    package let range: Range<Int>
    /// Each rank's slice, in the flat buffer.
    package let slices: [Range<Int>]
    /// Where this rank's slice begins in its own buffers.
    package let local: Int

    /// The slices as parts of the bucket.
    package var parts: [Range<Int>] {
      slices.map { $0.lowerBound - range.lowerBound..<$0.upperBound - range.lowerBound }
    }
  }

  /// Elements over which a norm's square is summed at a time.
  package static let block = ComputeContext.normBlock
  /// Blocks of a bucket: as many for each rank, at least 64 (16 MiB).
  package static func bucketBlocks(ranks: Int) -> Int { ceilDivide(64, ranks) * ranks }

  package let rank, size: Int
  package let buckets: [Bucket]
  /// Elements of a buffer of this rank's own.
  package let ownedCount: Int

  /// - Parameters:
  ///   - trained: ranges of the flat buffer, ascending.
  ///   - count: all elements of the flat buffer.
  ///   - bucketBlocks: smaller in tests.
  package init(
    trained: [Range<Int>], count: Int, rank: Int, size: Int, bucketBlocks: Int? = nil
  ) {
    (self.rank, self.size) = (rank, size)
    let bucketBlocks = bucketBlocks ?? Self.bucketBlocks(ranks: size)
    var (buckets, local) = ([Bucket](), 0)
    for range in trained {
      for start in stride(from: range.lowerBound, to: range.upperBound, by: bucketBlocks * Self.block) {
        let end = min(start + bucketBlocks * Self.block, range.upperBound)
        let blocks = ceilDivide(end - start, Self.block)
        let slices = (0..<size).map { rank in
          min(
            start + rank * blocks / size * Self.block, end)..<min(start + (rank + 1) * blocks / size * Self.block, end)
        }
        // A rank by itself has the whole buffer, and so no places of its own.
        buckets.append(Bucket(range: start..<end, slices: slices, local: size == 1 ? start : local))
        local += slices[rank].count
      }
    }
    self.buckets = buckets
    ownedCount = size == 1 ? count : local
  }

  /// This rank's slice of each bucket, and where it lies in its own buffers.
  package var owned: [(flat: Range<Int>, local: Range<Int>)] {
    buckets.map { bucket in
      let slice = bucket.slices[rank]
      return (slice, bucket.local..<bucket.local + slice.count)
    }
  }
}
