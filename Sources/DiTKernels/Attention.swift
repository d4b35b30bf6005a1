import CDiTKernels

// Multi-head self-attention, softmax(q kᵀ / √d) v, over query blocks: nothing of size tokens × tokens exists for more
// than the heads that are being worked on.
//
//   qkv  (samples · tokens, 3 · width): q, k, v thirds, each head-major        width = heads · d
//   out  (samples · tokens, width)                                             logsumexp  (samples · heads · tokens)

/// How attention is cut up, and how much scratch a worker needs.
struct AttentionPlan {
  let tokens: Int
  let headSize: Int
  /// Queries whose logits are held at once.
  let block: Int

  /// Heads over at most this many tokens are computed by one vector kernel, without sgemm.
  static let smallTokens = 64
  /// Logits held by a worker: 64 Ki elements, a quarter of a second-level cache of 1 MB.
  private static let tile = 1 << 16

  init(tokens: Int, headSize: Int) {
    self.tokens = tokens
    self.headSize = headSize
    block = min(tokens, max(16, Self.tile / max(tokens, 1)))
  }

  var isSmall: Bool { tokens <= Self.smallTokens }
  var blocks: Int { ceilDivide(tokens, block) }

  func queries(_ index: Int) -> Range<Int> { index * block..<min((index + 1) * block, tokens) }

  /// Elements a worker needs: forward or backward.
  func scratch(backward: Bool) -> Int {
    let pad = (tokens + 15) & ~15
    if isSmall { return (headSize + (backward ? 2 : 1) * tokens) * pad }
    return (block * tokens * (backward ? 2 : 1) + 2 * block + 15) & ~15
  }
}

extension ComputeContext {
  /// Attention over at most this many tokens is one vector kernel in float32, without products.
  public static let fewTokens = AttentionPlan.smallTokens

  /// Elements of scratch that attention needs, for all workers of this context.
  public func attentionScratch(tokens: Int, headSize: Int, backward: Bool) -> Int {
    threads * AttentionPlan(tokens: tokens, headSize: headSize).scratch(backward: backward)
  }

  /// out = softmax(q kᵀ / √d) v for every sample and head.
  ///
  /// - Parameters:
  ///   - output: (samples · tokens, heads · headSize); overwritten.
  ///   - logsumexp: saved for backward: log Σ_j exp(q·k_j / √d), (samples, heads, tokens).
  ///   - scratch: ``attentionScratch(tokens:headSize:backward:)`` elements.
  ///   - qkv: (samples · tokens, 3 · heads · headSize).
  public func attention(
    output: consuming MutableSpan<Float>, logsumexp: consuming MutableSpan<Float>,
    scratch: consuming MutableSpan<Float>, qkv: Span<Float>, samples: Int, tokens: Int, heads: Int, headSize: Int
  ) {
    let plan = AttentionPlan(tokens: tokens, headSize: headSize)
    check(output.count, atLeast: samples * tokens * heads * headSize, "attention output")
    check(logsumexp.count, atLeast: samples * tokens * heads, "attention logsumexp")
    check(scratch.count, atLeast: threads * plan.scratch(backward: false), "attention scratch")
    check(qkv.count, atLeast: 3 * samples * tokens * heads * headSize, "qkv")
    unsafe output.withUnsafeMutableBufferPointer { out in
      unsafe logsumexp.withUnsafeMutableBufferPointer { lse in
        unsafe scratch.withUnsafeMutableBufferPointer { scratch in
          unsafe qkv.withUnsafeBufferPointer { qkv in
            let task = unsafe AttentionForward(
              kernels: kernels, out: out.baseAddress!, lse: lse.baseAddress!, scratch: scratch.baseAddress!,
              qkv: qkv.baseAddress!, heads: heads, plan: plan)
            unsafe parallel(samples * heads * (plan.isSmall ? 1 : plan.blocks), task)
          }
        }
      }
    }
  }

