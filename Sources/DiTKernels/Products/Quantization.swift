import CDiTKernels
import DiTTensor

// int8 operands (see quantization.inc): rows of activations with a scale and a zero each, and the panels of weights with a scale
// for each output.

extension ComputeContext {
  /// output ≈ input in int8, each row in steps of its own: [min(x, 0), max(x, 0)] in 255 of them, 0 exactly, to the nearest,
  /// ties to even. A row that is not finite makes no finite product.
  ///
  /// - Parameters:
  ///   - output: (rows, columns), int8; no part of the input.
  ///   - input: (rows, columns), float32 or bf16, in rows.
  public func quantize(into output: MutableMatrix, _ input: Matrix) {
    precondition(
      output.rows == input.rows && output.columns == input.columns && input.order == .rows && !output.overlaps(input),
      "(\(input.rows), \(input.columns)) in \(input.order) into (\(output.rows), \(output.columns))")
    precondition(output.stride >= Format.int8.rowElements(output.columns), "rows of int8 over one another")
    let task = unsafe QuantizeRows(
      kernels: kernels, out: DiTMatrix(int8: output.reading), x: DiTMatrix(input), rows: input.rows,
      columns: input.columns)
    unsafe parallel(ceilDivide(input.rows, int8RowsPerTask), task)
  }

  /// Weights in whole numbers of steps of their output's scale, as the panels of int8 hold them.
  ///
  /// - Parameters:
  ///   - weights: (outputs, inputs), float32, in rows without gaps.
  /// - Returns: the codes, −127 … 127, row after row, and the scale of each row. Made of `scale · code`, weights give the same
  ///   codes and scales again.
  public func quantizedWeights(_ weights: Matrix) -> (codes: [Int8], scales: [Float]) {
    precondition(weights.order == .rows && weights.stride == weights.columns, "weights with gaps")
    let (rows, columns) = (weights.rows, weights.columns)
    var scales = [Float](repeating: 0, count: rows)
    let codes = unsafe [Int8](unsafeUninitializedCapacity: rows * columns) { codes, count in
      count = rows * columns
      guard rows * columns > 0 else { return }
      unsafe scales.withUnsafeMutableBufferPointer { scales in
        let task = unsafe QuantizeWeights(
          kernels: kernels, codes: codes.baseAddress!, scales: scales.baseAddress!, weights: DiTMatrix(weights),
          rows: rows, columns: columns)
        unsafe parallel(ceilDivide(rows, int8RowsPerTask), task)
      }
    }
    return (codes, scales)
  }

  /// Wᵀ in panels of int8, for W in float32.
  func packInt8(_ matrix: Matrix, into memory: MutableFloatSlice, halves: Bool) {
    precondition(matrix.order == .columns, "int8 of a matrix in \(matrix.order)")
    precondition(!halves || matrix.columns % 2 == 0, "two halves of \(matrix.columns) columns")
    check(
      memory.count, atLeast: Self.packedElements(depth: matrix.rows, columns: matrix.columns, format: .int8),
      "memory for panels")
    let codes = unsafe MutableFloatSlice(uninitialized: threads * PackInt8Panels.scratchFloats(depth: matrix.rows))
    let task = unsafe PackInt8Panels(
      kernels: kernels, weights: DiTMatrix(matrix), depth: matrix.rows, columns: matrix.columns, halves: halves,
      to: UnsafeMutableRawPointer(memory.pointer), scratch: codes.pointer)
    unsafe parallel(ceilDivide(matrix.columns, panelColumns), task)
  }
}

/// Rows that a task makes int8.
private let int8RowsPerTask = 64

/// Rows of activations.
@unsafe private struct QuantizeRows: ParallelTask {
  let kernels: DiTKernelTable
  let out, x: DiTMatrix
  let rows, columns: Int

  func run(_ index: Int, worker: Int) {
    let first = index * int8RowsPerTask
    let count = unsafe min(int8RowsPerTask, rows - first)
    unsafe kernels.quantize_rows(out.data! + first * out.ld, out.ld, x.rows(from: first), count, columns)
  }
}

/// Rows of weights.
@unsafe private struct QuantizeWeights: ParallelTask {
  let kernels: DiTKernelTable
  let codes: UnsafeMutablePointer<Int8>
  let scales: UnsafeMutablePointer<Float>
  let weights: DiTMatrix
  let rows, columns: Int

  func run(_ index: Int, worker: Int) {
    let first = index * int8RowsPerTask
    let count = unsafe min(int8RowsPerTask, rows - first)
    unsafe kernels.quantize_weights(codes + first * columns, scales + first, weights.rows(from: first), count, columns)
  }
}

/// The panels of a weight, each from codes that are made in the worker's scratch: of a panel's outputs together, or of its halves.
@unsafe private struct PackInt8Panels: ParallelTask {
  let kernels: DiTKernelTable
  let weights: DiTMatrix
  let depth, columns: Int
  let halves: Bool
  let to: UnsafeMutableRawPointer
  let scratch: UnsafeMutablePointer<Float>

  /// The codes and scales of a panel.
  static func scratchFloats(depth: Int) -> Int { panelColumns * (ceilDivide(depth, 4) + 1) }

  func run(_ panel: Int, worker: Int) {
    let memory = unsafe to + panel * dit_int8_panel(depth)
    guard unsafe halves else {
      unsafe pack(0, panelColumns, from: panel * panelColumns, before: columns, into: memory, worker)
      return
    }
    let (width, half) = unsafe (panelColumns / 2, columns / 2)
    unsafe pack(0, width, from: panel * width, before: half, into: memory, worker)
    unsafe pack(width, width, from: half + panel * width, before: columns, into: memory, worker)
  }

  private func pack(
    _ first: Int, _ width: Int, from column: Int, before end: Int, into panel: UnsafeMutableRawPointer, _ worker: Int
  ) {
    let count = min(width, end - column)
    let scales = unsafe scratch + worker * PackInt8Panels.scratchFloats(depth: depth)
    let codes = unsafe UnsafeMutableRawPointer(scales + panelColumns).assumingMemoryBound(to: Int8.self)
    unsafe kernels.quantize_weights(codes, scales, weights.rows(from: column), count, depth)
    unsafe kernels.pack_int8(panel, first, width, codes, scales, 0, count, depth)
  }
}
