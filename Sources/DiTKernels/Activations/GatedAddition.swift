import CDiTKernels
import DiTTensor

/// Rows of one sample that a task takes.
private let rowsPerTask = 64

extension ComputeContext {
  /// y = residual + gate ⊙ sums: what ``Epilogue/gateResidual(residual:gate:tokens:sums:)`` does, after something was done
  /// to the sums.
  ///
  /// - Parameters:
  ///   - y: (samples · tokens, width), float32; overwritten.
  ///   - residual: of the same extents, float32, also y's own memory; nil: that.
  ///   - gate: one row per sample; all the same where its stride is 0.
  ///   - sums: of the same extents, of any format.
  ///   - tokens: rows of a sample.
  public func addGated(into y: MutableMatrix, residual: Matrix?, gate: Matrix, sums: Matrix, tokens: Int) {
    precondition(tokens > 0 && y.rows % tokens == 0, "\(y.rows) rows in samples of \(tokens) tokens")
    precondition(
      gate.rows * tokens >= y.rows && gate.columns == y.columns,
      "gates (\(gate.rows), \(gate.columns)) of samples of \(tokens) tokens for (\(y.rows), \(y.columns))")
    let residual = residual ?? y.reading
    func like(_ m: Matrix, _ name: StaticString) {
      precondition(
        m.rows == y.rows && m.columns == y.columns && m.stride >= m.columns && m.order == .rows,
        "\(name): (\(m.rows), \(m.columns)) for (\(y.rows), \(y.columns))")
    }
    like(residual, "the residual")
    like(sums, "the sums")
    precondition(!y.overlaps(sums) && !y.overlaps(gate), "a sum over what is added")
    precondition(
      !y.overlaps(residual) || (residual.memory.offset == y.reading.memory.offset && residual.stride == y.stride),
      "a sum over another part of its residual")
    guard y.rows > 0 else { return }
    let task = unsafe AddGated(
      kernels: kernels, y: y.floats, stride: y.stride, residual: residual.floats, residualStride: residual.stride,
      sums: DiTMatrix(sums), gate: gate.floats, gateStride: gate.stride, tokens: tokens, width: y.columns)
    unsafe parallel(y.rows / tokens * task.parts, task)
  }
}

@unsafe private struct AddGated: ParallelTask {
  let kernels: DiTKernelTable
  let y: UnsafeMutablePointer<Float>
  let stride: Int
  let residual: UnsafePointer<Float>
  let residualStride: Int
  let sums: DiTMatrix
  let gate: UnsafePointer<Float>
  let gateStride, tokens, width: Int

  var parts: Int { unsafe ceilDivide(tokens, rowsPerTask) }

  func run(_ index: Int, worker: Int) {
    let (sample, first) = unsafe (index / parts, index % parts * rowsPerTask)
    let row = unsafe sample * tokens + first
    unsafe kernels.add_gated(
      y + row * stride, stride, residual + row * residualStride, residualStride, sums.row(row), sums.bf16, sums.ld,
      gate + sample * gateStride, min(rowsPerTask, tokens - first), width)
  }
}
