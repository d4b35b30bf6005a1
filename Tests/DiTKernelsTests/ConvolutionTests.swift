import DiTKernels
import DiTTensor
import TestSupport
import Testing

// 3 × 3 convolutions against one loop an index in Double, at every level, on sizes that fill neither tiles nor vectors.

/// What a convolution is of: an image and filters, the part before it and the residual optional.
private struct Case {
  var extents: Convolution
  var isNormalised = false
  var hasResidual = false
  let x, w, b, scale, shift, residual: [Float]

  init(_ extents: Convolution, isNormalised: Bool, hasResidual: Bool, seed: UInt64) {
    var random = Philox(seed: seed)
    let step = extents.isUpsampling ? 2 : 1
    self.extents = extents
    self.isNormalised = isNormalised
    self.hasResidual = hasResidual
    x = random.normal(count: extents.height / step * (extents.width / step) * extents.channels)
    w = random.normal(count: extents.outputs * extents.channels * 9)
    b = random.normal(count: extents.outputs)
    scale = random.normal(count: extents.channels)
    shift = random.normal(count: extents.channels)
    residual = random.normal(count: extents.height * extents.width * extents.outputs)
  }

  var expected: [Double] {
    let (e, step) = (extents, extents.isUpsampling ? 2 : 1)
    var y = [Double](repeating: 0, count: e.height * e.width * e.outputs)
    let z = x.indices.map { i in
      guard isNormalised else { return Double(x[i]) }
      let c = i % e.channels
      return Reference.silu(Double(x[i]) * Double(scale[c]) + Double(shift[c]))
    }
    for row in 0..<e.height {
      for column in 0..<e.width {
        for o in 0..<e.outputs {
          let at = (row * e.width + column) * e.outputs + o
          var sum = Double(b[o]) + (hasResidual ? Double(residual[at]) : 0)
          for tap in 0..<9 {
            let (r, c) = (row + tap / 3 - 1, column + tap % 3 - 1)
            guard 0..<e.height ~= r, 0..<e.width ~= c else { continue }
            let pixel = (r / step * (e.width / step) + c / step) * e.channels
            for k in 0..<e.channels { sum += z[pixel + k] * Double(w[(o * e.channels + k) * 9 + tap]) }
          }
          y[at] = sum
        }
      }
    }
    return y
  }

  /// In rows of parts of `part` rows each; nil: at once.
  func run(_ context: ComputeContext, _ precision: Precision, usesBLAS: Bool = false, part: Int? = nil) -> (
    result: Slice, damage: String?
  ) {
    let (e, operands) = (extents, Operands())
    let packed = Slice(
      zeros: ComputeContext.packedFilterElements(channels: e.channels, outputs: e.outputs, precision: precision))
    context.packFilters(
      packed.mutableBytes, weight: operands.input("w", w).span, channels: e.channels, outputs: e.outputs,
      precision: precision)
    let y = operands.output("y", e.height * e.width * e.outputs)
    let scratch = operands.output("scratch", context.convolutionScratch(e, precision: precision))
    let input = operands.input("x", x)
    let (scale, shift) = (operands.input("scale", scale), operands.input("shift", shift))
    let none = scale[0..<0]
    let residual = hasResidual ? operands.input("residual", residual) : none
    let rows = part ?? e.height
    for start in stride(from: 0, to: e.height, by: rows) {
      context.convolution(
        output: y.mutableSpan, input: input.span, packed: packed.bytes, precision, usesBLAS: usesBLAS,
        bias: operands.input("b", b).span, scale: (isNormalised ? scale : none).span,
        shift: (isNormalised ? shift : none).span, residual: residual.span, scratch: scratch.mutableSpan, e,
        rows: ConvolutionRows(start..<min(start + rows, e.height)))
    }
    return (y, operands.damage)
  }
}

@Suite("3 x 3 convolutions and group normalisation") struct ConvolutionTests {
  static let extents = [
    Convolution(height: 5, width: 7, channels: 3, outputs: 5),
    Convolution(height: 4, width: 8, channels: 16, outputs: 64),
    Convolution(height: 1, width: 1, channels: 20, outputs: 70),
    Convolution(height: 10, width: 6, channels: 33, outputs: 130, isUpsampling: true),
    Convolution(height: 30, width: 44, channels: 7, outputs: 9),  // more tiles than a block
    Convolution(height: 2, width: 3, channels: 530, outputs: 3),  // more channels than a run keeps
  ]

