import DiTKernels
import DiTTensor
import Foundation

/// A product that ends in a SwiGLU, y = silu(u) ⊙ g of [u ‖ g] = a Wᵀ + bias: with its sums kept, and as inference calls it.
public struct SwiGLUCase: KernelCase {
  let rows, depth, half: Int
  var format = Format.fp32
  var isPacked = true
  var isTransposed = true
  var hasBias = true

  public var description: String {
    "\(rows)×\(depth)→2×\(half) by \(isTransposed ? "Wᵀ" : "W")\(hasBias ? "" : ", no bias"), "
      + (isPacked ? "\(format) panels" : "OpenBLAS")
  }
  public var kernels: Set<String> {
    isPacked ? ["product", isTransposed ? "pack_transposed" : "pack_plain"] : ["bias_swiglu"]
  }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    [
      "a": draw.normal(rows * depth).rounded(to: format), "W": draw.normal(2 * half * depth),
      "bias": draw.normal(2 * half),
    ]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let a = o.matrix("a", rows: rows, columns: depth, format: format)
    let w = o.matrix("W", rows: isTransposed ? 2 * half : depth, columns: isTransposed ? depth : 2 * half)
    let right = isTransposed ? w.transposed : w
    let count = ComputeContext.packedElements(depth: depth, columns: 2 * half, format: format)
    let b = isPacked ? context.pack(right, into: o.scratch(count), as: format, halves: true) : right
    let bias = hasBias ? o.vector("bias") : nil
    func call(_ name: String, _ sums: Epilogue.Sums?) -> () -> Void {
      let y = o.output(name, rows: rows, columns: half, stride: half + 3, format: format)
      return { context.product(into: y, a, b, bias: bias, epilogue: .swiglu(sums: sums)) }
    }
    let sums = o.output("sums", rows: rows, columns: 2 * half, stride: 2 * half + 5, format: format)
    call("y", .kept(sums))()
    return call("y alone", isPacked ? nil : .scratch(o.scratch(like: sums)))
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (a, w) = (x["a"], x.rounded("W", to: format))
    let bias = hasBias ? x["bias"] : [Double](repeating: 0, count: 2 * half)
    let products =
      isTransposed
      ? Reference.linear(a, w, [Double](repeating: 0, count: 2 * half), rows: rows, inputs: depth, outputs: 2 * half)
      : Reference.linearInputGradient(a, w, rows: rows, inputs: 2 * half, outputs: depth)
    let sums = products.indices.map { products[$0] + bias[$0 % (2 * half)] }
    let tolerance = Tolerance.sum(of: depth)
    return [
      // An error of u counts g times, one of g silu(u) times.
      .near("y", swiglu(sums, half), tolerance, scale: 2 * sums.largest * sums.largest),
      .near("sums", sums, tolerance), .same("y alone", as: "y"),
    ]
  }

  /// Halves around a vector of 16, a half panel of 32 and several; 2730 is 8/3 of 1024, rounded down.
  private static let sizes = [
    (1, 1, 1), (2, 33, 5), (3, 5, 16), (4, 7, 17), (5, 64, 31), (6, 33, 32), (7, 1700, 33), (8, 3300, 65), (9, 1, 130),
    (13, 1701, 48), (257, 64, 75), (300, 3301, 5), (3, 9, 2730),
  ]

  public static let all =
    sizes.flatMap { rows, depth, half in
      Format.all.flatMap { format in
        [true, false].map { isTransposed in
          SwiGLUCase(
            rows: rows, depth: depth, half: half, format: format, isTransposed: isTransposed,
            hasBias: isTransposed || half % 3 != 0)
        }
      }
    }
    + [(1, 1, 1), (3, 5, 7), (17, 5, 385), (513, 17, 65), (1025, 5, 769)].flatMap { rows, depth, half in
      [true, false].map { SwiGLUCase(rows: rows, depth: depth, half: half, isPacked: false, hasBias: $0) }
    }

  /// As many multiplications as GELU's layer of the same block has.
  public static let measured = [
    KernelSpeed(
      "linearSwiGLU, w12", .operations(2 * 2048 * 768 * 4096), SwiGLUCase(rows: 2048, depth: 768, half: 2048)),
    KernelSpeed(
      "linearGELU, fc1, panels", .operations(2 * 2048 * 768 * 4096), ProductCase(2048, 768, 4096, .gelu(isKept: false))),
  ]
}

