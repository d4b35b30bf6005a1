#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

// What the network is told besides pixels: where a patch is, which step it is, which class.

/// Width of the time frequencies: 128 cosines, then 128 sines.
public let timeFrequencyCount = 256

/// [cos(t ω_k) ‖ sin(t ω_k)], ω_k = exp(−ln(10000) k / 128), frequencies and angles rounded to Float as the reference
/// does: at t = 999 one unit in the last place of ω is 6e-5 in the angle.
///
/// - Parameters:
///   - output: (t.count, 256); overwritten.
///   - times: training indices, 0…T−1 (real for flow matching).
public func timeFrequencies(output: consuming MutableSpan<Float>, times: Span<Float>) {
  let half = timeFrequencyCount / 2
  check(output.count, atLeast: times.count * timeFrequencyCount, "time frequencies")
  for sample in 0..<times.count {
    for k in 0..<half {
      let exponent = Float(-9.210340371976184) * Float(k) / Float(half)
      let angle = Double(times[sample] * Float(exp(Double(exponent))))
      output[sample * timeFrequencyCount + k] = Float(cos(angle))
      output[sample * timeFrequencyCount + half + k] = Float(sin(angle))
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
