import DiTKernels

// Which points lie nearest to which, exactly: ``NeighborScan`` says how.

/// Points in a row-major block, with their squared norms.
public struct PointBlock: Sendable {
  /// The first point's index in the whole set.
  public let start: Int
  /// Points.
  public let count: Int
  /// Coordinates of a point.
  public let depth: Int
  /// (count, depth).
  public let elements: [Float]
  /// ‖a‖², (count), not above ``largestNorm``.
  public let norms: [Double]

  /// Squared norms beyond this might overflow in Float.
  public static let largestNorm = 1e36

  /// - Parameters:
  ///   - start: the number of the first point in its set.
  ///   - depth: numbers of a point.
  ///   - elements: (count, depth), finite.
  public init(start: Int, depth: Int, elements: [Float]) {
    precondition(depth > 0 && elements.count % depth == 0, "\(elements.count) elements for points of \(depth)")
    self.start = start
    self.depth = depth
    self.elements = elements
    count = elements.count / depth
    norms = unsafe elements.withUnsafeBufferPointer { elements in
      (0..<elements.count / depth).map { index in
        var sum = 0.0
        for i in index * depth..<(index + 1) * depth {
          let value = unsafe Double(elements[i])
          sum += value * value
        }
        return sum
      }
    }
    precondition(norms.allSatisfy { $0 <= Self.largestNorm }, "a point too far from 0 to be compared")
  }
}

/// For each point of one set (a query): its nearest points of another set (candidates), and how many candidates have it
/// within their radii.
public struct NeighborTable: Sendable {
  /// The number of queries.
  public let count: Int
  /// How many nearest points are kept; 0 or more.
  public let nearest: Int
  /// The number of radii per candidate; 0 or more.
  public let radiiPerCandidate: Int
  /// Squared distances to the nearest points, ascending, (count, nearest); infinite where there are fewer.
  public private(set) var distances: [Double]
  /// Their indices, (count, nearest), −1 where there are fewer. Of equal distances the smaller index comes first.
  public private(set) var indices: [Int32]
  /// How many candidates lie no further from the query than their own radius, (count, radiiPerCandidate).
  public private(set) var hits: [Int32]

  public init(count: Int, nearest: Int, radiiPerCandidate: Int = 0) {
    self.count = count
    self.nearest = nearest
    self.radiiPerCandidate = radiiPerCandidate
    distances = [Double](repeating: .infinity, count: count * nearest)
    indices = [Int32](repeating: -1, count: count * nearest)
    hits = [Int32](repeating: 0, count: count * radiiPerCandidate)
  }

  /// Takes in what a table of the same queries has found among other candidates.
  ///
  /// - Parameters: as ``distances``, ``indices`` and ``hits``.
  public mutating func merge(
    distances other: ArraySlice<Double>, indices otherIndices: [Int32], hits otherHits: [Int32]
  ) {
    precondition(
      other.count == distances.count && otherIndices.count == indices.count && otherHits.count == hits.count,
      "a table of other queries")
    for place in hits.indices { hits[place] += otherHits[place] }
    for query in 0..<count {
      let places = query * nearest..<(query + 1) * nearest
      let found = places.map { (distances[$0], indices[$0]) }
      let more = places.map { (other[other.startIndex + $0], otherIndices[$0]) }
      // Points that are not there are infinitely far; of them the index −1 must not come first, nor does it matter.
      let all = (found + more).sorted { $0.0 == $1.0 ? $0.1 < $1.1 : $0.0 < $1.0 }
      for (place, point) in zip(places, all) { (distances[place], indices[place]) = point }
    }
  }
}

extension ComputeContext {
  /// products[i, j] = a_i · b_j, (a.count, b.count), in Float.
  public func innerProducts(_ products: inout [Float], _ a: PointBlock, _ b: PointBlock) {
    check(products.count, atLeast: a.count * b.count, "inner products")
    precondition(a.depth == b.depth, "points of \(a.depth) and \(b.depth) coordinates")
    guard a.count > 0, b.count > 0 else { return }
    let tiling = Tiling(rows: a.count, columns: b.count, tileRows: 256, tileColumns: 512)
    unsafe products.withUnsafeMutableBufferPointer { c in
      unsafe a.elements.withUnsafeBufferPointer { left in
        unsafe b.elements.withUnsafeBufferPointer { right in
          let task = unsafe InnerProducts(
            c: c.baseAddress!, a: left.baseAddress!, b: right.baseAddress!, tiling: tiling, depth: a.depth)
          unsafe parallel(tiling.count, task)
        }
      }
    }
  }

