import DiTKernels
import DiTTensor

/// dW += dyᵀ x and db += Σ dy, over factors that the call packs, or by OpenBLAS.
public struct WeightGradientCase: KernelCase {
  let rows, inputs, outputs: Int
  /// Nil: OpenBLAS, in float32.
  let format: Format?
  /// Whether x was packed before.
  var isPacked = false
  var hasBias = true

  public var description: String {
    "\(outputs)×\(rows)→\(inputs), \(format.map { "\($0) panels" } ?? "OpenBLAS")\(isPacked ? ", packed before" : "")"
      + (hasBias ? "" : ", no bias")
  }
  public var kernels: Set<String> {
    format != nil ? ["pack_plain", "pack_groups", "product"] : hasBias ? ["column_sums"] : []
  }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    [
      "x": draw.normal(rows * inputs).rounded(to: format ?? .fp32),
      "dy": draw.normal(rows * outputs).rounded(to: format ?? .fp32), "dW": draw.normal(outputs * inputs),
      "db": draw.normal(outputs),
    ]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    var x = o.matrix("x", rows: rows, columns: inputs, format: format ?? .fp32)
    let dy = o.matrix("dy", rows: rows, columns: outputs, format: format ?? .fp32)
    let (dw, db) = (o.state("dW", rows: outputs, columns: inputs), hasBias ? o.state("db") : nil)
    let scratch = format.map {
      o.scratch(
        ComputeContext.weightGradientScratch(
          rows: rows, inputs: inputs, outputs: outputs, format: $0, isPacked: isPacked))
    }
    if let format, isPacked {
      let count = ComputeContext.packedElements(depth: rows, columns: inputs, format: format)
      x = context.pack(x, into: o.scratch(count), as: format)
    }
    return { [x] in context.weightGradient(into: dw, bias: db, dy, x, scratch: scratch) }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (weight, bias) = Reference.linearWeightGradient(
      x["dy"], x["x"], rows: rows, inputs: inputs, outputs: outputs)
    let all: [Expectation] = [.near("dW", sum(x["dW"], weight), .sum(of: rows))]
    guard hasBias else { return all }
    return all + [
      // A sum of n normals is about √n, a single one perhaps much less.
      .near("db", sum(x["db"], bias), .sum(of: rows), scale: 3 * Double(rows).squareRoot())
    ]
  }

  /// Outputs around a group of 6, eight groups and a block of 192 rows; the depth is the batch's rows, odd and cut.
  private static let packed = [
    (1, 1, 1), (2, 5, 3), (3, 64, 6), (5, 65, 7), (13, 130, 13), (33, 1, 47), (64, 64, 48), (255, 5, 49),
    (257, 65, 191), (300, 130, 193), (1700, 64, 5), (3300, 5, 64), (3301, 65, 12), (1537, 130, 1),
  ]

  public static let all =
    packed.flatMap { rows, inputs, outputs in
      Format.all.flatMap { format in
        [false, true].map {
          WeightGradientCase(rows: rows, inputs: inputs, outputs: outputs, format: format, isPacked: $0)
        }
      }
    } + ProductCase.blasSizes.map { WeightGradientCase(rows: $0, inputs: $1, outputs: $2, format: nil) }
    + [nil, .fp32, .bf16].map {
      WeightGradientCase(rows: 13, inputs: 130, outputs: 49, format: $0, hasBias: false)
    }
}

/// A linear layer forward and back: y = x Wᵀ + b, dx = dy W, dW = dyᵀ x, db = Σ dy.
public struct LinearLayerCase: KernelCase {
  let rows, inputs, outputs: Int
  let isPacked: Bool

