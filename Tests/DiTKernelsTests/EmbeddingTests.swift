import DiTKernels
import DiTTensor
import Foundation
import TestSupport
import Testing

/// Time frequencies, positions and the label table.
@Suite("Time frequencies, positions and the label table") struct EmbeddingTests {
  /// A unit in the last place of a result in [−1, 1], twice: torch's sine and cosine and ours round separately.
  private static let unit = 0x1p-23

  /// Equal to torch's Float32 features but where torch's vector `exp` is one unit off, at k = 12 and 106: there the
  /// angle t ω moves by t times that unit, and is rounded again.
  @Test("Time features are PyTorch's Float32 features within a unit in the last place")
  func torchTimeFrequencies() throws {
    let fixture = try Fixture("kernels")
    let times = try fixture.integers("time.t").map(Float.init)
    let frequencies = try fixture.floats("time.frequencies")
    let operands = Operands()
    let features = operands.output("features", times.count * timeFrequencyCount)
    timeFrequencies(output: features.mutableSpan, times: operands.vector("t", times).span)
    let limits = times.flatMap { t in
      (0..<timeFrequencyCount).map { column in
        let k = column % 128
        let omega = frequencies[k]
        return Self.unit + ([12, 106].contains(k) ? Double(t * omega.ulp) + Double((t * omega).ulp) : 0)
      }
    }
    let expected = try fixture.doubles("time.features")
    let far = zip(features.array.doubles, expected).enumerated().first { i, pair in !(abs(pair.0 - pair.1) <= limits[i])
    }
    #expect(far == nil, "of 256 features a time: (index, (found, expected))")
    #expect(operands.damage == nil)
  }

  /// Real times, as flow matching has them, against the formula in Double: ω and t ω are each rounded to Float, together
  /// by at most t ω 2⁻²³.
  @Test("Time features of real times follow the formula")
  func realTimes() {
    let times: [Float] = [0, 0.5, 1, 437.25, 999.999]
    let features = MutableFloatSlice(zeros: times.count * timeFrequencyCount)
    timeFrequencies(output: features.mutableSpan, times: times.span)
    for (i, t) in times.enumerated() {
      let angles = (0..<128).map { Double(t) * exp(-log(10000) * Double($0) / 128) }
      let expected = angles.map { cos($0) } + angles.map { sin($0) }
      // The exponent, up to 9.2, is rounded as well.
      let scales = (angles + angles).map { 1 + 10 * $0 }
      let found = features[i * timeFrequencyCount..<(i + 1) * timeFrequencyCount].array
      #expect(mismatch(found, expected, within: .roundings(2), scales: scales) == nil, "t = \(t)")
    }
  }

  /// The column in the first half, sine before cosine; 3 rows and 5 columns tell them apart.
  @Test("Sine-cosine positions have the column in the first half, sine before cosine", arguments: [4, 24, 72])
  func positions(_ width: Int) {
    let (rows, columns, quarter) = (3, 5, width / 4)
    let operands = Operands()
    let table = operands.output("table", rows * columns * width)
    sinCosPositions(output: table.mutableSpan, rows: rows, columns: columns, width: width)
    let expected = (0..<rows * columns * width).map { i -> Double in
      let (token, dimension) = (i / width, i % width)
      let position = dimension < width / 2 ? token % columns : token / columns
      let angle = Double(position) * pow(10000, -Double(dimension % quarter) / Double(quarter))
      return dimension / quarter % 2 == 0 ? sin(angle) : cos(angle)
    }
    #expect(mismatch(table.array, expected, within: .roundings(1)) == nil)
    #expect(operands.damage == nil)
  }

  @Test("Label rows are added, and their gradients summed in the order of the samples")
  func labels() {
    var draw = Draw(seed: 51)
    let (classes, width, labels) = (7, 5, [6, 0, 3, 3, 6, 3])
    let (rows, table, gradient) = (
      draw.normal(labels.count * width), draw.normal(classes * width), draw.normal(classes * width)
    )
    let operands = Operands(["output": rows, "gradient": gradient])
    let output = operands.state("output")
    addEmbedding(
      output: output.mutableSpan, table: operands.vector("table", table).span, labels: labels.span, width: width)
    let expected = rows.indices.map { rows[$0] + table[labels[$0 / width] * width + $0 % width] }
    #expect(bitDifference(output.array, expected) == nil)

    // A label that comes three times gets three gradients, added in the order of the samples.
    let sums = operands.state("gradient")
    addEmbeddingBackward(
      tableGradient: sums.mutableSpan, outputGradient: operands.vector("rows", rows).span, labels: labels.span,
      width: width)
    var total = gradient
    for (n, label) in labels.enumerated() {
      for i in 0..<width { total[label * width + i] += rows[n * width + i] }
    }
    #expect(bitDifference(sums.array, total) == nil)
    #expect(operands.damage == nil)
  }
}
