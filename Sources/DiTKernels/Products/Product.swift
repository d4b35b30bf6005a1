import CDiTKernels
import DiTTensor

// y = a b + bias, with what follows it done while the sums are in cache:
//
//   a  (rows, depth)      b  (depth, columns)      bias  (columns)      y  (rows, columns)
//
// A linear layer is a product with Wᵀ, its input's gradient one with W, its weight's gradient one of dyᵀ and x. The order in
// which the right factor lies decides who multiplies: this package's kernels over panels, OpenBLAS over rows or columns.

/// What a product does with its sums, the bias included.
public enum Epilogue {
  /// y = sum
  case store
  /// y += sum
  case accumulate
  /// y = sum + table[row mod the table's rows]; the table is float32, without gaps.
  case addRows(Matrix)
  /// y = gelu_tanh(sum). Sums that are not kept need no memory.
  case gelu(sums: Sums?)
  /// y = residual + gate[row / tokens] ⊙ sum, in float32; without a residual y is its memory. The gate has a row for each
  /// `tokens` rows, all the same where its stride is 0.
  case gateResidual(residual: Matrix?, gate: Matrix, tokens: Int, sums: Sums)
  /// y = sum ⊙ gelu_tanh'(preactivation) and activation = gelu_tanh(preactivation): back through the layer after a GELU.
  /// Over panels y may be the preactivation itself.
  case geluBackward(preactivation: Matrix, activation: Activation)
  /// y = silu(u) ⊙ g, (rows, b's columns / 2), where the sums are [u ‖ g]. Over panels these are packed in halves
  /// (``ComputeContext/pack(_:into:as:halves:)``), and sums that are not kept need no memory.
  case swiglu(sums: Sums?)
  /// y = [s ⊙ g ⊙ silu'(u) ‖ s ⊙ silu(u)], (rows, 2 · b's columns), for the sums s and the preactivation [u ‖ g], and
  /// activation = silu(u) ⊙ g: back through the layer after a SwiGLU. Over panels y may be the preactivation itself.
  case swigluBackward(preactivation: Matrix, activation: Activation)

  /// Where the activation is written that the weight gradient reads.
  public enum Activation {
    case rows(MutableMatrix)
    /// In panels of the preactivation's format, as ``ComputeContext/pack(_:into:as:halves:)`` leaves a matrix in rows (but
    /// for what of a last panel no product reads): ``ComputeContext/packedElements(depth:columns:format:)`` floats for a
    /// depth of y's rows. Only over panels.
    case panels(MutableFloatSlice)
  }

  /// The sums that an epilogue does not leave in y.
  public enum Sums {
    /// Written there, for a backward pass.
    case kept(MutableMatrix)
    /// Not wanted; memory that OpenBLAS needs for them.
    case scratch(MutableMatrix)

    var matrix: MutableMatrix {
      switch self {
      case .kept(let matrix), .scratch(let matrix): matrix
      }
    }
  }
}

