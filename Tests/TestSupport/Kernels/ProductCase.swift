import DiTKernels
import DiTTensor

/// y = a b + bias with one of its endings. b is W, (depth, columns), or its transpose; in panels, or multiplied by OpenBLAS.
public struct ProductCase: KernelCase {
  public enum Ending: Sendable {
    /// The linear layer: a bias is added. In float32 also over panels that are packed one by one: the same bits.
    case linear
    /// Without a bias.
    case store
    case accumulate
    case addRows(Int)
    /// With the sums kept for a backward pass, or as inference calls it: the bits are the same over panels.
    case gelu(isKept: Bool)
    /// The same, and then the result is in the residual's own memory.
    case gateResidual(tokens: Int, isKept: Bool)
    /// The activation in rows; or then in panels too, with the bits of those that are packed from it, and once more in the
    /// preactivation's own memory.
    case geluBackward(intoPanels: Bool)
  }

  var rows, depth, columns: Int
  var format = Format.fp32
  /// The result's.
  var into = Format.fp32
  var ending = Ending.linear
  var isPacked = true
  var isTransposed = true
  /// Of the endings that add one.
  var hasBias = true

  init(_ rows: Int, _ depth: Int, _ columns: Int, _ ending: Ending = .linear) {
    (self.rows, self.depth, self.columns, self.ending) = (rows, depth, columns, ending)
  }

  public var description: String {
    "\(rows)×\(depth)→\(columns) by \(isTransposed ? "Wᵀ" : "W"), \(ending)\(hasBias ? "" : ", no bias"), "
      + (isPacked ? "\(format) panels into \(into)" : "OpenBLAS")
  }

  /// Up to eight rows of a linear layer are dot products of our own.
  private var isSmall: Bool { if case .linear = ending { rows <= 8 && isTransposed } else { false } }

  private var isPanelwise: Bool { isPacked && format == .fp32 }

  public var kernels: Set<String> {
    if isPacked { return ["product", isTransposed ? "pack_transposed" : "pack_plain"] }
    return switch ending {
    case .linear: isSmall ? ["gemv"] : hasBias ? ["add_bias"] : []
    case .store, .accumulate: []
    case .addRows: ["add_bias_rows"]
    case .gelu: ["bias_gelu"]
    case .gateResidual: ["bias_gate_residual"]
    case .geluBackward: ["gelu_backward"]
    }
  }

