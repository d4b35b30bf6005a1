import CDiTKernels
import DiTTensor

// Multi-head self-attention in float32 by OpenBLAS, softmax(scale q kᵀ) v, over query blocks: nothing of size tokens × tokens
// exists for more than the heads that are being worked on. Few tokens have a vector kernel of their own.
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
  /// Elements of scratch, for all workers.
  func blasAttentionScratch(_ extents: AttentionExtents, backward: Bool) -> Int {
    threads * AttentionPlan(extents).scratch(backward: backward)
  }

  func blasAttention(_ a: AttentionOperands, output: MutableMatrix, logsumexp: MutableFloatSlice) {
    let plan = AttentionPlan(a.extents)
    let task = unsafe AttentionForward(
      kernels: kernels, out: output.floats, lse: logsumexp.pointer, scratch: a.scratch.pointer, qkv: a.qkv.floats,
      scales: HeadScales(a), heads: a.extents.heads, plan: plan)
    unsafe parallel(a.extents.samples * a.extents.heads * (plan.isNaive ? 1 : plan.blocks), task)
  }

  /// Probabilities are recomputed from the saved logsumexp.
  func blasAttentionBackward(
    _ a: AttentionOperands, qkvGradient: MutableMatrix, outputGradient: Matrix, output: Matrix, logsumexp: FloatSlice
  ) {
    let task = unsafe AttentionBackward(
      kernels: kernels, dqkv: qkvGradient.floats, scratch: a.scratch.pointer, dout: outputGradient.floats,
      out: output.floats, lse: logsumexp.pointer, qkv: a.qkv.floats, scales: HeadScales(a), heads: a.extents.heads,
      plan: AttentionPlan(a.extents))
    unsafe parallel(a.extents.samples * a.extents.heads, task)
  }
}

/// What q·k is multiplied by, for each head of each sample.
@unsafe private struct HeadScales {
  private let given: UnsafePointer<Float>?
  private let usual: Float

  init(_ a: AttentionOperands) {
    unsafe given = a.scales.isEmpty ? nil : a.scales.pointer
    unsafe usual = 1 / Float(a.extents.headSize).squareRoot()
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
