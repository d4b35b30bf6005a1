import DiTKernels
import DiTTensor

/// Values of every size up to ±100, where the sigmoid under- and overflows in a careless form.
private func everySize(_ count: Int, _ draw: inout Draw) -> [Float] {
  draw.normal(count).enumerated().map { $1 * [0.01, 1, 3, 10, 30][$0 % 5] }
}

/// Errors as a share of |x|, element by element: σ is in error by some 2⁻²³ whatever x is, so x σ is by a share of |x|,
/// and a slope, of order 1, by a share of what it weights. 1e-30 keeps the share meaningful where σ is below Float's range.
private func shares(_ x: [Double]) -> [Double] { x.map { abs($0) + 1e-30 } }

private func slope(_ f: (Double) -> Double, _ x: Double) -> Double { centralDifferences(at: [x]) { f($0[0]) }[0] }

/// Around a vector's length.
private let counts = [1, 3, 5, 7, 15, 16, 17, 31, 385]

/// GELU (tanh form) and back through it, as endings of products by 1.
public struct GELUCase: KernelCase {
  let count: Int
  let isPacked: Bool
  var isForward = true

  public var description: String { "\(count), \(isPacked ? "panels" : "OpenBLAS")" }
  public var kernels: Set<String> { isPacked ? ["pack_plain", "product"] : ["bias_gelu", "gelu_backward"] }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    ["x": everySize(count, &draw), "dh": draw.normal(count)]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let one = o.matrix("one", [1], rows: 1, columns: 1)
    let bias = o.vector("bias", [Float](repeating: 0, count: count))
    let (x, dh) = (o.matrix("x", rows: 1, columns: count), o.matrix("dh", rows: 1, columns: count))
    func right(_ m: Matrix) -> Matrix {
      let elements = ComputeContext.packedElements(depth: 1, columns: count, format: .fp32)
      return isPacked ? context.pack(m, into: o.scratch(elements), as: .fp32) : m
    }
    let (forward, backward) = (right(x), right(dh))
    let (y, sums) = (o.output("y", rows: 1, columns: count), o.output("sums", rows: 1, columns: count))
    if isForward {
      context.product(into: y, one, forward, bias: bias, epilogue: .gelu(sums: .kept(sums)))
    }
    let (dx, again) = (o.output("dx", rows: 1, columns: count), o.output("again", rows: 1, columns: count))
    return {
      context.product(into: dx, one, backward, epilogue: .geluBackward(preactivation: x, activation: .rows(again)))
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (values, dh) = (x["x"], x["dh"])
    let y = values.map(Reference.gelu)
    return [
      .near("y", y, .roundings(6), scales: shares(values)), .near("sums", values, .roundings(0)),
      // GELU's slope is σ + x σ(1−σ)(1.6 + 0.21x²). Near x = 5, 1 − σ is a few units of 2⁻²⁴ and what multiplies it is 35,
      // so that its rounding alone is worth 18; beyond, σ rounds to 1 and the term is gone.
      .near("dx", zip(values, dh).map { $1 * slope(Reference.gelu, $0) }, .roundings(40), scales: shares(dh)),
      .near("again", y, .roundings(6), scales: shares(values)),
    ]
  }

  public static let all = [true, false].flatMap { isPacked in
    (counts + [65_536, 131_077]).map { GELUCase(count: $0, isPacked: isPacked) }
  }

  /// The exact (erf) GELU differs from the tanh form by up to 5e-4 here, a hundred times what is allowed.
  public static let fixtures = [true, false].map { isPacked in
    KernelFixture("GELU, \(isPacked ? "panels" : "OpenBLAS")") {
      let fixture = try Fixture("kernels")
      let (x, dh, y) = try (fixture.floats("gelu.x"), fixture.floats("gelu.dy"), fixture.doubles("gelu.y"))
      return try .init(
        kernel: GELUCase(count: x.count, isPacked: isPacked), inputs: ["x": x, "dh": dh],
        results: ["y": y, "again": y, "dx": fixture.doubles("gelu.dx")])
    }
  }