  /// The gradient of ``attention``; probabilities are recomputed from the saved logsumexp.
  ///
  /// - Parameters:
  ///   - qkvGradient: (samples · tokens, 3 · heads · headSize); overwritten.
  ///   - outputGradient, output: (samples · tokens, heads · headSize).
  public func attentionBackward(
    qkvGradient: consuming MutableSpan<Float>, scratch: consuming MutableSpan<Float>, outputGradient: Span<Float>,
    output: Span<Float>, logsumexp: Span<Float>, qkv: Span<Float>, samples: Int, tokens: Int, heads: Int,
    headSize: Int
  ) {
    let plan = AttentionPlan(tokens: tokens, headSize: headSize)
    let elements = samples * tokens * heads * headSize
    check(qkvGradient.count, atLeast: 3 * elements, "qkv gradient")
    check(scratch.count, atLeast: threads * plan.scratch(backward: true), "attention scratch")
    check(min(outputGradient.count, output.count), atLeast: elements, "attention output gradient")
    check(logsumexp.count, atLeast: samples * tokens * heads, "attention logsumexp")
    check(qkv.count, atLeast: 3 * elements, "qkv")
    unsafe qkvGradient.withUnsafeMutableBufferPointer { dqkv in
      unsafe scratch.withUnsafeMutableBufferPointer { scratch in
        unsafe outputGradient.withUnsafeBufferPointer { dout in
          unsafe output.withUnsafeBufferPointer { out in
            unsafe logsumexp.withUnsafeBufferPointer { lse in
              unsafe qkv.withUnsafeBufferPointer { qkv in
                let task = unsafe AttentionBackward(
                  kernels: kernels, dqkv: dqkv.baseAddress!, scratch: scratch.baseAddress!, dout: dout.baseAddress!,
                  out: out.baseAddress!, lse: lse.baseAddress!, qkv: qkv.baseAddress!, heads: heads, plan: plan)
                unsafe parallel(samples * heads, task)
              }
            }
          }
        }
      }
    }
  }
}

/// Where a head's rows begin: of q in the qkv matrix and of the output.
private struct HeadAddress {
  let sample, head, width: Int
  let query: Int
  let result: Int

  @inline(__always) init(_ index: Int, heads: Int, plan: AttentionPlan) {
    sample = index / heads
    head = index % heads
    width = heads * plan.headSize
    query = sample * plan.tokens * 3 * width + head * plan.headSize
    result = sample * plan.tokens * width + head * plan.headSize
  }
}

@unsafe private struct AttentionForward: ParallelTask {
  let kernels: DiTKernelTable
  let out, lse, scratch: UnsafeMutablePointer<Float>
  let qkv: UnsafePointer<Float>
  let heads: Int
  let plan: AttentionPlan

  private var scale: Float { unsafe 1 / Float(plan.headSize).squareRoot() }

  func run(_ index: Int, worker: Int) {
    let work = unsafe scratch + worker * plan.scratch(backward: false)
    if unsafe plan.isSmall {
      unsafe runSmall(index, work)
    } else {
      unsafe runBlock(head: index / plan.blocks, queries: plan.queries(index % plan.blocks), work)
    }
  }

  private func runSmall(_ index: Int, _ work: UnsafeMutablePointer<Float>) {
    let at = unsafe HeadAddress(index, heads: heads, plan: plan)
    let q = unsafe qkv + at.query
    unsafe kernels.attention_small(
      out + at.result, at.width, lse + index * plan.tokens, work, q, q + at.width, q + 2 * at.width, 3 * at.width,
      scale, plan.tokens, plan.headSize)
  }