  @Test(
    "Winograd convolution in Float32 agrees with Double, with normalisation, residual and upsampling",
    arguments: Level.all, extents)
  func float32(level: Level, extents: Convolution) throws {
    let context = try level.context()
    for (n, (isNormalised, hasResidual)) in [(false, false), (true, true)].enumerated() {
      let c = Case(extents, isNormalised: isNormalised, hasResidual: hasResidual, seed: UInt64(n))
      let expected = c.expected
      for usesBLAS in [false, true] {
        let (y, damage) = c.run(context, .fp32, usesBLAS: usesBLAS)
        #expect(mismatch(y.array, expected, within: .winograd(channels: extents.channels)) == nil)
        #expect(damage == nil)
      }
    }
  }

  @Test("Convolution in bf16 agrees with Double", arguments: Level.all, extents)
  func bf16(level: Level, extents: Convolution) throws {
    let c = Case(extents, isNormalised: true, hasResidual: true, seed: 3)
    let (y, damage) = c.run(try level.context(), .bf16)
    #expect(mismatch(y.array, c.expected, within: .bf16(6)) == nil)
    #expect(damage == nil)
  }

  /// A part's rows are those of the whole, bit by bit, and so are they with any number of threads.
  @Test(
    "Rows computed in parts, at any number of threads, have the bits of the whole", arguments: Level.all,
    Precision.allCases)
  func parts(level: Level, precision: Precision) throws {
    for extents in Self.extents {
      let c = Case(extents, isNormalised: true, hasResidual: true, seed: 5)
      let whole = c.run(try level.context(threads: 1), precision).result
      let tile = ComputeContext.convolutionTile(precision)
      for part in [tile, 3 * tile] {
        let found = c.run(try level.context(threads: 3), precision, part: part).result
        #expect(bitDifference(found.array, whole.array) == nil)
      }
    }
  }

  /// A residual may be the result's own memory.
  @Test("The residual may be the result's own memory", arguments: Level.all)
  func inPlace(level: Level) throws {
    let c = Case(Self.extents[0], isNormalised: false, hasResidual: true, seed: 6)
    let context = try level.context()
    let (e, y) = (c.extents, Slice(c.residual))
    let packed = Slice(
      zeros: ComputeContext.packedFilterElements(channels: e.channels, outputs: e.outputs, precision: .fp32))
    let (w, x, b) = (Slice(c.w), Slice(c.x), Slice(c.b))
    context.packFilters(
      packed.mutableBytes, weight: w.span, channels: e.channels, outputs: e.outputs, precision: .fp32)
    let scratch = Slice(zeros: context.convolutionScratch(e, precision: .fp32))
    context.convolution(
      output: y.mutableSpan, input: x.span, packed: packed.bytes, .fp32, bias: b.span, residual: y.span,
      scratch: scratch.mutableSpan, e)
    #expect(mismatch(y.array, c.expected, within: .winograd(channels: e.channels)) == nil)
  }

