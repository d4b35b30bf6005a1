import DiTKernels
import DiTTensor

/// LayerNorm with modulate, its output made again from what was saved, and its gradients; shift and scale lie in wider rows.
public struct LayerNormCase: KernelCase {
  enum Stage: Int, Sendable { case forward, again, backward }

  let samples, tokens, width: Int
  var format = Format.fp32
  /// Of the rows of x.
  var mean: Float = 0.3
  var deviation: Float = 1
  /// The mean in deviations, at most.
  var offset = 1.0
  /// The last that runs.
  var stage = Stage.backward

  private static let epsilon = 1e-6
  private var rows: Int { samples * tokens }

  public var description: String {
    "\(samples)×\(tokens)×\(width) into \(format), mean \(mean) of deviation \(deviation)"
  }
  public var kernels: Set<String> {
    ["norm_modulate", "modulate_from_stats", "norm_modulate_backward", "column_sums"]
  }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    [
      "x": draw.normal(rows * width, deviation: deviation, mean: mean), "shift": draw.normal(samples * width),
      "scale": draw.normal(samples * width), "dy": draw.normal(rows * width), "dx": draw.normal(rows * width),
    ]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let x = o.matrix("x", rows: rows, columns: width)
    let shift = o.matrix("shift", rows: samples, columns: width, stride: 3 * width + 1)
    let scale = o.matrix("scale", rows: samples, columns: width, stride: 3 * width + 1)
    let out = o.output("out", rows: rows, columns: width, format: format)
    let (mean, rstd) = (o.output("mean", rows), o.output("rstd", rows))
    let forward = {
      context.normModulate(
        output: out, mean: mean, rstd: rstd, input: x, shift: shift, scale: scale, epsilon: Float(Self.epsilon),
        tokens: tokens)
    }
    if stage == .forward { return forward }
    forward()
    let second = o.output("again", rows: rows, columns: width, format: format)
    let again = {
      context.modulateFromStatistics(
        output: second, mean: mean.reading, rstd: rstd.reading, input: x, shift: shift, scale: scale, tokens: tokens)
    }
    if stage == .again { return again }
    again()
    let dx = o.state("dx", rows: rows, columns: width)
    let dshift = o.output("dshift", rows: samples, columns: width, stride: 2 * width + 3)
    let dscale = o.output("dscale", rows: samples, columns: width, stride: 2 * width + 3)
    let dy = o.matrix("dy", rows: rows, columns: width)
    let scratch = o.scratch(ComputeContext.rowReductionScratch(samples: samples, tokens: tokens, width: width))
    return {
      context.normModulateBackward(
        inputGradient: dx, shiftGradient: dshift, scaleGradient: dscale, scratch: scratch, outputGradient: dy,
        mean: mean.reading, rstd: rstd.reading, input: x, scale: scale, tokens: tokens)
    }
  }

  private func forward(_ x: Inputs) -> [Double] {
    Reference.modulate(
      x["x"], shift: x["shift"], scale: x["scale"], epsilon: Self.epsilon, samples: samples, tokens: tokens,
      width: width)
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let out = forward(x)
    let rows = (0..<rows).map { Reference.normalize(x["x"][$0 * width..<($0 + 1) * width], Self.epsilon) }
    let (dx, dshift, dscale) = Reference.modulateGradient(
      x["dy"], x["x"], scale: x["scale"], epsilon: Self.epsilon, samples: samples, tokens: tokens, width: width)
    let tolerance = Tolerance.normalized(offset: offset, terms: width)
    let sums = Tolerance.normalized(offset: offset, terms: tokens)
    return [
      .near("out", out, tolerance),
      format == .bf16 ? .same("again", as: "out") : .near("again", out, tolerance),
      .near("mean", rows.map(\.1), tolerance), .near("rstd", rows.map(\.2), tolerance),
      // One value wide, x − mean is 0 and rstd 1000: what should cancel is left with a rounding of dy · 1000.
      .near("dx", sum(x["dx"], dx), tolerance, scales: width == 1 ? dx.map { _ in 1000 } : nil),
      .near("dshift", dshift, sums),
      .near("dscale", dscale, sums, scales: offset > 1 ? nil : dscale.map { _ in 10 }),
    ]
  }

  public var gradients: [String: String] { ["x": "dx", "shift": "dshift", "scale": "dscale"] }
  public func loss(_ x: Inputs) -> Double { dot(x["dy"], forward(x)) }
  public static let differenced = [LayerNormCase(samples: 2, tokens: 3, width: 5)]

  /// Odd widths; tokens on both sides of the 64 rows that a task takes.
  static let sizes = [
    (1, 1, 1), (2, 3, 7), (1, 5, 17), (3, 64, 5), (3, 65, 72), (2, 130, 145), (1, 513, 16), (2, 1, 385), (2, 200, 37),
  ]

  /// Rows with means far from zero: x = 1000 ± 1, and −40 ± 0.01.
  public static let all =
    sizes.flatMap { samples, tokens, width in
      Format.all.map { LayerNormCase(samples: samples, tokens: tokens, width: width, format: $0) }
    }
    + [(Float(1000), Float(1)), (-40, 0.01)].map { mean, deviation in
      LayerNormCase(
        samples: 2, tokens: 3, width: 145, mean: mean, deviation: deviation, offset: Double(abs(mean / deviation)))
    }

  /// In `tiny` the variance is about ε: a wrong ε, or one outside the root, shows. Rows have means of up to 3 deviations.
  public static let fixtures = ["7", "72", "145", "tiny"].map { name in
    KernelFixture("modulated LayerNorm, \(name)") {
      let (fixture, name) = (try Fixture("kernels"), "modulate.\(name)")
      let shape = try fixture.shape("\(name).x")
      let c = LayerNormCase(samples: shape[0], tokens: shape[1], width: shape[2], offset: 3)
      var inputs = ["dx": [Float](repeating: 0, count: shape.reduce(1, *))]
      for input in ["x", "shift", "scale", "dy"] { inputs[input] = try fixture.floats("\(name).\(input)") }
      return try .init(
        kernel: c, inputs: inputs,
        results: [
          "out": fixture.doubles("\(name).y"), "dx": fixture.doubles("\(name).dx"),
          "dshift": fixture.doubles("\(name).dshift"), "dscale": fixture.doubles("\(name).dscale"),
        ])
    }
  }

  /// A block of DiT-B/2 at batch 8.
  public static let measured = [
    (Stage.forward, "layerNormModulate", "x r, h w", 2), (.again, "modulateFromStatistics", "x r, h w", 2),
    (.backward, "layerNormModulateBackward", "dh r, x r, dx r w", 4),
  ].map { stage, name, arrays, count in
    KernelSpeed(
      name, .bytes(arrays, 4 * count * 2048 * 768),
      LayerNormCase(samples: 8, tokens: 256, width: 768, stage: stage))
  }
}

