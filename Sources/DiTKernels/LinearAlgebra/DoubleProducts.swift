import CBLAS

// Products in Double, row-major, for what is fitted and conditioned rather than learned. Cut into tiles by shape alone;
// each tile is one dgemm on one worker.

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
  public func product(
    _ c: inout MutableSpan<Double>, _ a: Span<Double>, transposed b: Span<Double>, rows: Int, columns: Int, depth: Int,
    subtracting: Bool = false
  ) {
    check(b.count, atLeast: columns * depth, "product b")
    let (scale, kept) = subtracting ? (-1.0, 1.0) : (1.0, 0.0)
    unsafe product(
      &c, a, b, Tiling(rows: rows, columns: columns, tileRows: tileRows, tileColumns: tileColumns), depth,
      DoubleProduct.Form(left: CblasNoTrans, right: CblasTrans, scale: scale, kept: kept, isSymmetric: false))
  }

  /// c = a b.
  ///
  /// - Parameters:
  ///   - c: (rows, columns); overwritten.
  ///   - a: (rows, depth).
  ///   - b: (depth, columns).
  public func product(
    _ c: inout MutableSpan<Double>, _ a: Span<Double>, _ b: Span<Double>, rows: Int, columns: Int, depth: Int
  ) {
    check(b.count, atLeast: depth * columns, "product b")
    unsafe product(
      &c, a, b, Tiling(rows: rows, columns: columns, tileRows: tileRows, tileColumns: tileColumns), depth,
      DoubleProduct.Form(left: CblasNoTrans, right: CblasNoTrans, scale: 1, kept: 0, isSymmetric: false))
  }

  /// c += xᵀ x in the upper triangle; below the diagonal c is undefined.
  ///
  /// - Parameters:
  ///   - c: (columns, columns).
  ///   - x: (rows, columns).
  public func addGram(_ c: inout MutableSpan<Double>, _ x: Span<Double>, rows: Int, columns: Int) {
    unsafe product(
      &c, x, x, Tiling(rows: columns, columns: columns, tileRows: tileColumns, tileColumns: tileColumns), rows,
      DoubleProduct.Form(left: CblasTrans, right: CblasNoTrans, scale: 1, kept: 1, isSymmetric: true))
  }

  @unsafe private func product(
    _ c: inout MutableSpan<Double>, _ a: Span<Double>, _ b: Span<Double>, _ tiling: Tiling, _ depth: Int,
    _ form: DoubleProduct.Form
  ) {
    check(c.count, atLeast: tiling.rows * tiling.columns, "product c")
    check(a.count, atLeast: tiling.rows * depth, "product a")
    guard tiling.rows > 0, tiling.columns > 0, depth > 0 else {
      precondition(form.kept == 1 || tiling.rows * tiling.columns == 0, "a product over no terms")
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
    let left, right: CBLAS_TRANSPOSE
    let scale, kept: Double
    /// Tiles wholly below the diagonal are left out.
    let isSymmetric: Bool
  }

  let c: UnsafeMutablePointer<Double>
  let a, b: UnsafePointer<Double>
  let tiling: Tiling
  let depth: Int
  let form: Form

  func run(_ index: Int, worker: Int) {
    let (rows, columns) = unsafe (tiling.rowRange(index), tiling.columnRange(index))
    if unsafe form.isSymmetric, columns.upperBound <= rows.lowerBound { return }
    let isLeftPlain = unsafe form.left == CblasNoTrans
    let isRightPlain = unsafe form.right == CblasNoTrans
    let (lda, ldb) = unsafe (isLeftPlain ? depth : tiling.rows, isRightPlain ? tiling.columns : depth)
    let a = unsafe a + (isLeftPlain ? rows.lowerBound * lda : rows.lowerBound)
    let b = unsafe b + (isRightPlain ? columns.lowerBound : columns.lowerBound * ldb)
    let c = unsafe c + rows.lowerBound * tiling.columns + columns.lowerBound
    let step = unsafe isLeftPlain && isRightPlain ? depthWithoutMalloc(rows.count, columns.count) : depth
    for start in unsafe stride(from: 0, to: depth, by: step) {
      unsafe cblas_dgemm(
        CblasRowMajor, form.left, form.right, Int32(rows.count), Int32(columns.count), Int32(min(step, depth - start)),
        form.scale, a + start * (isLeftPlain ? 1 : lda), Int32(lda), b + start * (isRightPlain ? ldb : 1), Int32(ldb),
        start == 0 ? form.kept : 1, c, Int32(tiling.columns))
    }
  }

  /// How much of the depth a product of untransposed matrices may take at once, so that OpenBLAS does not call malloc:
  /// its AVX-512 kernel for small products does where the last 8 columns are 4 or fewer and the depth is 16 or more.
  private func depthWithoutMalloc(_ rows: Int, _ columns: Int) -> Int {
    unsafe (1...4).contains(columns % 8) && rows * columns * depth <= 1_000_000 ? 15 : depth
  }
}
