import DiTKernels
import DiTLinearAlgebra

/// Neighbours within one set and between two, block by block: memory is that of two blocks and their products, whatever
/// the sets' sizes.
struct NeighbourSearch {
  let context: ComputeContext
  /// Called with the pairs compared since the last call.
  let progress: (Int) throws -> Void

  /// Samples in a block.
  private static func blockCount(_ depth: Int) -> Int { max(16, min(2048, (1 << 23) / depth / 16 * 16)) }

  /// The `count` nearest other samples of each sample.
  func within(_ set: SampleSet, nearest count: Int) throws -> NeighbourTable {
    var table = NeighbourTable(count: set.count, nearest: count)
    var products: [Float] = []
    let starts = starts(set)
    for (i, first) in starts.enumerated() {
      let rows = block(set, first)
      for second in starts[i...] {
        let columns = second == first ? rows : block(set, second)
        multiply(rows, columns, &products)
        context.enter(&table, lines: rows, others: columns, products: products, transposed: false, isSame: true)
        if second != first {
          context.enter(&table, lines: columns, others: rows, products: products, transposed: true, isSame: true)
        }
        try progress(rows.count * columns.count * (second == first ? 1 : 2))
      }
      set.releasePages()
    }
    return table
  }

  /// The nearest sample of `b` to each of `a`, and the other way round, and how many balls of the other set hold each.
  ///
  /// - Parameters:
  ///   - ballsOfA: squared radii, (balls, a.count), for what is counted in b's lines.
  ///   - ballsOfB: squared radii, (balls, b.count), for what is counted in a's lines.
  func between(
    _ a: SampleSet, _ b: SampleSet, ballsOfA: [[Double]] = [], ballsOfB: [[Double]] = []
  ) throws -> (a: NeighbourTable, b: NeighbourTable) {
    var linesOfA = NeighbourTable(count: a.count, nearest: 1, balls: ballsOfB.count)
    var linesOfB = NeighbourTable(count: b.count, nearest: 1, balls: ballsOfA.count)
    let (radiiOfA, radiiOfB) = (ballsOfA.flatMap(\.self), ballsOfB.flatMap(\.self))
    var products: [Float] = []
    let columnStarts = starts(b)
    for first in starts(a) {
      let rows = block(a, first)
      for second in columnStarts {
        let columns = block(b, second)
        multiply(rows, columns, &products)
        context.enter(
          &linesOfA, lines: rows, others: columns, products: products, transposed: false, isSame: false,
          radii: radiiOfB)
        context.enter(
          &linesOfB, lines: columns, others: rows, products: products, transposed: true, isSame: false, radii: radiiOfA
        )
        try progress(rows.count * columns.count)
      }
      a.releasePages()
      b.releasePages()
    }
    return (linesOfA, linesOfB)
  }

  private func starts(_ set: SampleSet) -> [Int] {
    Array(stride(from: 0, to: set.count, by: Self.blockCount(set.depth)))
  }

  private func block(_ set: SampleSet, _ start: Int) -> PointBlock {
    let end = min(set.count, start + Self.blockCount(set.depth))
    return PointBlock(start: start, depth: set.depth, elements: set.elements(start..<end))
  }

  private func multiply(_ a: PointBlock, _ b: PointBlock, _ products: inout [Float]) {
    if products.count < a.count * b.count { products = [Float](repeating: 0, count: a.count * b.count) }
    context.innerProducts(&products, a, b)
  }
}

extension NeighbourTable {
  /// The squared distance of each line to its `k`-th nearest point, (count).
  func squaredRadii(_ k: Int) -> [Double] { (0..<count).map { distances[$0 * nearest + k - 1] } }
}
