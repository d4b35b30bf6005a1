import DiTKernels
import DiTTensor

/// How a half of a block joins the residual stream: result = residual + gate ⊙ half.
package struct Join {
  /// The block's index.
  package let block: Int
  let half: BlockHalf
  /// Of a sample.
  package let tokens: Int
  let result: MutableMatrix
  /// Nil where the result is its memory.
  let residual: Matrix?
  /// A row per sample.
  let gate: Matrix
  /// Nil where nothing is dropped.
  package let dropout: Dropout?

  /// result = residual + gate ⊙ Linear(x), the half's last layer, whose sums go to `sums` where a backward pass reads them.
  ///
  /// - Parameter dropping: whether elements of the half are dropped, rather than of its hidden layer.
  package func close(_ pass: ForwardPass, _ layer: LinearLayer, to x: Matrix, sums: MutableMatrix, dropping: Bool) {
    if dropping, let dropout {
      pass.apply(layer, to: x, into: sums)
      dropout.apply(pass.context, sums, tokens: tokens, .output, block: block)
      pass.context.addGated(into: result, residual: residual, gate: gate, sums: sums.reading, tokens: tokens)
    } else if let cache = pass.blockCache {
      let sums = cache.incoming(rows: result.rows)
      pass.apply(
        layer, to: x, into: result,
        epilogue: .gateResidual(residual: residual, gate: gate, tokens: tokens, sums: .kept(sums)))
      cache.keep(slot, sums.reading, pass.context)
    } else {
      pass.apply(
        layer, to: x, into: result,
        epilogue: .gateResidual(
          residual: residual, gate: gate, tokens: tokens, sums: pass.isSaved ? .kept(sums) : .scratch(sums)))
    }
  }

  /// result += gate ⊙ what the half is forecast to make.
  func forecast(_ pass: ForwardPass, _ cache: StepCache) {
    cache.add(slot, to: result, gate: gate, tokens: tokens, pass.context)
  }

  /// Of a step cache.
  private var slot: Int { 2 * block + half.rawValue }

  /// dhalf = gate ⊙ dresult, dgate = Σ dresult ⊙ half; dresult passes on as the residual's.
  func backward(
    _ pass: BackwardPass, half: MutableMatrix, gate gradient: MutableMatrix, dropping: Bool
  ) {
    let dhalf = pass.outputGradient(half.rows)
    pass.context.gateBackward(
      outputGradient: dhalf, gateGradient: gradient, scratch: pass.ws.reduction,
      residualGradient: pass.tokenGradient(half.rows).reading, output: half.reading, gate: gate, tokens: tokens)
    if dropping, let dropout { dropout.apply(pass.context, dhalf, tokens: tokens, .output, block: block) }
  }
}

/// Dropout inside the blocks while training (Srivastava et al. 2014), as JiT has it: of attention's output and of the
/// feed-forward part's hidden layer, in the middle half of the blocks.
///
/// What is dropped depends on the sample's key, the block, the place and the element alone: the same in any batch, and in
/// the backward pass, which stores nothing of it.
public struct Dropout: Sendable {
  /// The share that is dropped, 0…1.
  public let rate: Double
  /// One for each sample.
  public var keys: [UInt64]

  public init(rate: Double, keys: [UInt64]) {
    precondition(rate >= 0 && rate < 1, "a dropout rate of \(rate)")
    self.rate = rate
    self.keys = keys
  }

  package enum Place: UInt32 { case output, hidden }

  /// The blocks of so many that drop anything.
  static func blocks(of depth: Int) -> Range<Int> { depth / 4..<max(depth / 4, 3 * (depth / 4)) }

  /// - Parameter copies: equal parts of the columns that lose the same elements.
  package func apply(
    _ context: ComputeContext, _ x: MutableMatrix, tokens: Int, _ place: Place, block: Int, copies: Int = 1
  ) {
    context.dropout(
      x, rate: rate, tokens: tokens, keys: keys.span, stream: 2 * UInt32(block) + place.rawValue, copies: copies)
  }
}
