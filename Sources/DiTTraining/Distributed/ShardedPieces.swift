import DiTDistributed
import DiTTensor

/// Reads a buffer of which every rank has slices, from beginning to end of one range after another: piece by piece, so that no rank
/// holds more than a piece of the others'.
///
/// All ranks go through the same ranges in the same order; the first takes what the others give.
package final class ShardedPieces {
  /// Elements of a piece.
  private let length: Int

  private let sharding: Sharding
  private let group: any Communicator
  private let piece: MutableFloatSlice
  /// What `piece` holds, and of which buffer.
  private var held = 0..<0
  private var source: Buffer?

  /// - Parameter length: elements of a piece: 16 MiB.
  package init(_ sharding: Sharding, _ group: any Communicator, length: Int = 1 << 22) {
    (self.sharding, self.group, self.length) = (sharding, group, length)
    piece = MutableFloatSlice(zeros: length)
  }

  /// Gives this rank's parts of a range of the flat buffer of which `own` has its slices.
  package func give(_ range: Range<Int>, of own: MutableFloatSlice) throws(DiTError) {
    for start in stride(from: range.lowerBound, to: range.upperBound, by: length) {
      try gather(start..<min(start + length, range.upperBound), of: own)
    }
  }

  /// Copies elements of a range, of which the first is `offset`, taking pieces as they are needed.
  package func copy(
    from offset: Int, of range: Range<Int>, of own: MutableFloatSlice, into chunk: inout MutableSpan<Float>
  ) throws(DiTError) {
    for i in chunk.indices {
      let place = range.lowerBound + offset + i
      if source !== own.buffer || !held.contains(place) {
        let start = range.lowerBound + (place - range.lowerBound) / length * length
        try gather(start..<min(start + length, range.upperBound), of: own)
      }
      chunk[i] = piece[place - held.lowerBound]
    }
  }

  private func gather(_ range: Range<Int>, of own: MutableFloatSlice) throws(DiTError) {
    for bucket in sharding.buckets where bucket.range.overlaps(range) {
      let common = bucket.range.clamped(to: range)
      let target = piece[common.lowerBound - range.lowerBound..<common.upperBound - range.lowerBound]
      let parts = bucket.slices.map { slice in
        let part = slice.clamped(to: common)
        return part.lowerBound - common.lowerBound..<part.upperBound - common.lowerBound
      }
      let mine = bucket.slices[sharding.rank].clamped(to: common)
      if !mine.isEmpty {
        let local = bucket.local + mine.lowerBound - bucket.slices[sharding.rank].lowerBound
        target[parts[sharding.rank]].copy(from: own[local..<local + mine.count].reading)
      }
      try group.gather(target, parts)
    }
    (held, source) = (range, own.buffer)
  }
}
