import DiTKernels

// Inner products in Float (sgemm over tiles) say of each pair where its squared distance ‖a‖² + ‖b‖² − 2ab can lie; only
// pairs that this cannot decide are measured, in Double and coordinate by coordinate. So no digit is lost to cancellation,
// equal points have the distance 0, and ties are ties.
//
// The error of the estimate, whatever the order of the sums (Higham, "Accuracy and Stability", section 3.1):
//
//   |estimate − ‖a−b‖²| ≤ (depth + 64) 2⁻²⁴ (‖a‖² + ‖b‖²)

/// What an inner product must reach, less a constant of the query, for the candidate to matter.
struct CandidateBounds {
  /// To be among the nearest: (1−m)‖b‖²/2.
  var near: [Float]
  /// To have the query within a radius: (1−m)‖b‖²/2 − r²/2 for the candidate's largest radius r.
  var within: [Float]

  init(_ candidates: PointBlock, margin: Double, radiiPerCandidate: Int, radii: [Double]) {
    near = candidates.norms.map { Float($0 * (1 - margin) / 2) }
    within = near
    guard radiiPerCandidate > 0 else { return }
    let stride = radii.count / radiiPerCandidate
    for j in 0..<candidates.count {
      let largest = (0..<radiiPerCandidate).map { radii[$0 * stride + candidates.start + j] }.max() ?? 0
      within[j] = Float(candidates.norms[j] * (1 - margin) / 2 - largest / 2)
    }
  }
}

/// Queries that a worker takes at a time.
let queryGroup = 16

/// A group of queries against all candidates of a block.
@unsafe struct NeighborScan: ParallelTask {
  let queries, candidates: UnsafePointer<Float>
  let queryNorms, norms: UnsafePointer<Double>
  let near, within, products: UnsafePointer<Float>
  let scratch: UnsafeMutablePointer<Float>
  let radii: UnsafePointer<Double>
  let radiiStride: Int
  let distances: UnsafeMutablePointer<Double>
  let indices, hits: UnsafeMutablePointer<Int32>
  let nearest, radiiPerCandidate: Int
  let queryStart, queryCount, candidateStart, candidateCount, depth: Int
  let margin: Double
  let isTransposed, isSame: Bool

  func run(_ index: Int, worker: Int) {
    let first = index * queryGroup
    let width = unsafe min(queryGroup, queryCount - first)
    let rows = unsafe scratch + worker * queryGroup * candidateCount
    if unsafe isTransposed {
      for j in 0..<(unsafe candidateCount) {
        let source = unsafe products + j * queryCount + first
        for i in 0..<width { unsafe rows[i * candidateCount + j] = source[i] }
      }
    }
    for i in 0..<width {
      unsafe scan(
        first + i, isTransposed ? UnsafePointer(rows + i * candidateCount) : products + (first + i) * candidateCount)
    }
  }

  /// Finds the points of the block that may matter to a query, sixteen at a time.
  private func scan(_ query: Int, _ products: UnsafePointer<Float>) {
    let base = unsafe queryNorms[query] * (1 - margin) / 2
    let withinBound = unsafe radiiPerCandidate > 0 ? Float(base) : .infinity
    var nearBound = unsafe nearBound(query, base)
    var j = 0
    while unsafe j + 16 <= candidateCount {
      let product = unsafe load(products, j)
      let isNear = unsafe product .>= load(near, j) + nearBound
      let isWithin = unsafe product .>= load(within, j) + withinBound
      if any(isNear .| isWithin) {
        for lane in 0..<16 where isNear[lane] || isWithin[lane] {
          unsafe accumulate(query, j + lane, Double(products[j + lane]))
        }
        unsafe nearBound = self.nearBound(query, base)
      }
      j += 16
    }
    while unsafe j < candidateCount {
      unsafe accumulate(query, j, Double(products[j]))
      j += 1
    }
  }

  /// The constant of the query for ``CandidateBounds/near``.
  private func nearBound(_ query: Int, _ base: Double) -> Float {
    guard unsafe nearest > 0 else { return .infinity }
    let furthest = unsafe distances[(queryStart + query + 1) * nearest - 1]
    return furthest == .infinity ? -.infinity : Float(base - furthest / 2)
  }

  private func accumulate(_ query: Int, _ candidate: Int, _ product: Double) {
    let row = unsafe queryStart + query
    if unsafe isSame && row == candidateStart + candidate { return }
    let norms = unsafe queryNorms[query] + norms[candidate]
    let (low, high) = unsafe (norms * (1 - margin) - 2 * product, norms * (1 + margin) - 2 * product)
    var exact: Double?
    if unsafe nearest > 0, unsafe low <= distances[(row + 1) * nearest - 1] {
      let distance = unsafe measured(query, candidate)
      exact = distance
      unsafe insert(row, Int32(candidateStart + candidate), distance)
    }
    for radiusIndex in 0..<(unsafe radiiPerCandidate) {
      let radius = unsafe radii[radiusIndex * radiiStride + candidateStart + candidate]
      if low > radius { continue }
      if high > radius {
        let distance = unsafe exact ?? measured(query, candidate)
        exact = distance
        if distance > radius { continue }
      }
      unsafe hits[row * radiiPerCandidate + radiusIndex] += 1
    }
  }

  /// Keeps the nearest in order of (distance, index).
  private func insert(_ row: Int, _ index: Int32, _ distance: Double) {
    let (distances, indices) = unsafe (distances + row * nearest, indices + row * nearest)
    var place = unsafe nearest
    while place > 0,
      unsafe distance < distances[place - 1]
        || (distance == distances[place - 1] && (index < indices[place - 1] || indices[place - 1] < 0))
    {
      place -= 1
    }
    guard unsafe place < nearest else { return }
    for i in stride(from: unsafe nearest - 1, to: place, by: -1) {
      unsafe distances[i] = distances[i - 1]
      unsafe indices[i] = indices[i - 1]
    }
    unsafe distances[place] = distance
    unsafe indices[place] = index
  }

  /// ‖a−b‖²: the same whichever comes first.
  private func measured(_ query: Int, _ candidate: Int) -> Double {
    let (a, b) = unsafe (queries + query * depth, candidates + candidate * depth)
    var sums = SIMD8<Double>.zero
    var i = 0
    while unsafe i + 8 <= depth {
      let difference = unsafe SIMD8<Double>(load8(a, i)) - SIMD8<Double>(load8(b, i))
      sums += difference * difference
      i += 8
    }
    var sum = sums.sum()
    while unsafe i < depth {
      let difference = unsafe Double(a[i]) - Double(b[i])
      sum += difference * difference
      i += 1
    }
    return sum
  }

  @inline(__always) private func load(_ p: UnsafePointer<Float>, _ index: Int) -> SIMD16<Float> {
    unsafe UnsafeRawPointer(p + index).loadUnaligned(as: SIMD16<Float>.self)
  }

  @inline(__always) private func load8(_ p: UnsafePointer<Float>, _ index: Int) -> SIMD8<Float> {
    unsafe UnsafeRawPointer(p + index).loadUnaligned(as: SIMD8<Float>.self)
  }
}
