import CBLAS

// The one door to OpenBLAS and LAPACKE. Matrices are row-major; everything runs on the calling thread.

/// A matrix as it lies in memory, with the distance between its rows, used as it is or transposed.
@unsafe package enum Operand<Element> {
  case plain(UnsafePointer<Element>, Int)
  case transposed(UnsafePointer<Element>, Int)
}

/// c (m, n) = a (m, k) · b (k, n) + beta · c, row-major, on the calling thread. With beta 0, c may be uninitialized.
@unsafe @inline(__always) package func sgemm(
  _ a: Operand<Float>, _ b: Operand<Float>, into c: UnsafeMutablePointer<Float>, _ ldc: Int, m: Int, n: Int, k: Int,
  beta: Float = 0
) {
  let (left, lda, leftFlag) = unsafe a.parts
  let (right, ldb, rightFlag) = unsafe b.parts
  let step = leftFlag == CblasNoTrans && rightFlag == CblasNoTrans ? depthWithoutMalloc(m: m, n: n, k: k) : k
  var start = 0
  repeat {
    unsafe cblas_sgemm(
      CblasRowMajor, leftFlag, rightFlag, Int32(m), Int32(n), Int32(min(step, k - start)), 1, left + start, Int32(lda),
      right + start * ldb, Int32(ldb), start == 0 ? beta : 1, c, Int32(ldc))
    start += step
  } while start < k
}

/// How much of `k` a product of untransposed matrices may take at once, so that OpenBLAS does not call malloc: its
/// AVX-512 kernel for small products does where the last 16 columns are 8 or fewer and k ≥ 32.
@inline(__always) private func depthWithoutMalloc(m: Int, n: Int, k: Int) -> Int {
  (1...8).contains(n % 16) && k >= 32 && m * n * k <= 1_000_000 ? 31 : k
}

/// c (m, n) = alpha · a (m, k) · b (k, n) + beta · c in Double, row-major, on the calling thread. With beta 0, c may be
/// uninitialized.
@unsafe package func dgemm(
  _ a: Operand<Double>, _ b: Operand<Double>, into c: UnsafeMutablePointer<Double>, _ ldc: Int, m: Int, n: Int, k: Int,
  alpha: Double = 1, beta: Double = 0
) {
  let (left, lda, leftFlag) = unsafe a.parts
  let (right, ldb, rightFlag) = unsafe b.parts
  // As for sgemm; here the last 8 columns are 4 or fewer and k ≥ 16.
  let isSmall = (1...4).contains(n % 8) && k >= 16 && m * n * k <= 1_000_000
  let step = leftFlag == CblasNoTrans && rightFlag == CblasNoTrans && isSmall ? 15 : k
  var start = 0
  repeat {
    unsafe cblas_dgemm(
      CblasRowMajor, leftFlag, rightFlag, Int32(m), Int32(n), Int32(min(step, k - start)), alpha, left + start,
      Int32(lda), right + start * ldb, Int32(ldb), start == 0 ? beta : 1, c, Int32(ldc))
    start += step
  } while start < k
}

/// Replaces a symmetric matrix by its eigenvectors, one per row, by divide and conquer (LAPACK's dsyevd).
///
/// - Parameters:
///   - matrix: (order, order); only one triangle is read.
///   - eigenvalues: (order), ascending.
/// - Returns: whether it converged.
package func dsyevd(_ matrix: inout [Double], eigenvalues: inout [Double], order: Int) -> Bool {
  var work = [Double](repeating: 0, count: 1 + 6 * order + 2 * order * order)
  var integers = [Int32](repeating: 0, count: 3 + 5 * order)
  // In the column-major order that LAPACK wants, an eigenvector is a column: a row of ours.
  let status = unsafe LAPACKE_dsyevd_work(
    LAPACK_COL_MAJOR, CChar(UInt8(ascii: "V")), CChar(UInt8(ascii: "L")), Int32(order), &matrix, Int32(order),
    &eigenvalues, &work, Int32(work.count), &integers, Int32(integers.count))
  return status == 0
}

/// The singular values of a row-major matrix, which is destroyed (LAPACK's dgesdd).
///
/// - Parameters:
///   - matrix: (rows, columns).
///   - values: (min(rows, columns)), descending.
/// - Returns: whether it converged.
package func dgesdd(_ matrix: inout [Double], values: inout [Double], rows: Int, columns: Int) -> Bool {
  let (small, large) = (min(rows, columns), max(rows, columns))
  // Three times the block's share of the larger extent beside what the algorithm needs at least.
  var work = [Double](repeating: 0, count: 3 * small + max(large, 7 * small) + 64 * (large + small))
  var integers = [Int32](repeating: 0, count: 8 * small)
  // Row-major (rows, columns) is column-major (columns, rows): the transpose, which has the same singular values.
  let status = unsafe LAPACKE_dgesdd_work(
    LAPACK_COL_MAJOR, CChar(UInt8(ascii: "N")), Int32(columns), Int32(rows), &matrix, Int32(columns), &values, nil, 1,
    nil, 1, &work, Int32(work.count), &integers)
  return status == 0
}

extension Operand {
  @inline(__always) fileprivate var parts: (UnsafePointer<Element>, Int, CBLAS_TRANSPOSE) {
    switch unsafe self {
    case .plain(let p, let ld): unsafe (p, ld, CblasNoTrans)
    case .transposed(let p, let ld): unsafe (p, ld, CblasTrans)
    }
  }
}
