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

  static func panelBytes(depth: Int, _ format: Format) -> Int { dit_panel_elements(depth, format.flag) * format.size }

  /// Packs the right factor of a product: Wᵀ for y = x Wᵀ, W for dx = dy W.
  ///
  /// - Parameters:
  ///   - matrix: (depth, columns), in rows or in columns.
  ///   - memory: at least ``packedElements(depth:columns:format:)`` floats; overwritten.
  /// - Returns: the panels, which lie in `memory`.
  public func pack(_ matrix: Matrix, into memory: MutableFloatSlice, as format: Format) -> Matrix {
    let task = unsafe PackPanels(kernels, matrix, into: memory, as: format)
    unsafe parallel(task.count, task)
    return Self.panels(in: memory.reading, depth: matrix.rows, columns: matrix.columns, format: format)
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
  let isTransposed: Bool
  let format: Format

  init(_ kernels: DiTKernelTable, _ matrix: Matrix, as format: Format) {
    precondition(matrix.order == .rows || matrix.order == .columns, "a matrix that is packed already")
    unsafe self.kernels = kernels
    unsafe self.matrix = DiTMatrix(matrix)
    unsafe depth = matrix.rows
    unsafe columns = matrix.columns
    unsafe isTransposed = matrix.order == .columns
    unsafe self.format = format
  }

  var count: Int { unsafe ceilDivide(columns, panelColumns) }

  func pack(_ panel: Int, into memory: UnsafeMutableRawPointer) {
    let column = panel * panelColumns
    if unsafe isTransposed {
      unsafe kernels.pack_transposed(memory, matrix, column, columns - column, depth, format.flag)
    } else {
      unsafe kernels.pack_plain(memory, matrix, column, columns - column, depth, format.flag)
    }
  }
}

/// Panel by panel, one after another in memory.
@unsafe struct PackPanels: ParallelTask {
  let packing: PanelPacking
  let to: UnsafeMutableRawPointer

  init(_ kernels: DiTKernelTable, _ matrix: Matrix, into memory: MutableFloatSlice, as format: Format) {
    check(
      memory.count,
      atLeast: ComputeContext.packedElements(depth: matrix.rows, columns: matrix.columns, format: format),
      "memory for panels")
    unsafe packing = PanelPacking(kernels, matrix, as: format)
    unsafe to = UnsafeMutableRawPointer(memory.pointer)
  }

  var count: Int { unsafe packing.count }

  func run(_ panel: Int, worker: Int) {
    unsafe packing.pack(panel, into: to + panel * ComputeContext.panelBytes(depth: packing.depth, packing.format))
  }
}
