import CDiTKernels

// y = x Wᵀ + b over a packed W, with what follows it done while the tile is in cache; and dx = dy W over the other
// packing. `precision` is the format of both operands.
//
//   x  (rows, inputs)      y  (rows, outputs)      b  (outputs)

extension ComputeContext {
  /// y = x Wᵀ + b (+ table[row mod tableRows]).
  ///
  /// - Parameters:
  ///   - output: y, in `outputPrecision`; overwritten.
  ///   - input: x, in `precision`.
  ///   - packed: W as ``packForward(_:weight:inputs:outputs:precision:)`` leaves it.
  ///   - table: (tableRows, outputs), or empty.
  public func packedLinear(
    output: consuming MutableRawSpan, _ outputPrecision: Precision, input: RawSpan, packed: RawSpan,
    _ precision: Precision, bias: Span<Float>, addingRows table: Span<Float>, rows: Int, inputs: Int, outputs: Int
  ) {
    check(output.byteCount, atLeast: rows * outputs * outputPrecision.size, "linear output")
    check(bias.count, atLeast: outputs, "linear bias")
    precondition(table.count % outputs == 0, "linear: positions of \(table.count) elements, \(outputs) columns")
    unsafe output.withUnsafeMutableBytes { y in
      unsafe bias.withUnsafeBufferPointer { bias in
        unsafe table.withUnsafeBufferPointer { table in
          var p = unsafe DiTProduct()
          unsafe p.bias = bias.baseAddress
          unsafe p.y = DiTMatrix(y, outputs, outputPrecision)
          if table.count > 0 {
            unsafe p.table = table.baseAddress
            unsafe p.table_rows = table.count / outputs
          }
          unsafe run(p, DiTStore, input, packed, precision, rows: rows, depth: inputs, columns: outputs)
        }
      }
    }
  }

  /// h = gelu_tanh(x Wᵀ + b).
  ///
  /// - Parameters:
  ///   - output: h, (rows, outputs) in `precision`.
  ///   - preactivation: x Wᵀ + b for the backward pass, in `precision`; or empty.
  public func packedLinearGELU(
    output: consuming MutableRawSpan, preactivation: consuming MutableRawSpan, input: RawSpan, packed: RawSpan,
    _ precision: Precision, bias: Span<Float>, rows: Int, inputs: Int, outputs: Int
  ) {
    check(output.byteCount, atLeast: rows * outputs * precision.size, "linear output")
    check(bias.count, atLeast: outputs, "linear bias")
    checkOptional(preactivation.byteCount, rows * outputs * precision.size, "linear preactivation")
    unsafe output.withUnsafeMutableBytes { y in
      unsafe preactivation.withUnsafeMutableBytes { saved in
        unsafe bias.withUnsafeBufferPointer { bias in
          var p = unsafe DiTProduct()
          unsafe p.bias = bias.baseAddress
          unsafe p.y = DiTMatrix(y, outputs, precision)
          unsafe p.saved = DiTMatrix(saved, outputs, precision)
          unsafe run(p, DiTGELU, input, packed, precision, rows: rows, depth: inputs, columns: outputs)
        }
      }
    }
  }

  /// y = h Wᵀ + b; x' = x + gate ⊙ y.
  ///
  /// - Parameters:
  ///   - result: x', (samples · tokens, outputs); may be the residual's own memory.
  ///   - output: y for the backward pass, in `precision`; or empty.
  ///   - residual: x.
  ///   - gate: one row of `outputs` per sample, `gateStride` elements apart.
  public func packedLinearGateResidual(
    result: consuming MutableSpan<Float>, output: consuming MutableRawSpan, residual: Span<Float>, input: RawSpan,
    packed: RawSpan, _ precision: Precision, bias: Span<Float>, gate: Span<Float>, gateStride: Int, samples: Int,
    tokens: Int, inputs: Int, outputs: Int
  ) {
    let rows = samples * tokens
    check(min(result.count, residual.count), atLeast: rows * outputs, "residual")
    check(gate.count, atLeast: (samples - 1) * gateStride + outputs, "gate")
    check(bias.count, atLeast: outputs, "linear bias")
    checkOptional(output.byteCount, rows * outputs * precision.size, "linear output")
    unsafe result.withUnsafeMutableBufferPointer { y in
      unsafe output.withUnsafeMutableBytes { saved in
        unsafe residual.withUnsafeBufferPointer { x in
          unsafe bias.withUnsafeBufferPointer { bias in
            unsafe gate.withUnsafeBufferPointer { gate in
              var p = unsafe DiTProduct()
              unsafe p.bias = bias.baseAddress
              unsafe p.y = DiTMatrix(UnsafeMutableRawBufferPointer(y), outputs, .fp32)
              unsafe p.saved = DiTMatrix(saved, outputs, precision)
              unsafe p.residual = x.baseAddress
              unsafe p.gate = gate.baseAddress
              unsafe p.gate_stride = gateStride
              unsafe p.tokens = tokens
              unsafe run(p, DiTGateResidual, input, packed, precision, rows: rows, depth: inputs, columns: outputs)
            }
          }
        }
      }
    }
  }

