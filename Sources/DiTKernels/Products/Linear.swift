import CDiTKernels

// y = x Wᵀ + b, with what follows it done while the tile is in cache.
//
//   x  (rows, inputs)      W  (outputs, inputs)      b  (outputs)      y  (rows, outputs)
//
// Forward tiles are cut over columns first: a tile then packs only its part of W.
//
// OpenBLAS sums a row's products in an order that depends on how many rows it is given and on where among them the row
// lies: its AVX2 kernels treat rows 6 … 11 of every 12 and the last rows apart, its AVX-512 kernels take another path for
// small results. `parts` cuts the rows where samples begin, so that a row has the same neighbours, and the same bits,
// however many samples there are.

extension ComputeContext {
  /// y = x Wᵀ + b.
  ///
  /// - Parameters:
  ///   - output: y, (rows, outputs); overwritten.
  ///   - input: x, (rows, inputs).
  ///   - weight: W, (outputs, inputs), as checkpoints store it.
  ///   - bias: b, (outputs).
  ///   - parts: no product crosses the borders of this many equal parts of the rows, so that a row's bits depend on its
  ///     own part alone; `rows` is a multiple.
  public func linear(
    output: consuming MutableSpan<Float>, input: Span<Float>, weight: Span<Float>, bias: Span<Float>,
    rows: Int, parts: Int = 1, inputs: Int, outputs: Int
  ) {
    check(output.count, atLeast: rows * outputs, "linear output")
    unsafe output.withUnsafeMutableBufferPointer { y in
      if rows <= Self.fewRows * parts {
        unsafe multiplySmallBatch(y.baseAddress!, input, weight, bias, rows, inputs, outputs)
      } else {
        unsafe forward(y.baseAddress!, input, weight, bias, rows, parts, inputs, outputs, epilogue: .bias)
      }
    }
  }

  /// Up to this many rows a part ``linear`` computes dot products: OpenBLAS would pack all of W for them.
  private static let fewRows = 8

  @unsafe private func multiplySmallBatch(
    _ y: UnsafeMutablePointer<Float>, _ input: Span<Float>, _ weight: Span<Float>, _ bias: Span<Float>,
    _ rows: Int, _ inputs: Int, _ outputs: Int
  ) {
    check(input.count, atLeast: rows * inputs, "linear input")
    check(weight.count, atLeast: outputs * inputs, "linear weight")
    check(bias.count, atLeast: outputs, "linear bias")
    unsafe input.withUnsafeBufferPointer { x in
      unsafe weight.withUnsafeBufferPointer { w in
        unsafe bias.withUnsafeBufferPointer { b in
          guard rows > 0 else { return }
          let task = unsafe SmallBatchTask(
            kernels: kernels, y: y, x: x.baseAddress!, w: w.baseAddress!, b: b.baseAddress!, rows: rows,
            inputs: inputs, outputs: outputs)
          unsafe parallel(ceilDivide(outputs, SmallBatchTask.columns), task)
        }
      }
    }
  }

  /// y = x Wᵀ + b + table[row mod tableRows]: the patch embedding with its positions.
  ///
  /// - Parameters:
  ///   - table: (tableRows, outputs); `rows` is a multiple of tableRows.
  ///   - parts: as in the other form.
  public func linear(
    output: consuming MutableSpan<Float>, input: Span<Float>, weight: Span<Float>, bias: Span<Float>,
    addingRows table: Span<Float>, rows: Int, parts: Int = 1, inputs: Int, outputs: Int
  ) {
    check(output.count, atLeast: rows * outputs, "linear output")
    let tableRows = table.count / outputs
    precondition(tableRows > 0 && rows % tableRows == 0, "linear: \(rows) rows, \(tableRows) positions")
    unsafe table.withUnsafeBufferPointer { table in
      unsafe output.withUnsafeMutableBufferPointer { y in
        unsafe forward(
          y.baseAddress!, input, weight, bias, rows, parts, inputs, outputs,
          epilogue: .addRows(table.baseAddress!, tableRows))
      }
    }
  }

