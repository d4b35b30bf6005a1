import CDiTKernels

// Multi-head self-attention, softmax(scale q kᵀ) v, over query blocks: nothing of size tokens × tokens exists for more
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
  static let naiveTokens = 64
  /// Logits held by a worker: 64 Ki elements, a quarter of a second-level cache of 1 MB.
  private static let tile = 1 << 16

  init(_ extents: AttentionExtents) {
    tokens = extents.tokens
    headSize = extents.headSize
    block = min(tokens, max(16, Self.tile / max(tokens, 1)))
  }

  /// Whether a head is one call of the naive kernel.
  var isNaive: Bool { tokens <= Self.naiveTokens }
  var blocks: Int { ceilDivide(tokens, block) }

  func queries(_ index: Int) -> Range<Int> { index * block..<min((index + 1) * block, tokens) }

  /// Elements a worker needs: forward or backward.
  func scratch(backward: Bool) -> Int {
    if isNaive { return dit_attention_naive_work(tokens, headSize, backward ? 1 : 0) }
    return (block * tokens * (backward ? 2 : 1) + 2 * block + 15) & ~15
  }
}

extension ComputeContext {
  /// Attention over at most this many tokens is one vector kernel in float32, without products.
  public static let fewTokens = AttentionPlan.naiveTokens

  /// Elements of scratch that attention needs, for all workers of this context.
  public func attentionScratch(_ extents: AttentionExtents, backward: Bool) -> Int {
    threads * AttentionPlan(extents).scratch(backward: backward)
  }

