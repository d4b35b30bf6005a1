import DiTKernels
import DiTModel
import DiTTensor

/// A feed-forward part that is not the package's: second(max(0, first(h))²) (So et al. 2021, "Primer"), float32.
///
/// This file is all that a part takes, beside the line that gives it a word (``FeedForwardKind``). Its products are the
/// package's; its activation is a plain loop.
struct SquaredReLU: FeedForwardPart {
  let first, second: LinearLayer

  /// What config.json calls it.
  static let kind = FeedForwardKind.add(SquaredReLU.self, as: "squared_relu")

  // MARK: Parameters and memory

  init(_ name: String, _ c: DiTConfiguration, _ b: inout ParameterBuilder) {
    first = b.linear("\(name).fc1", c.hiddenSize, c.mlpSize, hasBias: c.bias.mlp)
    second = b.linear("\(name).fc2", c.mlpSize, c.hiddenSize, hasBias: c.bias.mlp)
  }

  var layers: [LinearLayer] { [first, second] }

  static func sums(of c: DiTConfiguration) -> Int { c.mlpSize }
  static func needsSums(of c: DiTConfiguration, isPacked: Bool) -> Bool { true }

  // MARK: Forward

  func forward(_ pass: ForwardPass, _ h: Matrix, _ m: FeedForwardMemory, _ join: Join) {
    let (hidden, sums) = (pass.memory.hidden.prefix(h.rows), m.preactivation.prefix(h.rows))
    pass.apply(first, to: h, into: sums)
    activate(sums, into: hidden)
    join.close(pass, second, to: hidden.reading, sums: m.projected.prefix(h.rows), dropping: false)
  }

  private func activate(_ sums: MutableMatrix, into hidden: MutableMatrix) {
    let (values, squares) = (sums.elements, hidden.elements)
    let x = values.span
    var result = squares.mutableSpan
    for i in x.indices { result[i] = max(0, x[i]) * max(0, x[i]) }
  }

  // MARK: Backward

  // dhidden = dy W₂, dsums = 2 max(0, sums) dhidden, dh = dsums W₁
  func backward(
    _ pass: BackwardPass, into dh: MutableMatrix, _ m: FeedForwardMemory, _ join: Join, again: () -> Matrix
  ) {
    let (rows, sums) = (dh.rows, m.preactivation.prefix(dh.rows))
    let dy = pass.outputGradient(rows).reading
    let hidden = MutableMatrix(MutableFloatSlice(zeros: rows * second.inputs), rows: rows, columns: second.inputs)
    activate(sums, into: hidden)
    pass.weightGradient(second, dy, hidden.reading, scratch: pass.network.isPacked ? pass.ws.gradientScratch : nil)
    pass.context.product(into: hidden, dy, pass.factor(second))
    let (gradient, values) = (hidden.elements, sums.elements)
    var dsums = values.mutableSpan
    let dhidden = gradient.span
    for i in dsums.indices { dsums[i] = 2 * max(0, dsums[i]) * dhidden[i] }
    pass.through(first, into: dh, sums.reading, again())
  }
}
