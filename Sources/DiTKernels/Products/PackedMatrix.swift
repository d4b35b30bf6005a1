import CDiTKernels

// Matrices in the order in which the product kernels read them (see packing.inc): panels of 64 columns.

extension ComputeContext {
  /// Float elements that hold a packed (depth, columns) matrix.
  public static func packedElements(depth: Int, columns: Int, precision: Precision) -> Int {
    ceilDivide(columns, panelColumns) * panelBytes(depth: depth, precision) / 4
  }

  /// Packs Wᵀ, the right operand of y = x Wᵀ.
  ///
  /// - Parameters:
  ///   - packed: ``packedElements(depth:columns:precision:)`` floats for depth `inputs` and `outputs` columns.
  ///   - weight: W, (outputs, inputs).
  public func packForward(
    _ packed: consuming MutableRawSpan, weight: Span<Float>, inputs: Int, outputs: Int, precision: Precision
  ) {
    check(weight.count, atLeast: inputs * outputs, "weight")
    unsafe pack(packed, weight.bytes, .fp32, depth: inputs, columns: outputs, ld: inputs, isTransposed: true, precision)
  }

  /// Packs W, the right operand of dx = dy W.
  ///
  /// - Parameters:
  ///   - packed: ``packedElements(depth:columns:precision:)`` floats for depth `outputs` and `inputs` columns.
  ///   - weight: W, (outputs, inputs).
  public func packBackward(
    _ packed: consuming MutableRawSpan, weight: Span<Float>, inputs: Int, outputs: Int, precision: Precision
  ) {
    check(weight.count, atLeast: inputs * outputs, "weight")
    unsafe pack(
      packed, weight.bytes, .fp32, depth: outputs, columns: inputs, ld: inputs, isTransposed: false, precision)
  }

  private func pack(
    _ packed: consuming MutableRawSpan, _ matrix: RawSpan, _ format: Precision, depth: Int, columns: Int, ld: Int,
    isTransposed: Bool, _ precision: Precision
  ) {
    check(
      packed.byteCount, atLeast: 4 * Self.packedElements(depth: depth, columns: columns, precision: precision),
      "packed matrix")
    unsafe packed.withUnsafeMutableBytes { to in
      unsafe matrix.withUnsafeBytes { from in
        let task = unsafe PackPanels(
          kernels: kernels, to: to.baseAddress!, matrix: .init(from, ld, format), depth: depth, columns: columns,
          isTransposed: isTransposed, precision: precision)
        unsafe parallel(ceilDivide(columns, panelColumns), task)
      }
    }
  }

  static func panelBytes(depth: Int, _ precision: Precision) -> Int {
    dit_panel_elements(depth, precision.flag) * precision.size
  }
}

/// Columns of a panel: the right operand of a product is packed in panels.
let panelColumns = DiTPanelColumns
/// Rows of a group: the left operand of a weight gradient is packed in groups.
let groupRows = DiTGroupRows

extension DiTMatrix {
  @unsafe init(_ bytes: UnsafeRawBufferPointer, _ ld: Int, _ precision: Precision) {
    unsafe self.init(
      data: UnsafeMutableRawPointer(mutating: bytes.baseAddress), ld: ld, bf16: precision.flag)
  }

  @unsafe init(_ bytes: UnsafeMutableRawBufferPointer, _ ld: Int, _ precision: Precision) {
    unsafe self.init(bytes.count > 0 ? UnsafeRawBufferPointer(bytes) : .init(start: nil, count: 0), ld, precision)
  }

  /// No matrix.
  static var none: DiTMatrix { unsafe DiTMatrix(data: nil, ld: 0, bf16: 0) }
}

@unsafe struct PackPanels: ParallelTask {
  let kernels: DiTKernelTable
  let to: UnsafeMutableRawPointer
  let matrix: DiTMatrix
  let depth, columns: Int
  let isTransposed: Bool
  let precision: Precision

  func run(_ panel: Int, worker: Int) {
    let out = unsafe to + panel * ComputeContext.panelBytes(depth: depth, precision)
    let column = panel * panelColumns
    if unsafe isTransposed {
      unsafe kernels.pack_transposed(out, matrix, column, columns - column, depth, precision.flag)
    } else {
      unsafe kernels.pack_plain(out, matrix, column, columns - column, depth, precision.flag)
    }
  }
}
