import CDiTKernels
import DiTTensor

// Products by OpenBLAS, tile by tile, each tile followed by its epilogue.
//
// Tiles are cut over columns first: a tile then packs only its part of the right factor.
//
// OpenBLAS sums a row's products in an order that depends on how many rows it is given and on where among them the row
// lies: its AVX2 kernels treat rows 6 … 11 of every 12 and the last rows apart, its AVX-512 kernels take another path for
// small results. `parts` cuts the rows where samples begin, so that a row has the same neighbors, and the same bits,
// however many samples there are.

extension ComputeContext {
  /// Up to this many rows a part of a linear layer are dot products of our own: OpenBLAS would pack all of W for them.
  private static let fewRows = 8

  func blasProduct(
    into y: MutableMatrix, _ a: Matrix, _ b: Matrix, bias: FloatSlice?, _ epilogue: Epilogue, parts: Int
  ) {
    precondition(parts > 0 && y.rows % parts == 0, "\(y.rows) rows in \(parts) parts")
    precondition(a.order == .rows || a.order == .columns, "OpenBLAS multiplies no packed matrices")
    precondition(b.order == .rows || b.order == .columns, "OpenBLAS multiplies no packed matrices")
    precondition(a.isApart && b.isApart, "rows of a factor over one another")
    if y.rows <= Self.fewRows * parts, case .store = epilogue, a.isDense, b.transposed.isDense {
      let task = unsafe SmallBatchTask(
        kernels: kernels, y: y.floats, x: a.floats, w: b.floats, bias: bias?.pointer, stride: y.stride, rows: y.rows,
        inputs: a.columns, outputs: y.columns)
      unsafe parallel(ceilDivide(y.columns, SmallBatchTask.columns), task)
    } else {
      let task = unsafe BLASProduct(kernels, y, a, b, bias, epilogue, parts: parts)
      unsafe parallel(parts * task.tiling.count, task)
    }
  }
}

extension Matrix {
  /// In rows without gaps between them.
  fileprivate var isDense: Bool { order == .rows && stride == columns }

  /// Whether its rows, or columns, lie apart, as OpenBLAS asks.
  fileprivate var isApart: Bool { stride >= (order == .rows ? columns : rows) }
}

extension Tiling {
  /// Tiles of an sgemm result: large enough that packing is a small part, enough of them to share out.
  fileprivate static func forProduct(rows: Int, columns: Int) -> Tiling {
    Tiling(rows: rows, columns: columns, tileRows: 512, tileColumns: max(64, min(384, ceilDivide(columns, 2))))
  }
}

@unsafe private struct SmallBatchTask: ParallelTask {
  static let columns = 128

  let kernels: DiTKernelTable
  let y: UnsafeMutablePointer<Float>
  let x, w: UnsafePointer<Float>
  let bias: UnsafePointer<Float>?
  let stride, rows, inputs, outputs: Int

  func run(_ index: Int, worker: Int) {
    let first = unsafe index * Self.columns
    unsafe kernels.gemv(
      y + first, stride, x, w + first * inputs, bias.map { unsafe $0 + first }, rows, inputs,
      min(Self.columns, outputs - first))
  }
}

/// A matrix's memory, while the product runs.
@unsafe private struct Place {
  let start: UnsafeMutablePointer<Float>
  let stride: Int

  init(_ m: Matrix) {
    unsafe start = UnsafeMutablePointer(mutating: m.floats)
    unsafe stride = m.stride
  }

  @inline(__always) func at(_ row: Int, _ column: Int) -> UnsafeMutablePointer<Float> {
    unsafe start + row * stride + column
  }
}

@unsafe private struct BLASProduct: ParallelTask {
  @unsafe private enum Finish {
    case bias
    case addRows(UnsafePointer<Float>, Int)
    case gelu
    case gateResidual(Place, gate: Place, tokens: Int)
    case geluBackward(Place, activation: Place)
    /// Its tiles are the columns of y; each has two products, `half` columns apart.
    case swiglu(half: Int)
    /// The product goes into the first half of y's columns, of which the second is `half` columns on.
    case swigluBackward(Place, activation: Place, half: Int)

    /// How many columns of b, and of the sums, lie from a tile's to those of its second product.
    var second: Int? {
      if case .swiglu(let half) = unsafe self { half } else { nil }
    }
  }

  let kernels: DiTKernelTable
  /// Of each part.
  let tiling: Tiling
  private let y, sums, a, b: Place
  private let isTransposed: (a: Bool, b: Bool)
  private let bias: UnsafePointer<Float>?
  private let depth: Int
  private let beta: Float
  private let finish: Finish

