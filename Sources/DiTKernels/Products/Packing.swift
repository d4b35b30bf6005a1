import CDiTKernels
import DiTTensor

// Factors in the order in which the product kernels read them (see packing.inc): the right one in panels of 64 columns, the
// left one of a weight gradient in groups of six rows.

/// Columns of a panel.
let panelColumns = DiTPanelColumns
/// Rows of a group.
let groupRows = DiTGroupRows

extension ComputeContext {
  /// Floats that hold the panels of a (depth, columns) matrix.
  public static func packedElements(depth: Int, columns: Int, format: Format) -> Int {
    ceilDivide(columns, panelColumns) * panelBytes(depth: depth, format) / 4
  }

  /// Floats that hold the groups of a (rows, depth) matrix.
  static func groupedElements(rows: Int, depth: Int, format: Format) -> Int {
    ceilDivide(rows, groupRows) * dit_group_elements(depth, format.flag) * format.size / 4
  }

  static func panelBytes(depth: Int, _ format: Format) -> Int {
    format == .int8 ? dit_int8_panel(depth) : dit_panel_elements(depth, format.flag) * format.size
  }

  /// Packs the right factor of a product: Wᵀ for y = x Wᵀ, W for dx = dy W.
  ///
  /// - Parameters:
  ///   - matrix: (depth, columns), in rows or in columns; for int8 in columns.
  ///   - memory: at least ``packedElements(depth:columns:format:)`` floats; overwritten.
  ///   - format: of the panels.
  ///   - halves: whether a panel has 32 columns of the matrix's first half and the 32 of its second half that go with them,
  ///     as ``Epilogue/swiglu(sums:)`` takes them; the columns are then an even number. As many panels, as many floats.
  /// - Returns: the panels, which lie in `memory`.
  public func pack(
    _ matrix: Matrix, into memory: MutableFloatSlice, as format: Format, halves: Bool = false
  ) -> Matrix {
    if format == .int8 {
      packInt8(matrix, into: memory, halves: halves)
    } else {
      let task = unsafe PackPanels(kernels, matrix, into: memory, as: format, halves: halves)
      unsafe parallel(task.count, task)
    }
    return Matrix(
      packed: memory.reading, rows: matrix.rows, columns: matrix.columns, format: format,
      order: halves ? .halfPanels : .panels)
  }

  /// The panels of a (depth, columns) matrix, which were written into `memory`.
  public static func panels(in memory: FloatSlice, depth: Int, columns: Int, format: Format) -> Matrix {
    check(memory.count, atLeast: packedElements(depth: depth, columns: columns, format: format), "panels")
    return Matrix(packed: memory, rows: depth, columns: columns, format: format, order: .panels)
  }
}

/// How the panels of a factor are packed.
@unsafe struct PanelPacking {
  let kernels: DiTKernelTable
  let matrix: DiTMatrix
  let depth, columns: Int
  let isTransposed, halves: Bool
  let format: Format

  init(_ kernels: DiTKernelTable, _ matrix: Matrix, as format: Format, halves: Bool = false) {
    precondition(matrix.order == .rows || matrix.order == .columns, "a matrix that is packed already")
    precondition(!halves || matrix.columns % 2 == 0, "two halves of \(matrix.columns) columns")
    unsafe self.halves = halves
    unsafe self.kernels = kernels
    unsafe self.matrix = DiTMatrix(matrix)
    unsafe depth = matrix.rows
    unsafe columns = matrix.columns
    unsafe isTransposed = matrix.order == .columns
    unsafe self.format = format
  }

  var count: Int { unsafe ceilDivide(columns, panelColumns) }

  func pack(_ panel: Int, into memory: UnsafeMutableRawPointer) {
    guard unsafe halves else {
      unsafe pack(panelColumns, from: panel * panelColumns, before: columns, into: memory)
      return
    }
    let (width, half) = unsafe (panelColumns / 2, columns / 2)
    unsafe pack(width, from: panel * width, before: half, into: memory)
    // A column of a panel is 32 bits wide: a float, or two bf16.
    unsafe pack(width, from: half + panel * width, before: columns, into: memory + width * 4)
  }

  private func pack(_ width: Int, from column: Int, before end: Int, into memory: UnsafeMutableRawPointer) {
    if unsafe isTransposed {
      unsafe kernels.pack_transposed(memory, width, matrix, column, end - column, depth, format.flag)
    } else {
      unsafe kernels.pack_plain(memory, width, matrix, column, end - column, depth, format.flag)
    }
  }
}

/// Panel by panel, one after another in memory.
@unsafe struct PackPanels: ParallelTask {
  let packing: PanelPacking
  let to: UnsafeMutableRawPointer

  init(
    _ kernels: DiTKernelTable, _ matrix: Matrix, into memory: MutableFloatSlice, as format: Format,
    halves: Bool = false
  ) {
    check(
      memory.count,
      atLeast: ComputeContext.packedElements(depth: matrix.rows, columns: matrix.columns, format: format),
      "memory for panels")
    unsafe packing = PanelPacking(kernels, matrix, as: format, halves: halves)
    unsafe to = UnsafeMutableRawPointer(memory.pointer)
  }

  var count: Int { unsafe packing.count }

  func run(_ panel: Int, worker: Int) {
    unsafe packing.pack(panel, into: to + panel * ComputeContext.panelBytes(depth: packing.depth, packing.format))
  }
}
