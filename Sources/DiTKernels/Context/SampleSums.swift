import CDiTKernels

// Sums over samples or rows: the gradients of what all of them share.

/// Elements that a task adds up.
private let elementsPerTask = 4096

extension ComputeContext {
  /// out[i] += Σ_n x[n · stride + i], n in order.
  ///
  /// - Parameters:
  ///   - output: at least `count` elements; added to.
  ///   - input: `terms` runs of `count` elements, `stride` apart.
  public func addSum(
    into output: consuming MutableSpan<Float>, of input: Span<Float>, terms: Int, stride: Int, count: Int
  ) {
    check(output.count, atLeast: count, "sum")
    check(input.count, atLeast: terms > 0 ? (terms - 1) * stride + count : 0, "terms of a sum")
    unsafe output.withUnsafeMutableBufferPointer { sum in
      unsafe input.withUnsafeBufferPointer { x in
        guard terms > 0, count > 0 else { return }
        let task = unsafe AddSum(
          kernels: kernels, sum: sum.baseAddress!, x: x.baseAddress!, terms: terms, stride: stride, count: count)
        unsafe parallel(ceilDivide(count, elementsPerTask), task)
      }
    }
  }

  /// x[r] += row for each of `rows` rows, on the calling thread.
  ///
  /// - Parameters:
  ///   - rows: (rows, width); added to.
  ///   - row: (width).
  public func add(_ row: Span<Float>, toRows x: consuming MutableSpan<Float>, rows: Int, width: Int) {
    check(row.count, atLeast: width, "row")
    check(x.count, atLeast: rows * width, "rows")
    unsafe x.withUnsafeMutableBufferPointer { x in
      unsafe row.withUnsafeBufferPointer { row in
        guard rows > 0 else { return }
        unsafe kernels.add_bias(x.baseAddress!, width, row.baseAddress!, rows, width)
      }
    }
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
