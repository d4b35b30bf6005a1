import DiTKernels
import DiTTensor
import Foundation
import TestSupport
import Testing

/// Rotary positions, literal time frequencies, and sums over samples.
@Suite("Rotary positions, literal time frequencies, and sums over samples") struct PositionTests {
  struct Sizes: CustomTestStringConvertible, Sendable {
    let samples, rows, columns, prefix, heads, size: Int
    var tokens: Int { prefix + rows * columns }
    var width: Int { 3 * heads * size }
    var testDescription: String { "\(samples)×(\(prefix) + \(rows)×\(columns)), \(heads) heads of \(size)" }
  }

  static let sizes = [
    Sizes(samples: 2, rows: 3, columns: 5, prefix: 0, heads: 3, size: 4),
    Sizes(samples: 3, rows: 2, columns: 3, prefix: 4, heads: 2, size: 12),
    Sizes(samples: 1, rows: 9, columns: 15, prefix: 1, heads: 1, size: 72),
    Sizes(samples: 2, rows: 1, columns: 7, prefix: 2, heads: 2, size: 32),
  ]

  /// Pair k of the first half turns by column · θ_k, of the second by row · θ_k, θ_k = 10000^(−k/(d/4)).
  private static func turned(_ qkv: [Double], _ s: Sizes, direction: Double) -> [Double] {
    var out = qkv
    let half = s.size / 4
    for n in 0..<s.samples {
      for token in 0..<s.rows * s.columns {
        let base = (n * s.tokens + s.prefix + token) * s.width
        for head in 0..<2 * s.heads {
          for pair in 0..<s.size / 2 {
            let position = pair < half ? token % s.columns : token / s.columns
            let theta = pow(10000, -Double(pair % half) / (Double(s.size) / 4))
            let angle = direction * Double(position) * theta
            let i = base + head * s.size + 2 * pair
            out[i] = qkv[i] * cos(angle) - qkv[i + 1] * sin(angle)
            out[i + 1] = qkv[i] * sin(angle) + qkv[i + 1] * cos(angle)
          }
        }
      }
    }
    return out
  }

  @Test("Rotary positions turn each pair by its angle, and back", arguments: sizes, Level.all)
  func rotation(_ s: Sizes, _ level: Level) throws {
    let context = try level.context()
    var draw = Draw(seed: 61)
    let values = draw.normal(s.samples * s.tokens * s.width)
    for precision in Precision.allCases {
      let operands = Operands()
      let table = operands.output("table", s.rows * s.columns * 2 * s.size)
      rotaryTable(output: table.mutableSpan, rows: s.rows, columns: s.columns, headSize: s.size)
      let qkv = operands.state("qkv", values, precision)
      func turn(inverse: Bool) {
        context.rotate(
          qkv: qkv.mutableBytes, precision, table: table.span, inverse: inverse, samples: s.samples, tokens: s.tokens,
          prefix: s.prefix, heads: s.heads, headSize: s.size)
      }
      let start = values.rounded(to: precision).doubles
      turn(inverse: false)
      let once = Self.turned(start, s, direction: 1)
      #expect(mismatch(qkv, precision, once, within: .roundings(4)) == nil, "\(precision)")
      let before = qkv.values(values.count, precision).doubles
      turn(inverse: true)
      let back = Self.turned(before, s, direction: -1)
      #expect(mismatch(qkv, precision, back, within: .roundings(4)) == nil, "\(precision), back")
      if precision == .fp32 { #expect(mismatch(qkv, precision, start, within: .roundings(8)) == nil) }
      #expect(operands.damage == nil)
    }
  }

  /// q·k after the rotation depends on the difference of positions only.
  @Test("Rotated products depend on the difference of positions only", arguments: Level.all)
  func rotationIsRelative(level: Level) throws {
    let context = try level.context(threads: 1)
    let s = Sizes(samples: 1, rows: 4, columns: 6, prefix: 0, heads: 1, size: 16)
    var draw = Draw(seed: 62)
    let row = draw.normal(s.width)
    let qkv = Slice((0..<s.tokens).flatMap { _ in row })
    let table = Slice(zeros: s.tokens * 2 * s.size)
    rotaryTable(output: table.mutableSpan, rows: s.rows, columns: s.columns, headSize: s.size)
    context.rotate(
      qkv: qkv.mutableBytes, .fp32, table: table.span, inverse: false, samples: 1, tokens: s.tokens, prefix: 0,
      heads: 1, headSize: s.size)
    func logit(_ i: Int, _ j: Int) -> Double {
      let (q, k) = (i * s.width, j * s.width + s.size)
      return dot(qkv[q..<q + s.size].doubles, qkv[k..<k + s.size].doubles)
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
    literalTimeFrequencies(output: features.mutableSpan, times: operands.input("t", times).span)
    let expected = times.flatMap { t in
      (0..<128).flatMap { k -> [Double] in
        let angle = Double(t) * pow(10, 4 * Double(k) / 256)
        return [sin(angle), cos(angle)]
      }
    }
    #expect(mismatch(features.array, expected, within: .roundings(1)) == nil)
    #expect(operands.damage == nil)
  }

  @Test(
    "Sums over terms give the bits of adding in order",
    arguments: [(1, 5), (3, 4096), (7, 9001), (0, 3)], Level.all)
  func sums(_ extents: (terms: Int, count: Int), _ level: Level) throws {
    let (terms, count) = extents
    let stride = count + 3
    var draw = Draw(seed: 63)
    let (x, start) = (draw.normal(max(terms, 1) * stride), draw.normal(count))
    let operands = Operands()
    let sum = operands.state("sum", start)
    try level.context().addSum(
      into: sum.mutableSpan, of: operands.input("x", x).span, terms: terms, stride: stride, count: count)
    let expected = (0..<count).map { i in (0..<terms).reduce(start[i]) { $0 + x[$1 * stride + i] } }
    #expect(bitDifference(sum.array, expected) == nil)
    #expect(operands.damage == nil)
  }

  @Test("A row added to all rows gives the bits of single additions", arguments: Level.all)
  func aRowAddedToAllRows(_ level: Level) throws {
    var draw = Draw(seed: 64)
    let (rows, width) = (5, 37)
    let (x, row) = (draw.normal(rows * width), draw.normal(width))
    let operands = Operands()
    let sum = operands.state("x", x)
    try level.context().add(
      operands.input("row", row).span, toRows: sum.mutableSpan, rows: rows, width: width)
    #expect(bitDifference(sum.array, x.indices.map { x[$0] + row[$0 % width] }) == nil)
    #expect(operands.damage == nil)
  }
}
