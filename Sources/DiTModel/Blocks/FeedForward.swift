import DiTKernels
import DiTTensor

/// The feed-forward half of a block: what it is made of, what it keeps, and its passes. A new one is a type of its own and a
/// line in ``FeedForwardKind`` (see CONTRIBUTING, "Add a part").
package protocol FeedForwardPart: Sendable {
  /// Adds its tensors, whose names begin with `name`.
  init(_ name: String, _ c: DiTConfiguration, _ b: inout ParameterBuilder)
  /// Its linear layers over tokens, each of which is packed.
  var layers: [LinearLayer] { get }
  /// The one of them that reads h, whose format h then has; others that read it take the same. By default the first.
  var entry: LinearLayer { get }
  /// Columns of what it keeps of a token for the backward pass (``FeedForwardMemory/preactivation``): the multiply-adds of a
  /// token are D times these plus ``DiTConfiguration/mlpSize``.
  static func sums(of c: DiTConfiguration) -> Int
  /// Whether inference needs memory for those beside the hidden layer's.
  static func needsSums(of c: DiTConfiguration, isPacked: Bool) -> Bool

  /// result = residual + gate ⊙ half(h), the hidden layer in the pass's memory, through ``Join``.
  func forward(_ pass: ForwardPass, _ h: Matrix, _ m: FeedForwardMemory, _ join: Join)
  /// dh, and the gradients of its tensors, from the half's (``BackwardPass/outputGradient(_:)``).
  ///
  /// - Parameter again: makes the forward's h again, in memory that the half's gradient uses until then.
  func backward(
    _ pass: BackwardPass, into dh: MutableMatrix, _ m: FeedForwardMemory, _ join: Join, again: () -> Matrix)
}

extension FeedForwardPart {
  package var entry: LinearLayer { layers[0] }
}

/// What a feed-forward part keeps: what enters its activation, and its result before the gate.
package struct FeedForwardMemory {
  package let preactivation, projected: MutableMatrix
}

/// Two linear layers with an activation between them, which is the end of the first's product:
///
///   gelu:   second(gelu_tanh(first(h)))        swiglu: second(silu(u) ⊙ g), [u ‖ g] = first(h)
struct FusedFeedForward: FeedForwardPart {
  let kind: FeedForwardKind
  let first, second: LinearLayer

  init(_ name: String, _ c: DiTConfiguration, _ b: inout ParameterBuilder) {
    let (d, hidden) = (c.hiddenSize, c.mlpSize)
    kind = c.mlp
    if kind == .gelu {
      first = b.linear("\(name).fc1", d, hidden, hasBias: c.bias.mlp)
      second = b.linear("\(name).fc2", hidden, d, hasBias: c.bias.mlp)
    } else {
      var halves = b.linear("\(name).w12", d, 2 * hidden, hasBias: c.bias.mlp)
      halves.isHalved = true
      first = halves
      second = b.linear("\(name).w3", hidden, d, hasBias: c.bias.mlp)
    }
  }

  var layers: [LinearLayer] { [first, second] }

  static func sums(of c: DiTConfiguration) -> Int { c.mlp == .gelu ? c.mlpSize : 2 * c.mlpSize }

  /// OpenBLAS leaves the sums of both halves before they are multiplied.
  static func needsSums(of c: DiTConfiguration, isPacked: Bool) -> Bool { c.mlp == .swiglu && !isPacked }

  /// result = residual + gate ⊙ second(…first(h)…), the hidden layer in the pass's memory.
  func forward(_ pass: ForwardPass, _ h: Matrix, _ m: FeedForwardMemory, _ join: Join) {
    let rows = h.rows
    let (hidden, sums) = (pass.memory.hidden.prefix(rows), m.preactivation.prefix(rows))
    let kept: Epilogue.Sums? =
      pass.isSaved ? .kept(sums) : kind == .swiglu && !pass.network.isPacked ? .scratch(sums) : nil
    pass.apply(first, to: h, into: hidden, epilogue: kind == .gelu ? .gelu(sums: kept) : .swiglu(sums: kept))
    if let dropout = join.dropout {
      dropout.apply(pass.context, hidden, tokens: join.tokens, .hidden, block: join.block)
    }
    join.close(pass, second, to: hidden.reading, sums: m.projected.prefix(rows), dropping: false)
  }

  /// dh, and the gradients of both layers; the forward's h is made again by `again` once its memory is free.
  func backward(_ pass: BackwardPass, into dh: MutableMatrix, _ m: FeedForwardMemory, _ join: Join, again: () -> Matrix)
  {
    let pre = m.preactivation.prefix(dh.rows)
    let dpre = throughActivation(pass, pre, join)
    pass.through(first, into: dh, dpre.reading, again())
  }

  /// The second layer's gradients, and the pre-activation's, dpre = (dy W) ⊙ activation'(pre).
  ///
  /// Over packed operands dpre takes pre's place, and activation(pre) is written in the order in which the second layer's
  /// weight gradient reads it.
  private func throughActivation(_ pass: BackwardPass, _ pre: MutableMatrix, _ join: Join) -> MutableMatrix {
    let (rows, dy, context) = (pre.rows, pass.outputGradient(pre.rows).reading, pass.context)
    func epilogue(_ activation: Epilogue.Activation) -> Epilogue {
      kind == .gelu
        ? .geluBackward(preactivation: pre.reading, activation: activation)
        : .swigluBackward(preactivation: pre.reading, activation: activation)
    }
    guard pass.network.isPacked, join.dropout == nil else {
      let hidden = pass.hidden(rows)
      let dpre = pass.network.isPacked ? pre : pass.projectionGradient(rows, columns: first.outputs)
      context.product(into: dpre, dy, pass.factor(second), epilogue: epilogue(.rows(hidden)))
      if let dropout = join.dropout {
        dropout.apply(context, hidden, tokens: join.tokens, .hidden, block: join.block)
        dropout.apply(
          context, dpre, tokens: join.tokens, .hidden, block: join.block, copies: first.outputs / second.inputs)
      }
      pass.weightGradient(
        second, dy, hidden.reading, scratch: pass.network.isPacked ? pass.ws.gradientScratch : nil)
      return dpre
    }
    let (scratch, format) = (pass.ws.gradientScratch, pass.network.format)
    let size = ComputeContext.packedElements(depth: rows, columns: second.inputs, format: format)
    let panels = scratch[0..<size]
    context.product(into: pre, dy, pass.factor(second), epilogue: epilogue(.panels(panels)))
    pass.weightGradient(
      second, dy, ComputeContext.panels(in: panels.reading, depth: rows, columns: second.inputs, format: format),
      scratch: scratch[size..<scratch.count])
    return pre
  }
}
