import DiTKernels
import DiTTensor

/// softmax(logits) v and its gradient, with scales, windows, masks and a prefix.
public struct AttentionCase: KernelCase {
  /// How the logits lie.
  public enum Logits: Sendable, CaseIterable {
    case normal
    /// ±80 and more: some weights are 1, some below Float's smallest.
    case wide
    /// All near −400 or near +400: without the row's maximum taken off, every exponential under- or overflows.
    case low, high
    /// One key has all the weight: the first, or the last, which lies in another block of keys than most.
    case first, last
  }

  public var heads: Reference.Heads
  public var windows = Reference.Windows()
  public var format = Format.fp32
  public var method = AttentionMethod.packed
  public var logits = Logits.normal
  var isBackward = true

  /// Samples, tokens, heads, head size.
  public init(_ samples: Int, _ tokens: Int, _ heads: Int, _ size: Int) {
    self.heads = Reference.Heads(samples: samples, tokens: tokens, heads: heads, size: size)
  }

  public var description: String {
    let (h, w) = (heads, windows)
    let way = method == .blas ? "OpenBLAS" : "packed \(format)"
    let plain = "\(h.samples)×\(h.tokens), \(h.heads) heads of \(h.size), \(logits) logits, \(way)"
    guard w.mask != .none || w.prefix > 0 else { return plain }
    return plain + ", \(w.mask) \(w.widths), prefix \(w.prefix) \(w.prefixKeys)"
      + (w.columns.map { ", \($0) columns" } ?? "")
  }

  public var kernels: Set<String> {
    let isFew = heads.tokens <= ComputeContext.fewTokens
    let (forward, backward): (Set<String>, Set<String>) =
      switch method {
      case .blas where isFew: (["attention_naive"], ["attention_naive_backward"])
      case .blas: (["softmax", "scale_rows"], ["row_dots", "softmax_backward"])
      case .packed:
        (
          windows.mask == .soft
            ? ["attention_work", "attention_block", "attention_skipped_values"]
            : ["attention_work", "attention_block"],
          ["attention_gradient_work", "attention_backward_head"]
        )
      }
    return isBackward ? forward.union(backward) : forward
  }

  private var count: Int { heads.samples * heads.tokens * heads.width }
  private var extents: AttentionExtents {
    AttentionExtents(samples: heads.samples, tokens: heads.tokens, heads: heads.heads, headSize: heads.size)
  }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    var qkv = draw.normal(3 * count, deviation: logits == .normal ? 1 : logits == .wide ? 5.5 : 0.05)
    if logits != .normal && logits != .wide {
      for i in qkv.indices {
        let (part, token) = (i / heads.width % 3, i / heads.width / 3 % heads.tokens)
        switch (part, logits) {
        case (0, _): qkv[i] += 10
        case (1, .low): qkv[i] -= 10
        case (1, .high): qkv[i] += 10
        case (1, .first): qkv[i] += token == 0 ? 4 : 0
        case (1, .last): qkv[i] += token == heads.tokens - 1 ? 4 : 0
        case (2, _): qkv[i] *= 20
        default: break
        }
      }
    }
    return [
      "qkv": qkv.rounded(to: format), "dout": draw.normal(count).rounded(to: format),
      // For differences: the query dots are the gradient of a factor on each head's scale.
      "factors": windows.scales.map { _ in 1 },
    ]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let (rows, width, rule) = (heads.samples * heads.tokens, heads.width, AttentionRule(windows))
    let qkv = o.matrix("qkv", rows: rows, columns: 3 * width, format: format)
    func operands(backward: Bool) -> AttentionOperands {
      let count = context.attentionScratch(extents, rule: rule, method: method, backward: backward)
      return AttentionOperands(
        qkv: qkv, extents, rule: rule, scales: o.vector("scales", windows.scales.map { Float($0) }),
        widths: o.vector("widths", windows.widths.map { Float($0) }), prefixKeys: windows.prefixKeys,
        scratch: o.scratch(count), method: method)
    }
    let out = o.output("out", rows: rows, columns: width, format: format)
    let logsumexp = o.output("logsumexp", rows * heads.heads)
    let (before, after) = (operands(backward: false), isBackward ? operands(backward: true) : nil)
    guard let after else { return { context.attention(output: out, logsumexp: logsumexp, before) } }
    context.attention(output: out, logsumexp: logsumexp, before)
    let gradient = o.output("dqkv", rows: rows, columns: 3 * width, format: format)
    let dots = method == .blas ? .empty : o.output("query dots", heads.samples * heads.heads)
    let dout = o.matrix("dout", rows: rows, columns: width, format: format)
    return {
      context.attentionBackward(
        qkvGradient: gradient, queryDots: dots, outputGradient: dout, output: out.reading,
        logsumexp: logsumexp.reading, after)
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (qkv, dout, h) = (x["qkv"], x["dout"], heads)
    let (out, logsumexp) = Reference.attention(qkv, h, windows)
    let gradient = Reference.attentionGradient(dout, qkv, h, windows)
    let exact = Tolerance.softmax(largest: Reference.largestLogit(qkv, h, windows), terms: h.tokens)
    let rows = [
      // Two or three roundings of the largest logit, which logsumexp is close to.
      Expectation.near("logsumexp", logsumexp, .sum(of: h.size))
    ]
    if method == .blas { return rows + [.near("out", out, exact), .near("dqkv", gradient, exact)] }
    let magnitudes = Reference.attentionMagnitudes(dout, qkv, h, windows)
    // In bf16 every weight is rounded once before it multiplies v; in the gradient it and dS are, and in dS so was the
    // output. The tenth is for what float32 adds, the smallest scale for weights that are as good as 0.
    let isHalf = format == .bf16
    func scales(_ magnitudes: [Double]) -> [Double] { magnitudes.map { max($0, 1e-28) } }
    let dots = Expectation.near(
      "query dots", queryDots(gradient, qkv), isHalf ? .bf16(2.1) : exact,
      scales: scales(queryDots(magnitudes.gradient, qkv.map { abs($0) })))
    return rows + [
      .near("out", out, isHalf ? .bf16(1.1) : exact, scales: isHalf ? scales(magnitudes.out) : nil),
      .near("dqkv", gradient, isHalf ? .bf16(2.1) : exact, scales: isHalf ? scales(magnitudes.gradient) : nil), dots,
    ]
  }

  /// Σ q·g of each head of each sample.
  private func queryDots(_ g: [Double], _ q: [Double]) -> [Double] {
    (0..<heads.samples * heads.heads).map { index in
      (0..<heads.tokens).reduce(0.0) { sum, token in
        let at = heads.query(index / heads.heads, token, index % heads.heads)
        return (at..<at + heads.size).reduce(sum) { $0 + q[$1] * g[$1] }
      }
    }
  }

  public var gradients: [String: String] {
    windows.scales.isEmpty ? ["qkv": "dqkv"] : ["qkv": "dqkv", "factors": "query dots"]
  }

  public func loss(_ x: Inputs) -> Double {
    var scaled = windows
    scaled.scales = zip(windows.scales, x["factors"]).map { $0 * $1 }
    return dot(x["dout"], Reference.attention(x["qkv"], heads, scaled).out)
  }
}

extension AttentionRule {
  public init(_ windows: Reference.Windows) {
    let mask: Mask =
      switch windows.mask {
      case .none: .none
      case .soft: .soft
      case .hard: .hard
      }
    self.init(mask: mask, prefix: windows.prefix, columns: windows.columns)
  }
}
