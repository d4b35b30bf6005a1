import DiTKernels

// Which points lie nearest to which, exactly. Inner products in Float (sgemm over tiles) say of each pair where its
// squared distance ‖a‖² + ‖b‖² − 2ab can lie; only pairs that this cannot decide are measured, in Double and coordinate
// by coordinate. So no digit is lost to cancellation, equal points have the distance 0, and ties are ties.
//
// The error of the estimate, whatever the order of the sums (Higham, "Accuracy and Stability", section 3.1):
//
//   |estimate − ‖a−b‖²| ≤ (depth + 64) 2⁻²⁴ (‖a‖² + ‖b‖²)

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

  /// - Parameter elements: (count, depth), finite.
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

/// For each point of one set (a line): its nearest points of another, and in how many of their balls it lies.
public struct NeighbourTable: Sendable {
  /// Lines.
  public let count: Int
  /// How many nearest points are kept; 0 or more.
  public let nearest: Int
  /// How many balls each other point has.
  public let balls: Int
  /// Squared distances to the nearest points, ascending, (count, nearest); infinite where there are fewer.
  public private(set) var distances: [Double]
  /// Their indices, (count, nearest), −1 where there are fewer. Of equal distances the smaller index comes first.
  public private(set) var indices: [Int32]
  /// How many other points hold the line in their ball, (count, balls).
  public private(set) var hits: [Int32]

  public init(count: Int, nearest: Int, balls: Int = 0) {
    self.count = count
    self.nearest = nearest
    self.balls = balls
    distances = [Double](repeating: .infinity, count: count * nearest)
    indices = [Int32](repeating: -1, count: count * nearest)
    hits = [Int32](repeating: 0, count: count * balls)
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

  /// Enters the pairs of two blocks into the lines of `table`.
  ///
  /// - Parameters:
  ///   - lines: whose lines are changed.
  ///   - others: the points that are looked for; each pair must be entered once.
  ///   - products: of the blocks: (lines, others), or with `transposed` (others, lines).
  ///   - isSame: whether both are the same set, in which a point is not its own neighbour.
  ///   - radii: the squared radii of the other points' balls, (balls, points of the whole other set). A ball holds its
  ///     border.
  public func enter(
    _ table: inout NeighbourTable, lines: PointBlock, others: PointBlock, products: [Float], transposed: Bool,
    isSame: Bool, radii: [Double] = []
  ) {
    check(products.count, atLeast: lines.count * others.count, "inner products")
    precondition(lines.start + lines.count <= table.count, "lines beyond the table")
    let radiiStride = table.balls == 0 ? 0 : radii.count / table.balls
    precondition(table.balls == 0 || others.start + others.count <= radiiStride, "points without radii")
    guard lines.count > 0, others.count > 0 else { return }
    let (nearest, balls) = (table.nearest, table.balls)
    let margin = Double(lines.depth + 64) * 0x1p-24
    let bounds = OtherBounds(others, margin: margin, balls: table.balls, radii: radii)
    var scratch = [Float](repeating: 0, count: transposed ? threads * lineGroup * others.count : 1)
    unsafe table.withPointers { distances, indices, hits in
      unsafe withPointers(lines.elements, others.elements, products, radii) { line, other, products, radii in
        unsafe withPointers(lines.norms, others.norms, bounds.near, bounds.inBall) { lineNorms, norms, near, inBall in
          unsafe scratch.withUnsafeMutableBufferPointer { scratch in
            let scan = unsafe LineScan(
              lines: line, others: other, lineNorms: lineNorms, norms: norms, near: near, inBall: inBall,
              products: products, scratch: scratch.baseAddress!, radii: radii, radiiStride: radiiStride,
              distances: distances, indices: indices, hits: hits, nearest: nearest, balls: balls,
              lineStart: lines.start, lineCount: lines.count, otherStart: others.start, otherCount: others.count,
              depth: lines.depth, margin: margin, isTransposed: transposed, isSame: isSame)
            unsafe parallel(ceilDivide(lines.count, lineGroup), scan)
          }
        }
      }
    }
  }
}

/// What a product must reach, less a constant of the line, for the other point to matter.
private struct OtherBounds {
  /// For being among the nearest: (1−m)‖b‖²/2.
  var near: [Float]
  /// For holding the line in a ball: (1−m)‖b‖²/2 − r²/2 for the largest ball.
  var inBall: [Float]

