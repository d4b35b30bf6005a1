import DiTEngine

/// The linear layers of a block.
enum Products: Section {
  static let name = "products"
  static let note = """
    x Wᵀ + b and its two gradients, 2·rows·inputs·outputs operations. blas: OpenBLAS's sgemm, which packs on every call. \
    packed: our kernels; W is packed beforehand, the operands of dW in the call.
    """

  private enum Pass: String, CaseIterable {
    case forward = "y = x Wᵀ + b"
    case input = "dx = dy W"
    case weight = "dW += dyᵀ x"
  }

  /// The matrix-multiplication backend: OpenBLAS where nil, else packed operands of a format.
  private static let engines: [Precision?] = [nil, .fp32, .bf16]

  private struct Shape {
    let size, layer: String
    let rows, inputs, outputs: Int

    static func all(_ session: Session) -> [Shape] {
      let sizes = session.isQuick ? ["S", "B"] : ["S", "B", "XL"]
      return sizes.flatMap { size in
        let d = Model(size).configuration.hiddenSize
        return (session.isQuick ? [256] : [256, 2048]).flatMap { rows in
          [("qkv", d, 3 * d), ("proj", d, d), ("fc1", d, 4 * d), ("fc2", 4 * d, d)].map {
            Shape(size: size, layer: $0.0, rows: rows, inputs: $0.1, outputs: $0.2)
          }
        }
      }
    }

    func name(_ pass: Pass, _ engine: Precision?) -> String {
      let who = engine.map { "packed \($0.rawValue)" } ?? "blas"
      return "\(size) \(layer), \(rows) × \(inputs) → \(outputs), \(pass.rawValue), \(who)"
    }
    var operations: Double { 2 * Double(rows) * Double(inputs) * Double(outputs) }
  }

  static func run(_ session: Session) throws {
    for shape in Shape.all(session) {
      let cases = Pass.allCases.flatMap { pass in engines.map { (pass, $0) } }
      for (pass, engine) in session.wanted(cases, name: shape.name) {
        let time = measure(shape, pass, engine, session.context)
        let peak = session.peaks.peak(engine ?? .fp32)
        try session.add(shape.name(pass, engine), Field.time(time) + Field.rate(shape.operations, time, peak: peak))
      }
    }
  }

  /// Factors of bf16, and those of packed products, are zeros, which take as long.
  private static func measure(
    _ s: Shape, _ pass: Pass, _ precision: Precision?, _ context: ComputeContext
  ) -> Measurement {
    let format = (precision ?? .fp32).format
    var random = Philox(seed: 4)
    func matrix(_ rows: Int, _ columns: Int, _ format: Format) -> MutableMatrix {
      let count = rows * columns
      let memory = precision == nil ? MutableFloatSlice(random.normal(count: count)) : MutableFloatSlice(zeros: count)
      return MutableMatrix(memory, rows: rows, columns: columns, format: format)
    }
    let (x, y) = (matrix(s.rows, s.inputs, format), matrix(s.rows, s.outputs, format))
    let (w, b) = (matrix(s.outputs, s.inputs, .fp32), MutableFloatSlice(zeros: s.outputs))
    let factor = pass == .forward ? w.reading.transposed : w.reading
    let right = precision.map { _ in
      let size = ComputeContext.packedElements(depth: factor.rows, columns: factor.columns, format: format)
      return context.pack(factor, into: MutableFloatSlice(zeros: size), as: format)
    }
    let scratch = precision.map { _ in
      MutableFloatSlice(
        zeros: ComputeContext.weightGradientScratch(
          rows: s.rows, inputs: s.inputs, outputs: s.outputs, format: format))
    }
    return Measurement(budget: 0.4) {
      switch pass {
      case .forward: context.product(into: y, x.reading, right ?? factor, bias: b.reading)
      case .input: context.product(into: x, y.reading, right ?? factor)
      case .weight: context.weightGradient(into: w, bias: b, y.reading, x.reading, scratch: scratch)
      }
    }
  }
}
