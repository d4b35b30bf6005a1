import DiTKernels
import DiTTensor
import Foundation
import TestSupport
import Testing

/// Rotary positions and literal time frequencies.
@Suite("Rotary positions and literal time frequencies") struct PositionTests {
  /// q·k after the rotation depends on the difference of positions only.
  @Test("Rotated products depend on the difference of positions only", arguments: Level.all)
  func rotationIsRelative(level: Level) throws {
    let context = try level.context(threads: 1)
    let (rows, columns, size) = (4, 6, 16)
    let (tokens, width) = (rows * columns, 3 * size)
    var draw = Draw(seed: 62)
    let row = draw.normal(width)
    let qkv = MutableFloatSlice((0..<tokens).flatMap { _ in row })
    let table = MutableFloatSlice(zeros: tokens * 2 * size)
    rotaryTable(output: table.mutableSpan, rows: rows, columns: columns, headSize: size)
    let heads = MutableMatrix(qkv, rows: tokens, columns: width)
    context.prepareHeads(
      output: heads, input: heads.reading, queryWeight: nil, keyWeight: nil, epsilon: 0, table: table.reading,
      AttentionExtents(samples: 1, tokens: tokens, heads: 1, headSize: size), prefix: 0)
    func logit(_ i: Int, _ j: Int) -> Double {
      let (q, k) = (i * width, j * width + size)
      return dot(qkv[q..<q + size].array.doubles, qkv[k..<k + size].array.doubles)
    }
    #expect(abs(logit(7, 3) - logit(20, 16)) < 1e-5 && abs(logit(0, 14) - logit(9, 23)) < 1e-5)
    #expect(abs(logit(0, 1) - logit(0, 6)) > 1e-3, "a column is no row")
  }

  /// Pairs [sin, cos] of t · 10^(4k/256) in Double.
  @Test("Literal time features follow their formula")
  func literalFrequencies() {
    let times: [Float] = [0, 1, 437, 999, 0.5]
    let operands = Operands()
    let features = operands.output("features", times.count * timeFrequencyCount)
    literalTimeFrequencies(output: features.mutableSpan, times: operands.vector("t", times).span)
    let expected = times.flatMap { t in
      (0..<128).flatMap { k -> [Double] in
        let angle = Double(t) * pow(10, 4 * Double(k) / 256)
        return [sin(angle), cos(angle)]
      }
    }
    #expect(mismatch(features.array, expected, within: .roundings(1)) == nil)
    #expect(operands.damage == nil)
  }
}
