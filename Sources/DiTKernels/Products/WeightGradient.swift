import CDiTKernels
import DiTTensor

// dW += dyᵀ x; db += Σ_rows dy. Over packed factors dyᵀ lies in groups of six rows and x in panels, both packed here; OpenBLAS
// takes them as they are.

extension ComputeContext {
  /// Floats of scratch that ``weightGradient(into:bias:_:_:scratch:)`` needs over packed factors.
  ///
  /// - Parameters:
  ///   - rows: of x.
  ///   - inputs: columns of x.
  ///   - outputs: columns of the gradient dout.
  ///   - format: of the factors.
  ///   - isPacked: whether x lies in panels already.
  public static func weightGradientScratch(
    rows: Int, inputs: Int, outputs: Int, format: Format, isPacked: Bool = false
  ) -> Int {
    (isPacked ? 0 : packedElements(depth: rows, columns: inputs, format: format))
      + groupedElements(rows: outputs, depth: rows, format: format)
  }

  /// dW += dyᵀ x; db += Σ_rows dy.
  ///
  /// - Parameters:
  ///   - dw: dW, (outputs, inputs), float32.
  ///   - db: (outputs); nil: the layer has no bias.
  ///   - dy: (rows, outputs), in rows.
  ///   - x: (rows, inputs), of dy's format, in rows or in panels.
  ///   - scratch: ``weightGradientScratch(rows:inputs:outputs:format:isPacked:)`` floats; nil: OpenBLAS multiplies, in
  ///     float32.
  public func weightGradient(
    into dw: MutableMatrix, bias db: MutableFloatSlice?, _ dy: Matrix, _ x: Matrix, scratch: MutableFloatSlice?
  ) {
    precondition(dy.rows == x.rows, "\(dy.rows) rows of gradients, \(x.rows) of inputs")
    precondition(dy.order == .rows && x.format == dy.format, "\(x.format) inputs for \(dy.format) gradients")
    if let db { check(db.count, atLeast: dy.columns, "bias gradient") }
    guard dy.rows > 0 else { return }
    guard let scratch else {
      product(into: dw, dy.transposed, x, epilogue: .accumulate)
      guard let db else { return }
      let task = unsafe ColumnSums(
        kernels: kernels, sums: db.pointer, matrix: dy.floats, stride: dy.stride, rows: dy.rows, columns: dy.columns)
      unsafe parallel(ceilDivide(dy.columns, ColumnSums.columns), task)
      return
    }
    let (format, rows, isPacked) = (dy.format, dy.rows, x.order == .panels)
    precondition(
      !scratch.reading.overlaps(x.memory) && !scratch.reading.overlaps(dy.memory), "scratch over what is packed")
    check(
      scratch.count,
      atLeast: Self.weightGradientScratch(
        rows: rows, inputs: x.columns, outputs: dy.columns, format: format, isPacked: isPacked), "gradient scratch")
    let size = isPacked ? 0 : Self.packedElements(depth: rows, columns: x.columns, format: format)
    let (right, left) = (scratch[0..<size], scratch[size..<scratch.count])
    let groups = unsafe PackGroups(
      kernels: kernels, groups: UnsafeMutableRawPointer(left.pointer), sums: db?.pointer, matrix: DiTMatrix(dy),
      rows: rows, outputs: dy.columns, format: format)
    if isPacked {
      unsafe parallel(groups.count, groups)
    } else {
      let pack = unsafe PackBoth(panels: PackPanels(kernels, x, into: right, as: format), groups: groups)
      unsafe parallel(pack.count, pack)
    }
    product(
      into: dw, Matrix(packed: left.reading, rows: dy.columns, columns: rows, format: format, order: .groups),
      isPacked ? x : Self.panels(in: right.reading, depth: rows, columns: x.columns, format: format),
      epilogue: .accumulate)
  }
}

/// The groups of dyᵀ, eight per task, and the sums of dy's columns where they are wanted.
@unsafe private struct PackGroups: ParallelTask {
  static let columns = 8 * groupRows

  let kernels: DiTKernelTable
  let groups: UnsafeMutableRawPointer
  let sums: UnsafeMutablePointer<Float>?
  let matrix: DiTMatrix
  let rows, outputs: Int
  let format: Format

  var count: Int { unsafe ceilDivide(outputs, Self.columns) }

  func run(_ index: Int, worker: Int) {
    let column = unsafe index * Self.columns
    let bytes = unsafe dit_group_elements(rows, format.flag) * format.size
    unsafe kernels.pack_groups(
      groups + column / groupRows * bytes, sums.map { unsafe $0 + column }, matrix, column,
      min(Self.columns, outputs - column), rows,
      format.flag)
  }
}

/// The panels of x, then the groups of dyᵀ.
@unsafe private struct PackBoth: ParallelTask {
  let panels: PackPanels
  let groups: PackGroups

  var count: Int { unsafe panels.count + groups.count }

  func run(_ index: Int, worker: Int) {
    if unsafe index < panels.count {
      unsafe panels.run(index, worker: worker)
    } else {
      unsafe groups.run(index - panels.count, worker: worker)
    }
  }
}

/// sums[c] += Σ_r matrix[r][c]
@unsafe private struct ColumnSums: ParallelTask {
  static let columns = 256

  let kernels: DiTKernelTable
  let sums: UnsafeMutablePointer<Float>
  let matrix: UnsafePointer<Float>
  let stride, rows, columns: Int

  func run(_ index: Int, worker: Int) {
    let first = unsafe index * Self.columns
    unsafe kernels.column_sums(sums + first, matrix + first, stride, rows, min(Self.columns, columns - first))
  }
}