/// silu(u) ⊙ g of rows of [u ‖ g].
private func swiglu(_ sums: [Double], _ half: Int) -> [Double] {
  (0..<sums.count / 2).map { i in
    let u = i / half * 2 * half + i % half
    return Reference.silu(sums[u]) * sums[u + half]
  }
}

/// Back through a SwiGLU, as the ending of the product by the layer after it: the activation in rows; over panels then in
/// panels too, with the bits of those that are packed from it, and once more in the preactivation's own memory.
public struct SwiGLUBackwardCase: KernelCase {
  let rows, depth, half: Int
  var format = Format.fp32
  var isPacked = true
  /// Whether the last call works in place: not where it is made again and again.
  var isInPlace = true

  public var description: String { "\(rows)×\(depth)→\(half), \(isPacked ? "\(format) panels" : "OpenBLAS")" }
  public var kernels: Set<String> { isPacked ? ["product", "pack_plain"] : ["swiglu_backward"] }

  /// Floats of an activation in panels.
  private var panelCount: Int { ComputeContext.packedElements(depth: rows, columns: half, format: format) }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    [
      "dy": draw.normal(rows * depth).rounded(to: format), "W": draw.normal(half * depth),
      "pre": draw.normal(rows * 2 * half, deviation: 3).rounded(to: format),
      "panels": [Float](repeating: 0, count: panelCount),
    ]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let dy = o.matrix("dy", rows: rows, columns: depth, format: format)
    let w = o.matrix("W", rows: depth, columns: half)
    let count = ComputeContext.packedElements(depth: depth, columns: half, format: format)
    let b = isPacked ? context.pack(w, into: o.scratch(count), as: format) : w
    func call(_ y: MutableMatrix, _ pre: Matrix, _ activation: Epilogue.Activation) -> () -> Void {
      { context.product(into: y, dy, b, epilogue: .swigluBackward(preactivation: pre, activation: activation)) }
    }
    let pre = o.matrix("pre", rows: rows, columns: 2 * half, stride: 2 * half + 3, format: format)
    let y = o.output("y", rows: rows, columns: 2 * half, format: format)
    let activation = o.output("activation", rows: rows, columns: half, format: format)
    let inRows = call(y, pre, .rows(activation))
    guard isPacked else { return inRows }
    inRows()
    _ = context.pack(activation.reading, into: o.output("packed activation", panelCount), as: format)
    let again = call(
      o.output("y again", rows: rows, columns: 2 * half, format: format), pre, .panels(o.state("panels")))
    guard isInPlace else { return again }
    again()
    let own = o.state("y in place", from: "pre", rows: rows, columns: 2 * half, format: format)
    return call(own, own.reading, .panels(o.scratch(panelCount)))
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (w, pre) = (x.rounded("W", to: format), x["pre"])
    let d = Reference.linearInputGradient(x["dy"], w, rows: rows, inputs: half, outputs: depth)
    let y = (0..<rows * 2 * half).map { i in
      let (row, c) = (i / (2 * half), i % half)
      let (u, g, sum) = (pre[row * 2 * half + c], pre[row * 2 * half + half + c], d[row * half + c])
      return i % (2 * half) < half ? sum * g * siluSlope(u) : sum * Reference.silu(u)
    }
    // The slope is in error by up to 24 roundings (see SiLUCase), and weighted by the sum and a preactivation.
    let tolerance = Tolerance.roundings(48 + 2 * Int(Double(depth).squareRoot()))
    let inRows: [Expectation] = [
      .near("y", y, tolerance, scale: d.largest * max(1, pre.largest)),
      .near("activation", swiglu(pre, half), .roundings(8), scale: pre.largest * max(1, pre.largest)),
    ]
    guard isPacked else { return inRows }
    return inRows + [
      .same("y again", as: "y"), .same("panels", as: "packed activation"), .same("y in place", as: "y"),
    ]
  }

  private static let sizes = [
    (1, 1, 1), (2, 33, 5), (3, 5, 64), (4, 7, 65), (5, 64, 130), (7, 1700, 5), (8, 3300, 65), (12, 65, 17),
    (255, 33, 65), (257, 64, 130), (3, 9, 2730),
  ]

  public static let all =
    sizes.flatMap { rows, depth, half in
      Format.all.map { SwiGLUBackwardCase(rows: rows, depth: depth, half: half, format: $0) }
    }
    + [(1, 1, 1), (3, 5, 7), (17, 5, 385), (513, 17, 65)].map {
      SwiGLUBackwardCase(rows: $0, depth: $1, half: $2, isPacked: false)
    }

  public static let measured = [
    KernelSpeed(
      "swigluBackward, w3", .operations(2 * 2048 * 768 * 2048),
      SwiGLUBackwardCase(rows: 2048, depth: 768, half: 2048, isInPlace: false))
  ]
}

