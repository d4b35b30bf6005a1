import DiTKernels

// Products in Double, row-major, for covariances and their factors. Cut into tiles by shape alone; each tile is one dgemm
// on one worker.

/// Rows and columns of a tile of the product.
private let tileRows = 512
private let tileColumns = 256

extension ComputeContext {
  /// c = a bᵀ, or c −= a bᵀ.
  ///
  /// - Parameters:
  ///   - c: (rows, columns); overwritten, or with `subtracting` changed.
  ///   - a: (rows, depth).
  ///   - b: (columns, depth).
  ///   - rows: of c.
  ///   - columns: of c.
  ///   - depth: of the sums.
  ///   - subtracting: whether the product is taken from c.
  public func product(
    _ c: inout MutableSpan<Double>, _ a: Span<Double>, transposed b: Span<Double>, rows: Int, columns: Int, depth: Int,
    subtracting: Bool = false
  ) {
    check(b.count, atLeast: columns * depth, "product b")
    let (alpha, beta) = subtracting ? (-1.0, 1.0) : (1.0, 0.0)
    unsafe product(
      &c, a, b, Tiling(rows: rows, columns: columns, tileRows: tileRows, tileColumns: tileColumns), depth,
      DoubleProduct.Form(isRightTransposed: true, alpha: alpha, beta: beta))
  }

  /// c = a b.
  ///
  /// - Parameters:
  ///   - c: (rows, columns); overwritten.
  ///   - a: (rows, depth).
  ///   - b: (depth, columns).
  ///   - rows: of c.
  ///   - columns: of c.
  ///   - depth: of the sums.
  public func product(
    _ c: inout MutableSpan<Double>, _ a: Span<Double>, _ b: Span<Double>, rows: Int, columns: Int, depth: Int
  ) {
    check(b.count, atLeast: depth * columns, "product b")
    unsafe product(
      &c, a, b, Tiling(rows: rows, columns: columns, tileRows: tileRows, tileColumns: tileColumns), depth,
      DoubleProduct.Form())
  }

  /// c += xᵀ x in the upper triangle; below the diagonal c is undefined.
  ///
  /// - Parameters:
  ///   - c: (columns, columns).
  ///   - x: (rows, columns).
  ///   - rows: of x.
  ///   - columns: of x.
  public func addGram(_ c: inout MutableSpan<Double>, _ x: Span<Double>, rows: Int, columns: Int) {
    unsafe product(
      &c, x, x, Tiling(rows: columns, columns: columns, tileRows: tileColumns, tileColumns: tileColumns), rows,
      DoubleProduct.Form(isLeftTransposed: true, beta: 1, isSymmetric: true))
  }

  @unsafe private func product(
    _ c: inout MutableSpan<Double>, _ a: Span<Double>, _ b: Span<Double>, _ tiling: Tiling, _ depth: Int,
    _ form: DoubleProduct.Form
  ) {
    check(c.count, atLeast: tiling.rows * tiling.columns, "product c")
    check(a.count, atLeast: tiling.rows * depth, "product a")
    guard tiling.rows > 0, tiling.columns > 0, depth > 0 else {
      precondition(form.beta == 1 || tiling.rows * tiling.columns == 0, "a product over no terms")
      return
    }
    unsafe c.withUnsafeMutableBufferPointer { c in
      unsafe a.withUnsafeBufferPointer { a in
        unsafe b.withUnsafeBufferPointer { b in
          let task = unsafe DoubleProduct(
            c: c.baseAddress!, a: a.baseAddress!, b: b.baseAddress!, tiling: tiling, depth: depth, form: form)
          unsafe parallel(tiling.count, task)
        }
      }
    }
  }
}

@unsafe private struct DoubleProduct: ParallelTask {
  struct Form {
    var isLeftTransposed = false
    var isRightTransposed = false
    var alpha = 1.0
    var beta = 0.0
    /// Tiles wholly below the diagonal are left out.
    var isSymmetric = false
  }

  let c: UnsafeMutablePointer<Double>
  let a, b: UnsafePointer<Double>
  let tiling: Tiling
  let depth: Int
  let form: Form

  func run(_ index: Int, worker: Int) {
    let (rows, columns) = unsafe (tiling.rowRange(index), tiling.columnRange(index))
    if unsafe form.isSymmetric, columns.upperBound <= rows.lowerBound { return }
    let left: Operand<Double> =
      unsafe form.isLeftTransposed
      ? .transposed(a + rows.lowerBound, tiling.rows) : .plain(a + rows.lowerBound * depth, depth)
    let right: Operand<Double> =
      unsafe form.isRightTransposed
      ? .transposed(b + columns.lowerBound * depth, depth) : .plain(b + columns.lowerBound, tiling.columns)
    unsafe dgemm(
      left, right, into: c + rows.lowerBound * tiling.columns + columns.lowerBound, tiling.columns, m: rows.count,
      n: columns.count, k: depth, alpha: form.alpha, beta: form.beta)
  }
}
