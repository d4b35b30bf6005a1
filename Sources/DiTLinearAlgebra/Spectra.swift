import DiTKernels

// Symmetric matrices by their spectrum, in Double: C = Eᵀ diag(λ) E, the rows of E being the eigenvectors. Then for every
// noise level a at once
//
//   (a C + (1−a) I)⁻¹ = Eᵀ diag( 1/(a λ + 1−a) ) E

/// A symmetric matrix; after `ComputeContext/diagonalize(_:)` its eigenvectors and eigenvalues.
public struct SymmetricMatrix: Sendable {
  /// The extent m.
  public let order: Int
  /// (m, m): the matrix; after `ComputeContext/diagonalize(_:)` E, one eigenvector per row.
  public var elements: [Double]
  /// λ, (m), ascending; empty before.
  public private(set) var eigenvalues: [Double] = []

  /// - Parameters:
  ///   - order: m.
  ///   - elements: (m, m), finite; only one triangle is read.
  public init(order: Int, elements: [Double]) {
    precondition(elements.count == order * order, "\(elements.count) elements for a matrix of order \(order)")
    self.order = order
    self.elements = elements
  }

  /// Divide and conquer; false where it does not converge.
  fileprivate mutating func diagonalize() -> Bool {
    guard order > 0 else { return true }
    eigenvalues = [Double](repeating: 0, count: order)
    return dsyevd(&elements, eigenvalues: &eigenvalues, order: order)
  }
}

extension ComputeContext {
  /// Replaces each matrix by its eigenvectors, with its eigenvalues beside them; one worker per matrix.
  ///
  /// Beside the matrices it takes twice their memory.
  /// - Returns: whether all converged, as matrices of finite numbers do.
  public func diagonalize(_ matrices: inout [SymmetricMatrix]) -> Bool {
    var converged = [Bool](repeating: false, count: matrices.count)
    unsafe matrices.withUnsafeMutableBufferPointer { matrices in
      unsafe converged.withUnsafeMutableBufferPointer { converged in
        guard let first = matrices.baseAddress, let flags = converged.baseAddress else { return }
        let task = unsafe Diagonalization(matrices: first, converged: flags)
        unsafe parallel(matrices.count, task)
      }
    }
    return converged.allSatisfy(\.self)
  }

  /// x[r, j] = x[r, j] / (a_r λ_j + 1 − a_r).
  ///
  /// - Parameters:
  ///   - x: (rows, count), in the eigenvectors' coordinates; changed.
  ///   - energies: Σ_j x[r, j]² / (a_r λ_j + 1 − a_r), before the change, (rows).
  ///   - spectrum: λ, (count), not negative.
  ///   - signals: a, (rows), below 1.
  ///   - rows: of x.
  public func divide(
    _ x: inout MutableSpan<Double>, energies: inout MutableSpan<Double>, spectrum: Span<Double>, signals: Span<Double>,
    rows: Int
  ) {
    let count = spectrum.count
    check(x.count, atLeast: rows * count, "divide x")
    check(min(energies.count, signals.count), atLeast: rows, "divide rows")
    unsafe x.withUnsafeMutableBufferPointer { x in
      unsafe energies.withUnsafeMutableBufferPointer { energies in
        unsafe spectrum.withUnsafeBufferPointer { spectrum in
          unsafe signals.withUnsafeBufferPointer { signals in
            guard rows > 0, count > 0 else { return }
            let task = unsafe SpectralDivision(
              x: x.baseAddress!, energies: energies.baseAddress!, spectrum: spectrum.baseAddress!,
              signals: signals.baseAddress!, count: count)
            unsafe parallel(rows, task)
          }
        }
      }
    }
  }

  /// diagonal[start + e] = Σ_j w[j, e]² / (a λ_j + 1 − a): the diagonal of a block of the inverse.
  ///
  /// - Parameters:
  ///   - diagonal: `columns` elements from `start` on are overwritten.
  ///   - start: where the block begins.
  ///   - columns: of the block.
  ///   - vectors: w, (count, columns): the block's part of the eigenvectors.
  ///   - spectrum: λ, (count), not negative.
  ///   - signal: a, below 1.
  public func inverseDiagonal(
    _ diagonal: inout MutableSpan<Double>, at start: Int, columns: Int, vectors: Span<Double>, spectrum: Span<Double>,
    signal: Double
  ) {
    check(diagonal.count, atLeast: start + columns, "inverse diagonal")
    check(vectors.count, atLeast: spectrum.count * columns, "inverse diagonal vectors")
    unsafe diagonal.withUnsafeMutableBufferPointer { diagonal in
      unsafe vectors.withUnsafeBufferPointer { vectors in
        unsafe spectrum.withUnsafeBufferPointer { spectrum in
          guard columns > 0, spectrum.count > 0 else { return }
          let task = unsafe InverseDiagonal(
            diagonal: diagonal.baseAddress! + start, vectors: vectors.baseAddress!, spectrum: spectrum.baseAddress!,
            count: spectrum.count, columns: columns, signal: signal)
          unsafe parallel(ceilDivide(columns, InverseDiagonal.chunk), task)
        }
      }
    }
  }
}

@unsafe private struct Diagonalization: ParallelTask {
  let matrices: UnsafeMutablePointer<SymmetricMatrix>
  let converged: UnsafeMutablePointer<Bool>

  func run(_ index: Int, worker: Int) { unsafe converged[index] = matrices[index].diagonalize() }
}

/// One row.
@unsafe private struct SpectralDivision: ParallelTask {
  let x, energies: UnsafeMutablePointer<Double>
  let spectrum, signals: UnsafePointer<Double>
  let count: Int

  func run(_ row: Int, worker: Int) {
    let x = unsafe x + row * count
    let signal = unsafe signals[row]
    let noise = 1 - signal
    var sums = SIMD4<Double>.zero
    var j = 0
    while unsafe j + 4 <= count {
      let level = unsafe SIMD4(spectrum[j], spectrum[j + 1], spectrum[j + 2], spectrum[j + 3]) * signal + noise
      let value = unsafe SIMD4(x[j], x[j + 1], x[j + 2], x[j + 3])
      let quotient = value / level
      sums += value * quotient
      for lane in 0..<4 { unsafe x[j + lane] = quotient[lane] }
      j += 4
    }
    while unsafe j < count {
      let quotient = unsafe x[j] / (spectrum[j] * signal + noise)
      unsafe sums[0] += x[j] * quotient
      unsafe x[j] = quotient
      j += 1
    }
    unsafe energies[row] = sums.sum()
  }
}

/// A run of columns.
@unsafe private struct InverseDiagonal: ParallelTask {
  static let chunk = 64

  let diagonal: UnsafeMutablePointer<Double>
  let vectors, spectrum: UnsafePointer<Double>
  let count, columns: Int
  let signal: Double

  func run(_ index: Int, worker: Int) {
    let start = unsafe index * Self.chunk
    let width = unsafe min(Self.chunk, columns - start)
    let target = unsafe diagonal + start
    unsafe target.update(repeating: 0, count: width)
    for j in 0..<(unsafe count) {
      let weight = unsafe 1 / (spectrum[j] * signal + (1 - signal))
      let row = unsafe vectors + j * columns + start
      for e in 0..<width { unsafe target[e] += weight * row[e] * row[e] }
    }
  }
}
