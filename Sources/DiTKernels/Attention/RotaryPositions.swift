import CDiTKernels
import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

// 2-D axial rotary positions (Su et al., "RoFormer", 2021): pairs (2k, 2k+1) of q and k turn by an angle that grows with
// the position, so that q·k sees differences of positions only. The first half of a head turns with the column, the
// second with the row, θ_k = 10000^(−k/(d/4)).

/// The table that ``ComputeContext/rotate(qkv:table:inverse:_:prefix:)`` turns by: for each
/// token of a grid d cosines, one an element, then −sin, sin for each pair; angles in Double.
///
/// - Parameter output: (rows · columns, 2, headSize); overwritten.
/// - Precondition: `headSize` is a multiple of 4.
public func rotaryTable(output: consuming MutableSpan<Float>, rows: Int, columns: Int, headSize: Int) {
  precondition(headSize % 4 == 0, "rotary positions need a head size that is a multiple of 4, not \(headSize)")
  check(output.count, atLeast: rows * columns * 2 * headSize, "rotary table")
  let quarter = headSize / 4
  for row in 0..<rows {
    for column in 0..<columns {
      let base = (row * columns + column) * 2 * headSize
      for pair in 0..<2 * quarter {
        let position = Double(pair < quarter ? column : row)
        let angle = position * pow(10000, -Double(pair % quarter) / Double(quarter))
        output[base + 2 * pair] = Float(cos(angle))
        output[base + 2 * pair + 1] = Float(cos(angle))
        output[base + headSize + 2 * pair] = Float(-sin(angle))
        output[base + headSize + 2 * pair + 1] = Float(sin(angle))
      }
    }
  }
}

/// Rows that a task turns.
private let rowsPerTask = 64

extension ComputeContext {
  /// Turns q and k of the image's tokens in place; v and the tokens before the image's stay.
  ///
  /// The backward pass is the same with `inverse`, on the gradients: a rotation's transpose is its inverse.
  /// - Parameters:
  ///   - qkv: (samples · tokens, 3 · heads · headSize), of any format, thirds q, k, v.
  ///   - table: ``rotaryTable(output:rows:columns:headSize:)`` of `tokens` − `prefix` tokens.
  ///   - prefix: tokens of a sample before the image's.
  public func rotate(qkv: MutableMatrix, table: FloatSlice, inverse: Bool, _ extents: AttentionExtents, prefix: Int) {
    extents.check(qkv: qkv.reading)
    check(table.count, atLeast: (extents.tokens - prefix) * 2 * extents.headSize, "rotary table")
    let task = unsafe Rotation(
      kernels: kernels, qkv: DiTMatrix(qkv), table: table.pointer, direction: inverse ? -1 : 1, extents: extents,
      prefix: prefix)
    unsafe parallel(extents.samples * task.parts, task)
  }
}

@unsafe private struct Rotation: ParallelTask {
  let kernels: DiTKernelTable
  let qkv: DiTMatrix
  let table: UnsafePointer<Float>
  let direction: Float
  let extents: AttentionExtents
  let prefix: Int

  var parts: Int { unsafe ceilDivide(extents.tokens - prefix, rowsPerTask) }

  func run(_ index: Int, worker: Int) {
    let (tokens, size) = unsafe (extents.tokens, extents.headSize)
    let first = unsafe index % parts * rowsPerTask
    let count = unsafe min(rowsPerTask, tokens - prefix - first)
    let row = unsafe index / parts * tokens + prefix + first
    unsafe kernels.rotate(
      qkv.row(row), qkv.ld, qkv.bf16, table + first * 2 * size, direction, count, 2 * extents.heads, size)
  }
}