  /// h = gelu_tanh(x Wᵀ + b).
  ///
  /// - Parameters:
  ///   - output: h, (rows, outputs); overwritten.
  ///   - preactivation: saved for backward: x Wᵀ + b, (rows, outputs). Inference passes the output's own memory.
  ///   - parts: as in ``linear``.
  public func linearGELU(
    output: consuming MutableSpan<Float>, preactivation: consuming MutableSpan<Float>, input: Span<Float>,
    weight: Span<Float>, bias: Span<Float>, rows: Int, parts: Int = 1, inputs: Int, outputs: Int
  ) {
    check(output.count, atLeast: rows * outputs, "linear output")
    check(preactivation.count, atLeast: rows * outputs, "linear preactivation")
    unsafe output.withUnsafeMutableBufferPointer { h in
      unsafe preactivation.withUnsafeMutableBufferPointer { y in
        unsafe forward(
          y.baseAddress!, input, weight, bias, rows, parts, inputs, outputs, epilogue: .gelu(h.baseAddress!))
      }
    }
  }

  /// y = h Wᵀ + b; x' = x + gate ⊙ y: the end of each half of a block.
  ///
  /// - Parameters:
  ///   - result: x', (samples · tokens, outputs); may be the residual's own memory.
  ///   - output: saved for backward: y, the same shape.
  ///   - residual: x.
  ///   - gate: one row of `outputs` per sample, `gateStride` elements apart.
  ///   - parts: as in ``linear``.
  public func linearGateResidual(
    result: consuming MutableSpan<Float>, output: consuming MutableSpan<Float>, residual: Span<Float>,
    input: Span<Float>, weight: Span<Float>, bias: Span<Float>, gate: Span<Float>, gateStride: Int,
    samples: Int, tokens: Int, parts: Int = 1, inputs: Int, outputs: Int
  ) {
    let rows = samples * tokens
    check(min(result.count, residual.count), atLeast: rows * outputs, "residual")
    check(output.count, atLeast: rows * outputs, "linear output")
    check(gate.count, atLeast: (samples - 1) * gateStride + outputs, "gate")
    unsafe gate.withUnsafeBufferPointer { gate in
      unsafe residual.withUnsafeBufferPointer { x in
        unsafe result.withUnsafeMutableBufferPointer { out in
          unsafe output.withUnsafeMutableBufferPointer { y in
            unsafe forward(
              y.baseAddress!, input, weight, bias, rows, parts, inputs, outputs,
              epilogue: .gateResidual(out.baseAddress!, x.baseAddress!, gate.baseAddress!, gateStride, tokens))
          }
        }
      }
    }
  }

  @unsafe private func forward(
    _ y: UnsafeMutablePointer<Float>, _ input: Span<Float>, _ weight: Span<Float>, _ bias: Span<Float>,
    _ rows: Int, _ parts: Int, _ inputs: Int, _ outputs: Int, epilogue: LinearForward.Epilogue
  ) {
    precondition(parts > 0 && rows % parts == 0, "linear: \(rows) rows in \(parts) parts")
    check(input.count, atLeast: rows * inputs, "linear input")
    check(weight.count, atLeast: outputs * inputs, "linear weight")
    check(bias.count, atLeast: outputs, "linear bias")
    unsafe input.withUnsafeBufferPointer { x in
      unsafe weight.withUnsafeBufferPointer { w in
        unsafe bias.withUnsafeBufferPointer { b in
          let task = unsafe LinearForward(
            kernels: kernels, y: y, x: x.baseAddress!, w: w.baseAddress!, b: b.baseAddress!, inputs: inputs,
            outputs: outputs, epilogue: epilogue, tiling: .forProduct(rows: rows / parts, columns: outputs))
          unsafe parallel(parts * task.tiling.count, task)
        }
      }
    }
  }

