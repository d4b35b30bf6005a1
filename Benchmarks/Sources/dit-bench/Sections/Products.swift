import DiffusionTransformers

/// The linear layers of a block.
enum Products: Section {
  static let name = "products"
  static let note = "x Wᵀ + b and its two gradients; 2·rows·inputs·outputs operations, fp32."

  private enum Pass: String, CaseIterable {
    case forward = "y = x Wᵀ + b"
    case input = "dx = dy W"
    case weight = "dW += dyᵀ x"
  }

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

    func name(_ pass: Pass) -> String { "\(size) \(layer), \(rows) × \(inputs) → \(outputs), \(pass.rawValue)" }
    var operations: Double { 2 * Double(rows) * Double(inputs) * Double(outputs) }
  }

  static func run(_ session: Session) throws {
    for shape in Shape.all(session) {
      for pass in session.wanted(Pass.allCases, name: shape.name) {
        let time = measure(shape, pass, session.context)
        try session.add(
          shape.name(pass), Field.time(time) + Field.rate(shape.operations, time, peak: session.peaks.fp32))
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
}
