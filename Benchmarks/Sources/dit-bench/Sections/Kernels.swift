import DiffusionTransformers

/// Kernels that are not plain products.
enum Kernels: Section {
  static let name = "kernels"
  static let note = """
    Sizes of DiT-B/2 at batch 8: 2048 rows of 768, 3072 in the MLP; optimiser kernels on 16 Mi weights. Bytes are of the \
    arrays named: r read, w written. Attention counts 4·N·L²·D operations, its backward pass 10·N·L²·D.
    """

  /// The work that a kernel's rate is computed from.
  enum Cost {
    /// Arrays, in words, and bytes moved.
    case bytes(String, Int)
    /// Operations.
    case operations(Double)
  }

  struct Case {
    let name: String
    let cost: Cost
    let body: () -> Void

    init(_ name: String, _ cost: Cost, _ body: @escaping () -> Void) {
      self.name = name
      self.cost = cost
      self.body = body
    }
  }

  static func run(_ session: Session) throws {
    for group in [normalisation, activations, optimiser, fusedProducts, attention] {
      for kernel in session.wanted(group(session.context), name: \.name) {
        let time = Measurement(budget: 0.4, kernel.body)
        try session.add(kernel.name, Field.time(time) + fields(kernel.cost, time, session.peaks.fp32))
      }
    }
  }

  /// The same columns for both kinds of cost.
  private static func fields(_ cost: Cost, _ time: Measurement, _ peak: Double) -> [Field] {
    switch cost {
    case .bytes(let arrays, let count):
      let rate = Double(count) / time.median * 1e-9
      return [
        Field("moved", "\(arrays): \(threeDigits(Double(count) * 1e-6)) MB", ["bytes": Double(count)]),
        Field("GB/s", "gigabytes_per_second", rate), Field("GFLOP/s", "", [:]), Field("share of peak", "", [:]),
      ]
    case .operations(let operations):
      return [Field("moved", "", [:]), Field("GB/s", "", [:])] + Field.rate(operations, time, peak: peak)
    }
  }
}

/// The extents of a block of DiT-B/2 at batch 8, and memory filled for them.
private struct Extents {
  let samples = 8
  let tokens = 256
  let width = 768
  let wide = 3072
  var rows: Int { samples * tokens }
  /// Bytes of so many (rows, width) arrays.
  func bytes(_ arrays: Int) -> Int { 4 * arrays * rows * width }

  func drawn(_ count: Int) -> Slice {
    var random = Philox(seed: 5)
    return Slice(random.normal(count: count))
  }
}

extension Kernels {
  private static func normalisation(_ context: ComputeContext) -> [Case] {
    let e = Extents()
    let (x, h, dx) = (e.drawn(e.rows * e.width), Slice(zeros: e.rows * e.width), Slice(zeros: e.rows * e.width))
    let (mean, rstd) = (Slice(zeros: e.rows), Slice(zeros: e.rows))
    let (shift, scale) = (e.drawn(e.samples * e.width), e.drawn(e.samples * e.width))
    let (dshift, dscale) = (Slice(zeros: e.samples * e.width), Slice(zeros: e.samples * e.width))
    let scratch = Slice(
      zeros: ComputeContext.rowReductionScratch(samples: e.samples, tokens: e.tokens, width: e.width))
    return [
      Case("layerNormModulate", .bytes("x r, h w", e.bytes(2))) {
        context.layerNormModulate(
          output: h.mutableBytes, .fp32, mean: mean.mutableSpan, rstd: rstd.mutableSpan, input: x.span,
          shift: shift.span, scale: scale.span, stride: e.width, epsilon: 1e-6, samples: e.samples, tokens: e.tokens,
          width: e.width)
      },
      Case("modulateFromStatistics", .bytes("x r, h w", e.bytes(2))) {
        context.modulateFromStatistics(
          output: h.mutableBytes, .fp32, mean: mean.span, rstd: rstd.span, input: x.span,
          shift: shift.span, scale: scale.span, stride: e.width, samples: e.samples, tokens: e.tokens, width: e.width)
      },
      Case("layerNormModulateBackward", .bytes("dh r, x r, dx r w", e.bytes(4))) {
        context.layerNormModulateBackward(
          inputGradient: dx.mutableSpan, shiftGradient: dshift.mutableSpan, scaleGradient: dscale.mutableSpan,
          gradientStride: e.width, scratch: scratch.mutableSpan, outputGradient: h.span, mean: mean.span,
          rstd: rstd.span, input: x.span, scale: scale.span, stride: e.width, samples: e.samples,
          tokens: e.tokens, width: e.width)
      },
      Case("gateBackward", .bytes("dx r, y r, dy w", e.bytes(3))) {
        context.gateBackward(
          outputGradient: dx.mutableBytes, .fp32, gateGradient: dshift.mutableSpan, gradientStride: e.width,
          scratch: scratch.mutableSpan, residualGradient: x.span, output: h.bytes, gate: scale.span,
          stride: e.width, samples: e.samples, tokens: e.tokens, width: e.width)
      },
    ]
  }