  /// dx = dy W (or += when `accumulating`).
  ///
  /// - Parameters:
  ///   - inputGradient: dx, (rows, inputs).
  ///   - outputGradient: dy, (rows, outputs).
  public func linearBackwardInput(
    inputGradient: consuming MutableSpan<Float>, outputGradient: Span<Float>, weight: Span<Float>,
    rows: Int, inputs: Int, outputs: Int, accumulating: Bool = false
  ) {
    check(inputGradient.count, atLeast: rows * inputs, "linear input gradient")
    check(outputGradient.count, atLeast: rows * outputs, "linear output gradient")
    check(weight.count, atLeast: outputs * inputs, "linear weight")
    unsafe inputGradient.withUnsafeMutableBufferPointer { dx in
      unsafe outputGradient.withUnsafeBufferPointer { dy in
        unsafe weight.withUnsafeBufferPointer { w in
          let task = unsafe LinearBackwardInput(
            dx: dx.baseAddress!, dy: dy.baseAddress!, w: w.baseAddress!, inputs: inputs, outputs: outputs,
            beta: accumulating ? 1 : 0, tiling: .forProduct(rows: rows, columns: inputs))
          unsafe parallel(task.tiling.count, task)
        }
      }
    }
  }

  /// dW += dyᵀ x; db += Σ_rows dy.
  ///
  /// - Parameters:
  ///   - weightGradient: dW, (outputs, inputs).
  ///   - biasGradient: db, (outputs).
  public func linearBackwardWeight(
    weightGradient: consuming MutableSpan<Float>, biasGradient: consuming MutableSpan<Float>,
    outputGradient: Span<Float>, input: Span<Float>, rows: Int, inputs: Int, outputs: Int
  ) {
    check(weightGradient.count, atLeast: outputs * inputs, "linear weight gradient")
    check(biasGradient.count, atLeast: outputs, "linear bias gradient")
    check(outputGradient.count, atLeast: rows * outputs, "linear output gradient")
    check(input.count, atLeast: rows * inputs, "linear input")
    unsafe weightGradient.withUnsafeMutableBufferPointer { dw in
      unsafe biasGradient.withUnsafeMutableBufferPointer { db in
        unsafe outputGradient.withUnsafeBufferPointer { dy in
          unsafe input.withUnsafeBufferPointer { x in
            let task = unsafe LinearBackwardWeight(
              kernels: kernels, dw: dw.baseAddress!, db: db.baseAddress!, dy: dy.baseAddress!, x: x.baseAddress!,
              rows: rows, inputs: inputs, outputs: outputs,
              tiling: .forProduct(rows: outputs, columns: inputs))
            unsafe parallel(task.tiling.count, task)
          }
        }
      }
    }
  }
}

extension Tiling {
  /// Tiles of an sgemm result: large enough that packing is a small part, enough of them to share out.
  static func forProduct(rows: Int, columns: Int) -> Tiling {
    Tiling(rows: rows, columns: columns, tileRows: 512, tileColumns: max(64, min(384, ceilDivide(columns, 2))))
  }
}

@unsafe private struct SmallBatchTask: ParallelTask {
  static let columns = 128

  let kernels: DiTKernelTable
  let y: UnsafeMutablePointer<Float>
  let x, w, b: UnsafePointer<Float>
  let rows, inputs, outputs: Int

  func run(_ index: Int, worker: Int) {
    let first = unsafe index * Self.columns
    unsafe kernels.gemv(
      y + first, outputs, x, w + first * inputs, b + first, rows, inputs, min(Self.columns, outputs - first))
  }
}

@unsafe private struct LinearForward: ParallelTask {
  @unsafe enum Epilogue {
    case bias
    case addRows(UnsafePointer<Float>, Int)
    case gelu(UnsafeMutablePointer<Float>)
    case gateResidual(UnsafeMutablePointer<Float>, UnsafePointer<Float>, UnsafePointer<Float>, Int, Int)
  }

  let kernels: DiTKernelTable
  let y: UnsafeMutablePointer<Float>
  let x, w, b: UnsafePointer<Float>
  let inputs, outputs: Int
  let epilogue: Epilogue
  /// Of each part.
  let tiling: Tiling