  /// dx = dy W (or += when `accumulating`).
  ///
  /// - Parameters:
  ///   - inputGradient: dx, (rows, inputs), in `inputPrecision`.
  ///   - outputGradient: dy, (rows, outputs), in `precision`.
  ///   - packed: W as ``packBackward(_:weight:inputs:outputs:precision:)`` leaves it.
  public func packedLinearBackwardInput(
    inputGradient: consuming MutableRawSpan, _ inputPrecision: Precision, outputGradient: RawSpan, packed: RawSpan,
    _ precision: Precision, rows: Int, inputs: Int, outputs: Int, accumulating: Bool = false
  ) {
    check(inputGradient.byteCount, atLeast: rows * inputs * inputPrecision.size, "linear input gradient")
    unsafe inputGradient.withUnsafeMutableBytes { dx in
      var p = unsafe DiTProduct()
      unsafe p.y = DiTMatrix(dx, inputs, inputPrecision)
      unsafe run(
        p, accumulating ? DiTAccumulate : DiTStore, outputGradient, packed, precision, rows: rows, depth: outputs,
        columns: inputs)
    }
  }

  /// dpre = (dy W) ⊙ gelu_tanh'(pre) and h = gelu_tanh(pre): back through the second layer of an MLP to the first's
  /// sums.
  ///
  /// - Parameters:
  ///   - preactivationGradient: dpre, (rows, inputs), in `precision`.
  ///   - activation: h again, because the weight gradient needs it; in `precision`.
  ///   - preactivation: pre as the forward saved it, in `precision`.
  public func packedLinearBackwardGELU(
    preactivationGradient: consuming MutableRawSpan, activation: consuming MutableRawSpan, preactivation: RawSpan,
    outputGradient: RawSpan, packed: RawSpan, _ precision: Precision, rows: Int, inputs: Int, outputs: Int
  ) {
    let bytes = rows * inputs * precision.size
    check(
      min(preactivationGradient.byteCount, activation.byteCount, preactivation.byteCount), atLeast: bytes,
      "gelu gradient")
    unsafe preactivationGradient.withUnsafeMutableBytes { dpre in
      unsafe activation.withUnsafeMutableBytes { h in
        unsafe preactivation.withUnsafeBytes { pre in
          var p = unsafe DiTProduct()
          unsafe p.y = DiTMatrix(dpre, inputs, precision)
          unsafe p.activation = DiTMatrix(h, inputs, precision)
          unsafe p.saved = DiTMatrix(pre, inputs, precision)
          unsafe run(p, DiTGELUBackward, outputGradient, packed, precision, rows: rows, depth: outputs, columns: inputs)
        }
      }
    }
  }

  /// Completes `p` with its operands and runs it.
  @unsafe private func run(
    _ p: DiTProduct, _ epilogue: DiTEpilogue, _ a: RawSpan, _ packed: RawSpan, _ precision: Precision, rows: Int,
    depth: Int, columns: Int
  ) {
    check(a.byteCount, atLeast: rows * depth * precision.size, "left operand")
    check(
      packed.byteCount, atLeast: 4 * Self.packedElements(depth: depth, columns: columns, precision: precision),
      "packed operand")
    unsafe a.withUnsafeBytes { a in
      unsafe packed.withUnsafeBytes { b in
        var p = unsafe p
        unsafe p.a = DiTMatrix(a, depth, precision)
        unsafe p.b = b.baseAddress!
        unsafe p.columns = columns
        unsafe p.depth = depth
        unsafe p.epilogue = Int32(epilogue.rawValue)
        unsafe parallel(
          ProductTask.count(rows, columns, rowBlock: productRowBlock),
          ProductTask(kernels, p, rows, rowBlock: productRowBlock))
      }
    }
  }

  private func checkOptional(_ bytes: Int, _ needed: Int, _ name: StaticString) {
    if bytes > 0 { check(bytes, atLeast: needed, name) }
  }
}

/// Rows of a product's task, the most that the kernel takes.
let productRowBlock = DiTProductRows

/// Tiles of a product: a panel of columns times a block of rows. Blocks of one panel follow each other, because the panel
/// stays in cache. No element depends on how the rows are cut.
@unsafe struct ProductTask: ParallelTask {
  let kernels: DiTKernelTable
  let product: DiTProduct
  let rows, rowBlock: Int

  init(_ kernels: DiTKernelTable, _ product: DiTProduct, _ rows: Int, rowBlock: Int) {
    unsafe self.kernels = kernels
    unsafe self.product = product
    unsafe self.rows = rows
    unsafe self.rowBlock = rowBlock
  }

  static func count(_ rows: Int, _ columns: Int, rowBlock: Int) -> Int {
    ceilDivide(rows, rowBlock) * ceilDivide(columns, panelColumns)
  }

  func run(_ index: Int, worker: Int) {
    let blocks = unsafe ceilDivide(rows, rowBlock)
    let first = unsafe index % blocks * rowBlock
    unsafe withUnsafePointer(to: product) { product in
      unsafe kernels.product(product, index / blocks, first, min(first + rowBlock, rows))
    }
  }
}