  init(
    _ kernels: DiTKernelTable, _ y: MutableMatrix, _ a: Matrix, _ b: Matrix, _ bias: FloatSlice?,
    _ epilogue: Epilogue, parts: Int
  ) {
    let place = unsafe Place(y.reading)
    unsafe self.kernels = kernels
    unsafe tiling = .forProduct(rows: y.rows / parts, columns: min(y.columns, b.columns))
    unsafe self.y = place
    unsafe self.a = Place(a)
    unsafe self.b = Place(b)
    unsafe isTransposed = (a.order == .columns, b.order == .columns)
    unsafe self.bias = bias.map { unsafe $0.pointer }
    unsafe depth = a.columns
    unsafe beta = epilogue.isAccumulating ? 1 : 0
    switch epilogue {
    case .store, .accumulate: unsafe (sums, finish) = (place, .bias)
    case .addRows(let table): unsafe (sums, finish) = (place, .addRows(table.floats, table.rows))
    case .gelu(let kept): unsafe (sums, finish) = (kept.map { unsafe Place($0.matrix.reading) } ?? place, .gelu)
    case .gateResidual(let residual, let gate, let tokens, let kept):
      unsafe sums = Place(kept.matrix.reading)
      unsafe finish = .gateResidual(residual.map { unsafe Place($0) } ?? place, gate: Place(gate), tokens: tokens)
    case .geluBackward(let preactivation, let activation):
      let (pre, rows) = unsafe Self.backward(y, preactivation, activation)
      unsafe (sums, finish) = (place, .geluBackward(pre, activation: rows))
    case .swiglu(let kept):
      guard let kept else { preconditionFailure("OpenBLAS needs memory for the sums of a SwiGLU") }
      unsafe (sums, finish) = (Place(kept.matrix.reading), .swiglu(half: y.columns))
    case .swigluBackward(let preactivation, let activation):
      let (pre, rows) = unsafe Self.backward(y, preactivation, activation)
      unsafe (sums, finish) = (place, .swigluBackward(pre, activation: rows, half: b.columns))
    }
  }

  private static func backward(
    _ y: MutableMatrix, _ preactivation: Matrix, _ activation: Epilogue.Activation
  ) -> (preactivation: Place, activation: Place) {
    guard case .rows(let matrix) = activation else { preconditionFailure("OpenBLAS reads no panels") }
    precondition(!y.overlaps(preactivation), "sums over the preactivation that they are multiplied by")
    return unsafe (Place(preactivation), Place(matrix.reading))
  }

  func run(_ index: Int, worker: Int) {
    let (part, index) = unsafe index.quotientAndRemainder(dividingBy: tiling.count)
    let inPart = unsafe tiling.rowRange(index)
    let first = unsafe part * tiling.rows
    let rows = first + inPart.lowerBound..<first + inPart.upperBound
    let columns = unsafe tiling.columnRange(index)
    unsafe multiply(rows, columns)
    if let half = unsafe finish.second {
      unsafe multiply(rows, half + columns.lowerBound..<half + columns.upperBound)
    }
    unsafe finishTile(rows, columns)
  }

  /// The sums of some columns of b.
  private func multiply(_ rows: Range<Int>, _ columns: Range<Int>) {
    unsafe sgemm(
      isTransposed.a ? .transposed(a.at(0, rows.lowerBound), a.stride) : .plain(a.at(rows.lowerBound, 0), a.stride),
      isTransposed.b
        ? .transposed(b.at(columns.lowerBound, 0), b.stride) : .plain(b.at(0, columns.lowerBound), b.stride),
      into: sums.at(rows.lowerBound, columns.lowerBound), sums.stride, m: rows.count, n: columns.count, k: depth,
      beta: beta)
  }

  private func finishTile(_ rows: Range<Int>, _ columns: Range<Int>) {
    let (row, column) = (rows.lowerBound, columns.lowerBound)
    let bias = unsafe bias.map { unsafe $0 + column }
    switch unsafe finish {
    case .bias:
      if let bias = unsafe bias {
        unsafe kernels.add_bias(y.at(row, column), y.stride, bias, rows.count, columns.count)
      }
    case .addRows(let table, let tableRows):
      unsafe eachPart(of: rows, period: tableRows) { part in
        unsafe kernels.add_bias_rows(
          y.at(part.lowerBound, column), y.stride, bias, table + part.lowerBound % tableRows * tiling.columns + column,
          tiling.columns, part.count, columns.count)
      }
    case .gelu:
      unsafe kernels.bias_gelu(
        y.at(row, column), y.stride, sums.at(row, column), sums.stride, bias, rows.count, columns.count)
    case .gateResidual(let residual, let gate, let tokens):
      unsafe eachPart(of: rows, period: tokens) { part in
        unsafe kernels.bias_gate_residual(
          y.at(part.lowerBound, column), sums.at(part.lowerBound, column), residual.at(part.lowerBound, column),
          y.stride, bias, gate.at(part.lowerBound / tokens, column), part.count, columns.count)
      }
    case .geluBackward(let preactivation, let activation):
      for r in rows {
        unsafe kernels.gelu_backward(
          activation.at(r, column), y.at(r, column), preactivation.at(r, column), columns.count)
      }
    case .swiglu(let half):
      unsafe kernels.bias_swiglu(
        y.at(row, column), y.stride, sums.at(row, column), sums.stride, bias, half, rows.count, columns.count)
    case .swigluBackward(let preactivation, let activation, let half):
      for r in rows {
        unsafe kernels.swiglu_backward(
          activation.at(r, column), y.at(r, column), preactivation.at(r, column), half, columns.count)
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

extension Epilogue {
  fileprivate var isAccumulating: Bool {
    if case .accumulate = self { true } else { false }
  }
}
