import DiTKernels
import DiTTensor

/// A product of int8: rows that are quantized, weights that are quantized into panels, exact whole sums, and what follows them.
public struct Int8ProductCase: KernelCase {
  public enum Ending: Sendable {
    case store
    /// A bias is added.
    case linear
    case addRows(Int)
    case gelu
    /// Of halves of the columns.
    case swiglu
    case gateResidual(tokens: Int)
  }

  let rows, depth, columns: Int
  var ending = Ending.store
  /// What is quantized, and the result's.
  var format = Format.fp32
  var into = Format.fp32
  /// Codes at the ends of their ranges only, among them rows of all 255 and weights of all ±127.
  var isExtreme = false

  public var description: String {
    "\(rows)×\(depth)→\(columns), \(ending), \(format) into \(into)\(isExtreme ? ", the ends of the ranges" : "")"
  }
  public var kernels: Set<String> { ["quantize_rows", "quantize_weights", "pack_int8", "product_int8"] }

  private var isHalved: Bool { if case .swiglu = ending { true } else { false } }
  private var hasBias: Bool { if case .store = ending { false } else { true } }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    var a = draw.normal(rows * depth, mean: 0.7)
    var w = draw.normal(columns * depth)
    if isExtreme {
      a = a.indices.map { $0 / depth < 2 ? ($0 / depth == 0 ? 1 : -1) : a[$0] < 0.7 ? -1 : 1 }
      w = w.indices.map { $0 / depth < 2 ? ($0 / depth == 0 ? 1 : -1) : w[$0] < 0 ? -1 : 1 }
    } else if rows > 4 {
      // A row of zeros, and one without a negative number.
      for k in 0..<depth { (a[depth + k], a[2 * depth + k]) = (0, abs(a[2 * depth + k])) }
    }
    var inputs = ["a": a.rounded(to: format), "W": w, "bias": draw.normal(columns)]
    switch ending {
    case .addRows(let count): inputs["table"] = draw.normal(count * columns)
    case .gateResidual(let tokens):
      inputs["residual"] = draw.normal(rows * columns)
      inputs["gate"] = draw.normal(rows / tokens * columns)
    default: break
    }
    return inputs
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let a = o.matrix("a", rows: rows, columns: depth, stride: depth + 3, format: format)
    let w = o.matrix("W", rows: columns, columns: depth)
    let codes = MutableMatrix(
      o.output("codes", Format.int8.floats(rows: rows, columns: depth)), rows: rows, columns: depth, format: .int8)
    let count = ComputeContext.packedElements(depth: depth, columns: columns, format: .int8)
    let b = context.pack(w.transposed, into: o.scratch(count), as: .int8, halves: isHalved)
    let width = isHalved ? columns / 2 : columns
    if case .gateResidual(let tokens) = ending {
      let gate = o.matrix("gate", rows: rows / tokens, columns: columns, stride: columns + 5)
      let (bias, y) = (o.vector("bias"), o.state("y", from: "residual", rows: rows, columns: columns))
      let sums = Epilogue.Sums.scratch(o.scratch(like: y))
      return {
        context.quantize(into: codes, a)
        context.product(
          into: y, codes.reading, b, bias: bias,
          epilogue: .gateResidual(residual: nil, gate: gate, tokens: tokens, sums: sums))
      }
    }
    let (y, bias) = (
      o.output("y", rows: rows, columns: width, stride: width + 3, format: into), hasBias ? o.vector("bias") : nil
    )
    let epilogue: Epilogue
    switch ending {
    case .store, .linear: epilogue = .store
    case .addRows(let count): epilogue = .addRows(o.matrix("table", rows: count, columns: columns))
    case .gelu: epilogue = .gelu(sums: nil)
    case .swiglu: epilogue = .swiglu(sums: nil)
    case .gateResidual: preconditionFailure("above")
    }
    return {
      context.quantize(into: codes, a)
      context.product(into: y, codes.reading, b, bias: bias, epilogue: epilogue)
    }
  }

  /// Whole sums, each made a number by one rounding and a product of two scales.
  private func sums(_ x: Inputs) -> [Float] {
    let (a, w) = (x.floats("a"), x.floats("W"))
    let left = (0..<rows).map { Int8Rows.quantized(Array(a[$0 * depth..<($0 + 1) * depth])) }
    let right = (0..<columns).map { Int8Rows.quantizedWeights(Array(w[$0 * depth..<($0 + 1) * depth])) }
    return left.flatMap { row in
      right.map { column in
        var sum = 0
        for k in 0..<depth { sum += (Int(row.codes[k]) - Int(row.zero)) * Int(column.codes[k]) }
        return Float(sum) * (row.scale * column.scale)
      }
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    var sums = sums(x)
    if hasBias {
      let bias = x.floats("bias")
      for i in sums.indices { sums[i] += bias[i % columns] }
    }
    let largest = sums.doubles.largest
    let y: Expectation
    switch ending {
    case .store, .linear: y = .bits("y", sums.rounded(to: into))
    case .addRows:
      let table = x.floats("table")
      y = .bits("y", sums.indices.map { sums[$0] + table[$0 % table.count] }.rounded(to: into))
    case .gelu: y = .near("y", sums.doubles.map(Reference.gelu), .roundings(16), scale: largest)
    case .swiglu:
      let half = columns / 2
      let values = (0..<rows * half).map { i in
        let u = i / half * columns + i % half
        return Reference.silu(Double(sums[u])) * Double(sums[u + half])
      }
      y = .near("y", values, .roundings(16), scale: largest * largest)
    case .gateResidual(let tokens):
      let values = Reference.gated(x["residual"], sums.doubles, gate: x["gate"], tokens: tokens, width: columns)
      y = .near("y", values, .roundings(4), scale: 3 * largest)
    }
    return [.bits("codes", Int8Rows.memory(x.floats("a"), rows: rows, columns: depth)), y]
  }

  /// Rows around groups of 6 and blocks of 288; columns around vectors and panels; depths around words of 4, slices of 1024 and
  /// parts of 6144.
  private static let sizes = [
    (1, 1, 1), (2, 33, 5), (3, 5, 64), (4, 7, 66), (5, 64, 130), (6, 35, 64), (7, 1700, 6), (13, 1701, 130),
    (24, 1030, 18),
    (31, 1025, 66), (257, 64, 130), (300, 3301, 6), (25, 7001, 18),
  ]

  public static let all =
    sizes.flatMap { rows, depth, columns in
      let tokens = (1...rows).last { rows % $0 == 0 && $0 <= 20 } ?? 1
      var endings = [Ending.store, .linear, .gelu, .addRows(tokens), .gateResidual(tokens: tokens)]
      if columns % 2 == 0 { endings.append(.swiglu) }
      return endings.flatMap { ending -> [Int8ProductCase] in
        let one = Int8ProductCase(rows: rows, depth: depth, columns: columns, ending: ending)
        var other = one
        other.format = .bf16
        if case .gateResidual = ending { return [one, other] }
        other.into = .bf16
        return [one, other]
      }
    }
    + [(7, 64, 5), (31, 4608, 66), (2, 65_536, 2)].map {
      Int8ProductCase(rows: $0, depth: $1, columns: $2, isExtreme: true)
    }

  public static let measured = [
    KernelSpeed(
      "linearGELU, fc1, int8", .operations(2 * 2048 * 768 * 3072),
      Int8ProductCase(rows: 2048, depth: 768, columns: 3072, ending: .gelu, format: .bf16, into: .bf16))
  ]
}

