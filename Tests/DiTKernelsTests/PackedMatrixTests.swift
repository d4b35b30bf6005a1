import DiTKernels
import DiTTensor
import TestSupport
import Testing

/// Packed weights, element by element, and the rounding to bf16, bit by bit.
@Suite("Packed weights element by element, and rounding to bf16") struct PackedMatrixTests {
  /// Element (k, c) of a packed (depth, columns) matrix: panels of 64 columns, (depth, 64) each, or (depth / 2, 64, 2) of
  /// bf16.
  private static func element(_ packed: [Float], _ k: Int, _ c: Int, depth: Int, _ format: Format) -> Float {
    let (panel, lane) = (c / 64, c % 64)
    guard format == .bf16 else { return packed[(panel * depth + k) * 64 + lane] }
    let pair = packed[(panel * ((depth + 1) / 2) + k / 2) * 64 + lane].bitPattern
    return Float(bitPattern: k % 2 == 0 ? pair << 16 : pair & 0xFFFF_0000)
  }

  /// nil when the packed matrix holds `value(k, c)`, and zeros beyond the columns and the depth.
  private static func difference(
    _ packed: [Float], depth: Int, columns: Int, _ format: Format, value: (Int, Int) -> Float
  ) -> String? {
    let padded = format == .bf16 ? (depth + 1) / 2 * 2 : depth
    for k in 0..<padded {
      for c in 0..<(columns + 63) / 64 * 64 {
        let expected = k < depth && c < columns ? value(k, c) : 0
        let found = element(packed, k, c, depth: depth, format)
        if found.bitPattern != expected.bitPattern { return "(\(k), \(c)): expected \(expected), found \(found)" }
      }
    }
    return nil
  }

  @Test(
    "Every element of a packed weight is where the layout says, padded with zeros",
    arguments: [(1, 1), (1, 65), (5, 1), (2, 64), (15, 17), (16, 16), (33, 130), (64, 5), (131, 63)], Level.all)
  func everyElement(_ extents: (inputs: Int, outputs: Int), _ level: Level) throws {
    let (inputs, outputs) = extents
    let context = try level.context()
    var draw = Draw(seed: 101)
    let values = draw.normal(outputs * inputs)
    for format in Format.all {
      let operands = Operands()
      let weight = operands.matrix("W", values, rows: outputs, columns: inputs)
      let w = values.rounded(to: format)
      for (matrix, name) in [(weight.transposed, "Wᵀ"), (weight, "W")] {
        let (depth, columns) = (matrix.rows, matrix.columns)
        let memory = operands.scratch(ComputeContext.packedElements(depth: depth, columns: columns, format: format))
        let packed = context.pack(matrix, into: memory, as: format)
        let wrong = Self.difference(packed.memory.array, depth: depth, columns: columns, format) {
          name == "W" ? w[$0 * inputs + $1] : w[$1 * inputs + $0]
        }
        #expect(wrong == nil, "\(format), \(name)")
        #expect(packed.rows == depth && packed.columns == columns && packed.format == format)
      }
      #expect(operands.damage == nil, "\(format)")
    }
  }

  /// Every upper half (so ±0, denormals, the largest finite numbers, infinities and NaN) with the lower halves around
  /// and at a tie, and with none: 2¹⁸ numbers.
  private static let everyRounding: [Float] = [0, 0x7FFF, 0x8000, 0x8001].flatMap { (lower: UInt32) in
    (0..<0x10000).map { Float(bitPattern: $0 << 16 | lower) }
  }

  /// The bits that a few numbers must have, so that the oracle is no copy of a mistake.
  @Test(
    "The tests' own rounding to bf16 gives known bits",
    arguments: [
      (0x3F80_8000, 0x3F80), (0x3F81_8000, 0x3F82), (0x3F80_8001, 0x3F81), (0x3F80_7FFF, 0x3F80),
      (0xBF81_8000, 0xBF82), (0x7F7F_7FFF, 0x7F7F), (0x7F7F_8000, 0x7F80), (0x7F7F_FFFF, 0x7F80),
      (0x7F80_0000, 0x7F80), (0xFF80_0000, 0xFF80), (0x7F80_0001, 0x7FC0), (0xFFFF_FFFF, 0xFFFF),
      (0x0000_8000, 0), (0x0000_8001, 1), (0x0001_8000, 2), (0x007F_8000, 0x80), (0x8000_0000, 0x8000),
    ])
  func roundingOfTheOracle(_ x: UInt32, _ expected: UInt16) {
    #expect(BF16.rounded(Float(bitPattern: x)) == expected)
  }

  /// Weights on their way into both packings.
  @Test("Weights are rounded to bf16 correctly for every upper half and tie", arguments: Level.all)
  func packingRounds(_ level: Level) throws {
    let (context, values) = (try level.context(), Self.everyRounding)
    let expected = values.roundedToBF16
    for (rows, columns) in [(64, values.count / 64), (values.count / 64, 64)] {
      let weight = Matrix(FloatSlice(values), rows: rows, columns: columns)
      for matrix in [weight, weight.transposed] {
        let elements = ComputeContext.packedElements(depth: matrix.rows, columns: matrix.columns, format: .bf16)
        let packed = context.pack(matrix, into: MutableFloatSlice(zeros: elements), as: .bf16)
        let isPlain = matrix.order == .rows
        let wrong = Self.difference(packed.memory.array, depth: matrix.rows, columns: matrix.columns, .bf16) {
          expected[isPlain ? $0 * columns + $1 : $1 * columns + $0]
        }
        #expect(wrong == nil, "(\(rows), \(columns)) in \(matrix.order)")
      }
    }
  }

  /// Sums on their way out of a product: x · 1 + 0 is x, but that −0 becomes 0. 17 columns are a vector and one more. The
  /// CPU's own rounding takes a denormal for a zero of its sign.
  @Test("Results are rounded to bf16 correctly for every upper half and tie", arguments: Level.all)
  func resultsRound(_ level: Level) throws {
    let (context, values, outputs) = (try level.context(), Self.everyRounding, 17)
    let ones = Matrix(FloatSlice([Float](repeating: 1, count: outputs)), rows: 1, columns: outputs)
    let memory = MutableFloatSlice(
      zeros: ComputeContext.packedElements(depth: 1, columns: outputs, format: .fp32))
    let packed = context.pack(ones, into: memory, as: .fp32)
    let y = MutableFloatSlice(zeros: (values.count * outputs + 1) / 2)
    context.product(
      into: MutableMatrix(y, rows: values.count, columns: outputs, format: .bf16),
      Matrix(FloatSlice(values), rows: values.count, columns: 1), packed,
      bias: FloatSlice([Float](repeating: 0, count: outputs)))
    let found = y.array.halves(values.count * outputs)
    let wrong = values.indices.first { row in
      var value = values[row] == 0 ? 0 : values[row]
      if context.hasNativeBF16, value.isSubnormal { value = value.sign == .minus ? -0.0 : 0 }
      let expected = BF16.widened(BF16.rounded(value)).bitPattern
      return (0..<outputs).contains { found[row * outputs + $0].bitPattern != expected }
    }
    #expect(wrong == nil, "\(wrong.map { "\(values[$0]), bits \(String(values[$0].bitPattern, radix: 16))" } ?? "")")
  }
}