  /// Floats of an activation in panels.
  private var panelCount: Int { ComputeContext.packedElements(depth: rows, columns: columns, format: format) }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    var inputs = [
      "a": draw.normal(rows * depth).rounded(to: format), "W": draw.normal(columns * depth),
      "bias": draw.normal(columns),
    ]
    switch ending {
    case .linear, .store, .gelu: break
    case .accumulate: inputs["y"] = draw.normal(rows * columns).rounded(to: into)
    case .addRows(let count): inputs["table"] = draw.normal(count * columns)
    case .gateResidual(let tokens, _):
      inputs["residual"] = draw.normal(rows * columns)
      inputs["gate"] = draw.normal(rows / tokens * columns)
    case .geluBackward(let intoPanels):
      inputs["pre"] = draw.normal(rows * columns, deviation: 3).rounded(to: format)
      if intoPanels { inputs["panels"] = [Float](repeating: 0, count: panelCount) }
    }
    return inputs
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let a = o.matrix("a", rows: rows, columns: depth, format: format)
    let w = o.matrix("W", rows: isTransposed ? columns : depth, columns: isTransposed ? depth : columns)
    let right = isTransposed ? w.transposed : w
    let count = ComputeContext.packedElements(depth: depth, columns: columns, format: format)
    let b = isPacked ? context.pack(right, into: o.scratch(count), as: format) : right
    let bias = hasBias ? o.vector("bias") : nil
    func result(_ name: String, _ format: Format) -> MutableMatrix {
      o.output(name, rows: rows, columns: columns, format: format)
    }
    func call(_ y: MutableMatrix, _ epilogue: Epilogue, bias: FloatSlice? = bias) -> () -> Void {
      { context.product(into: y, a, b, bias: bias, epilogue: epilogue) }
    }
    switch ending {
    case .linear:
      let all = call(result("y", into), .store)
      guard isPanelwise else { return all }
      all()
      let (y, scratch) = (result("y panel by panel", into), o.scratch(context.panelScratch(depth: depth)))
      return { context.product(into: y, a, right, bias: bias, packingInto: scratch) }
    case .store: return call(result("y", into), .store, bias: nil)
    case .accumulate:
      return call(o.state("y", rows: rows, columns: columns, format: into), .accumulate, bias: nil)
    case .addRows(let count):
      return call(result("y", into), .addRows(o.matrix("table", rows: count, columns: columns)))
    case .gelu(let isKept):
      func kept() -> () -> Void { call(result("y", format), .gelu(sums: .kept(result("sums", format)))) }
      if isKept { return kept() }
      if isPacked { kept()() }
      return call(result("y alone", format), .gelu(sums: nil))
    case .gateResidual(let tokens, let isKept):
      let gate = o.matrix("gate", rows: rows / tokens, columns: columns, stride: columns + 5)
      let residual = o.matrix("residual", rows: rows, columns: columns)
      func gated(_ y: MutableMatrix, _ residual: Matrix?, _ sums: Epilogue.Sums) -> () -> Void {
        call(y, .gateResidual(residual: residual, gate: gate, tokens: tokens, sums: sums))
      }
      func kept() -> () -> Void { gated(result("y", .fp32), residual, .kept(result("sums", format))) }
      if isKept { return kept() }
      if isPacked { kept()() }
      let stream = o.state("stream", from: "residual", rows: rows, columns: columns)
      return gated(stream, nil, .scratch(o.scratch(like: stream)))
    case .geluBackward(let intoPanels):
      let pre = o.matrix("pre", rows: rows, columns: columns, format: format)
      let activation = result("activation", format)
      let inRows = call(
        result("y", format), .geluBackward(preactivation: pre, activation: .rows(activation)), bias: nil)
      guard intoPanels else { return inRows }
      inRows()
      _ = context.pack(activation.reading, into: o.output("packed activation", panelCount), as: format)
      call(
        result("y again", format), .geluBackward(preactivation: pre, activation: .panels(o.state("panels"))), bias: nil)()
      let own = o.state("y in place", from: "pre", rows: rows, columns: columns, format: format)
      return call(
        own, .geluBackward(preactivation: own.reading, activation: .panels(o.scratch(panelCount))), bias: nil)
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (a, w) = (x["a"], x.rounded("W", to: format))
    let zeros = [Double](repeating: 0, count: columns)
    let products =
      isTransposed
      ? Reference.linear(a, w, zeros, rows: rows, inputs: depth, outputs: columns)
      : Reference.linearInputGradient(a, w, rows: rows, inputs: columns, outputs: depth)
    let bias = hasBias ? x["bias"] : zeros
    let sums = products.indices.map { products[$0] + bias[$0 % columns] }
    let tolerance = Tolerance.sum(of: depth)
    switch ending {
    case .linear:
      return [.near("y", sums, tolerance)] + (isPanelwise ? [.same("y panel by panel", as: "y")] : [])
    case .store: return [.near("y", products, tolerance)]
    case .accumulate: return [.near("y", sum(products, x["y"]), tolerance)]
    case .addRows:
      let table = x["table"]
      return [.near("y", sums.indices.map { sums[$0] + table[$0 % table.count] }, tolerance)]
    case .gelu(let isKept):
      // What is computed from the sums is in error by a share of their size.
      let values = sums.map(Reference.gelu)
      let kept: [Expectation] = [
        .near("y", values, tolerance, scale: sums.largest), .near("sums", sums, tolerance),
      ]
      if isKept { return kept }
      return isPacked ? kept + [.same("y alone", as: "y")] : [.near("y alone", values, tolerance, scale: sums.largest)]
    case .gateResidual(let tokens, let isKept):
      let values = Reference.gated(x["residual"], sums, gate: x["gate"], tokens: tokens, width: columns)
      // Gates are as large as 3.
      let scale = 3 * sums.largest
      let kept: [Expectation] = [.near("y", values, tolerance, scale: scale), .near("sums", sums, tolerance)]
      if isKept { return kept }
      return isPacked ? kept + [.same("stream", as: "y")] : [.near("stream", values, tolerance, scale: scale)]
    case .geluBackward(let intoPanels):
      let pre = x["pre"]
      let slopes = zip(products, pre).map { $0 * Reference.geluSlope($1) }
      // The slope is in error by up to 20 ulps (see GELUCase), and weighted by the sum.
      let slope = Tolerance.roundings(48 + 2 * Int(Double(depth).squareRoot()))
      let inRows: [Expectation] = [
        .near("y", slopes, slope, scale: products.largest),
        .near("activation", pre.map(Reference.gelu), .roundings(8)),
      ]
      guard intoPanels else { return inRows }
      return inRows + [
        .same("y again", as: "y"), .same("panels", as: "packed activation"), .same("y in place", as: "y"),
      ]
    }
  }
}

// MARK: - The list

extension ProductCase {
  public static let all = panels + blas + fewRows + gates + withoutBias

  /// Rows below, at and beyond a group of 6 and a block of 256; columns around a panel of 64 and a vector of 16; depths
  /// that are odd, and from 1537 (float32) and 3073 (bf16) on summed in several cuts.
  private static let panelSizes = [
    (1, 1, 1), (2, 33, 5), (3, 5, 64), (4, 7, 65), (5, 64, 130), (6, 33, 64), (7, 1700, 5), (8, 3300, 65), (9, 1, 130),
    (10, 33, 1), (11, 130, 64), (12, 65, 17), (13, 1701, 130), (255, 33, 65), (257, 64, 130), (257, 1537, 16),
    (300, 3301, 5),
  ]

