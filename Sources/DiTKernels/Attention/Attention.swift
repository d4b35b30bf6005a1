import CDiTKernels
import DiTTensor

/// How attention is computed. Few tokens (``ComputeContext/fewTokens``) are one vector kernel for OpenBLAS's way.
public enum AttentionMethod: Sendable {
  /// By this package's products: any format, windows, padding.
  case packed
  /// By OpenBLAS's products: float32, every token a key of every other.
  case blas
}

/// What both directions of attention read.
public struct AttentionOperands {
  /// (samples · tokens, 3 · heads · headSize): thirds q, k, v, each head-major.
  public var qkv: Matrix
  public var extents: AttentionExtents
  public var rule: AttentionRule
  /// Of q·k, (samples, heads), at least 1e-20; empty: 1/√headSize.
  public var scales: FloatSlice
  /// k, (samples), whole numbers of at least 1; not read without a mask.
  public var widths: FloatSlice
  /// How many of the prefix tokens are keys, (samples); the others are padding. Empty: all.
  public var prefixKeys: [Int]
  /// ``ComputeContext/attentionScratch(_:rule:method:backward:)`` floats.
  public var scratch: MutableFloatSlice
  public var method: AttentionMethod

  public init(
    qkv: Matrix, _ extents: AttentionExtents, rule: AttentionRule = AttentionRule(), scales: FloatSlice = .empty,
    widths: FloatSlice = .empty, prefixKeys: [Int] = [], scratch: MutableFloatSlice, method: AttentionMethod = .packed
  ) {
    self.qkv = qkv
    self.extents = extents
    self.rule = rule
    self.scales = scales
    self.widths = widths
    self.prefixKeys = prefixKeys
    self.scratch = scratch
    self.method = method
  }

  fileprivate func check(_ context: ComputeContext, logsumexp: FloatSlice, backward: Bool) {
    let e = extents
    e.check(qkv: qkv)
    DiTKernels.check(logsumexp.count, atLeast: e.samples * e.tokens * e.heads, "attention logsumexp")
    DiTKernels.check(scales.count, atLeast: scales.isEmpty ? 0 : e.samples * e.heads, "attention scales")
    DiTKernels.check(
      scratch.count, atLeast: context.attentionScratch(e, rule: rule, method: method, backward: backward),
      "attention scratch")
    precondition(0..<e.tokens ~= rule.prefix, "\(rule.prefix) of \(e.tokens) tokens before the image's")
    if let columns = rule.columns {
      precondition((e.tokens - rule.prefix) % columns == 0, "\(e.tokens - rule.prefix) tokens, \(columns) columns")
    }
    if rule.mask != .none { DiTKernels.check(widths.count, atLeast: e.samples, "attention widths") }
    if !prefixKeys.isEmpty {
      DiTKernels.check(prefixKeys.count, atLeast: e.samples, "prefix keys")
      for n in 0..<e.samples {
        precondition(0...rule.prefix ~= prefixKeys[n], "\(prefixKeys[n]) keys of \(rule.prefix) prefix tokens")
      }
    }
    precondition(
      method == .packed || (rule.mask == .none && prefixKeys.isEmpty && qkv.format == .fp32),
      "OpenBLAS's attention has no windows, padding or bf16")
  }
}

extension ComputeContext {
  /// Attention over at most this many tokens is one vector kernel in float32, without products.
  public static let fewTokens = AttentionPlan.naiveTokens

  /// Floats of scratch that attention (or, with `backward`, its gradient too) needs, for all workers of this context.
  public func attentionScratch(
    _ extents: AttentionExtents, rule: AttentionRule = AttentionRule(), method: AttentionMethod, backward: Bool
  ) -> Int {
    switch method {
    case .packed: packedAttentionScratch(extents, rule: rule, backward: backward)
    case .blas: blasAttentionScratch(extents, backward: backward)
    }
  }

  /// out = softmax(logits) v for every sample and head, with the logits that ``AttentionRule`` defines.
  ///
  /// - Parameters:
  ///   - output: (samples · tokens, heads · headSize), of qkv's format; overwritten.
  ///   - logsumexp: saved for backward: log Σ exp(logit), (samples, heads, tokens).
  ///   - operands: q, k, v, the rule and the extents.
  public func attention(output: MutableMatrix, logsumexp: MutableFloatSlice, _ operands: AttentionOperands) {
    operands.check(self, logsumexp: logsumexp.reading, backward: false)
    operands.extents.check(output: output.reading, like: operands.qkv)
    precondition(!output.overlaps(operands.qkv), "attention over its own input")
    switch operands.method {
    case .packed: packedAttention(operands, output: output, logsumexp: logsumexp)
    case .blas: blasAttention(operands, output: output, logsumexp: logsumexp)
    }
  }

  /// The gradient of ``attention(output:logsumexp:_:)``, with the same operands.
  ///
  /// - Parameters:
  ///   - qkvGradient: of qkv's extents and format; overwritten.
  ///   - queryDots: Σ q·dq of each head, (samples, heads), overwritten where it is not empty, which it is with
  ///     ``AttentionMethod/blas``: what a factor on the head's scale has as its gradient, times the factor.
  ///   - outputGradient: (samples · tokens, heads · headSize), of qkv's format.
  ///   - output: as the forward pass left it, of the same extents and format.
  ///   - logsumexp: as the forward pass left it.
  ///   - operands: those of the forward pass.
  public func attentionBackward(
    qkvGradient: MutableMatrix, queryDots: MutableFloatSlice = .empty, outputGradient: Matrix, output: Matrix,
    logsumexp: FloatSlice, _ operands: AttentionOperands
  ) {
    let e = operands.extents
    operands.check(self, logsumexp: logsumexp, backward: true)
    e.check(qkv: qkvGradient.reading)
    e.check(output: output, like: operands.qkv)
    e.check(output: outputGradient, like: operands.qkv)
    check(queryDots.count, atLeast: queryDots.isEmpty ? 0 : e.samples * e.heads, "query dots")
    precondition(!qkvGradient.overlaps(operands.qkv), "attention's gradient over its input")
    switch operands.method {
    case .packed:
      packedAttentionBackward(
        operands, qkvGradient: qkvGradient, queryDots: queryDots, outputGradient: outputGradient, output: output,
        logsumexp: logsumexp)
    case .blas:
      precondition(queryDots.isEmpty, "OpenBLAS's attention has no query dots")
      blasAttentionBackward(
        operands, qkvGradient: qkvGradient, outputGradient: outputGradient, output: output, logsumexp: logsumexp)
    }
  }
}
