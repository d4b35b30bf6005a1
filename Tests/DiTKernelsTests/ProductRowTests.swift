import DiTKernels
import DiTTensor
import TestSupport
import Testing

/// What a row of a product does not depend on: the rows beside it.
@Suite("The rows of a product, alone and among others") struct ProductRowTests {
  /// A row has the same bits alone, among the first n, and inside another run of rows: the depth is cut in both formats.
  @Test("A row has the same bits alone as among any other rows", arguments: Format.all, Level.all)
  func rowsAreIndependent(_ format: Format, _ level: Level) throws {
    let (rows, depth, columns) = (300, 3301, 37)
    let context = try level.context()
    var draw = Draw(seed: 111)
    let (left, w, bias) = (draw.normal(rows * depth), draw.normal(columns * depth), draw.normal(columns))
    let memory = MutableFloatSlice(
      zeros: ComputeContext.packedElements(depth: depth, columns: columns, format: format))
    let packed = context.pack(
      Matrix(FloatSlice(w), rows: columns, columns: depth).transposed, into: memory, as: format)
    /// The product, and its GELU in the format.
    func results(_ range: Range<Int>) -> [(String, [Float])] {
      let a = Matrix(
        FloatSlice(Array(left[range.lowerBound * depth..<range.upperBound * depth]).stored(format)),
        rows: range.count, columns: depth, format: format)
      let (y, h) = (MutableFloatSlice(zeros: range.count * columns), MutableFloatSlice(zeros: range.count * columns))
      context.product(
        into: MutableMatrix(y, rows: range.count, columns: columns), a, packed, bias: FloatSlice(bias))
      context.product(
        into: MutableMatrix(h, rows: range.count, columns: columns, format: format), a, packed,
        bias: FloatSlice(bias), epilogue: .gelu(sums: nil))
      return [("y", y.array), ("h", format == .bf16 ? h.array.halves(h.count) : h.array)]
    }
    let all = results(0..<rows)
    for (first, count) in [
      (0, 1), (0, 2), (0, 5), (0, 6), (0, 7), (0, 13), (0, 255), (0, 256), (0, 257), (299, 1), (3, 7), (43, 257),
    ] {
      let part = all.map { ($0, Array($1[first * columns..<(first + count) * columns])) }
      #expect(bitDifference(results(first..<first + count), part) == nil, "rows \(first) …, \(count) of them")
    }
  }

  /// OpenBLAS's sums depend on how many rows it is given: the parts are what keeps samples apart. Tokens on both sides of
  /// the number of rows that is few.
  @Test(
    "OpenBLAS's rows have the bits of their part alone", arguments: [1, 2, 5, 6, 8, 9, 13, 33, 64, 513],
    InstructionSet.runnable)
  func parts(_ tokens: Int, _ level: InstructionSet) throws {
    let (samples, depth, columns) = (5, 129, 97)
    let context = try ComputeContext(threads: 2, instructionSet: level)
    var draw = Draw(seed: 112)
    let (left, bias) = (draw.normal(samples * tokens * depth), FloatSlice(draw.normal(columns)))
    let w = Matrix(FloatSlice(draw.normal(columns * depth)), rows: columns, columns: depth).transposed
    let table = Matrix(FloatSlice(draw.normal(tokens * columns)), rows: tokens, columns: columns)
    for epilogue in [Epilogue.store, .addRows(table), .gelu(sums: nil)] {
      func result(_ range: Range<Int>) -> [Float] {
        let (rows, y) = (range.count * tokens, MutableFloatSlice(zeros: range.count * tokens * columns))
        let values = Array(left[range.lowerBound * tokens * depth..<range.upperBound * tokens * depth])
        context.product(
          into: MutableMatrix(y, rows: rows, columns: columns),
          Matrix(FloatSlice(values), rows: rows, columns: depth), w, bias: bias, epilogue: epilogue,
          parts: range.count)
        return y.array
      }
      let alone = (0..<samples).flatMap { result($0..<$0 + 1) }
      #expect(bitDifference(result(0..<samples), alone) == nil)
    }
  }
}