  private static func activations(_ context: ComputeContext) -> [Case] {
    let e = Extents()
    let count = e.rows * e.wide
    let (pre, h) = (e.drawn(count), Slice(zeros: count))
    let dh = Slice(zeros: count)  // stays 0, which takes as long
    return [
      Case("geluBackward", .bytes("pre r, dh r w, h w", 16 * count)) {
        context.geluBackward(output: h.mutableSpan, gradient: dh.mutableSpan, preactivation: pre.span)
      },
      Case("silu (one thread)", .bytes("x r, y w", 8 * count)) {
        context.silu(output: h.mutableSpan, input: pre.span)
      },
      Case("siluBackward (one thread)", .bytes("dy r, x r, dx w", 12 * count)) {
        context.siluBackward(inputGradient: dh.mutableSpan, outputGradient: h.span, input: pre.span)
      },
    ]
  }

  private static func optimiser(_ context: ComputeContext) -> [Case] {
    let count = 1 << 24
    let (w, g) = (Slice(zeros: count), Slice(zeros: count))
    let (m, v) = (Slice(zeros: count), Slice(zeros: count))
    w.fill(0.5)
    g.fill(1e-3)
    var norm = SquareSum(count)
    return [
      Case("adamW", .bytes("w, m, v r w, g r", 28 * count)) {
        context.adamW(
          weights: w.mutableSpan, firstMoment: m.mutableSpan, secondMoment: v.mutableSpan, gradient: g.span,
          gradientScale: 1, learningRate: 1e-6, step: 1, constants: AdamW())
      },
      Case("exponentialMovingAverage", .bytes("e r w, w r", 12 * count)) {
        context.exponentialMovingAverage(m.mutableSpan, weights: w.span, decay: 0.999)
      },
      Case("sumOfSquares", .bytes("g r", 4 * count)) {
        norm.run(g, context)
      },
    ]
  }

  private static func fusedProducts(_ context: ComputeContext) -> [Case] {
    let e = Extents()
    let (x, hidden) = (e.drawn(e.rows * e.width), Slice(zeros: e.rows * e.wide))
    let (y, weight) = (Slice(zeros: e.rows * e.width), e.drawn(e.width * e.wide))
    let (bias, gate) = (Slice(zeros: e.wide), e.drawn(e.samples * e.width))
    let operations = 2 * Double(e.rows) * Double(e.width) * Double(e.wide)
    return [
      Case("linearGELU, fc1", .operations(operations)) {
        context.linearGELU(
          output: hidden.mutableSpan, preactivation: hidden.mutableSpan, input: x.span, weight: weight.span,
          bias: bias.span, rows: e.rows, inputs: e.width, outputs: e.wide)
      },
      Case("linearGateResidual, fc2", .operations(operations)) {
        context.linearGateResidual(
          result: y.mutableSpan, output: y.mutableSpan, residual: x.span, input: hidden.span, weight: weight.span,
          bias: bias.span, gate: gate.span, gateStride: e.width, samples: e.samples, tokens: e.tokens, inputs: e.wide,
          outputs: e.width)
      },
    ]
  }

