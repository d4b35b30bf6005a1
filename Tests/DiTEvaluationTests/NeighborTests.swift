import DiTEvaluation
import DiTKernels
import TestSupport
import Testing

/// Nearest neighbors over several blocks, against all distances in Double.
@Suite("Nearest neighbors against all distances in Double") struct NeighborTests {
  private static func squaredDistances(_ a: [Float], _ b: [Float], _ depth: Int) -> [[Double]] {
    (0..<a.count / depth).map { i in
      (0..<b.count / depth).map { j in
        (0..<depth).reduce(0) {
          let difference = Double(a[i * depth + $1]) - Double(b[j * depth + $1])
          return $0 + difference * difference
        }
      }
    }
  }

  /// The squared distance of each row to its k-th nearest fellow.
  private static func radii(_ distances: [[Double]], _ k: Int) -> [Double] { distances.map { $0.sorted()[k] } }

  private static func share(_ flags: [Bool]) -> Double { Double(flags.count { $0 }) / Double(flags.count) }

  /// Beyond a block of 2,048; far from 0, where ‖a‖² + ‖b‖² − 2ab keeps no digit of the distances; and with many ties.
  @Test(
    "Neighbor measures over several blocks equal those of all distances, far from 0 and with ties too",
    arguments: [(0, 1, false), (1000, 0.01, false), (0, 1, true)] as [(Float, Float, Bool)])
  func severalBlocks(offset: Float, scale: Float, isGrid: Bool) throws {
    var draw = Draw(seed: 5)
    let (n, m, depth) = (2100, 2070, 3)
    func points(_ count: Int) -> [Float] {
      draw.normal(count * depth).map { isGrid ? ($0 * 2).rounded() / 2 : offset + scale * $0 }
    }
    let (a, b) = (points(n), points(m))
    let found = try evaluate(SampleSet("a", depth: depth, a), SampleSet("b", depth: depth, b))
    let (within, others, between) = (
      Self.squaredDistances(b, b, depth), Self.squaredDistances(a, a, depth), Self.squaredDistances(a, b, depth)
    )
    let (real3, real5, fake3) = (Self.radii(within, 3), Self.radii(within, 5), Self.radii(others, 3))
    let precision = Self.share(between.map { row in zip(row, real3).contains { $0 <= $1 } })
    let recall = Self.share((0..<m).map { j in (0..<n).contains { between[$0][j] <= fake3[$0] } })
    let inside = between.reduce(0) { $0 + zip($1, real5).count { $0 <= $1 } }
    let coverage = Self.share((0..<m).map { j in (0..<n).contains { between[$0][j] <= real5[j] } })
    #expect(found.precisionRecall?.precision == precision && found.precisionRecall?.recall == recall)
    #expect(agrees(found.densityCoverage?.density, Double(inside) / Double(5 * n)))
    #expect(found.densityCoverage?.coverage == coverage)
    let nearest = between.map { $0.min()!.squareRoot() }
    let fellows = Self.radii(within, 1).map { $0.squareRoot() }
    #expect(agrees(found.copies?.meanDistance, nearest.reduce(0, +) / Double(n)))
    #expect(agrees(found.copies?.ownMeanDistance, fellows.reduce(0, +) / Double(m)))
    let near = zip(nearest, between).count { distance, row in
      distance > 0 && distance < fellows[row.firstIndex(of: row.min()!)!] / 2
    }
    #expect(found.copies?.near == near && found.copies?.exact == nearest.count { $0 == 0 })
  }

  @Test(
    "Thread count changes no bit, and every instruction set finds the same neighbors",
    arguments: InstructionSet.runnable)
  func anyThreadsAnyLevel(_ level: InstructionSet) throws {
    let (samples, reference) = try Oracle.pair("regular")
    let expected = try evaluate(samples, reference, threads: 1)
    var options = EvaluationOptions()
    options.resamples = 3
    func run(_ threads: Int) throws -> Evaluation {
      try Evaluation(
        of: .samples(samples), against: .samples(reference), options: options,
        on: ComputeContext(threads: threads, instructionSet: level))
    }
    let (one, three) = (try run(1), try run(3))
    #expect(one == three)
    #expect(one.precisionRecall == expected.precisionRecall && one.copies == expected.copies)
  }

  @Test("A set against itself has distance 0, precision, recall and coverage 1, and copies only")
  func equalSetsScoreBest() throws {
    let reference = try Oracle.pair("regular").reference
    let found = try evaluate(reference, reference)
    #expect(abs(found.frechet?.value ?? 1) < 1e-12)
    #expect(found.precisionRecall?.precision == 1 && found.precisionRecall?.recall == 1)
    #expect(found.densityCoverage?.coverage == 1 && (found.densityCoverage?.density ?? 0) >= 1)
    #expect(found.copies?.exact == reference.count && found.copies?.ratio == 0)
  }

  @Test("Each measure uses its own number of neighbors")
  func neighborsAreCounted() throws {
    let (samples, reference) = try Oracle.pair("regular")
    let few = try evaluate(samples, reference)
    let many = try evaluate(samples, reference) { ($0.precisionNeighbors, $0.densityNeighbors) = (9, 3) }
    #expect(many.precisionRecall?.k == 9 && many.densityCoverage?.k == 3)
    #expect((many.precisionRecall?.recall ?? 0) > (few.precisionRecall?.recall ?? 1))
    #expect((many.densityCoverage?.coverage ?? 1) < (few.densityCoverage?.coverage ?? 0))
    // What they share is the same with equal k.
    let same = try evaluate(samples, reference) { ($0.precisionNeighbors, $0.densityNeighbors) = (3, nil) }
    #expect(same.precisionRecall == few.precisionRecall && same.densityCoverage == nil)
  }
}
