// The operands of kernels: a matrix is memory with its extents, said once where the memory is laid out.

/// A matrix to read.
///
/// Elements of 16 bits lie two to a float of the memory, those of 8 bits four.
public struct Matrix: Sendable {
  /// How the elements lie.
  public enum Order: Sendable {
    /// Row after row.
    case rows
    /// Column after column: the transpose of a matrix in rows.
    case columns
    /// In panels of columns, as a product reads its right factor.
    case panels
    /// In such panels, of which the first half is of the first half of the columns and the second of the second, so that a
    /// product has what belongs together in one tile.
    case halfPanels
    /// In groups of rows, as a product may read its left factor.
    case groups
  }

  public let memory: FloatSlice
  public let rows, columns: Int
  /// Elements from row to row, or from column to column; 0 where all are the same. Without meaning in panels and groups.
  public let stride: Int
  public let format: Format
  public let order: Order

  /// A matrix in rows.
  ///
  /// - Parameters:
  ///   - memory: the elements, from the first row on.
  ///   - rows: how many.
  ///   - columns: elements of a row.
  ///   - stride: elements from row to row; nil: ``Format/rowElements(_:)``, `columns` but for int8.
  ///   - format: of the elements.
  /// - Precondition: `memory` holds it.
  public init(_ memory: FloatSlice, rows: Int, columns: Int, stride: Int? = nil, format: Format = .fp32) {
    let stride = stride ?? format.rowElements(columns)
    Self.check(memory, rows, columns, stride, format)
    self.init(memory, rows: rows, columns: columns, stride: stride, format: format, order: .rows)
  }

  /// A matrix in panels or groups, as the code that packs them lays them out in `memory`.
  package init(
    packed memory: FloatSlice, rows: Int, columns: Int, format: Format, order: Order
  ) {
    self.init(memory, rows: rows, columns: columns, stride: 0, format: format, order: order)
  }

  private init(_ memory: FloatSlice, rows: Int, columns: Int, stride: Int, format: Format, order: Order) {
    self.memory = memory
    self.rows = rows
    self.columns = columns
    self.stride = stride
    self.format = format
    self.order = order
  }

  fileprivate static func check(_ memory: FloatSlice, _ rows: Int, _ columns: Int, _ stride: Int, _ format: Format) {
    precondition(min(rows, columns, stride) >= 0, "a matrix of (\(rows), \(columns)), \(stride) from row to row")
    let needed = rows == 0 ? 0 : (rows - 1) * stride + format.rowElements(columns)
    precondition(
      memory.count >= format.floats(holding: needed),
      "(\(rows), \(columns)), \(stride) from row to row: \(needed) elements expected, \(memory.count) floats found")
  }

  /// The matrix whose rows are this one's columns; the same memory.
  ///
  /// - Precondition: in rows or in columns.
  public var transposed: Matrix {
    precondition(order == .rows || order == .columns, "the transpose of a packed matrix")
    return Matrix(
      memory, rows: columns, columns: rows, stride: stride, format: format, order: order == .rows ? .columns : .rows)
  }

  /// The first `count` rows.
  ///
  /// - Precondition: in rows.
  public func prefix(_ count: Int) -> Matrix {
    precondition(order == .rows && 0...rows ~= count, "\(count) rows of \(rows)")
    return Matrix(memory, rows: count, columns: columns, stride: stride, format: format, order: .rows)
  }

  /// The elements of a float32 matrix in rows without gaps.
  package var elements: FloatSlice {
    precondition(order == .rows && format == .fp32 && stride == columns, "the elements of a matrix with gaps")
    return memory[0..<rows * columns]
  }

  /// The first element, for a kernel that the matrix is an argument of: valid while the matrix lives.
  @unsafe package var pointer: UnsafeRawPointer { unsafe UnsafeRawPointer(memory.pointer) }

  /// The first element of a float32 matrix.
  @unsafe package var floats: UnsafePointer<Float> {
    precondition(format == .fp32, "a matrix of \(format) where float32 is expected")
    return unsafe memory.pointer
  }
}

/// A matrix in rows, to write and to read. Not `Sendable`, as its memory is not.
public struct MutableMatrix {
  /// The same elements, to read: see ``MutableFloatSlice/reading``.
  public let reading: Matrix

  /// A matrix in rows.
  ///
  /// - Parameters:
  ///   - memory: the elements, from the first row on.
  ///   - rows: how many.
  ///   - columns: elements of a row.
  ///   - stride: elements from row to row; nil: ``Format/rowElements(_:)``, `columns` but for int8.
  ///   - format: of the elements.
  /// - Precondition: `memory` holds it.
  public init(_ memory: MutableFloatSlice, rows: Int, columns: Int, stride: Int? = nil, format: Format = .fp32) {
    reading = Matrix(memory.reading, rows: rows, columns: columns, stride: stride, format: format)
  }

  private init(_ reading: Matrix) { self.reading = reading }

  public var memory: MutableFloatSlice {
    let all = reading.memory
    return MutableFloatSlice(all.buffer, offset: all.offset, count: all.count)
  }
  public var rows: Int { reading.rows }
  public var columns: Int { reading.columns }
  /// Elements from row to row.
  public var stride: Int { reading.stride }
  public var format: Format { reading.format }

  /// The first `count` rows.
  public func prefix(_ count: Int) -> MutableMatrix { MutableMatrix(reading.prefix(count)) }

  /// A matrix of another format in the same memory, whose elements are to be written.
  ///
  /// - Precondition: it fits there, and this one has no gaps.
  package func reused(as format: Format) -> MutableMatrix {
    precondition(stride == self.format.rowElements(columns), "\(format) in the memory of \(self.format) with gaps")
    return MutableMatrix(memory, rows: rows, columns: columns, format: format)
  }

  /// The elements of a float32 matrix without gaps.
  package var elements: MutableFloatSlice {
    let all = reading.elements
    return MutableFloatSlice(all.buffer, offset: all.offset, count: all.count)
  }

  /// Whether some element of the slice under `other` lies in the slice under this matrix.
  package func overlaps(_ other: Matrix) -> Bool {
    reading.memory.overlaps(other.memory)
  }

  /// The first element, for a kernel that the matrix is an argument of: valid while the matrix lives.
  @unsafe package var pointer: UnsafeMutableRawPointer {
    unsafe UnsafeMutableRawPointer(mutating: reading.pointer)
  }

  /// The first element of a float32 matrix.
  @unsafe package var floats: UnsafeMutablePointer<Float> {
    unsafe UnsafeMutablePointer(mutating: reading.floats)
  }
}

@available(*, unavailable) extension MutableMatrix: Sendable {}
