import CDiTKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

// 2-D axial rotary positions (Su et al., "RoFormer", 2021): pairs (2k, 2k+1) of q and k turn by an angle that grows with
// the position, so that q·k sees differences of positions only. The first half of a head turns with the column, the
// second with the row, θ_k = 10000^(−k/(d/4)).

/// The table that ``ComputeContext/rotate(qkv:_:table:inverse:samples:tokens:prefix:heads:headSize:)`` turns by: for each
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
  ///   - qkv: (samples · tokens, 3 · heads · headSize) in `precision`, thirds q, k, v.
  ///   - table: ``rotaryTable(output:rows:columns:headSize:)`` of `tokens` − `prefix` tokens.
  ///   - prefix: tokens of a sample before the image's.
  public func rotate(
    qkv: consuming MutableRawSpan, _ precision: Precision, table: Span<Float>, inverse: Bool, samples: Int, tokens: Int,
    prefix: Int, heads: Int, headSize: Int
  ) {
    check(qkv.byteCount, atLeast: samples * tokens * 3 * heads * headSize * precision.size, "qkv")
    check(table.count, atLeast: (tokens - prefix) * 2 * headSize, "rotary table")
    unsafe qkv.withUnsafeMutableBytes { qkv in
      unsafe table.withUnsafeBufferPointer { table in
        let task = unsafe Rotation(
          kernels: kernels, qkv: qkv.baseAddress!, precision: precision, table: table.baseAddress!,
          direction: inverse ? -1 : 1, tokens: tokens, prefix: prefix, heads: heads, headSize: headSize)
        unsafe parallel(samples * task.parts, task)
      }
    }
  }
}

@unsafe private struct Rotation: ParallelTask {
  let kernels: DiTKernelTable
  let qkv: UnsafeMutableRawPointer
  let precision: Precision
  let table: UnsafePointer<Float>
  let direction: Float
  let tokens, prefix, heads, headSize: Int

  var parts: Int { unsafe ceilDivide(tokens - prefix, rowsPerTask) }

  func run(_ index: Int, worker: Int) {
    let first = unsafe index % parts * rowsPerTask
    let count = unsafe min(rowsPerTask, tokens - prefix - first)
    let ld = unsafe 3 * heads * headSize
    let row = unsafe index / parts * tokens + prefix + first
    unsafe kernels.rotate(
      qkv + row * ld * precision.size, ld, precision.flag, table + first * 2 * headSize, direction, count, 2 * heads,
      headSize)
  }
}