  /// The same number of rows as few long and many short sequences.
  private static func attention(_ context: ComputeContext) -> [Case] {
    [(32, 64), (8, 256), (2, 1024)].flatMap { extents in
      attention(context, samples: extents.0, tokens: extents.1)
        + Precision.allCases.flatMap { packedAttention(context, $0, samples: extents.0, tokens: extents.1) }
    }
  }

  private static func attention(_ context: ComputeContext, samples: Int, tokens: Int) -> [Case] {
    let e = Extents()
    let (heads, headSize, rows) = (12, 64, samples * tokens)
    let (qkv, dqkv) = (e.drawn(3 * rows * e.width), Slice(zeros: 3 * rows * e.width))
    let (output, dy) = (Slice(zeros: rows * e.width), e.drawn(rows * e.width))
    let logsumexp = Slice(zeros: rows * heads)
    let extents = AttentionExtents(samples: samples, tokens: tokens, heads: heads, headSize: headSize)
    let scratch = Slice(zeros: context.attentionScratch(extents, backward: true))
    let products = Double(samples * tokens * tokens * e.width)
    let forward = {
      context.attention(
        output: output.mutableSpan, logsumexp: logsumexp.mutableSpan, scratch: scratch.mutableSpan, qkv: qkv.span,
        extents)
    }
    forward()  // what the backward pass reads
    return [
      Case("attention, \(samples) × \(tokens) tokens", .operations(4 * products), forward),
      Case("attentionBackward, \(samples) × \(tokens) tokens", .operations(10 * products)) {
        context.attentionBackward(
          qkvGradient: dqkv.mutableSpan, scratch: scratch.mutableSpan, outputGradient: dy.span, output: output.span,
          logsumexp: logsumexp.span, qkv: qkv.span, extents)
      },
    ]
  }
}

extension Kernels {
  private static func packedAttention(
    _ context: ComputeContext, _ precision: Precision, samples: Int, tokens: Int
  ) -> [Case] {
    let e = Extents()
    let (heads, headSize, rows) = (12, 64, samples * tokens)
    let (qkv, dqkv) = (Slice(zeros: 3 * rows * e.width), Slice(zeros: 3 * rows * e.width))
    let (output, dy) = (Slice(zeros: rows * e.width), Slice(zeros: rows * e.width))
    let logsumexp = Slice(zeros: rows * heads)
    let extents = AttentionExtents(samples: samples, tokens: tokens, heads: heads, headSize: headSize)
    let scratch = Slice(zeros: context.packedAttentionScratch(extents, backward: true))
    let products = Double(samples * tokens * tokens * e.width)
    let forward = {
      context.packedAttention(
        output: output.mutableBytes, logsumexp: logsumexp.mutableSpan, scratch: scratch.mutableBytes, qkv: qkv.bytes,
        precision, extents)
    }
    forward()
    let name = "packed \(precision.rawValue), \(samples) × \(tokens) tokens"
    return [
      Case("attention, \(name)", .operations(4 * products), forward),
      Case("attentionBackward, \(name)", .operations(10 * products)) {
        context.packedAttentionBackward(
          qkvGradient: dqkv.mutableBytes, scratch: scratch.mutableBytes, outputGradient: dy.bytes,
          output: output.bytes, logsumexp: logsumexp.span, qkv: qkv.bytes, precision, extents)
      },
    ]
  }
}

/// A norm, with what it sums into.
private struct SquareSum {
  private var sums: [Double]

  init(_ count: Int) { sums = [Double](repeating: 0, count: ComputeContext.normScratch(count)) }

  mutating func run(_ values: Slice, _ context: ComputeContext) {
    _ = context.sumOfSquares(values.span, scratch: sums.mutableSpan)
  }
}
