import DiTTensor

/// int8 as its definition reads: the oracle for what the kernels quantize.
public enum Int8Rows {
  /// A row of activations: [min(x, 0), max(x, 0)] in 255 steps.
  public static func quantized(_ x: [Float]) -> (codes: [UInt8], scale: Float, zero: Int32) {
    let low = min(0, x.min() ?? 0)
    let high = max(0, x.max() ?? 0)
    let width = high - low
    guard width > 1e-30 else { return ([UInt8](repeating: 0, count: x.count), 0, 0) }
    let factor = 255 / width
    let place = -low * factor
    let zero = Int32(place + 0.5)
    let codes = x.map { value in
      let scaled = value * factor
      return UInt8(clamping: Int32(scaled.rounded(.toNearestOrEven)) + zero)
    }
    return (codes, width / 255, zero)
  }

  /// An output's weights: codes −127 … 127, and a scale of 17 bits of which the greatest magnitude is 127.
  public static func quantizedWeights(_ w: [Float]) -> (codes: [Int8], scale: Float) {
    let greatest = w.map(\.magnitude).max() ?? 0
    guard greatest > 1e-30 else { return ([Int8](repeating: 0, count: w.count), 0) }
    let scale = Float(bitPattern: ((greatest / 127).bitPattern + 0x7F) & ~0x7F)
    let factor = 1 / scale
    let codes = w.map { value in
      let scaled = value * factor
      return Int8(max(-127, min(127, scaled.rounded(.toNearestOrEven))))
    }
    return (codes, scale)
  }

  /// The memory of a matrix of int8 whose rows are quantized, and which began as NaN.
  public static func memory(_ x: [Float], rows: Int, columns: Int) -> [Float] {
    (0..<rows).flatMap { row -> [Float] in
      let (codes, scale, zero) = quantized(Array(x[row * columns..<(row + 1) * columns]))
      let padded = codes + [UInt8](repeating: 0, count: (4 - columns % 4) % 4)
      var words = stride(from: 0, to: padded.count, by: 4).map { place in
        Float(bitPattern: (0..<4).reduce(UInt32(0)) { $0 | UInt32(padded[place + $1]) << (8 * UInt32($1)) })
      }
      words += [scale, Float(bitPattern: UInt32(bitPattern: zero))]
      return words + [Float](repeating: .nan, count: Format.int8.rowElements(columns) / 4 - words.count)
    }
  }

  /// The numbers of such memory.
  public static func values(_ memory: [Float], rows: Int, columns: Int) -> [Float] {
    let (stride, scale) = (Format.int8.rowElements(columns) / 4, (columns + 3) / 4)
    return (0..<rows).flatMap { row -> [Float] in
      let words = memory[row * stride..<(row + 1) * stride].map(\.bitPattern)
      let zero = Int64(Int32(bitPattern: words[scale + 1]))
      return (0..<columns).map { c in
        let code = words[c / 4] >> (8 * UInt32(c % 4)) & 0xFF
        return Float(bitPattern: words[scale]) * Float(Int64(code) - zero)
      }
    }
  }
}
