/// What the elements of an operand are.
public enum Format: Hashable, Sendable {
  case fp32
  /// bfloat16, the upper half of a float32, rounded to nearest, ties to even.
  case bf16
  /// Bytes 0 … 255, x ≈ scale · (byte − zero): a row is its bytes, padded to a multiple of four, then its scale (float32) and
  /// its zero (Int32), in whole cache lines.
  ///
  /// Weights in panels are bytes −127 … 127 with a scale for each column.
  case int8

  /// Bytes of an element.
  public var size: Int {
    switch self {
    case .fp32: 4
    case .bf16: 2
    case .int8: 1
    }
  }
  /// Elements from row to row where rows of `columns` follow one another.
  public func rowElements(_ columns: Int) -> Int {
    self == .int8 ? ((columns + 3) / 4 * 4 + 8 + 63) / 64 * 64 : columns
  }
  /// Floats of memory that hold `elements` of this format.
  package func floats(holding elements: Int) -> Int { (elements * size + 3) / 4 }
  /// Floats of memory that hold (rows, columns) of this format without gaps.
  public func floats(rows: Int, columns: Int) -> Int { floats(holding: rows * rowElements(columns)) }
}
