import DiTKernels
import DiTTensor
import TestSupport

/// Operands as the attention kernels round them, and what Double makes of them.
struct ExpectedAttention {
  let h: Reference.Heads
  let windows: Reference.Windows
  let precision: Precision
  let qkv, dout: [Float]
  let largest: Double
  let out, logsumexp, gradient: [Double]

  init(
    _ h: Reference.Heads, _ precision: Precision, _ windows: Reference.Windows = Reference.Windows(), qkv: [Float],
    dout: [Float]
  ) {
    (self.h, self.windows, self.precision) = (h, windows, precision)
    (self.qkv, self.dout) = (qkv.rounded(to: precision), dout.rounded(to: precision))
    let values = self.qkv.doubles
    largest = Reference.largestLogit(values, h, windows)
    (out, logsumexp) = Reference.attention(values, h, windows)
    gradient = Reference.attentionGradient(self.dout.doubles, values, h, windows)
  }

  /// Normal operands.
  init(_ h: Reference.Heads, _ precision: Precision, _ windows: Reference.Windows = Reference.Windows()) {
    var draw = Draw(seed: 121)
    let qkv = draw.normal(3 * h.samples * h.tokens * h.width)
    self.init(h, precision, windows, qkv: qkv, dout: draw.normal(h.samples * h.tokens * h.width))
  }

  /// Σ q·g of each head of each sample.
  private func queryDots(_ g: [Double], _ q: (Float) -> Double) -> [Double] {
    (0..<h.samples * h.heads).map { index in
      (0..<h.tokens).reduce(0.0) { sum, token in
        let at = h.query(index / h.heads, token, index % h.heads)
        return (at..<at + h.size).reduce(sum) { $0 + q(qkv[$1]) * g[$1] }
      }
    }
  }

  /// What disagrees.
  func problems(_ run: PackedAttentionRun) -> [String] {
    [
      precision == .bf16 ? halfProblem(run) : exactProblem(run),
      mismatch(run.logsumexp.array, logsumexp, within: .sum(of: h.size)).map { "logsumexp " + $0 },
      queryDotProblem(run),
      run.operands.damage,
    ].compactMap { $0 }
  }

  private func queryDotProblem(_ run: PackedAttentionRun) -> String? {
    let magnitudes = Reference.attentionMagnitudes(dout.doubles, qkv.doubles, h, windows).gradient
    let tolerance = precision == .bf16 ? Tolerance.bf16(2.1) : .softmax(largest: largest, terms: h.tokens)
    return mismatch(
      run.queryDots, .fp32, queryDots(gradient) { Double($0) }, within: tolerance,
      scales: queryDots(magnitudes) { Double(abs($0)) }.map { max($0, 1e-30) }
    ).map { "q·dq " + $0 }
  }

  private func exactProblem(_ run: PackedAttentionRun) -> String? {
    let tolerance = Tolerance.softmax(largest: largest, terms: h.tokens)
    return mismatch(run.out.array, out, within: tolerance).map { "out " + $0 }
      ?? mismatch(run.gradient.array, gradient, within: tolerance).map { "dqkv " + $0 }
  }

  /// Every weight is rounded once before it multiplies v; in the gradient it and dS are, and in dS so was the output. The
  /// tenth is for what float32 adds, the smallest scale for weights that are as good as 0.
  private func halfProblem(_ run: PackedAttentionRun) -> String? {
    let magnitudes = Reference.attentionMagnitudes(dout.doubles, qkv.doubles, h, windows)
    let (a, b) = (magnitudes.out.map { max($0, 1e-30) }, magnitudes.gradient.map { max($0, 1e-30) })
    return mismatch(run.out, .bf16, out, within: .bf16(1.1), scales: a).map { "out " + $0 }
      ?? mismatch(run.gradient, .bf16, gradient, within: .bf16(2.1), scales: b).map { "dqkv " + $0 }
  }
}

/// The kernels over one case.
struct PackedAttentionRun {
  let operands = Operands()
  let out, logsumexp, gradient, queryDots: Slice

  init(_ context: ComputeContext, _ e: ExpectedAttention) {
    let (h, precision, windows) = (e.h, e.precision, e.windows)
    let rule = AttentionRule(windows)
    let (scales, widths) = (windows.scales.map { Float($0) }, windows.widths.map { Float($0) })
    let values = operands.input("qkv", e.qkv, precision)
    out = operands.output("out", e.out.count, precision)
    logsumexp = operands.output("logsumexp", h.samples * h.heads * h.tokens)
    gradient = operands.output("dqkv", e.qkv.count, precision)
    queryDots = operands.output("query dots", h.samples * h.heads)
    let forward = operands.output(
      "scratch", context.packedAttentionScratch(h.extents, rule: rule, backward: false))
    context.packedAttention(
      output: out.mutableBytes, logsumexp: logsumexp.mutableSpan, scratch: forward.mutableBytes, qkv: values.bytes,
      precision, h.extents, rule: rule, scales: scales.span, widths: widths.span,
      prefixKeys: windows.prefixKeys.span)
    let backward = operands.output(
      "backward scratch", context.packedAttentionScratch(h.extents, rule: rule, backward: true))
    context.packedAttentionBackward(
      qkvGradient: gradient.mutableBytes, queryDots: queryDots.mutableSpan, scratch: backward.mutableBytes,
      outputGradient: operands.input("dout", e.dout, precision).bytes, output: out.bytes, logsumexp: logsumexp.span,
      qkv: values.bytes, precision, h.extents, rule: rule, scales: scales.span, widths: widths.span,
      prefixKeys: windows.prefixKeys.span)
  }
}

extension AttentionRule {
  init(_ windows: Reference.Windows) {
    let mask: Mask =
      switch windows.mask {
      case .none: .none
      case .soft: .soft
      case .hard: .hard
      }
    self.init(mask: mask, prefix: windows.prefix, columns: windows.columns)
  }
}