  @Test("Convolution through patches, strided or not, agrees with Double", arguments: Level.all, Precision.allCases)
  func patches(level: Level, precision: Precision) throws {
    let context = try level.context()
    for c in [
      PatchConvolution(height: 7, width: 5, channels: 3, outputs: 70),
      PatchConvolution(height: 6, width: 10, channels: 17, outputs: 5, stride: 2, before: 0, after: 1),
      PatchConvolution(height: 5, width: 2, channels: 4, outputs: 3, stride: 2, before: 0, after: 1),
    ] {
      var random = Philox(seed: 9)
      let x = random.normal(count: c.height * c.width * c.channels).rounded(to: precision)
      let w = random.normal(count: c.outputs * c.channels * 9).rounded(to: precision)
      let b = random.normal(count: c.outputs)
      var expected = [Double](repeating: 0, count: c.resultHeight * c.resultWidth * c.outputs)
      for row in 0..<c.resultHeight {
        for column in 0..<c.resultWidth {
          for o in 0..<c.outputs {
            var sum = Double(b[o])
            for tap in 0..<9 {
              let (r, l) = (row * c.stride - c.before + tap / 3, column * c.stride - c.before + tap % 3)
              guard 0..<c.height ~= r, 0..<c.width ~= l else { continue }
              for k in 0..<c.channels {
                sum += Double(x[(r * c.width + l) * c.channels + k]) * Double(w[(o * c.channels + k) * 9 + tap])
              }
            }
            expected[(row * c.resultWidth + column) * c.outputs + o] = sum
          }
        }
      }
      let ordered = Slice(zeros: w.count)
      var span = ordered.mutableSpan
      ComputeContext.patchOrder(&span, weight: w.span, channels: c.channels, outputs: c.outputs)
      let packed = Slice(
        zeros: ComputeContext.packedElements(depth: 9 * c.channels, columns: c.outputs, precision: precision))
      context.packForward(
        packed.mutableBytes, weight: ordered.span, inputs: 9 * c.channels, outputs: c.outputs, precision: precision)
      for usesBLAS in precision == .fp32 ? [false, true] : [false] {
        let operands = Operands()
        let y = operands.output("y", expected.count)
        let scratch = operands.output("scratch", context.patchConvolutionScratch(c))
        context.patchConvolution(
          output: y.mutableSpan, input: operands.input("x", x).span,
          weight: (usesBLAS ? ordered : packed).bytes, precision, usesBLAS: usesBLAS,
          bias: operands.input("b", b).span, scratch: scratch.mutableSpan, c)
        #expect(mismatch(y.array, expected, within: .sum(of: 9 * c.channels)) == nil)
        #expect(operands.damage == nil)
      }
    }
  }

  @Test("Group normalisation agrees with Double where the mean is 50 deviations", arguments: Level.all)
  func groupNormalisation(level: Level) throws {
    let context = try level.context()
    let (rows, width, channels, groups) = (3, 5, 70, 7)
    var random = Philox(seed: 2)
    let pixels = rows * width
    // A mean of 50 deviations: E[x²] − E[x]² would lose it.
    let values = random.normal(count: pixels * channels).map { $0 + 50 }
    let (gamma, beta) = (random.normal(count: channels), random.normal(count: channels))
    let operands = Operands()
    let x = operands.input("x", values)
    let (mean, m2) = (operands.output("mean", rows * channels), operands.output("m2", rows * channels))
    let (scales, shifts) = (operands.output("scale", channels), operands.output("shift", channels))
    context.rowMoments(
      mean: mean.mutableSpan, spread: m2.mutableSpan, input: x.span, rows: rows, width: width, channels: channels)
    var scale = scales.mutableSpan
    var shift = shifts.mutableSpan
    context.groupNormalisation(
      scale: &scale, shift: &shift, mean: mean.span, spread: m2.span, weight: gamma.span, bias: beta.span,
      epsilon: 1e-6, rows: rows, width: width, channels: channels, groups: groups)
    let y = operands.output("y", pixels * channels)
    context.channelAffine(
      output: y.mutableBytes, .fp32, input: x.span, scale: scales.span, shift: shifts.span, pixels: pixels,
      channels: channels)
    let size = channels / groups
    var expected = [Double](repeating: 0, count: pixels * channels)
    for g in 0..<groups {
      let group = (0..<pixels).flatMap { p in (0..<size).map { Double(values[p * channels + g * size + $0]) } }
      let (normal, _, _) = Reference.normalise(group[...], 1e-6)
      for p in 0..<pixels {
        for i in 0..<size {
          let c = g * size + i
          expected[p * channels + c] = normal[p * size + i] * Double(gamma[c]) + Double(beta[c])
        }
      }
    }
    // x · scale and shift are each 50 times the result.
    #expect(mismatch(y.array, expected, within: .normalised(offset: 50, terms: pixels * size)) == nil)
    #expect(operands.damage == nil)
  }
}

extension Tolerance {
  /// Winograd's F(4 × 4): its transforms' weights amplify roundings about ten times over a plain sum's.
  fileprivate static func winograd(channels: Int) -> Tolerance {
    .roundings(40 * (4 + Int(Double(channels).squareRoot())))
  }
}
