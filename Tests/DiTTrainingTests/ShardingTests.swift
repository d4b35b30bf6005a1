import DiTDistributed
import DiTKernels
import DiTTensor
import DiTTraining
import TestSupport
import Testing

@Suite("Which rank has which parameters")
struct ShardingTests {
  private static let trained = [100..<400_000, 410_000..<410_010, 500_000..<1_200_001]

  @Test(
    "Every trained element is one rank's, in whole blocks of its range; buckets hold a few", arguments: [1, 2, 3, 5, 8])
  func slices(size: Int) {
    for bucketBlocks in [1, 3, 64] {
      var owners = [Int](repeating: 0, count: 1_200_001)
      var own: [Int] = []
      for rank in 0..<size {
        let sharding = Sharding(
          trained: Self.trained, count: owners.count, rank: rank, size: size, bucketBlocks: bucketBlocks)
        #expect(sharding.buckets.allSatisfy { $0.range.count <= bucketBlocks * Sharding.block })
        for (flat, local) in sharding.owned {
          #expect(flat.count == local.count)
          for element in flat { owners[element] += 1 }
          let range = Self.trained.first { $0.contains(flat.lowerBound) }
          #expect(flat.isEmpty || (flat.lowerBound - (range?.lowerBound ?? 0)) % Sharding.block == 0)
        }
        own.append(sharding.ownedCount)
      }
      for (element, count) in owners.enumerated() {
        let isTrained = Self.trained.contains { $0.contains(element) }
        guard count == (isTrained ? 1 : 0) else {
          Issue.record("element \(element) has \(count) owners")
          return
        }
      }
      if size > 1 {
        #expect(own.reduce(0, +) == Self.trained.reduce(0) { $0 + $1.count })
      } else {
        #expect(own == [1_200_001])
      }
    }
  }

  @Test("Of several ranks the slices of a bucket differ by a block at most")
  func balance() {
    let sharding = Sharding(trained: [0..<64 * Sharding.block], count: 64 * Sharding.block, rank: 0, size: 5)
    let counts = sharding.buckets[0].slices.map { $0.count / Sharding.block }
    #expect(counts.max()! - counts.min()! <= 1 && counts.reduce(0, +) == 64)
  }
}