  private func runBlock(head: Int, queries: Range<Int>, _ logits: UnsafeMutablePointer<Float>) {
    let at = unsafe HeadAddress(head, heads: heads, plan: plan)
    let (ld, tokens, size) = unsafe (3 * at.width, plan.tokens, plan.headSize)
    let q = unsafe qkv + at.query
    let inverseSum = unsafe logits + plan.block * tokens
    // S = q kᵀ; P = exp(scale (S − max)); out = P v / Σ P
    unsafe sgemm(
      .plain(q + queries.lowerBound * ld, ld), .transposed(q + at.width, ld), into: logits, tokens,
      m: queries.count, n: tokens, k: size)
    unsafe kernels.softmax(
      logits, tokens, inverseSum, lse + head * tokens + queries.lowerBound, scale, queries.count, tokens)
    let result = unsafe out + at.result + queries.lowerBound * at.width
    unsafe sgemm(
      .plain(logits, tokens), .plain(q + 2 * at.width, ld), into: result, at.width, m: queries.count, n: size, k: tokens
    )
    unsafe kernels.scale_rows(result, at.width, inverseSum, queries.count, size)
  }
}

@unsafe private struct AttentionBackward: ParallelTask {
  let kernels: DiTKernelTable
  let dqkv, scratch: UnsafeMutablePointer<Float>
  let dout, out, lse, qkv: UnsafePointer<Float>
  let heads: Int
  let plan: AttentionPlan

  private var scale: Float { unsafe 1 / Float(plan.headSize).squareRoot() }

  func run(_ index: Int, worker: Int) {
    let work = unsafe scratch + worker * plan.scratch(backward: true)
    let at = unsafe HeadAddress(index, heads: heads, plan: plan)
    if unsafe plan.isSmall {
      let (q, dq) = unsafe (qkv + at.query, dqkv + at.query)
      unsafe kernels.attention_small_backward(
        dq, dq + at.width, dq + 2 * at.width, 3 * at.width, work, dout + at.result, out + at.result, at.width,
        lse + index * plan.tokens, q, q + at.width, q + 2 * at.width, 3 * at.width, scale, plan.tokens,
        plan.headSize)
    } else {
      for block in unsafe 0..<plan.blocks {
        unsafe runBlock(index, at, queries: plan.queries(block), work)
      }
    }
  }

  /// One block's dq, and its share of dk and dv: the first block overwrites them, the others add.
  private func runBlock(_ index: Int, _ at: HeadAddress, queries: Range<Int>, _ s: UnsafeMutablePointer<Float>) {
    let (ld, tokens, size, rows) = unsafe (3 * at.width, plan.tokens, plan.headSize, queries.count)
    let first = queries.lowerBound
    let q = unsafe qkv + at.query + first * ld
    let (k, v) = unsafe (qkv + at.query + at.width, qkv + at.query + 2 * at.width)
    let result = at.result + first * at.width
    let dp = unsafe s + plan.block * tokens
    let delta = unsafe dp + plan.block * tokens
    let beta: Float = first == 0 ? 0 : 1
    // S = q kᵀ; dP = dout vᵀ; δ = Σ dout ⊙ out; P = exp(scale S − lse); dS = scale P (dP − δ)
    unsafe sgemm(.plain(q, ld), .transposed(k, ld), into: s, tokens, m: rows, n: tokens, k: size)
    unsafe sgemm(
      .plain(dout + result, at.width), .transposed(v, ld), into: dp, tokens, m: rows, n: tokens, k: size)
    unsafe kernels.row_dots(delta, dout + result, at.width, out + result, at.width, rows, size)
    unsafe kernels.softmax_backward(s, dp, tokens, lse + index * tokens + first, delta, scale, rows, tokens)
    // dq = dS k; dk += dSᵀ q; dv += Pᵀ dout
    unsafe sgemm(.plain(dp, tokens), .plain(k, ld), into: dqkv + at.query + first * ld, ld, m: rows, n: size, k: tokens)
    unsafe sgemm(
      .transposed(dp, tokens), .plain(q, ld), into: dqkv + at.query + at.width, ld, m: tokens, n: size, k: rows,
      beta: beta)
    unsafe sgemm(
      .transposed(s, tokens), .plain(dout + result, at.width), into: dqkv + at.query + 2 * at.width, ld, m: tokens,
      n: size, k: rows, beta: beta)
  }
}
