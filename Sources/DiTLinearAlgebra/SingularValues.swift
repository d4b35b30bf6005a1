import DiTKernels

extension ComputeContext {
  /// The singular values of a matrix, in Double, descending; nil where they do not converge, as those of a matrix of
  /// finite numbers do.
  ///
  /// By bidiagonal reduction, so that small values are exact to rounding of the largest: the eigenvalues of the square
  /// would know them to its root only. On the calling thread.
  ///
  /// - Parameters:
  ///   - matrix: (rows, columns); destroyed.
  ///   - rows: of the matrix.
  ///   - columns: of the matrix.
  public func singularValues(_ matrix: inout [Double], rows: Int, columns: Int) -> [Double]? {
    precondition(matrix.count == rows * columns, "\(matrix.count) elements for a matrix (\(rows), \(columns))")
    guard !matrix.isEmpty else { return [] }
    var values = [Double](repeating: 0, count: min(rows, columns))
    return dgesdd(&matrix, values: &values, rows: rows, columns: columns) ? values : nil
  }
}
