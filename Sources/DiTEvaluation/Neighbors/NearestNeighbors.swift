import DiTDistributed
import DiTKernels
import DiTLinearAlgebra
import DiTTensor

/// Neighbors within one set and between two, block by block: memory is that of two blocks and their products, independent
/// of the sets' sizes.
struct NeighborSearch {
  let context: ComputeContext
  /// Processes that share the pairs of blocks; each gets the whole tables.
  let group: any Communicator
  /// Called with the pairs compared since the last call.
  let progress: (Int) throws -> Void

  /// Samples in a block.
  private static func blockCount(_ depth: Int) -> Int { max(16, min(2048, (1 << 23) / depth / 16 * 16)) }

  /// The `count` nearest other samples of each sample.
  func within(_ set: SampleSet, nearest count: Int) throws -> NeighborTable {
    var table = NeighborTable(count: set.count, nearest: count)
    var products: [Float] = []
    var pair = 0
    let starts = starts(set)
    for (i, first) in starts.enumerated() {
      let rows = try block(set, first)
      for second in starts[i...] {
        pair += 1
        guard group.has(pair) else { continue }
        let columns = second == first ? rows : try block(set, second)
        multiply(rows, columns, &products)
        context.accumulate(
          &table, queries: rows, candidates: columns, products: products, transposed: false, isSame: true)
        if second != first {
          context.accumulate(
            &table, queries: columns, candidates: rows, products: products, transposed: true, isSame: true)
        }
        try progress(rows.count * columns.count * (second == first ? 1 : 2))
      }
      set.releasePages()
    }
    return try group.merged(table)
  }

  /// The nearest sample of `b` to each of `a`, and the other way round, and for each how many samples of the other set have
  /// it within their radii.
  ///
  /// - Parameters:
  ///   - radiiOfA: lists of a's squared radii, each (a.count), for the counts in b's table.
  ///   - radiiOfB: lists of b's squared radii, each (b.count), for the counts in a's table.
  func between(
    _ a: SampleSet, _ b: SampleSet, radiiOfA: [[Double]] = [], radiiOfB: [[Double]] = []
  ) throws -> (a: NeighborTable, b: NeighborTable) {
    var tableOfA = NeighborTable(count: a.count, nearest: 1, radiiPerCandidate: radiiOfB.count)
    var tableOfB = NeighborTable(count: b.count, nearest: 1, radiiPerCandidate: radiiOfA.count)
    let (flatRadiiOfA, flatRadiiOfB) = (radiiOfA.flatMap(\.self), radiiOfB.flatMap(\.self))
    var products: [Float] = []
    var pair = 0
    let columnStarts = starts(b)
    for first in starts(a) {
      let rows = try block(a, first)
      for second in columnStarts {
        pair += 1
        guard group.has(pair) else { continue }
        let columns = try block(b, second)
        multiply(rows, columns, &products)
        context.accumulate(
          &tableOfA, queries: rows, candidates: columns, products: products, transposed: false, isSame: false,
          radii: flatRadiiOfB)
        context.accumulate(
          &tableOfB, queries: columns, candidates: rows, products: products, transposed: true, isSame: false,
          radii: flatRadiiOfA
        )
        try progress(rows.count * columns.count)
      }
      a.releasePages()
      b.releasePages()
    }
    return (try group.merged(tableOfA), try group.merged(tableOfB))
  }

  private func starts(_ set: SampleSet) -> [Int] {
    Array(stride(from: 0, to: set.count, by: Self.blockCount(set.depth)))
  }

  private func block(_ set: SampleSet, _ start: Int) throws(DiTError) -> PointBlock {
    let end = min(set.count, start + Self.blockCount(set.depth))
    return PointBlock(start: start, depth: set.depth, elements: try set.elements(start..<end))
  }

  private func multiply(_ a: PointBlock, _ b: PointBlock, _ products: inout [Float]) {
    if products.count < a.count * b.count { products = [Float](repeating: 0, count: a.count * b.count) }
    context.innerProducts(&products, a, b)
  }
}

extension NeighborTable {
  /// The squared distance of each query to its `k`-th nearest point, (count).
  func squaredRadii(_ k: Int) -> [Double] { (0..<count).map { distances[$0 * nearest + k - 1] } }
}