/// The gradients of x + gate ⊙ y.
public struct GateBackwardCase: KernelCase {
  let samples, tokens, width: Int
  let format: Format

  public var description: String { "\(samples)×\(tokens)×\(width) in \(format)" }
  public var kernels: Set<String> { ["gate_backward", "column_sums"] }
  private var rows: Int { samples * tokens }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    [
      "dx": draw.normal(rows * width), "y": draw.normal(rows * width).rounded(to: format),
      "gate": draw.normal(samples * width),
    ]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let y = o.matrix("y", rows: rows, columns: width, format: format)
    let dx = o.matrix("dx", rows: rows, columns: width)
    let gate = o.matrix("gate", rows: samples, columns: width, stride: 2 * width + 5)
    let dy = o.output("dy", rows: rows, columns: width, format: format)
    let dgate = o.output("dgate", rows: samples, columns: width, stride: 3 * width + 2)
    let scratch = o.scratch(ComputeContext.rowReductionScratch(samples: samples, tokens: tokens, width: width))
    return {
      context.gateBackward(
        outputGradient: dy, gateGradient: dgate, scratch: scratch, residualGradient: dx, output: y, gate: gate,
        tokens: tokens)
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (dx, y, gate) = (x["dx"], x["y"], x["gate"])
    var dgate = [Double](repeating: 0, count: gate.count)
    let dy = dx.indices.map { i in
      let at = i / (tokens * width) * width + i % width
      dgate[at] += dx[i] * y[i]
      return gate[at] * dx[i]
    }
    return [.near("dy", dy, .roundings(1)), .near("dgate", dgate, .sum(of: tokens))]
  }

