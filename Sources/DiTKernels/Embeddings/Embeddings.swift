#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

// What the network is told besides pixels: where a patch is, which step it is, which class.

/// Width of the time frequencies: 128 cosines, then 128 sines.
public let timeFrequencyCount = 256

/// [cos(t ω_k) ‖ sin(t ω_k)], ω_k = exp(−ln(10000) k / divisor), frequencies and angles rounded to Float as the
/// reference does: at t = 999 one unit in the last place of ω is 6e-5 in the angle.
///
/// - Parameters:
///   - output: (t.count, 256); overwritten.
///   - times: training indices, 0…T−1 (real for flow matching).
///   - divisor: 128 as the published DiT has it, 127 as diffusers does (`downscale_freq_shift=1`).
public func timeFrequencies(output: consuming MutableSpan<Float>, times: Span<Float>, divisor: Int = 128) {
  let half = timeFrequencyCount / 2
  check(output.count, atLeast: times.count * timeFrequencyCount, "time frequencies")
  for sample in 0..<times.count {
    for k in 0..<half {
      let exponent = Float(-9.210340371976184) * Float(k) / Float(divisor)
      let angle = Double(times[sample] * Float(exp(Double(exponent))))
      output[sample * timeFrequencyCount + k] = Float(cos(angle))
      output[sample * timeFrequencyCount + half + k] = Float(sin(angle))
    }
  }
}

/// The literal reading of the source's time embedding: pairs [sin(t ω_k), cos(t ω_k)], ω_k = 10^(4k/256), k = 0…127, angles
/// in Double.
///
/// Parameters are those of ``timeFrequencies(output:times:divisor:)``.
public func literalTimeFrequencies(output: consuming MutableSpan<Float>, times: Span<Float>) {
  check(output.count, atLeast: times.count * timeFrequencyCount, "time frequencies")
  for sample in 0..<times.count {
    for k in 0..<timeFrequencyCount / 2 {
      let angle = Double(times[sample]) * pow(10, 4 * Double(k) / 256)
      output[sample * timeFrequencyCount + 2 * k] = Float(sin(angle))
      output[sample * timeFrequencyCount + 2 * k + 1] = Float(cos(angle))
    }
  }
}

/// The fixed 2-D position table, (rows · columns, width): the first half of `width` encodes the **column**, the second
/// the **row**, each half [sin ‖ cos] with ω_k = 10000^(−k/(width/4)), in Double.
///
/// - Precondition: `width` is a multiple of 4.
public func sinCosPositions(output: consuming MutableSpan<Float>, rows: Int, columns: Int, width: Int) {
  precondition(width % 4 == 0, "sin-cos positions need a width that is a multiple of 4, not \(width)")
  check(output.count, atLeast: rows * columns * width, "position table")
  let quarter = width / 4
  for row in 0..<rows {
    for column in 0..<columns {
      let base = (row * columns + column) * width
      for k in 0..<quarter {
        let omega = 1 / pow(10000, Double(k) / Double(quarter))
        output[base + k] = Float(sin(Double(column) * omega))
        output[base + quarter + k] = Float(cos(Double(column) * omega))
        output[base + 2 * quarter + k] = Float(sin(Double(row) * omega))
        output[base + 3 * quarter + k] = Float(cos(Double(row) * omega))
      }
    }
  }
}

/// A position table for another grid: bilinear interpolation at half-pixel centers, clamped at the border, without
/// antialiasing (torch's `interpolate(mode: bilinear, align_corners: false, antialias: false)`).
///
/// - Parameters:
///   - output: (target.rows · target.columns, width); overwritten.
///   - table: (source.rows · source.columns, width).
///   - source: the grid of `table`.
///   - target: the grid of `output`.
///   - width: numbers of a position.
public func resamplePositions(
  output: consuming MutableSpan<Float>, table: Span<Float>, from source: (rows: Int, columns: Int),
  to target: (rows: Int, columns: Int), width: Int
) {
  check(output.count, atLeast: target.rows * target.columns * width, "position table")
  check(table.count, atLeast: source.rows * source.columns * width, "position table to resample")
  for row in 0..<target.rows {
    let (top, bottom, below) = neighbors(row, of: target.rows, in: source.rows)
    for column in 0..<target.columns {
      let (left, right, beside) = neighbors(column, of: target.columns, in: source.columns)
      let (topRow, bottomRow) = (top * source.columns, bottom * source.columns)
      for i in 0..<width {
        let upper =
          table[(topRow + left) * width + i] * (1 - beside) + table[(topRow + right) * width + i] * beside
        let lower =
          table[(bottomRow + left) * width + i] * (1 - beside) + table[(bottomRow + right) * width + i] * beside
        output[(row * target.columns + column) * width + i] = upper * (1 - below) + lower * below
      }
    }
  }
}

/// The two source indices between which the center of target cell `index` lies, and the second's share.
private func neighbors(_ index: Int, of count: Int, in source: Int) -> (Int, Int, Float) {
  let position = max(0, (Double(index) + 0.5) * Double(source) / Double(count) - 0.5)
  let first = min(Int(position), source - 1)
  return (first, min(first + 1, source - 1), Float(position - Double(first)))
}

/// output[n] += table[labels[n]].
public func addEmbedding(
  output: consuming MutableSpan<Float>, table: Span<Float>, labels: Span<Int>, width: Int
) {
  check(output.count, atLeast: labels.count * width, "embedding")
  for sample in 0..<labels.count {
    let row = labels[sample]
    precondition(row >= 0 && (row + 1) * width <= table.count, "label \(row) of \(table.count / width)")
    for column in 0..<width { output[sample * width + column] += table[row * width + column] }
  }
}

/// tableGradient[labels[n]] += outputGradient[n], in the order of n.
public func addEmbeddingBackward(
  tableGradient: consuming MutableSpan<Float>, outputGradient: Span<Float>, labels: Span<Int>, width: Int
) {
  for sample in 0..<labels.count {
    let row = labels[sample]
    precondition(row >= 0 && (row + 1) * width <= tableGradient.count, "label \(row)")
    for column in 0..<width { tableGradient[row * width + column] += outputGradient[sample * width + column] }
  }
}