  init(_ others: PointBlock, margin: Double, balls: Int, radii: [Double]) {
    near = others.norms.map { Float($0 * (1 - margin) / 2) }
    inBall = near
    guard balls > 0 else { return }
    let stride = radii.count / balls
    for j in 0..<others.count {
      let largest = (0..<balls).map { radii[$0 * stride + others.start + j] }.max() ?? 0
      inBall[j] = Float(others.norms[j] * (1 - margin) / 2 - largest / 2)
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

/// Lines that a worker takes at a time.
private let lineGroup = 16

/// A group of lines against all points of a block.
@unsafe private struct LineScan: ParallelTask {
  let lines, others: UnsafePointer<Float>
  let lineNorms, norms: UnsafePointer<Double>
  let near, inBall, products: UnsafePointer<Float>
  let scratch: UnsafeMutablePointer<Float>
  let radii: UnsafePointer<Double>
  let radiiStride: Int
  let distances: UnsafeMutablePointer<Double>
  let indices, hits: UnsafeMutablePointer<Int32>
  let nearest, balls: Int
  let lineStart, lineCount, otherStart, otherCount, depth: Int
  let margin: Double
  let isTransposed, isSame: Bool

  func run(_ index: Int, worker: Int) {
    let first = index * lineGroup
    let width = unsafe min(lineGroup, lineCount - first)
    let rows = unsafe scratch + worker * lineGroup * otherCount
    if unsafe isTransposed {
      for j in 0..<(unsafe otherCount) {
        let source = unsafe products + j * lineCount + first
        for i in 0..<width { unsafe rows[i * otherCount + j] = source[i] }
      }
    }
    for i in 0..<width {
      unsafe scan(
        first + i, isTransposed ? UnsafePointer(rows + i * otherCount) : products + (first + i) * otherCount)
    }
  }

  /// Finds the points of the block that may matter to a line, sixteen at a time.
  private func scan(_ line: Int, _ products: UnsafePointer<Float>) {
    let base = unsafe lineNorms[line] * (1 - margin) / 2
    let ballBound = unsafe balls > 0 ? Float(base) : .infinity
    var nearBound = unsafe nearBound(line, base)
    var j = 0
    while unsafe j + 16 <= otherCount {
      let product = unsafe load(products, j)
      let isNear = unsafe product .>= load(near, j) + nearBound
      let isInside = unsafe product .>= load(inBall, j) + ballBound
      if any(isNear .| isInside) {
        for lane in 0..<16 where isNear[lane] || isInside[lane] {
          unsafe enter(line, j + lane, Double(products[j + lane]))
        }
        unsafe nearBound = self.nearBound(line, base)
      }
      j += 16
    }
    while unsafe j < otherCount {
      unsafe enter(line, j, Double(products[j]))
      j += 1
    }
  }

  /// The constant of the line for ``OtherBounds/near``.
  private func nearBound(_ line: Int, _ base: Double) -> Float {
    guard unsafe nearest > 0 else { return .infinity }
    let furthest = unsafe distances[(lineStart + line + 1) * nearest - 1]
    return furthest == .infinity ? -.infinity : Float(base - furthest / 2)
  }

  private func enter(_ line: Int, _ other: Int, _ product: Double) {
    let row = unsafe lineStart + line
    if unsafe isSame && row == otherStart + other { return }
    let norms = unsafe lineNorms[line] + norms[other]
    let (low, high) = unsafe (norms * (1 - margin) - 2 * product, norms * (1 + margin) - 2 * product)
    var exact: Double?
    if unsafe nearest > 0, unsafe low <= distances[(row + 1) * nearest - 1] {
      let distance = unsafe measured(line, other)
      exact = distance
      unsafe insert(row, Int32(otherStart + other), distance)
    }
    for ball in 0..<(unsafe balls) {
      let radius = unsafe radii[ball * radiiStride + otherStart + other]
      if low > radius { continue }
      if high > radius {
        let distance = unsafe exact ?? measured(line, other)
        exact = distance
        if distance > radius { continue }
      }
      unsafe hits[row * balls + ball] += 1
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
  private func measured(_ line: Int, _ other: Int) -> Double {
    let (a, b) = unsafe (lines + line * depth, others + other * depth)
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

extension NeighbourTable {
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
    if balls == 0 { hits = [] }
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
