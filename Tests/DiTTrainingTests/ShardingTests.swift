import DiTDistributed
import DiTKernels
import DiTTensor
import DiTTraining
import Synchronization
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

  @Test(
    "Of several ranks the slices of a bucket differ by a block at most, of full buckets not at all; of many none goes empty"
  )
  func balance() {
    let sharding = Sharding(
      trained: [0..<64 * Sharding.block], count: 64 * Sharding.block, rank: 0, size: 5, bucketBlocks: 64)
    let counts = sharding.buckets[0].slices.map { $0.count / Sharding.block }
    #expect(counts.max()! - counts.min()! <= 1 && counts.reduce(0, +) == 64)
    for ranks in [2, 5, 48, 64, 100, 512] {
      let count = 3 * Sharding.bucketBlocks(ranks: ranks) * Sharding.block
      let many = Sharding(trained: [0..<count], count: count, rank: ranks - 1, size: ranks)
      #expect(many.ownedCount * ranks == count && many.buckets.count == 3, "\(ranks)")
      #expect(many.buckets[0].range.count >= 64 * Sharding.block)
    }
  }

  /// Many buckets, of which one has fewer blocks than ranks; three rank counts, one of nodes that do not fit together.
  @Test(
    "Gradients of several buckets are added in the tree's order, whoever holds them and whenever they are sent",
    arguments: [(6, 3), (6, 2), (8, 4), (10, 2)], GradientExchange.allCases)
  func manyBuckets(_ counts: (virtual: Int, ranks: Int), exchange: GradientExchange) throws {
    let count = 5 * Sharding.block + 77
    @Sendable func gradient(_ number: Int) -> [Float] { Philox.numbers(count, seed: UInt64(number)) }
    @Sendable func sum(_ group: any Communicator, overlaps: Bool) throws -> (values: [Float], owned: [Range<Int>]) {
      let context = try ComputeContext(threads: 1, workers: 1)
      let sharding = Sharding(
        trained: [0..<count], count: count, rank: group.rank, size: group.size, bucketBlocks: 2)
      let result = MutableFloatSlice(zeros: count)
      let sum = GradientSum(
        virtualRanks: counts.virtual, result: result, sharding: sharding, group: group, context: context,
        exchange: exchange, thread: overlaps ? CommunicationThread() : nil)
      for number in sum.own {
        let (buffer, values) = (sum.begin(), MutableFloatSlice(gradient(number)))
        guard number == sum.own.last else {
          buffer.copy(from: values.reading)
          sum.end(number)
          continue
        }
        var end = count
        for start in [5 * Sharding.block, 200_000, 2 * Sharding.block, 10] {
          buffer[start..<end].copy(from: values[start..<end].reading)
          sum.ready(from: start)
          end = start
        }
        buffer[0..<end].copy(from: values[0..<end].reading)
      }
      try sum.finish()
      return (result.array, sharding.owned.map(\.flat))
    }
    let tree = AlignedTree(count: counts.virtual)
    var expected = TreeSum<Wire>(tree)
    for number in 0..<counts.virtual {
      expected.append(AlignedTree.Node(start: number, level: 0), Wire(gradient(number), exchange)) {
        left, right, parent in
        left.add(right, isLast: tree.places(parent) == 0..<counts.virtual)
      }
    }
    let exact = expected.open[0].value.values
    #expect(bitDifference(try sum(SingleProcess(), overlaps: false).values, exact) == nil)
    for overlaps in [false, true] {
      for (found, owned) in try LocalGroup(counts.ranks).run({ try sum($0, overlaps: overlaps) }) {
        for range in owned {
          #expect(bitDifference(Array(found[range]), Array(exact[range])) == nil, "overlaps: \(overlaps)")
        }
      }
    }
  }

  @Test("One rank's buffers are those of the step before", arguments: [1, 2, 6, 8])
  func buffersAreKept(virtual: Int) throws {
    let context = try ComputeContext(threads: 1, workers: 1)
    let sharding = Sharding(trained: [0..<100], count: 100, rank: 0, size: 1)
    let sum = GradientSum(
      virtualRanks: virtual, result: MutableFloatSlice(zeros: 100), sharding: sharding, group: SingleProcess(),
      context: context)
    var counts: [Int] = []
    for _ in 0..<3 {
      for number in sum.own {
        _ = sum.begin()
        if number != sum.own.last { sum.end(number) }
      }
      try sum.finish()
      counts.append(sum.bufferCount)
    }
    #expect(counts == [counts[0], counts[0], counts[0]] && counts[0] <= 4)
  }

  @Test("What fails in the background is thrown by whoever waits, again and again, and nothing follows it")
  func failuresStay() {
    let thread = CommunicationThread()
    let done = Mutex<[Int]>([])
    thread.add { () throws(DiTError) in done.withLock { $0.append(1) } }
    thread.add { () throws(DiTError) in throw DiTError(.communication, DiTError.Subject(), problem: "gone") }
    let last = thread.add { () throws(DiTError) in done.withLock { $0.append(3) } }
    thread.wait(for: last)
    for _ in 0..<2 {
      let error = #expect(throws: DiTError.self) { try thread.wait() }
      #expect(error?.kind == .communication)
    }
    #expect(done.withLock { $0 } == [1])
  }

  @Test("Ranges are read piece by piece across buckets", arguments: [1000, 70_000, 1 << 22])
  func pieces(length: Int) throws {
    let count = 5 * Sharding.block + 77
    let all = Philox.numbers(count, seed: 9)
    let ranges = [0..<130_000, 130_000..<130_001, 130_001..<count]
    let found = try LocalGroup(3).run { group in
      let sharding = Sharding(trained: [0..<count], count: count, rank: group.rank, size: 3, bucketBlocks: 2)
      let own = MutableFloatSlice(zeros: sharding.ownedCount)
      for (flat, local) in sharding.owned { own[local].copy(from: MutableFloatSlice(Array(all[flat])).reading) }
      let pieces = ShardedPieces(sharding, group, length: length)
      var read: [Float] = []
      for range in ranges {
        guard group.isFirst else {
          try pieces.give(range, of: own)
          continue
        }
        for start in stride(from: 0, to: range.count, by: 999) {
          var chunk = [Float](repeating: 0, count: min(999, range.count - start))
          var span = chunk.mutableSpan
          try pieces.copy(from: start, of: range, of: own, into: &span)
          read += chunk
        }
      }
      return read
    }
    #expect(found[0] == all)
  }
}

/// A sum as it is defined, by Swift's own arithmetic.
private final class Wire {
  private(set) var values: [Float]
  private let exchange: GradientExchange

  init(_ values: [Float], _ exchange: GradientExchange) {
    self.exchange = exchange
    self.values = exchange == .bf16 ? values.map(Self.rounded) : values
  }

  func add(_ other: Wire, isLast: Bool) {
    let isRounded = exchange == .bf16 && !isLast
    for place in values.indices {
      let sum = values[place] + other.values[place]
      values[place] = isRounded ? Self.rounded(sum) : sum
    }
  }

  /// To the nearest multiple of what the eighth bit of the fraction counts, ties to even.
  private static func rounded(_ x: Float) -> Float {
    let unit = x.ulp * 65536
    return (x / unit).rounded(.toNearestOrEven) * unit
  }
}

extension Philox {
  fileprivate static func numbers(_ count: Int, seed: UInt64) -> [Float] {
    var random = Philox(seed: seed)
    return random.normal(count: count)
  }
}
