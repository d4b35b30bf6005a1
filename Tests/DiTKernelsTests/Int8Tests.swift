import CDiTKernels
import CKernelsTestSupport
import DiTKernels
import DiTTensor
import TestSupport
import Testing

/// What ``KernelOracleTests`` does not see of int8: the CPU's own instructions, rows that are not finite, weights that are quantized
/// again.
@Suite("int8: whole numbers, whoever multiplies them", .serialized) struct Int8Tests {
  @Test(
    "The CPU's instruction for bytes gives the bits of products of 16 bits, in 512 bits and in 256",
    arguments: Int8ProductCase.all)
  func native(_ kernel: Int8ProductCase) throws {
    let inputs = kernel.inputs
    for level in InstructionSet.runnable {
      let plain = try ComputeContext(
        threads: 2, workers: 2, instructionSet: level, nativeBF16: false, nativeInt8: false)
      let native = try ComputeContext(threads: 2, workers: 2, instructionSet: level, nativeBF16: false)
      #expect(!plain.hasNativeInt8)
      let expected = kernel.run(plain, inputs).named
      #expect(bitDifference(kernel.run(native, inputs).named, expected) == nil, "\(level)")
      guard level == .avx2, let table = unsafe kernels_int8_256() else { continue }
      let narrow = try unsafe ComputeContext(threads: 2, kernels: table.pointee)
      #expect(bitDifference(kernel.run(narrow, inputs).named, expected) == nil, "256 bits")
    }
  }

  @Test("A row that is not finite makes no finite product, and its neighbors keep theirs", arguments: Level.all)
  func notFinite(_ level: Level) throws {
    let (rows, depth, columns) = (4, 37, 5)
    var draw = Draw(seed: 5)
    let context = try level.context()
    let weights = Matrix(MutableFloatSlice(draw.normal(columns * depth)).reading, rows: columns, columns: depth)
    let panels = MutableFloatSlice(
      zeros: ComputeContext.packedElements(depth: depth, columns: columns, format: .int8))
    let b = context.pack(weights.transposed, into: panels, as: .int8)
    func products(_ x: [Float]) -> [Float] {
      let codes = MutableMatrix(
        MutableFloatSlice(zeros: Format.int8.floats(rows: rows, columns: depth)), rows: rows, columns: depth,
        format: .int8)
      context.quantize(into: codes, Matrix(MutableFloatSlice(x).reading, rows: rows, columns: depth))
      let y = MutableFloatSlice(zeros: rows * columns)
      context.product(into: MutableMatrix(y, rows: rows, columns: columns), codes.reading, b)
      return y.array
    }
    let x = draw.normal(rows * depth)
    let clean = products(x)
    #expect(clean.allSatisfy { $0.isFinite })
    for bad in [Float.nan, .infinity, -.infinity, .greatestFiniteMagnitude] {
      for place in [0, 17, 36] {
        var broken = x
        broken[2 * depth + place] = bad
        if bad.isFinite { broken[2 * depth + (place + 1) % depth] = -bad }
        let found = products(broken)
        #expect(found[2 * columns..<3 * columns].allSatisfy { !$0.isFinite }, "\(bad) at \(place)")
        for row in [0, 1, 3] {
          let range = row * columns..<(row + 1) * columns
          #expect(bitDifference(Array(found[range]), Array(clean[range])) == nil, "\(bad) at \(place)")
        }
      }
    }
  }

  @Test(
    "Weights in int8 are the nearest codes, and made of them give the same codes and scales again", arguments: Level.all
  )
  func weights(_ level: Level) throws {
    let (rows, columns) = (131, 77)
    var draw = Draw(seed: 6)
    var w = draw.normal(rows * columns)
    for c in 0..<columns { (w[c], w[columns + c]) = (0, w[columns + c] * 1e-12) }
    let context = try level.context()
    func quantized(_ w: [Float]) -> (codes: [Int8], scales: [Float]) {
      context.quantizedWeights(Matrix(MutableFloatSlice(w).reading, rows: rows, columns: columns))
    }
    let found = quantized(w)
    for row in 0..<rows {
      let range = row * columns..<(row + 1) * columns
      let expected = Int8Rows.quantizedWeights(Array(w[range]))
      #expect(Array(found.codes[range]) == expected.codes && found.scales[row] == expected.scale, "row \(row)")
    }
    let again = quantized(found.codes.indices.map { Float(found.codes[$0]) * found.scales[$0 / columns] })
    #expect(again.codes == found.codes && again.scales == found.scales)
  }

  @Test("A row's extent is the kernels'")
  func rowElements() {
    for columns in [1, 3, 4, 55, 56, 57, 60, 64, 384, 1152, 4608] {
      #expect(Format.int8.rowElements(columns) == dit_int8_row(columns))
    }
  }
}