  public static let all = LayerNormCase.sizes.flatMap { samples, tokens, width in
    Format.all.map { GateBackwardCase(samples: samples, tokens: tokens, width: width, format: $0) }
  }

  public static let fixtures = [
    KernelFixture("the gradients of x + gate ⊙ y") {
      let fixture = try Fixture("kernels")
      let shape = try fixture.shape("gate.x")
      return try .init(
        kernel: GateBackwardCase(samples: shape[0], tokens: shape[1], width: shape[2], format: .fp32),
        inputs: [
          "dx": fixture.floats("gate.dy"), "y": fixture.floats("gate.branch"), "gate": fixture.floats("gate.gate"),
        ],
        results: ["dy": fixture.doubles("gate.dbranch"), "dgate": fixture.doubles("gate.dgate")])
    }
  ]

  public static let measured = [
    KernelSpeed(
      "gateBackward", .bytes("dx r, y r, dy w", 12 * 2048 * 768),
      GateBackwardCase(samples: 8, tokens: 256, width: 768, format: .fp32))
  ]
}

/// Group normalization: moments of rows, a scale and a shift for each channel, and what they make of an image. The mean is
/// 50 deviations: E[x²] − E[x]² would lose it.
public struct GroupNormalizationCase: KernelCase {
  let rows, width, channels, groups: Int
  let format: Format

  public var description: String { "\(rows)×\(width)×\(channels) in \(groups) groups, into \(format)" }
  public var kernels: Set<String> { ["channel_moments", "channel_affine"] }
  private var pixels: Int { rows * width }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    ["x": draw.normal(pixels * channels, mean: 50), "γ": draw.normal(channels), "β": draw.normal(channels)]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let (x, gamma, beta) = (o.vector("x"), o.vector("γ"), o.vector("β"))
    let (mean, m2) = (o.output("mean", rows * channels), o.output("m2", rows * channels))
    let (scale, shift) = (o.output("scale", channels), o.output("shift", channels))
    let y = o.output("y", rows: pixels, columns: channels, format: format)
    return {
      context.rowMoments(mean: mean, spread: m2, input: x, rows: rows, width: width, channels: channels)
      context.groupNormalization(
        scale: scale, shift: shift, mean: mean.reading, spread: m2.reading, weight: gamma, bias: beta, epsilon: 1e-6,
        rows: rows, width: width, channels: channels, groups: groups)
      context.channelAffine(output: y, input: x, scale: scale.reading, shift: shift.reading)
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (values, gamma, beta, size) = (x["x"], x["γ"], x["β"], channels / groups)
    var (mean, m2): ([Double], [Double]) = ([], [])
    for row in 0..<rows {
      for c in 0..<channels {
        let line = (0..<width).map { values[(row * width + $0) * channels + c] }
        let center = line.reduce(0, +) / Double(width)
        mean.append(center)
        m2.append(line.reduce(0) { $0 + ($1 - center) * ($1 - center) })
      }
    }
    let statistics = (0..<groups).map { g in
      let group = (0..<pixels).flatMap { p in (0..<size).map { values[p * channels + g * size + $0] } }
      let (_, center, rstd) = Reference.normalize(group[...], 1e-6)
      return (center, rstd)
    }
    let scale = gamma.indices.map { gamma[$0] * statistics[$0 / size].1 }
    let shift = beta.indices.map { beta[$0] - statistics[$0 / size].0 * scale[$0] }
    let y = values.indices.map { values[$0] * scale[$0 % channels] + shift[$0 % channels] }
    // x · scale and shift are each 50 times the result.
    let tolerance = Tolerance.normalized(offset: 50, terms: pixels * size)
    return [
      .near("mean", mean, .sum(of: width)), .near("m2", m2, .normalized(offset: 50, terms: width)),
      .near("scale", scale, tolerance), .near("shift", shift, tolerance), .near("y", y, tolerance),
    ]
  }

  public static let all = [(3, 5, 70, 7), (9, 23, 70, 10), (1, 1, 8, 2)].flatMap { rows, width, channels, groups in
    Format.all.map {
      GroupNormalizationCase(rows: rows, width: width, channels: channels, groups: groups, format: $0)
    }
  }
}