  /// The product that comes before is of depth 1, and its sums stay in cache.
  public static let measured = [
    KernelSpeed(
      "geluBackward", .bytes("pre r, dh w, h w", 12 * 2048 * 3072),
      GELUCase(count: 2048 * 3072, isPacked: false, isForward: false))
  ]
}

/// x σ(x) and its gradient.
public struct SiLUCase: KernelCase {
  let count: Int
  var isBackward = true

  public var description: String { "\(count)" }
  public var kernels: Set<String> { ["silu", "silu_backward"] }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    ["x": everySize(count, &draw), "dy": draw.normal(count)]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let (x, y) = (o.vector("x"), o.output("y", count))
    let forward = { context.silu(output: y, input: x) }
    guard isBackward else { return forward }
    forward()
    let (dy, dx) = (o.vector("dy"), o.output("dx", count))
    return { context.siluBackward(inputGradient: dx, outputGradient: dy, input: x) }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (values, dy) = (x["x"], x["dy"])
    return [
      .near("y", values.map(Reference.silu), .roundings(6), scales: shares(values)),
      .near("dx", zip(values, dy).map { $1 * slope(Reference.silu, $0) }, .roundings(24), scales: shares(dy)),
    ]
  }

  public static let all = (counts + [131_077]).map { SiLUCase(count: $0) }

  public static let fixtures = [
    KernelFixture("SiLU") {
      let fixture = try Fixture("kernels")
      let x = try fixture.floats("silu.x")
      return try .init(
        kernel: SiLUCase(count: x.count), inputs: ["x": x, "dy": fixture.floats("silu.dy")],
        results: ["y": fixture.doubles("silu.y"), "dx": fixture.doubles("silu.dx")])
    }
  ]

  public static let measured = [
    KernelSpeed(
      "silu (one thread)", .bytes("x r, y w", 8 * 2048 * 3072), SiLUCase(count: 2048 * 3072, isBackward: false)),
    KernelSpeed("siluBackward (one thread)", .bytes("dy r, x r, dx w", 12 * 2048 * 3072), SiLUCase(count: 2048 * 3072)),
  ]
}

/// y += x, by the calling thread or by all.
public struct AdditionCase: KernelCase {
  let count: Int
  var loop = FlatLoop.caller

  public var description: String { "\(count) by \(loop)" }
  public var kernels: Set<String> { count > 0 ? ["add"] : [] }

  public func draw(_ draw: inout Draw) -> [String: [Float]] { ["x": draw.normal(count), "y": draw.normal(count)] }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let (x, y) = (o.vector("x"), o.state("y"))
    return { context.add(x, to: y, by: loop) }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    [.bits("y", zip(x.floats("x"), x.floats("y")).map { $0 + $1 })]
  }

  public static let all =
    ([0] + counts + [131_077]).map { AdditionCase(count: $0) }
    + [0, 65_536, 131_077].map { AdditionCase(count: $0, loop: .threads) }
}

/// A sum over rows, in order, and a row added to each; the rows lie in wider ones.
public struct RowSumCase: KernelCase {
  let rows, columns: Int

  public var description: String { "\(rows)×\(columns)" }
  public var kernels: Set<String> { rows > 0 ? ["column_sums", "add_bias"] : [] }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    ["x": draw.normal(rows * columns), "sum": draw.normal(columns), "row": draw.normal(columns)]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let x = o.matrix("x", rows: rows, columns: columns, stride: columns + 3)
    let (sum, row) = (o.state("sum"), o.vector("row"))
    let y = o.state("y", from: "x", rows: rows, columns: columns, stride: columns + 3)
    return {
      context.addSum(into: sum, ofRows: x)
      context.add(row, toRows: y)
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (values, start, row) = (x.floats("x"), x.floats("sum"), x.floats("row"))
    let sums = start.indices.map { i in (0..<rows).reduce(start[i]) { $0 + values[$1 * columns + i] } }
    return [.bits("sum", sums), .bits("y", values.indices.map { values[$0] + row[$0 % columns] })]
  }

  public static let all = [(1, 5), (3, 4096), (7, 9001), (0, 3), (5, 37), (2, 65_538)].map {
    RowSumCase(rows: $0, columns: $1)
  }
}