  private static var panels: [ProductCase] {
    panelSizes.flatMap { rows, depth, columns in
      Format.all.flatMap { format in
        // Rows that are added begin anew inside a block.
        let table = (1...rows / 2 + 1).last { rows % $0 == 0 } ?? 1
        let exact = [Ending.gelu(isKept: false), .geluBackward(intoPanels: true)].map {
          ProductCase(rows, depth, columns, $0)
        }
        let both = Format.all.flatMap { into in
          [Ending.linear, .addRows(table), .store, .accumulate].map { ending in
            var c = ProductCase(rows, depth, columns, ending)
            c.into = into
            return c
          }
        }
        return (exact + both).map { c in
          var c = c
          c.format = format
          switch c.ending {
          case .store, .accumulate, .geluBackward: c.isTransposed = false
          default: break
          }
          return c
        }
      }
    }
  }

  /// Odd sizes, and sizes that cross the edges of tiles (512 rows, 384 columns) and of sgemm's own blocks.
  static let blasSizes = [
    (1, 1, 1), (3, 5, 7), (17, 1, 5), (7, 17, 1), (5, 3, 17), (64, 16, 64), (3, 1031, 33), (513, 17, 385),
    (1025, 5, 769), (385, 513, 7),
  ]

  private static var blas: [ProductCase] {
    blasSizes.flatMap { rows, inputs, outputs in
      let forward = [Ending.linear, .gelu(isKept: true), .gelu(isKept: false)].map {
        ProductCase(rows, inputs, outputs, $0)
      }
      let backward = [Ending.store, .accumulate, .geluBackward(intoPanels: false)].map { ending in
        var c = ProductCase(rows, outputs, inputs, ending)
        c.isTransposed = false
        return c
      }
      return (forward + backward).map(\.byBLAS)
    }
  }

  var byBLAS: ProductCase {
    var c = self
    c.isPacked = false
    return c
  }

  /// Tasks of 128 outputs, four at a time: odd inputs and outputs around both, and the rows on both sides of the last
  /// number that is few.
  private static var fewRows: [ProductCase] {
    (1...9).flatMap { rows in
      [(1, 1), (5, 3), (16, 4), (17, 5), (33, 127), (37, 301), (1031, 7), (15, 129), (64, 257)].map {
        ProductCase(rows, $0, $1).byBLAS
      }
    }
  }

  /// Samples × tokens: groups of rows, blocks and tiles begin and end inside a sample.
  private static var gates: [ProductCase] {
    let blas = [(1, 1), (3, 5), (2, 17), (3, 257), (5, 209)].flatMap { samples, tokens in
      [
        Ending.gateResidual(tokens: tokens, isKept: true), .gateResidual(tokens: tokens, isKept: false),
        .addRows(tokens),
      ]
      .map { ProductCase(samples * tokens, 9, 37, $0).byBLAS }
    }
    let packed = [(1, 1), (3, 5), (2, 17), (3, 85), (1, 257), (4, 75), (13, 1)].flatMap { samples, tokens in
      Format.all.map { format in
        var c = ProductCase(
          samples * tokens, samples == 2 ? 3300 : 33, samples == 3 ? 65 : 37,
          .gateResidual(tokens: tokens, isKept: false))
        c.format = format
        return c
      }
    }
    return blas + packed
  }

  /// Every ending that adds a bias, in a layer that has none.
  private static var withoutBias: [ProductCase] {
    [(3, 37, 65), (70, 33, 130)].flatMap { rows, depth, columns in
      let endings = [Ending.linear, .addRows(rows), .gelu(isKept: true), .gateResidual(tokens: rows, isKept: true)]
      return endings.flatMap { ending in
        var c = ProductCase(rows, depth, columns, ending)
        c.hasBias = false
        return [c, c.byBLAS]
      }
    }
  }

  /// x + gate ⊙ y, with y = y · 1 + 0 for a product.
  public static let fixtures = [false, true].map { isPacked in
    KernelFixture("x + gate ⊙ y, \(isPacked ? "panels" : "OpenBLAS")") {
      let fixture = try Fixture("kernels")
      let shape = try fixture.shape("gate.x")
      let width = shape[2]
      var c = ProductCase(shape[0] * shape[1], width, width, .gateResidual(tokens: shape[1], isKept: true))
      c.isPacked = isPacked
      let identity = (0..<width * width).map { Float($0 % (width + 1) == 0 ? 1 : 0) }
      let inputs = try [
        "a": fixture.floats("gate.branch"), "W": identity, "bias": [Float](repeating: 0, count: width),
        "residual": fixture.floats("gate.x"), "gate": fixture.floats("gate.gate"),
      ]
      return try .init(
        kernel: c, inputs: inputs, results: ["y": fixture.doubles("gate.y")], tolerance: .roundings(2))
    }
  }

  public static let measured = [
    KernelSpeed(
      "linearGELU, fc1", .operations(2 * 2048 * 768 * 3072), ProductCase(2048, 768, 3072, .gelu(isKept: false)).byBLAS),
    KernelSpeed(
      "linearGateResidual, fc2", .operations(2 * 2048 * 3072 * 768),
      ProductCase(2048, 3072, 768, .gateResidual(tokens: 256, isKept: false)).byBLAS),
  ]
}