/// A norm whose modulated rows are quantized as they are made.
public struct Int8NormCase: KernelCase {
  let samples, tokens, width: Int
  /// RMSNorm, with a weight.
  let isRMS: Bool

  private static let epsilon = 1e-6
  private var rows: Int { samples * tokens }

  public var description: String { "\(samples)×\(tokens)×\(width), \(isRMS ? "RMS" : "layer")" }
  public var kernels: Set<String> { ["norm_modulate_int8", "norm_modulate"] }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    [
      "x": draw.normal(rows * width, mean: 0.3), "shift": draw.normal(samples * width),
      "scale": draw.normal(samples * width), "weight": draw.normal(width),
    ]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let x = o.matrix("x", rows: rows, columns: width)
    let shift = o.matrix("shift", rows: samples, columns: width, stride: 3 * width + 1)
    let scale = o.matrix("scale", rows: samples, columns: width, stride: 3 * width + 1)
    let weight = isRMS ? o.vector("weight") : nil
    let codes = MutableMatrix(
      o.scratch(Format.int8.floats(rows: rows, columns: width)), rows: rows, columns: width, format: .int8)
    let plain = o.output("plain", rows: rows, columns: width)
    let values = o.output("values", rows: rows, columns: width)
    let statistics = [o.output("mean", rows), o.output("rstd", rows), o.scratch(rows), o.scratch(rows)]
    func norm(_ output: MutableMatrix, _ mean: MutableFloatSlice, _ rstd: MutableFloatSlice) {
      context.normModulate(
        output: output, mean: isRMS ? nil : mean, rstd: rstd, input: x, weight: weight, shift: shift, scale: scale,
        epsilon: Float(Self.epsilon), tokens: tokens)
    }
    norm(plain, statistics[2], statistics[3])
    return {
      if isRMS { statistics[0].fill(0) }
      norm(codes, statistics[0], statistics[1])
      values.memory.copy(
        from: Int8Rows.values(codes.memory.reading.array, rows: rows, columns: width).span)
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let rows = (0..<rows).map { row in
      let values = x["x"][row * width..<(row + 1) * width]
      let mean = isRMS ? 0 : values.reduce(0, +) / Double(width)
      let square = values.map { ($0 - mean) * ($0 - mean) }.reduce(0, +) / Double(width)
      return (mean: mean, rstd: 1 / (square + Self.epsilon).squareRoot())
    }
    let out = x["x"].indices.map { i in
      let (row, column) = (i / width, i % width)
      let place = row / tokens * width + column
      let weight = isRMS ? x["weight"][column] : 1
      return (x["x"][i] - rows[row].mean) * rows[row].rstd * weight * (1 + x["scale"][place]) + x["shift"][place]
    }
    let ranges = (0..<self.rows).flatMap { row -> [Double] in
      let values = out[row * width..<(row + 1) * width]
      return [Double](repeating: max(0, values.max()!) - min(0, values.min()!), count: width)
    }
    let tolerance = Tolerance.normalized(offset: 1, terms: width)
    return [
      .near("plain", out, tolerance), .near("values", out, .steps(0.51), scales: ranges),
      .near("mean", rows.map(\.mean), tolerance, scale: 1), .near("rstd", rows.map(\.rstd), tolerance),
    ]
  }

  public static let all = [(1, 1, 3), (2, 3, 16), (3, 5, 37), (2, 70, 48), (1, 9, 1152)].flatMap {
    samples, tokens, width in
    [false, true].map { Int8NormCase(samples: samples, tokens: tokens, width: width, isRMS: $0) }
  }
}
