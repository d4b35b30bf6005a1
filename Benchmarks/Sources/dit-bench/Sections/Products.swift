import DiffusionTransformers

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
        let time =
          engine.map { measure(shape, pass, $0, session.context) } ?? measure(shape, pass, session.context)
        let peak = session.peaks.peak(engine ?? .fp32)
        try session.add(shape.name(pass, engine), Field.time(time) + Field.rate(shape.operations, time, peak: peak))
      }
    }
  }

  private static func measure(_ s: Shape, _ pass: Pass, _ context: ComputeContext) -> Measurement {
    var random = Philox(seed: 4)
    let x = Slice(random.normal(count: s.rows * s.inputs))
    let w = Slice(random.normal(count: s.outputs * s.inputs))
    let y = Slice(random.normal(count: s.rows * s.outputs))
    let b = Slice(zeros: s.outputs)
    return Measurement(budget: 0.4) {
      switch pass {
      case .forward:
        context.linear(
          output: y.mutableSpan, input: x.span, weight: w.span, bias: b.span, rows: s.rows, inputs: s.inputs,
          outputs: s.outputs)
      case .input:
        context.linearBackwardInput(
          inputGradient: x.mutableSpan, outputGradient: y.span, weight: w.span, rows: s.rows, inputs: s.inputs,
          outputs: s.outputs)
      case .weight:
        context.linearBackwardWeight(
          weightGradient: w.mutableSpan, biasGradient: b.mutableSpan, outputGradient: y.span, input: x.span,
          rows: s.rows, inputs: s.inputs, outputs: s.outputs)
      }
    }
  }

  /// Operands are zeros, which take as long: bf16 has no fill of its own.
  private static func measure(
    _ s: Shape, _ pass: Pass, _ precision: Precision, _ context: ComputeContext
  ) -> Measurement {
    let (x, y) = (Slice(zeros: s.rows * s.inputs), Slice(zeros: s.rows * s.outputs))
    let (w, b) = (Slice(zeros: s.outputs * s.inputs), Slice(zeros: s.outputs))
    let elements = max(
      ComputeContext.packedElements(depth: s.inputs, columns: s.outputs, precision: precision),
      ComputeContext.packedElements(depth: s.outputs, columns: s.inputs, precision: precision))
    let packed = Slice(zeros: elements)
    let scratch = Slice(
      zeros: pass == .weight
        ? ComputeContext.packedGradientScratch(
          rows: s.rows, inputs: s.inputs, outputs: s.outputs, precision: precision) : 0)
    let none = b[0..<0]
    return Measurement(budget: 0.4) {
      switch pass {
      case .forward:
        context.packedLinear(
          output: y.mutableBytes, precision, input: x.bytes, packed: packed.bytes, precision, bias: b.span,
          addingRows: none.span, rows: s.rows, inputs: s.inputs, outputs: s.outputs)
      case .input:
        context.packedLinearBackwardInput(
          inputGradient: x.mutableBytes, precision, outputGradient: y.bytes, packed: packed.bytes, precision,
          rows: s.rows, inputs: s.inputs, outputs: s.outputs)
      case .weight:
        context.packedLinearBackwardWeight(
          weightGradient: w.mutableSpan, biasGradient: b.mutableSpan, outputGradient: y.bytes, input: x.bytes,
          scratch: scratch.mutableBytes, precision, rows: s.rows, inputs: s.inputs, outputs: s.outputs)
      }
    }
  }
}
