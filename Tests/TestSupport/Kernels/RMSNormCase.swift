import DiTKernels
import DiTTensor

/// RMSNorm with modulate, with a weight or without, its output made again from what was saved, and its gradients.
public struct RMSNormCase: KernelCase {
  enum Stage: Int, Sendable { case forward, again, backward }

  let samples, tokens, width: Int
  var format = Format.fp32
  var isWeighted = true
  /// Shift and scale are one row that all samples share.
  var isShared = false
  /// Whether the weight's gradient is wanted.
  var isTrained = true
  /// The last that runs.
  var stage = Stage.backward

  private static let epsilon = 1e-6
  private var rows: Int { samples * tokens }
  private var modulations: Int { isShared ? 1 : samples }

  public var description: String {
    "\(samples)×\(tokens)×\(width) into \(format)\(isWeighted ? ", weighted" : "")\(isShared ? ", shared" : "")"
      + (isTrained ? "" : ", fixed")
  }
  public var kernels: Set<String> {
    let all: Set = ["norm_modulate", "modulate_from_stats", "norm_modulate_backward", "column_sums"]
    return isWeighted ? all.union(["norm_weight_backward"]) : all
  }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    var inputs = [
      "x": draw.normal(rows * width, mean: 0.3), "shift": draw.normal(modulations * width),
      "scale": draw.normal(modulations * width), "dy": draw.normal(rows * width), "dx": draw.normal(rows * width),
    ]
    if isWeighted {
      inputs["weight"] = draw.normal(width, mean: 1)
      if isTrained { inputs["dweight"] = draw.normal(width) }
    }
    return inputs
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    func modulation(_ name: String) -> Matrix {
      guard isShared else { return o.matrix(name, rows: samples, columns: width, stride: 3 * width + 1) }
      return Matrix(o.vector(name), rows: samples, columns: width, stride: 0)
    }
    let x = o.matrix("x", rows: rows, columns: width)
    let (shift, scale, weight) = (modulation("shift"), modulation("scale"), isWeighted ? o.vector("weight") : nil)
    let (out, rstd) = (o.output("out", rows: rows, columns: width, format: format), o.output("rstd", rows))
    let forward = {
      context.normModulate(
        output: out, mean: nil, rstd: rstd, input: x, weight: weight, shift: shift, scale: scale,
        epsilon: Float(Self.epsilon), tokens: tokens)
    }
    if stage == .forward { return forward }
    forward()
    let second = o.output("again", rows: rows, columns: width, format: format)
    let again = {
      context.modulateFromStatistics(
        output: second, mean: nil, rstd: rstd.reading, input: x, weight: weight, shift: shift, scale: scale,
        tokens: tokens)
    }
    if stage == .again { return again }
    again()
    let dx = o.state("dx", rows: rows, columns: width)
    let dshift = o.output("dshift", rows: samples, columns: width, stride: 2 * width + 3)
    let dscale = o.output("dscale", rows: samples, columns: width, stride: 2 * width + 5)
    let dweight = isWeighted && isTrained ? o.state("dweight") : nil
    let dy = o.matrix("dy", rows: rows, columns: width)
    let scratch = o.scratch(ComputeContext.rowReductionScratch(samples: samples, tokens: tokens, width: width))
    return {
      context.normModulateBackward(
        inputGradient: dx, weightGradient: dweight, shiftGradient: dshift, scaleGradient: dscale, scratch: scratch,
        outputGradient: dy, mean: nil, rstd: rstd.reading, input: x, weight: weight, scale: scale, tokens: tokens)
    }
  }

  /// The row of shift and scale that a row of x has.
  private func at(_ row: Int) -> Int { isShared ? 0 : row / tokens * width }

  private func weight(_ x: Inputs) -> [Double] {
    isWeighted ? x["weight"] : [Double](repeating: 1, count: width)
  }

  /// 1 / √(mean(x²) + ε) of each row.
  private func rstd(_ x: [Double]) -> [Double] {
    (0..<rows).map { row in
      let square = x[row * width..<(row + 1) * width].reduce(0) { $0 + $1 * $1 } / Double(width)
      return 1 / (square + Self.epsilon).squareRoot()
    }
  }

  private func forward(_ x: Inputs) -> [Double] {
    let (values, shift, scale, weight) = (x["x"], x["shift"], x["scale"], weight(x))
    let rstd = rstd(values)
    return values.indices.map { i in
      let (row, c) = (i / width, i % width)
      return values[i] * rstd[row] * weight[c] * (1 + scale[at(row) + c]) + shift[at(row) + c]
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (values, scale, weight, dy, out) = (x["x"], x["scale"], weight(x), x["dy"], forward(x))
    let rstd = rstd(values)
    var (dx, dweight) = (x["dx"], [Double](repeating: 0, count: width))
    var dshift = [Double](repeating: 0, count: samples * width)
    var dscale = dshift
    for row in 0..<rows {
      let (start, sample, r) = (row * width, row / tokens * width, rstd[row])
      // n depends on its own x, and through r on all of the row: dr/dx = −r³ x / width.
      var dr = 0.0
      for c in 0..<width {
        let (n, d) = (values[start + c] * r, dy[start + c])
        dshift[sample + c] += d
        dscale[sample + c] += d * n * weight[c]
        dweight[c] += d * n * (1 + scale[at(row) + c])
        dr += d * weight[c] * (1 + scale[at(row) + c]) * values[start + c]
      }
      for c in 0..<width {
        dx[start + c] +=
          dy[start + c] * weight[c] * (1 + scale[at(row) + c]) * r
          - dr * r * r * r * values[start + c] / Double(width)
      }
    }
    let (tolerance, sums) = (
      Tolerance.normalized(offset: 1, terms: width), Tolerance.normalized(offset: 1, terms: tokens)
    )
    // One value wide, n is ±1 and what should cancel is left with a rounding of rstd · dy.
    let largest = 10 * rstd.largest
    var all: [Expectation] = [
      .near("out", out, tolerance),
      format == .bf16 ? .same("again", as: "out") : .near("again", out, tolerance),
      .near("rstd", rstd, tolerance), .near("dx", dx, tolerance, scales: width == 1 ? dx.map { _ in largest } : nil),
      .near("dshift", dshift, sums), .near("dscale", dscale, sums, scale: max(10, dscale.largest)),
    ]
    if isWeighted && isTrained {
      all.append(
        .near(
          "dweight", sum(x["dweight"], dweight), .normalized(offset: 1, terms: rows), scale: max(10, dweight.largest)))
    }
    return all
  }

  public var gradients: [String: String] {
    ["x": "dx", "shift": "dshift", "scale": "dscale"].merging(isWeighted ? ["weight": "dweight"] : [:]) { $1 }
  }
  public func loss(_ x: Inputs) -> Double { dot(x["dy"], forward(x)) }
  public static let differenced = [true, false].map {
    RMSNormCase(samples: 2, tokens: 3, width: 5, isWeighted: $0)
  }

  public static let all =
    LayerNormCase.sizes.flatMap { samples, tokens, width in
      Format.all.flatMap { format in
        [true, false].map {
          RMSNormCase(samples: samples, tokens: tokens, width: width, format: format, isWeighted: $0)
        }
      }
    } + [
      RMSNormCase(samples: 3, tokens: 5, width: 300, isShared: true),
      RMSNormCase(samples: 2, tokens: 70, width: 513, isTrained: false),
    ]

  /// In `tiny` the mean square is about ε.
  public static let fixtures = ["7", "145", "tiny"].map { name in
    KernelFixture("modulated RMSNorm, \(name)") {
      let (fixture, name) = (try Fixture("kernel_parts"), "rms.\(name)")
      let shape = try fixture.shape("\(name).x")
      var inputs = [
        "dx": [Float](repeating: 0, count: shape.reduce(1, *)), "dweight": [Float](repeating: 0, count: shape[2]),
      ]
      for input in ["x", "weight", "shift", "scale", "dy"] { inputs[input] = try fixture.floats("\(name).\(input)") }
      return try .init(
        kernel: RMSNormCase(samples: shape[0], tokens: shape[1], width: shape[2]), inputs: inputs,
        results: [
          "out": fixture.doubles("\(name).y"), "dx": fixture.doubles("\(name).dx"),
          "dweight": fixture.doubles("\(name).dweight"), "dshift": fixture.doubles("\(name).dshift"),
          "dscale": fixture.doubles("\(name).dscale"),
        ])
    }
  }

  /// A block of width 768 at 2048 tokens.
  public static let measured = [
    (Stage.forward, "rmsNormModulate", "x r, h w", 2), (.again, "rmsModulateFromStatistics", "x r, h w", 2),
    (.backward, "rmsNormModulateBackward", "dh r, x r, dx r w", 4),
  ].map { stage, name, arrays, count in
    KernelSpeed(
      name, .bytes(arrays, 4 * count * 2048 * 768), RMSNormCase(samples: 8, tokens: 256, width: 768, stage: stage))
  }
}
