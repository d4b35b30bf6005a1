import CDiTKernels

// dW += dyᵀ x over packed operands: dyᵀ in groups of six rows, x in panels, both packed here.

extension ComputeContext {
  /// Floats of scratch that ``packedLinearBackwardWeight`` needs.
  public static func packedGradientScratch(rows: Int, inputs: Int, outputs: Int, precision: Precision) -> Int {
    packedElements(depth: rows, columns: inputs, precision: precision)
      + groupsBytes(depth: rows, columns: outputs, precision) / 4
  }

  private static func groupsBytes(depth: Int, columns: Int, _ precision: Precision) -> Int {
    ceilDivide(columns, groupRows) * dit_group_elements(depth, precision.flag) * precision.size
  }

  /// dW += dyᵀ x; db += Σ_rows dy.
  ///
  /// - Parameters:
  ///   - weightGradient: dW, (outputs, inputs).
  ///   - biasGradient: db, (outputs).
  ///   - outputGradient: dy, (rows, outputs), in `precision`.
  ///   - input: x, (rows, inputs), in `precision`.
  ///   - scratch: ``packedGradientScratch(rows:inputs:outputs:precision:)`` floats.
  public func packedLinearBackwardWeight(
    weightGradient: consuming MutableSpan<Float>, biasGradient: consuming MutableSpan<Float>, outputGradient: RawSpan,
    input: RawSpan, scratch: consuming MutableRawSpan, _ precision: Precision, rows: Int, inputs: Int, outputs: Int
  ) {
    check(weightGradient.count, atLeast: outputs * inputs, "linear weight gradient")
    check(biasGradient.count, atLeast: outputs, "linear bias gradient")
    check(outputGradient.byteCount, atLeast: rows * outputs * precision.size, "linear output gradient")
    check(input.byteCount, atLeast: rows * inputs * precision.size, "linear input")
    check(
      scratch.byteCount,
      atLeast: 4 * Self.packedGradientScratch(rows: rows, inputs: inputs, outputs: outputs, precision: precision),
      "gradient scratch")
    let panels = ceilDivide(inputs, panelColumns)
    let groupsAt = panels * Self.panelBytes(depth: rows, precision)
    unsafe weightGradient.withUnsafeMutableBytes { dw in
      unsafe biasGradient.withUnsafeMutableBufferPointer { db in
        unsafe outputGradient.withUnsafeBytes { dy in
          unsafe input.withUnsafeBytes { x in
            unsafe scratch.withUnsafeMutableBytes { scratch in
              let (right, left) = unsafe (scratch.baseAddress!, scratch.baseAddress! + groupsAt)
              let pack = unsafe PackGradientOperands(
                panels: PackPanels(
                  kernels: kernels, to: right, matrix: DiTMatrix(x, inputs, precision), depth: rows, columns: inputs,
                  isTransposed: false, precision: precision),
                panelCount: panels, groups: left, sums: db.baseAddress!, matrix: DiTMatrix(dy, outputs, precision))
              unsafe parallel(panels + ceilDivide(outputs, PackGradientOperands.columns), pack)
              var p = unsafe DiTProduct()
              unsafe p.a = DiTMatrix(UnsafeRawBufferPointer(start: left, count: 1), 0, precision)
              unsafe p.a_in_groups = 1
              unsafe p.b = UnsafeRawPointer(right)
              unsafe p.columns = inputs
              unsafe p.depth = rows
              unsafe p.epilogue = Int32(DiTAccumulate.rawValue)
              unsafe p.y = DiTMatrix(dw, inputs, .fp32)
              unsafe parallel(
                ProductTask.count(outputs, inputs, rowBlock: groupedRowBlock),
                ProductTask(kernels, p, outputs, rowBlock: groupedRowBlock))
            }
          }
        }
      }
    }
  }
}

/// Rows of a task whose left operand is in groups: a whole number of groups, fewer than ``productRowBlock``.
private let groupedRowBlock = 32 * groupRows

/// The panels of x, then the groups of dyᵀ, eight groups per task.
@unsafe private struct PackGradientOperands: ParallelTask {
  static let columns = 8 * groupRows

  let panels: PackPanels
  let panelCount: Int
  let groups: UnsafeMutableRawPointer
  let sums: UnsafeMutablePointer<Float>
  let matrix: DiTMatrix

  func run(_ index: Int, worker: Int) {
    guard unsafe index >= panelCount else {
      unsafe panels.run(index, worker: worker)
      return
    }
    let column = unsafe (index - panelCount) * Self.columns
    let (depth, outputs) = unsafe (panels.depth, matrix.ld)
    let bytes = unsafe dit_group_elements(depth, panels.precision.flag) * panels.precision.size
    unsafe panels.kernels.pack_groups(
      groups + column / groupRows * bytes, sums + column, matrix, column, min(Self.columns, outputs - column), depth,
      panels.precision.flag)
  }
}
