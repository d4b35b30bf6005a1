#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

// 2-D axial rotary positions (Su et al., "RoFormer", 2021): pairs (2k, 2k+1) of q and k turn by an angle that grows with
// the position, so that q·k sees differences of positions only. One half of a head turns with the column, the other with
// the row, θ_k = 10000^(−k/(d/4)).

/// With what the first half of a head turns; the second turns with the other.
public enum RotaryOrder: Sendable {
  case columnFirst, rowFirst
}

/// The table that ``ComputeContext/prepareHeads(output:input:queryWeight:keyWeight:epsilon:table:_:prefix:)`` turns by: for
/// each token of a grid d cosines, one an element, then −sin, sin for each pair; angles in Double.
///
/// - Parameters:
///   - output: (rows · columns, 2, headSize); overwritten.
///   - rows: of the grid.
///   - columns: of the grid.
///   - headSize: d.
///   - order: which half of a head turns by the row, which by the column.
/// - Precondition: `headSize` is a multiple of 4.
public func rotaryTable(
  output: consuming MutableSpan<Float>, rows: Int, columns: Int, headSize: Int, order: RotaryOrder = .columnFirst
) {
  precondition(headSize % 4 == 0, "rotary positions need a head size that is a multiple of 4, not \(headSize)")
  check(output.count, atLeast: rows * columns * 2 * headSize, "rotary table")
  let quarter = headSize / 4
  for row in 0..<rows {
    for column in 0..<columns {
      let base = (row * columns + column) * 2 * headSize
      for pair in 0..<2 * quarter {
        let position = Double((pair < quarter) == (order == .columnFirst) ? column : row)
        let angle = position * pow(10000, -Double(pair % quarter) / Double(quarter))
        output[base + 2 * pair] = Float(cos(angle))
        output[base + 2 * pair + 1] = Float(cos(angle))
        output[base + headSize + 2 * pair] = Float(-sin(angle))
        output[base + headSize + 2 * pair + 1] = Float(sin(angle))
      }
    }
  }
}
