import CBLAS

extension ComputeContext {
  /// The singular values of a matrix, in Double, descending; nil where they do not converge, as those of a matrix of
  /// finite numbers do.
  ///
  /// By bidiagonal reduction, so that small values are exact to rounding of the largest: the eigenvalues of the square
  /// would know them to its root only. On the calling thread.
  ///
  /// - Parameters:
  ///   - matrix: (rows, columns); destroyed.
  public func singularValues(_ matrix: inout [Double], rows: Int, columns: Int) -> [Double]? {
    precondition(matrix.count == rows * columns, "\(matrix.count) elements for a matrix (\(rows), \(columns))")
    let (small, large) = (min(rows, columns), max(rows, columns))
    guard small > 0 else { return [] }
    var values = [Double](repeating: 0, count: small)
    // Three times the block's share of the larger extent beside what the algorithm needs at least.
    var work = [Double](repeating: 0, count: 3 * small + max(large, 7 * small) + 64 * (large + small))
    var integers = [Int32](repeating: 0, count: 8 * small)
    // Row-major (rows, columns) is column-major (columns, rows): the transpose, which has the same singular values.
    let status = unsafe LAPACKE_dgesdd_work(
      LAPACK_COL_MAJOR, CChar(UInt8(ascii: "N")), Int32(columns), Int32(rows), &matrix, Int32(columns), &values, nil, 1,
      nil, 1, &work, Int32(work.count), &integers)
    return status == 0 ? values : nil
  }
}