  /// Adds the pairs of two blocks to the rows of `table`.
  ///
  /// - Parameters:
  ///   - table: the rows of all queries; changed.
  ///   - queries: the points whose rows are changed.
  ///   - candidates: the points among which neighbors are sought. Each pair must be added once.
  ///   - products: inner products of the blocks: (queries, candidates), or with `transposed` (candidates, queries).
  ///   - transposed: see `products`.
  ///   - isSame: whether both are of one set, in which a point is not its own neighbor.
  ///   - radii: the candidates' squared radii, (radiiPerCandidate, points of the whole candidate set). A point at exactly
  ///     that distance is within the radius.
  public func accumulate(
    _ table: inout NeighborTable, queries: PointBlock, candidates: PointBlock, products: [Float], transposed: Bool,
    isSame: Bool, radii: [Double] = []
  ) {
    check(products.count, atLeast: queries.count * candidates.count, "inner products")
    precondition(queries.start + queries.count <= table.count, "queries beyond the table")
    let radiiPerCandidate = table.radiiPerCandidate
    let radiiStride = radiiPerCandidate == 0 ? 0 : radii.count / radiiPerCandidate
    precondition(
      radiiPerCandidate == 0 || candidates.start + candidates.count <= radiiStride, "candidates without radii")
    guard queries.count > 0, candidates.count > 0 else { return }
    let nearest = table.nearest
    let margin = Double(queries.depth + 64) * 0x1p-24
    let bounds = CandidateBounds(candidates, margin: margin, radiiPerCandidate: radiiPerCandidate, radii: radii)
    let groups = ceilDivide(queries.count, queryGroup)
    var scratch = [Float](repeating: 0, count: transposed ? threads * queryGroup * candidates.count : 1)
    unsafe table.withPointers { distances, indices, hits in
      unsafe withPointers(queries.elements, candidates.elements, products, radii) { query, candidate, products, radii in
        unsafe withPointers(queries.norms, candidates.norms, bounds.near, bounds.within) {
          queryNorms, norms, near, within in
          unsafe scratch.withUnsafeMutableBufferPointer { scratch in
            let scan = unsafe NeighborScan(
              queries: query, candidates: candidate, queryNorms: queryNorms, norms: norms, near: near, within: within,
              products: products, scratch: scratch.baseAddress!, radii: radii, radiiStride: radiiStride,
              distances: distances, indices: indices, hits: hits, nearest: nearest,
              radiiPerCandidate: radiiPerCandidate,
              queryStart: queries.start, queryCount: queries.count, candidateStart: candidates.start,
              candidateCount: candidates.count, depth: queries.depth, margin: margin, isTransposed: transposed,
              isSame: isSame)
            unsafe parallel(groups, scan)
          }
        }
      }
    }
  }
}

@unsafe private struct InnerProducts: ParallelTask {
  let c: UnsafeMutablePointer<Float>
  let a, b: UnsafePointer<Float>
  let tiling: Tiling
  let depth: Int

  func run(_ index: Int, worker: Int) {
    let (rows, columns) = unsafe (tiling.rowRange(index), tiling.columnRange(index))
    unsafe sgemm(
      .plain(a + rows.lowerBound * depth, depth), .transposed(b + columns.lowerBound * depth, depth),
      into: c + rows.lowerBound * tiling.columns + columns.lowerBound, tiling.columns, m: rows.count, n: columns.count,
      k: depth)
  }
}

extension NeighborTable {
  fileprivate mutating func withPointers(
    _ body: (UnsafeMutablePointer<Double>, UnsafeMutablePointer<Int32>, UnsafeMutablePointer<Int32>) -> Void
  ) {
    // An empty array has no memory to point to; nothing is read or written there.
    if distances.isEmpty { (distances, indices) = ([0], [0]) }
    if hits.isEmpty { hits = [0] }
    unsafe distances.withUnsafeMutableBufferPointer { distances in
      unsafe indices.withUnsafeMutableBufferPointer { indices in
        unsafe hits.withUnsafeMutableBufferPointer { hits in
          unsafe body(distances.baseAddress!, indices.baseAddress!, hits.baseAddress!)
        }
      }
    }
    if nearest == 0 { (distances, indices) = ([], []) }
    if radiiPerCandidate == 0 { hits = [] }
  }
}

/// The addresses of four arrays. Those of empty ones are never read.
private func withPointers<A, B, C, D>(
  _ a: [A], _ b: [B], _ c: [C], _ d: [D],
  _ body: (UnsafePointer<A>, UnsafePointer<B>, UnsafePointer<C>, UnsafePointer<D>) -> Void
) {
  unsafe a.withUnsafeBufferPointer { a in
    unsafe b.withUnsafeBufferPointer { b in
      unsafe c.withUnsafeBufferPointer { c in
        unsafe d.withUnsafeBufferPointer { d in
          unsafe body(address(a), address(b), address(c), address(d))
        }
      }
    }
  }
}

private func address<Element>(_ buffer: UnsafeBufferPointer<Element>) -> UnsafePointer<Element> {
  unsafe buffer.baseAddress ?? UnsafePointer(bitPattern: MemoryLayout<Element>.alignment)!
}