extension ComputeContext {
  /// y = epilogue(a b + bias). Sums are float32, over the depth in order.
  ///
  /// - Parameters:
  ///   - y: (rows, columns), or as wide as the epilogue says; no part of a or b.
  ///   - a: (rows, depth), in rows; in columns for OpenBLAS; in groups for `store` and `accumulate`. In int8 the products
  ///     are of whole numbers, for the epilogues of forward passes and a depth of at most 65,536.
  ///   - b: (depth, columns), of a's format. In panels: ``pack(_:into:as:halves:)``. In rows or columns (the transpose of a
  ///     matrix in rows) OpenBLAS multiplies, in float32.
  ///   - bias: (columns), or none, as for `geluBackward` and `swigluBackward`.
  ///   - epilogue: what becomes of the sums.
  ///   - parts: OpenBLAS's products do not cross the borders of this many equal parts of the rows, so that a row's bits
  ///     depend on its own part alone; the rows are a multiple. Over panels no row depends on another.
  ///   - scratch: ``panelScratch(depth:)`` floats. Each panel of b, which is in rows or columns, of float32 or bf16, is then
  ///     packed in float32 just before its products: for few rows, whose cost is that of reading b once. Only for `store`; the bytes are those over panels
  ///     that were packed before.
  public func product(
    into y: MutableMatrix, _ a: Matrix, _ b: Matrix, bias: FloatSlice? = nil, epilogue: Epilogue = .store,
    parts: Int = 1, packingInto scratch: MutableFloatSlice? = nil
  ) {
    precondition(
      a.columns == b.rows && y.rows == a.rows && epilogue.fits(y.columns, b.columns)
        && (a.format == b.format || scratch != nil),
      "(\(a.rows), \(a.columns)) \(a.format) · (\(b.rows), \(b.columns)) \(b.format) into (\(y.rows), \(y.columns))")
    precondition(y.stride >= y.columns && a.columns > 0, "rows of y over one another, or a product of no depth")
    precondition(!y.overlaps(a) && !y.overlaps(b), "a product over its own factor")
    if let bias { check(bias.count, atLeast: b.columns, "bias") }
    precondition(bias == nil || epilogue.takesBias, "a bias that would not be added")
    epilogue.check(y, a, b)
    guard y.rows > 0 else { return }
    if b.order == .panels || b.order == .halfPanels {
      precondition((b.order == .halfPanels) == epilogue.takesHalves, "panels in \(b.order) for another epilogue")
      precondition(a.order == .rows || (a.order == .groups && epilogue.isPlain), "a left factor in \(a.order)")
      precondition(a.format != .int8 || (epilogue.isForward && a.columns <= int8Depth), "such a product of int8")
      let block = a.order == .groups ? groupedRowBlock : rowBlock(y.rows)
      let product = unsafe DiTProduct(y, a, b, bias, epilogue)
      unsafe parallel(
        ProductTask.count(y.rows, b.columns, rowBlock: block),
        ProductTask(kernels, product, y.rows, rowBlock: block, isInt8: a.format == .int8))
    } else if let scratch {
      precondition(a.order == .rows, "a left factor in \(a.order)")
      guard case .store = epilogue else { preconditionFailure("an epilogue over panels that are packed one by one") }
      check(scratch.count, atLeast: panelScratch(depth: a.columns), "memory for panels")
      let task = unsafe PanelwiseTask(self, y, a, b, bias, scratch)
      unsafe parallel(task.packing.count, task)
    } else {
      blasProduct(into: y, a, b, bias: bias, epilogue, parts: parts)
    }
  }
}

extension ComputeContext {
  /// Floats of scratch of a `product` that packs each panel just before it is used: one for each thread.
  public func panelScratch(depth: Int) -> Int { unsafe threads * PanelwiseTask.panelFloats(depth) }
}

extension Epilogue {
  /// Traps where an operand does not fit y, or what is written lies in what is read.
  fileprivate func check(_ y: MutableMatrix, _ a: Matrix, _ b: Matrix) {
    func apart(_ memory: FloatSlice, _ name: StaticString) {
      precondition(
        !memory.overlaps(y.reading.memory) && !memory.overlaps(a.memory) && !memory.overlaps(b.memory),
        "\(name) in the memory of the product or of a factor")
    }
    func like(_ m: Matrix, _ name: StaticString, columns: Int? = nil) {
      let columns = columns ?? y.columns
      precondition(
        m.rows == y.rows && m.columns == columns && m.stride >= columns && m.order == .rows,
        "\(name): (\(m.rows), \(m.columns)) for (\(y.rows), \(columns))")
    }
    switch self {
    case .store, .accumulate: break
    case .addRows(let table):
      precondition(
        table.columns == y.columns && table.stride == y.columns && table.rows > 0 && y.rows % table.rows == 0,
        "\(table.rows) positions for \(y.rows) rows")
    case .gelu(let sums), .swiglu(let sums):
      guard let sums = sums?.matrix.reading else { return }
      like(sums, "the sums", columns: b.columns)
      apart(sums.memory, "the sums")
    case .gateResidual(let residual, let gate, let tokens, let sums):
      if let residual {
        like(residual, "the residual")
        precondition(residual.stride == y.stride, "a residual of another stride")
      }
      like(sums.matrix.reading, "the sums")
      precondition(sums.matrix.stride == y.stride, "sums of another stride")
      precondition(
        tokens > 0 && gate.columns == y.columns && y.rows <= gate.rows * tokens,
        "gates for \(gate.rows) × \(tokens) of \(y.rows) rows")
      apart(sums.matrix.reading.memory, "the sums")
    case .geluBackward(let preactivation, let activation), .swigluBackward(let preactivation, let activation):
      like(preactivation, "the preactivation")
      switch activation {
      case .rows(let matrix):
        like(matrix.reading, "the activation", columns: b.columns)
        precondition(matrix.format == preactivation.format, "an activation in \(matrix.format)")
        apart(matrix.reading.memory, "the activation")
      case .panels(let memory):
        DiTKernels.check(
          memory.count,
          atLeast: ComputeContext.packedElements(depth: y.rows, columns: b.columns, format: preactivation.format),
          "memory for the activation")
        apart(memory.reading, "the activation")
      }
      let (own, pre) = (y.reading, preactivation)
      precondition(
        !y.overlaps(pre)
          || (own.memory.offset == pre.memory.offset && own.stride == pre.stride && own.format == pre.format),
        "a gradient in another part of the preactivation")
    }
  }
}