/// σ(x) (1 + x (1 − σ(x)))
private func siluSlope(_ x: Double) -> Double {
  let s = 1 / (1 + exp(-x))
  return s * (1 + x * (1 - s))
}

/// A whole SwiGLU feed-forward without biases, forward and back: y = (silu(u) ⊙ g) W3ᵀ, [u ‖ g] = x W12ᵀ.
public struct SwiGLULayerCase: KernelCase {
  let rows, width, half: Int
  let isPacked: Bool

  public var description: String { "\(rows)×\(width)→2×\(half)→\(width), \(isPacked ? "panels" : "OpenBLAS")" }
  public var kernels: Set<String> {
    if isPacked { return ["pack_transposed", "pack_plain", "pack_groups", "product"] }
    return rows > 8 ? ["bias_swiglu", "swiglu_backward"] : ["bias_swiglu", "swiglu_backward", "gemv"]
  }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    [
      "x": draw.normal(rows * width), "W12": draw.normal(2 * half * width), "W3": draw.normal(width * half),
      "dy": draw.normal(rows * width), "dW12": draw.normal(2 * half * width), "dW3": draw.normal(width * half),
    ]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let (x, dy) = (o.matrix("x", rows: rows, columns: width), o.matrix("dy", rows: rows, columns: width))
    let w12 = o.matrix("W12", rows: 2 * half, columns: width)
    let w3 = o.matrix("W3", rows: width, columns: half)
    func right(_ m: Matrix, halves: Bool = false) -> Matrix {
      let count = ComputeContext.packedElements(depth: m.rows, columns: m.columns, format: .fp32)
      return isPacked ? context.pack(m, into: o.scratch(count), as: .fp32, halves: halves) : m
    }
    let (first, second) = (right(w12.transposed, halves: true), right(w3.transposed))
    let (back, firstBack) = (right(w3), right(w12))
    let pre = o.output("pre", rows: rows, columns: 2 * half)
    let hidden = o.output("hidden", rows: rows, columns: half)
    let y = o.output("y", rows: rows, columns: width)
    let dpre = o.output("dpre", rows: rows, columns: 2 * half)
    let again = o.output("again", rows: rows, columns: half)
    let dx = o.output("dx", rows: rows, columns: width)
    let (dw12, dw3) = (o.state("dW12", rows: 2 * half, columns: width), o.state("dW3", rows: width, columns: half))
    func scratch(_ inputs: Int, _ outputs: Int) -> MutableFloatSlice? {
      guard isPacked else { return nil }
      return o.scratch(
        ComputeContext.weightGradientScratch(rows: rows, inputs: inputs, outputs: outputs, format: .fp32))
    }
    let (scratch12, scratch3) = (scratch(width, 2 * half), scratch(half, width))
    return {
      context.product(into: hidden, x, first, epilogue: .swiglu(sums: .kept(pre)))
      context.product(into: y, hidden.reading, second)
      context.product(
        into: dpre, dy, back, epilogue: .swigluBackward(preactivation: pre.reading, activation: .rows(again)))
      context.weightGradient(into: dw3, bias: nil, dy, again.reading, scratch: scratch3)
      context.weightGradient(into: dw12, bias: nil, dpre.reading, x, scratch: scratch12)
      context.product(into: dx, dpre.reading, firstBack)
    }
  }

  private func forward(_ x: Inputs) -> (pre: [Double], hidden: [Double], y: [Double]) {
    let zeros = [Double](repeating: 0, count: max(2 * half, width))
    let pre = Reference.linear(x["x"], x["W12"], zeros, rows: rows, inputs: width, outputs: 2 * half)
    let hidden = swiglu(pre, half)
    return (pre, hidden, Reference.linear(hidden, x["W3"], zeros, rows: rows, inputs: half, outputs: width))
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (pre, hidden, y) = forward(x)
    let d = Reference.linearInputGradient(x["dy"], x["W3"], rows: rows, inputs: half, outputs: width)
    let dpre = (0..<rows * 2 * half).map { i in
      let (row, c) = (i / (2 * half), i % half)
      let (u, g, sum) = (pre[row * 2 * half + c], pre[row * 2 * half + half + c], d[row * half + c])
      return i % (2 * half) < half ? sum * g * siluSlope(u) : sum * Reference.silu(u)
    }
    let dw3 = Reference.linearWeightGradient(x["dy"], hidden, rows: rows, inputs: half, outputs: width).weight
    let dw12 = Reference.linearWeightGradient(dpre, x["x"], rows: rows, inputs: width, outputs: 2 * half).weight
    let dx = Reference.linearInputGradient(dpre, x["W12"], rows: rows, inputs: width, outputs: 2 * half)
    let tolerance = Tolerance.sum(of: 16 * (width + half + rows))
    return [
      .near("pre", pre, tolerance), .near("hidden", hidden, tolerance), .near("again", hidden, tolerance),
      .near("y", y, tolerance), .near("dpre", dpre, tolerance), .near("dx", dx, tolerance),
      .near("dW3", sum(x["dW3"], dw3), tolerance), .near("dW12", sum(x["dW12"], dw12), tolerance),
    ]
  }

  public var gradients: [String: String] { ["x": "dx", "W12": "dW12", "W3": "dW3"] }
  public func loss(_ x: Inputs) -> Double { dot(x["dy"], forward(x).y) }

  public static let all = [true, false].flatMap { isPacked in
    [(3, 5, 7), (5, 7, 3), (70, 37, 45)].map {
      SwiGLULayerCase(rows: $0, width: $1, half: $2, isPacked: isPacked)
    }
  }
  public static let differenced = all.filter { $0.rows == 3 }

  public static let fixtures = [true, false].map { isPacked in
    KernelFixture("SwiGLU feed-forward, \(isPacked ? "panels" : "OpenBLAS")") {
      let fixture = try Fixture("kernel_parts")
      let shape = try fixture.shape("swiglu.w3")
      let rows = try fixture.shape("swiglu.x")[0]
      func zeros(_ name: String) throws -> [Float] { try fixture.floats("swiglu.\(name)").map { _ in 0 } }
      return try .init(
        kernel: SwiGLULayerCase(rows: rows, width: shape[0], half: shape[1], isPacked: isPacked),
        inputs: [
          "x": fixture.floats("swiglu.x"), "W12": fixture.floats("swiglu.w12"), "W3": fixture.floats("swiglu.w3"),
          "dy": fixture.floats("swiglu.dy"), "dW12": zeros("w12"), "dW3": zeros("w3"),
        ],
        results: [
          "y": fixture.doubles("swiglu.y"), "dx": fixture.doubles("swiglu.dx"),
          "dW12": fixture.doubles("swiglu.dw12"), "dW3": fixture.doubles("swiglu.dw3"),
        ])
    }
  }
}