  /// out = softmax(scale q kᵀ) v for every sample and head.
  ///
  /// - Parameters:
  ///   - output: (samples · tokens, heads · headSize); overwritten.
  ///   - logsumexp: saved for backward: log Σ_j exp(scale q·k_j), (samples, heads, tokens).
  ///   - scratch: ``attentionScratch(_:backward:)`` elements.
  ///   - qkv: (samples · tokens, 3 · heads · headSize).
  ///   - scales: (samples, heads); empty: 1/√headSize.
  public func attention(
    output: consuming MutableSpan<Float>, logsumexp: consuming MutableSpan<Float>,
    scratch: consuming MutableSpan<Float>, qkv: Span<Float>, _ extents: AttentionExtents, scales: Span<Float> = Span()
  ) {
    let plan = AttentionPlan(extents)
    check(output.count, atLeast: extents.elements, "attention output")
    check(scratch.count, atLeast: threads * plan.scratch(backward: false), "attention scratch")
    check(extents, qkv: qkv.count, logsumexp: logsumexp.count, scales: scales.count)
    unsafe output.withUnsafeMutableBufferPointer { out in
      unsafe logsumexp.withUnsafeMutableBufferPointer { lse in
        unsafe scratch.withUnsafeMutableBufferPointer { scratch in
          unsafe qkv.withUnsafeBufferPointer { qkv in
            unsafe scales.withUnsafeBufferPointer { scales in
              let task = unsafe AttentionForward(
                kernels: kernels, out: out.baseAddress!, lse: lse.baseAddress!, scratch: scratch.baseAddress!,
                qkv: qkv.baseAddress!, scales: HeadScales(scales, extents), heads: extents.heads, plan: plan)
              unsafe parallel(extents.samples * extents.heads * (plan.isNaive ? 1 : plan.blocks), task)
            }
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
  ///   - scales: as in the forward pass.
  public func attentionBackward(
    qkvGradient: consuming MutableSpan<Float>, scratch: consuming MutableSpan<Float>, outputGradient: Span<Float>,
    output: Span<Float>, logsumexp: Span<Float>, qkv: Span<Float>, _ extents: AttentionExtents,
    scales: Span<Float> = Span()
  ) {
    let plan = AttentionPlan(extents)
    check(qkvGradient.count, atLeast: 3 * extents.elements, "qkv gradient")
    check(scratch.count, atLeast: threads * plan.scratch(backward: true), "attention scratch")
    check(min(outputGradient.count, output.count), atLeast: extents.elements, "attention output gradient")
    check(extents, qkv: qkv.count, logsumexp: logsumexp.count, scales: scales.count)
    unsafe qkvGradient.withUnsafeMutableBufferPointer { dqkv in
      unsafe scratch.withUnsafeMutableBufferPointer { scratch in
        unsafe outputGradient.withUnsafeBufferPointer { dout in
          unsafe output.withUnsafeBufferPointer { out in
            unsafe logsumexp.withUnsafeBufferPointer { lse in
              unsafe qkv.withUnsafeBufferPointer { qkv in
                unsafe scales.withUnsafeBufferPointer { scales in
                  let task = unsafe AttentionBackward(
                    kernels: kernels, dqkv: dqkv.baseAddress!, scratch: scratch.baseAddress!, dout: dout.baseAddress!,
                    out: out.baseAddress!, lse: lse.baseAddress!, qkv: qkv.baseAddress!,
                    scales: HeadScales(scales, extents), heads: extents.heads, plan: plan)
                  unsafe parallel(extents.samples * extents.heads, task)
                }
              }
            }
          }
        }
      }
    }
  }

  private func check(_ extents: AttentionExtents, qkv: Int, logsumexp: Int, scales: Int) {
    DiTKernels.check(qkv, atLeast: 3 * extents.elements, "qkv")
    DiTKernels.check(logsumexp, atLeast: extents.samples * extents.tokens * extents.heads, "attention logsumexp")
    DiTKernels.check(scales, atLeast: scales == 0 ? 0 : extents.samples * extents.heads, "attention scales")
  }

  private func check(_ count: Int, atLeast needed: Int, _ name: StaticString) {
    DiTKernels.check(count, atLeast: needed, name)
  }
}

/// What q·k is multiplied by, for each head of each sample.
@unsafe private struct HeadScales {
  private let given: UnsafePointer<Float>?
  private let usual: Float

  init(_ scales: UnsafeBufferPointer<Float>, _ extents: AttentionExtents) {
    unsafe given = scales.isEmpty ? nil : scales.baseAddress
    unsafe usual = 1 / Float(extents.headSize).squareRoot()
  }

  subscript(head: Int) -> Float { unsafe given.map { unsafe $0[head] } ?? usual }
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
  let scales: HeadScales
  let heads: Int
  let plan: AttentionPlan

  func run(_ index: Int, worker: Int) {
    let work = unsafe scratch + worker * plan.scratch(backward: false)
    if unsafe plan.isNaive {
      unsafe runNaive(index, work)
    } else {
      unsafe runBlock(head: index / plan.blocks, queries: plan.queries(index % plan.blocks), work)
    }
  }

  private func runNaive(_ index: Int, _ work: UnsafeMutablePointer<Float>) {
    let at = unsafe HeadAddress(index, heads: heads, plan: plan)
    let q = unsafe qkv + at.query
    unsafe kernels.attention_naive(
      out + at.result, at.width, lse + index * plan.tokens, work, q, q + at.width, q + 2 * at.width, 3 * at.width,
      scales[index], plan.tokens, plan.headSize)
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
      logits, tokens, inverseSum, lse + head * tokens + queries.lowerBound, scales[head], queries.count, tokens)
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
  let scales: HeadScales
  let heads: Int
  let plan: AttentionPlan

  func run(_ index: Int, worker: Int) {
    let work = unsafe scratch + worker * plan.scratch(backward: true)
    let at = unsafe HeadAddress(index, heads: heads, plan: plan)
    if unsafe plan.isNaive {
      let (q, dq) = unsafe (qkv + at.query, dqkv + at.query)
      unsafe kernels.attention_naive_backward(
        dq, dq + at.width, dq + 2 * at.width, 3 * at.width, work, dout + at.result, out + at.result, at.width,
        lse + index * plan.tokens, q, q + at.width, q + 2 * at.width, 3 * at.width, scales[index], plan.tokens,
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
    unsafe kernels.softmax_backward(s, dp, tokens, lse + index * tokens + first, delta, scales[index], rows, tokens)
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
