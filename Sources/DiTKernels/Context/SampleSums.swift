import CDiTKernels
import DiTTensor

// Sums over samples or rows: the gradients of what all of them share.

/// Elements that a task adds up.
private let elementsPerTask = 4096

extension ComputeContext {
  /// out[i] += Σ_n x[n][i], n in order.
  ///
  /// - Parameters:
  ///   - output: at least as many elements as x has columns; added to.
  ///   - input: x, float32.
  public func addSum(into output: MutableFloatSlice, ofRows input: Matrix) {
    check(output.count, atLeast: input.columns, "sum")
    guard input.rows > 0, input.columns > 0 else { return }
    let task = unsafe AddSum(
      kernels: kernels, sum: output.pointer, x: input.floats, terms: input.rows, stride: input.stride,
      count: input.columns)
    unsafe parallel(ceilDivide(input.columns, elementsPerTask), task)
  }

  /// x[r] += row for each row of x, on the calling thread.
  ///
  /// - Parameters:
  ///   - row: as many elements as x has columns.
  ///   - x: the rows that are added to.
  public func add(_ row: FloatSlice, toRows x: MutableMatrix) {
    check(row.count, atLeast: x.columns, "row")
    guard x.rows > 0 else { return }
    unsafe kernels.add_bias(x.floats, x.stride, row.pointer, x.rows, x.columns)
  }
}

@unsafe private struct AddSum: ParallelTask {
  let kernels: DiTKernelTable
  let sum: UnsafeMutablePointer<Float>
  let x: UnsafePointer<Float>
  let terms, stride, count: Int

  func run(_ index: Int, worker: Int) {
    let start = index * elementsPerTask
    let length = unsafe min(elementsPerTask, count - start)
    unsafe kernels.column_sums(sum + start, x + start, stride, terms, length)
  }
}