// MARK: - Over panels

/// The greatest depth whose sums of products of int8 are within 32 bits.
private let int8Depth = 65_536

/// Rows of a task whose left factor is in groups: a whole number of groups, fewer than the kernel takes.
private let groupedRowBlock = 32 * groupRows

/// Rows of a task's block: equal ones, of whole groups, so that no last one has a few rows for a whole panel.
private func rowBlock(_ rows: Int) -> Int {
  ceilDivide(ceilDivide(rows, ceilDivide(rows, DiTProductRows)), groupRows) * groupRows
}

extension DiTMatrix {
  /// As the C kernels take it.
  @unsafe init(_ m: Matrix) {
    unsafe self.init(data: UnsafeMutableRawPointer(mutating: m.pointer), ld: m.stride, bf16: m.format.flag)
  }

  @unsafe init(_ m: MutableMatrix) { unsafe self.init(m.reading) }

  /// The rows from `row` on.
  @unsafe func rows(from row: Int) -> DiTMatrix {
    unsafe DiTMatrix(data: data! + row * ld * (bf16 == 0 ? 4 : 2), ld: ld, bf16: bf16)
  }

  /// Rows of int8, whose `ld` is in bytes.
  @unsafe init(int8 m: Matrix) {
    precondition(m.format == .int8 && m.order == .rows, "\(m.format) in \(m.order) where rows of int8 are expected")
    unsafe self.init(data: UnsafeMutableRawPointer(mutating: m.pointer), ld: m.stride, bf16: 0)
  }
}

extension Format {
  /// As the C kernels take it.
  var flag: Int32 {
    precondition(self != .int8, "int8 where float32 or bf16 is expected")
    return self == .bf16 ? 1 : 0
  }
}

extension DiTProduct {
  @unsafe fileprivate init(_ y: MutableMatrix, _ a: Matrix, _ b: Matrix, _ bias: FloatSlice?, _ epilogue: Epilogue) {
    unsafe self.init()
    unsafe self.a = a.format == .int8 ? DiTMatrix(int8: a) : DiTMatrix(a)
    unsafe a_in_groups = a.order == .groups ? 1 : 0
    unsafe self.b = b.pointer
    unsafe columns = b.columns
    unsafe depth = a.columns
    unsafe self.y = DiTMatrix(y)
    if let bias { unsafe self.bias = bias.pointer }
    unsafe self.epilogue = epilogue.code
    switch epilogue {
    case .store, .accumulate: break
    case .addRows(let rows):
      unsafe table = rows.floats
      unsafe table_rows = rows.rows
    case .gelu(let sums), .swiglu(let sums): unsafe keep(sums)
    case .gateResidual(let residual, let gate, let tokens, let sums):
      unsafe self.residual = residual.map { unsafe $0.floats } ?? UnsafePointer(y.floats)
      unsafe self.gate = gate.floats
      unsafe gate_stride = gate.stride
      unsafe self.tokens = tokens
      unsafe keep(sums)
    case .geluBackward(let preactivation, let activation), .swigluBackward(let preactivation, let activation):
      unsafe saved = DiTMatrix(preactivation)
      switch activation {
      case .rows(let matrix): unsafe self.activation = DiTMatrix(matrix)
      case .panels(let memory):
        unsafe self.activation.data = UnsafeMutableRawPointer(memory.pointer)
        unsafe activation_rows = y.rows
      }
    }
  }