  func run(_ index: Int, worker: Int) {
    let (part, index) = unsafe index.quotientAndRemainder(dividingBy: tiling.count)
    let inPart = unsafe tiling.rowRange(index)
    let first = unsafe part * tiling.rows
    let rows = first + inPart.lowerBound..<first + inPart.upperBound
    let columns = unsafe tiling.columnRange(index)
    let tile = unsafe y + rows.lowerBound * outputs + columns.lowerBound
    unsafe sgemm(
      .plain(x + rows.lowerBound * inputs, inputs), .transposed(w + columns.lowerBound * inputs, inputs),
      into: tile, outputs, m: rows.count, n: columns.count, k: inputs)
    unsafe finish(tile, rows, columns)
  }

  private func finish(_ tile: UnsafeMutablePointer<Float>, _ rows: Range<Int>, _ columns: Range<Int>) {
    let bias = unsafe b + columns.lowerBound
    switch unsafe epilogue {
    case .bias:
      unsafe kernels.add_bias(tile, outputs, bias, rows.count, columns.count)
    case .addRows(let table, let tableRows):
      unsafe eachPart(of: rows, period: tableRows) { part in
        unsafe kernels.add_bias_rows(
          tile + (part.lowerBound - rows.lowerBound) * outputs, outputs, bias,
          table + part.lowerBound % tableRows * outputs + columns.lowerBound, outputs, part.count, columns.count)
      }
    case .gelu(let h):
      let out = unsafe h + rows.lowerBound * outputs + columns.lowerBound
      unsafe kernels.bias_gelu(out, outputs, tile, outputs, bias, rows.count, columns.count)
    case .gateResidual(let out, let x, let gate, let stride, let tokens):
      unsafe eachPart(of: rows, period: tokens) { part in
        unsafe kernels.bias_gate_residual(
          out + part.lowerBound * outputs + columns.lowerBound, tile + (part.lowerBound - rows.lowerBound) * outputs,
          x + part.lowerBound * outputs + columns.lowerBound, outputs, bias,
          gate + part.lowerBound / tokens * stride + columns.lowerBound, part.count, columns.count)
      }
    }
  }

  /// Cuts `rows` where a new sample begins.
  @inline(__always) private func eachPart(of rows: Range<Int>, period: Int, _ body: (Range<Int>) -> Void) {
    var start = rows.lowerBound
    while start < rows.upperBound {
      let end = min(rows.upperBound, (start / period + 1) * period)
      body(start..<end)
      start = end
    }
  }
}

@unsafe private struct LinearBackwardInput: ParallelTask {
  let dx: UnsafeMutablePointer<Float>
  let dy, w: UnsafePointer<Float>
  let inputs, outputs: Int
  let beta: Float
  let tiling: Tiling

  func run(_ index: Int, worker: Int) {
    let rows = unsafe tiling.rowRange(index)
    let columns = unsafe tiling.columnRange(index)
    unsafe sgemm(
      .plain(dy + rows.lowerBound * outputs, outputs), .plain(w + columns.lowerBound, inputs),
      into: dx + rows.lowerBound * inputs + columns.lowerBound, inputs, m: rows.count, n: columns.count, k: outputs,
      beta: beta)
  }
}

@unsafe private struct LinearBackwardWeight: ParallelTask {
  let kernels: DiTKernelTable
  let dw, db: UnsafeMutablePointer<Float>
  let dy, x: UnsafePointer<Float>
  let rows, inputs, outputs: Int
  let tiling: Tiling

  func run(_ index: Int, worker: Int) {
    let features = unsafe tiling.rowRange(index)
    let columns = unsafe tiling.columnRange(index)
    unsafe sgemm(
      .transposed(dy + features.lowerBound, outputs), .plain(x + columns.lowerBound, inputs),
      into: dw + features.lowerBound * inputs + columns.lowerBound, inputs, m: features.count, n: columns.count,
      k: rows, beta: 1)
    if columns.lowerBound == 0 {
      unsafe kernels.column_sums(
        db + features.lowerBound, dy + features.lowerBound, outputs, rows, features.count)
    }
  }
}