  public var description: String { "\(rows)×\(inputs)→\(outputs), \(isPacked ? "panels" : "OpenBLAS")" }
  public var kernels: Set<String> {
    isPacked
      ? ["pack_transposed", "pack_plain", "pack_groups", "product"] : [rows > 8 ? "add_bias" : "gemv", "column_sums"]
  }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    [
      "x": draw.normal(rows * inputs), "W": draw.normal(outputs * inputs), "b": draw.normal(outputs),
      "dy": draw.normal(rows * outputs), "dW": draw.normal(outputs * inputs), "db": draw.normal(outputs),
    ]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let x = o.matrix("x", rows: rows, columns: inputs)
    let w = o.matrix("W", rows: outputs, columns: inputs)
    let dy = o.matrix("dy", rows: rows, columns: outputs)
    func right(_ m: Matrix) -> Matrix {
      let count = ComputeContext.packedElements(depth: m.rows, columns: m.columns, format: .fp32)
      return isPacked ? context.pack(m, into: o.scratch(count), as: .fp32) : m
    }
    let (forward, backward, b) = (right(w.transposed), right(w), o.vector("b"))
    let y = o.output("y", rows: rows, columns: outputs)
    let dx = o.output("dx", rows: rows, columns: inputs)
    let (dw, db) = (o.state("dW", rows: outputs, columns: inputs), o.state("db"))
    let scratch = o.scratch(
      ComputeContext.weightGradientScratch(rows: rows, inputs: inputs, outputs: outputs, format: .fp32))
    return {
      context.product(into: y, x, forward, bias: b)
      context.product(into: dx, dy, backward)
      context.weightGradient(into: dw, bias: db, dy, x, scratch: isPacked ? scratch : nil)
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (weight, bias) = Reference.linearWeightGradient(
      x["dy"], x["x"], rows: rows, inputs: inputs, outputs: outputs)
    let dx = Reference.linearInputGradient(x["dy"], x["W"], rows: rows, inputs: inputs, outputs: outputs)
    return [
      .near("y", forward(x), .sum(of: inputs)), .near("dx", dx, .sum(of: outputs)),
      .near("dW", sum(x["dW"], weight), .sum(of: rows)), .near("db", sum(x["db"], bias), .sum(of: rows)),
    ]
  }

  private func forward(_ x: Inputs) -> [Double] {
    Reference.linear(x["x"], x["W"], x["b"], rows: rows, inputs: inputs, outputs: outputs)
  }

  public var gradients: [String: String] { ["x": "dx", "W": "dW", "b": "db"] }
  public func loss(_ x: Inputs) -> Double { dot(x["dy"], forward(x)) }

  public static let all = [true, false].flatMap { isPacked in
    [(5, 7, 3), (13, 37, 19)].map {
      LinearLayerCase(rows: $0, inputs: $1, outputs: $2, isPacked: isPacked)
    }
  }
  public static let differenced = all.filter { $0.rows == 5 }

  public static let fixtures = [true, false].flatMap { isPacked in
    [(1, 1, 1), (5, 7, 3), (13, 37, 19)].map { rows, inputs, outputs in
      KernelFixture("linear layer \(rows)×\(inputs)→\(outputs), \(isPacked ? "panels" : "OpenBLAS")") {
        let (fixture, name) = (try Fixture("kernels"), "linear.\(rows)x\(inputs)x\(outputs)")
        let zeros = (
          [Float](repeating: 0, count: outputs * inputs), [Float](repeating: 0, count: outputs)
        )
        return try .init(
          kernel: LinearLayerCase(rows: rows, inputs: inputs, outputs: outputs, isPacked: isPacked),
          inputs: [
            "x": fixture.floats("\(name).input"), "W": fixture.floats("\(name).weight"),
            "b": fixture.floats("\(name).bias"), "dy": fixture.floats("\(name).dy"), "dW": zeros.0, "db": zeros.1,
          ],
          results: [
            "y": fixture.doubles("\(name).y"), "dx": fixture.doubles("\(name).dinput"),
            "dW": fixture.doubles("\(name).dweight"), "db": fixture.doubles("\(name).dbias"),
          ])
      }
    }
  }
}