  private mutating func keep(_ sums: Epilogue.Sums?) {
    if case .kept(let matrix) = sums { unsafe saved = DiTMatrix(matrix) }
  }
}

extension Epilogue {
  /// Whether a bias is part of the sums; none is of a gradient's.
  fileprivate var takesBias: Bool {
    switch self {
    case .geluBackward, .swigluBackward: false
    default: true
    }
  }

  /// Whether it belongs to a forward pass.
  fileprivate var isForward: Bool { takesBias }

  /// Whether it reads panels of two halves.
  fileprivate var takesHalves: Bool {
    if case .swiglu = self { true } else { false }
  }

  /// Whether a result of `columns` is as wide as it makes it of that many of sums.
  fileprivate func fits(_ columns: Int, _ sums: Int) -> Bool {
    switch self {
    case .swiglu: 2 * columns == sums
    case .swigluBackward: columns == 2 * sums
    default: columns == sums
    }
  }

  fileprivate var isPlain: Bool {
    switch self {
    case .store, .accumulate: true
    default: false
    }
  }

  fileprivate var code: Int32 {
    let code =
      switch self {
      case .store, .addRows: DiTStore
      case .accumulate: DiTAccumulate
      case .gelu: DiTGELU
      case .gateResidual: DiTGateResidual
      case .geluBackward: DiTGELUBackward
      case .swiglu: DiTSwiGLU
      case .swigluBackward: DiTSwiGLUBackward
      }
    return Int32(code.rawValue)
  }
}

/// Tiles of a product: a panel of columns times a block of rows. Blocks of one panel follow each other, because the panel
/// stays in cache. No element depends on how the rows are cut.
@unsafe private struct ProductTask: ParallelTask {
  let kernels: DiTKernelTable
  let product: DiTProduct
  let rows, rowBlock: Int
  let isInt8: Bool

  init(_ kernels: DiTKernelTable, _ product: DiTProduct, _ rows: Int, rowBlock: Int, isInt8: Bool) {
    unsafe self.isInt8 = isInt8
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
      let kernel = unsafe isInt8 ? kernels.product_int8 : kernels.product
      unsafe kernel(product, index / blocks, first, min(first + rowBlock, rows))
    }
  }
}

/// A product of few rows: a panel of the right factor is packed into the worker's scratch and multiplied from there.
@unsafe private struct PanelwiseTask: ParallelTask {
  let kernels: DiTKernelTable
  let packing: PanelPacking
  let product: DiTProduct
  let rows: Int
  let scratch: UnsafeMutablePointer<Float>

  static func panelFloats(_ depth: Int) -> Int {
    ComputeContext.packedElements(depth: depth, columns: panelColumns, format: .fp32)
  }

  init(
    _ context: ComputeContext, _ y: MutableMatrix, _ a: Matrix, _ b: Matrix, _ bias: FloatSlice?,
    _ scratch: MutableFloatSlice
  ) {
    precondition(a.format == .fp32, "panels packed one by one in \(a.format)")
    unsafe kernels = context.kernels
    unsafe packing = PanelPacking(context.kernels, b, as: .fp32)
    unsafe product = DiTProduct(y, a, b, bias, .store)
    unsafe rows = y.rows
    unsafe self.scratch = scratch.pointer
  }

  func run(_ panel: Int, worker: Int) {
    let column = panel * panelColumns
    let memory = unsafe scratch + worker * Self.panelFloats(product.depth)
    unsafe packing.pack(panel, into: memory)
    var part = unsafe product
    unsafe part.b = UnsafeRawPointer(memory)
    unsafe part.columns = min(panelColumns, product.columns - column)
    unsafe part.y.data = product.y.data! + column * (product.y.bf16 == 0 ? 4 : 2)
    if let bias = unsafe part.bias { unsafe part.bias = bias + column }
    for first in stride(from: 0, to: unsafe rows, by: DiTProductRows) {
      unsafe kernels.product(&part, 0, first, min(first + DiTProductRows, rows))
    }
  }
}
