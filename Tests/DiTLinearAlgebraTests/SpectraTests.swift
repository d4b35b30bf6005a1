import DiTKernels
import DiTLinearAlgebra
import TestSupport
import Testing

/// Products and spectra in Double, against their definitions.
@Suite("Products and spectra in Double") struct SpectraTests {
  private static func draw(_ count: Int, seed: UInt64) -> [Double] {
    var state = seed
    return (0..<count).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Double(Int64(bitPattern: state) >> 11) * 0x1p-52
    }
  }

  /// Sums over k of a(i, k) b(k, j).
  private static func sums(
    _ rows: Int, _ columns: Int, _ depth: Int, _ term: (_ i: Int, _ j: Int, _ k: Int) -> Double
  ) -> [Double] {
    (0..<rows * columns).map { at in (0..<depth).reduce(0) { $0 + term(at / columns, at % columns, $1) } }
  }

  /// Sizes within a tile, and over its edges in either direction.
  @Test(
    "Double products agree with their sums within a tile and over its edges",
    arguments: [(3, 5, 7), (1, 20, 16), (130, 530, 12), (1030, 270, 5)])
  func products(rows: Int, columns: Int, depth: Int) throws {
    let context = try ComputeContext(threads: 2)
    let a = Self.draw(rows * depth, seed: 1)
    let b = Self.draw(columns * depth, seed: 2)
    let start = Self.draw(rows * columns, seed: 3)
    let transposed = Self.sums(rows, columns, depth) { a[$0 * depth + $2] * b[$1 * depth + $2] }
    var c = [Double](repeating: .nan, count: rows * columns)
    var span = c.mutableSpan
    context.product(&span, a.span, transposed: b.span, rows: rows, columns: columns, depth: depth)
    #expect(relativeError(c, transposed) < 1e-14, "a bᵀ")

    c = start
    span = c.mutableSpan
    context.product(&span, a.span, transposed: b.span, rows: rows, columns: columns, depth: depth, subtracting: true)
    #expect(relativeError(c, zip(start, transposed).map { $0 - $1 }) < 1e-14, "c − a bᵀ")

    c = [Double](repeating: .nan, count: rows * columns)
    span = c.mutableSpan
    context.product(&span, a.span, b.span, rows: rows, columns: columns, depth: depth)
    let plain = Self.sums(rows, columns, depth) { a[$0 * depth + $2] * b[$2 * columns + $1] }
    #expect(relativeError(c, plain) < 1e-14, "a b")
  }

  @Test("Gram matrices are added to the upper triangle", arguments: [(40, 7), (9, 300), (300, 600)])
  func grams(rows: Int, columns: Int) throws {
    let x = Self.draw(rows * columns, seed: 4)
    let start = Self.draw(columns * columns, seed: 5)
    let upper = { (i: Int, j: Int) in i <= j }
    var c = start
    var span = c.mutableSpan
    try ComputeContext(threads: 2).addGram(&span, x.span, rows: rows, columns: columns)
    var expected: [Double] = []
    var found: [Double] = []
    for i in stride(from: 0, to: columns, by: 7) {
      for j in 0..<columns where upper(i, j) {
        expected.append((0..<rows).reduce(start[i * columns + j]) { $0 + x[$1 * columns + i] * x[$1 * columns + j] })
        found.append(c[i * columns + j])
      }
    }
    #expect(relativeError(found, expected) < 1e-14)
  }

  /// Eᵀ diag(λ) E is the matrix again and E Eᵀ is 1; several matrices at once, one of them empty, one singular.
  @Test("Eigenvectors rebuild several matrices at once, empty and singular ones too")
  func eigenvectors() throws {
    let orders = [1, 5, 0, 33, 6]
    let originals = orders.enumerated().map { index, order -> [Double] in
      let x = Self.draw(order * order, seed: UInt64(index + 10))
      if index == 4 { return [Double](repeating: 0.5, count: order * order) }
      return Self.sums(order, order, order) { x[$0 * order + $2] * x[$1 * order + $2] }
    }
    var matrices = zip(orders, originals).map { SymmetricMatrix(order: $0, elements: $1) }
    #expect(try ComputeContext(threads: 2).diagonalize(&matrices))
    for (matrix, original) in zip(matrices, originals) where matrix.order > 0 {
      let (m, e, values) = (matrix.order, matrix.elements, matrix.eigenvalues)
      #expect(values == values.sorted(), "order \(m)")
      let back = Self.sums(m, m, m) { e[$2 * m + $0] * values[$2] * e[$2 * m + $1] }
      #expect(relativeError(back, original) < 1e-13, "order \(m)")
      let unit = Self.sums(m, m, m) { e[$0 * m + $2] * e[$1 * m + $2] }
      #expect(relativeError(unit, (0..<m * m).map { $0 / m == $0 % m ? 1 : 0 }) < 1e-13, "order \(m)")
    }
  }

  @Test("Division by a noised spectrum and its energies follow the definition")
  func divisions() throws {
    let (rows, count) = (5, 11)
    let x = Self.draw(rows * count, seed: 6)
    let spectrum = (0..<count).map { Double($0) * 0.3 }
    let signals = [0, 0.5, 0.9999, 0.25, 0.75]
    let levels = (0..<rows * count).map { signals[$0 / count] * spectrum[$0 % count] + 1 - signals[$0 / count] }
    var found = x
    var energies = [Double](repeating: .nan, count: rows)
    var span = found.mutableSpan
    var sums = energies.mutableSpan
    try ComputeContext(threads: 2).divide(
      &span, energies: &sums, spectrum: spectrum.span, signals: signals.span, rows: rows)
    #expect(relativeError(found, zip(x, levels).map { $0 / $1 }) < 1e-15)
    #expect(
      relativeError(
        energies, Self.sums(rows, 1, count) { i, _, k in x[i * count + k] * x[i * count + k] / levels[i * count + k] })
        < 1e-14)
  }

  /// More columns than a task takes, after others' elements.
  @Test("Diagonals of inverses follow the definition and touch only their own elements")
  func inverseDiagonals() throws {
    let (count, columns, signal) = (9, 130, 0.7)
    let vectors = Self.draw(count * columns, seed: 7)
    let spectrum = (0..<count).map { Double($0) * 0.2 }
    var found = [Double](repeating: -1, count: columns + 4)
    var span = found.mutableSpan
    try ComputeContext(threads: 2).inverseDiagonal(
      &span, at: 3, columns: columns, vectors: vectors.span, spectrum: spectrum.span, signal: signal)
    let expected = Self.sums(1, columns, count) {
      vectors[$2 * columns + $1] * vectors[$2 * columns + $1] / (signal * spectrum[$2] + 1 - signal)
    }
    #expect(relativeError(Array(found[3..<columns + 3]), expected) < 1e-14)
    #expect(found.prefix(3).allSatisfy { $0 == -1 } && found.last == -1)
  }
}
