import CDiTKernels
import DiTTensor

// Multi-head self-attention block by block of queries and keys (see attention_forward.inc), in float32 or bf16, with the scales
// and windows of diffusion-aware attention.

extension ComputeContext {
  /// Float elements of scratch, for all workers.
  func packedAttentionScratch(_ extents: AttentionExtents, rule: AttentionRule, backward: Bool) -> Int {
    threads * packedAttentionBytes(extents, backward: backward) / 4 + skippedElements(extents, rule)
  }

  private func packedAttentionBytes(_ extents: AttentionExtents, backward: Bool) -> Int {
    unsafe backward
      ? kernels.attention_gradient_work(extents.tokens, extents.headSize)
      : kernels.attention_work(extents.tokens, extents.headSize)
  }

  /// The sums of the values that a soft mask's blocks of queries skip.
  private func skippedElements(_ extents: AttentionExtents, _ rule: AttentionRule) -> Int {
    guard rule.mask == .soft else { return 0 }
    return extents.samples * ceilDivide(extents.tokens - rule.prefix, attentionQueries) * extents.width
  }

  func packedAttention(_ a: AttentionOperands, output: MutableMatrix, logsumexp: MutableFloatSlice) {
    let extents = a.extents
    let bytes = packedAttentionBytes(extents, backward: false)
    let (skipped, group) = (skippedElements(extents, a.rule), queryGroup(extents, a.rule))
    unsafe a.prefixKeys.withUnsafeBufferPointer { keys in
      var attention = unsafe DiTAttention(a, keys, out: DiTMatrix(output), logsumexp: logsumexp.pointer)
      let scratch = unsafe UnsafeMutableRawPointer(a.scratch.pointer)
      if skipped > 0 {
        let sums = unsafe (scratch + threads * bytes).assumingMemoryBound(to: Float.self)
        unsafe attention.skipped_values = UnsafePointer(sums)
        let task = unsafe SkippedValues(
          kernels: kernels, attention: attention, sums: sums, stride: skipped / (extents.samples * extents.heads))
        unsafe parallel(extents.samples * extents.heads, task)
      }
      let task = unsafe PackedAttentionForward(
        kernels: kernels, attention: attention, group: group, scratch: scratch, scratchBytes: bytes)
      unsafe parallel(extents.samples * extents.heads * task.blocks, task)
    }
  }

  /// Probabilities are recomputed from the saved logsumexp.
  func packedAttentionBackward(
    _ a: AttentionOperands, qkvGradient: MutableMatrix, queryDots: MutableFloatSlice, outputGradient: Matrix,
    output: Matrix, logsumexp: FloatSlice
  ) {
    unsafe a.prefixKeys.withUnsafeBufferPointer { keys in
      var attention = unsafe DiTAttention(
        a, keys, out: DiTMatrix(output), logsumexp: UnsafeMutablePointer(mutating: logsumexp.pointer))
      if !queryDots.isEmpty { unsafe attention.query_dots = queryDots.pointer }
      let task = unsafe PackedAttentionBackward(
        kernels: kernels, attention: attention, qkvGradient: DiTMatrix(qkvGradient),
        outputGradient: DiTMatrix(outputGradient), scratch: UnsafeMutableRawPointer(a.scratch.pointer),
        scratchBytes: packedAttentionBytes(a.extents, backward: true))
      unsafe parallel(a.extents.samples * a.extents.heads, task)
    }
  }

  /// Queries of a task. Packing a block of values costs what 6 queries cost, so a task takes many queries, as long as that
  /// leaves no worker idle at the end; windows differ from block to block. Results do not depend on it.
  private func queryGroup(_ e: AttentionExtents, _ rule: AttentionRule) -> Int {
    guard rule.mask == .none else { return attentionQueries }
    func cost(_ group: Int) -> Int {
      let tasks = e.samples * e.heads * ceilDivide(e.tokens, group)
      return ceilDivide(tasks, threads) * (min(group, e.tokens) + 6)
    }
    var best = attentionQueries
    for blocks in 2...(DiTQueryGroup / DiTQueryBlock) where cost(blocks * attentionQueries) <= cost(best) {
      best = blocks * attentionQueries
    }
    return best
  }
}

/// Queries that pass over a block of keys together.
private let attentionQueries = DiTQueryBlock

extension DiTAttention {
  @unsafe fileprivate init(
    _ a: AttentionOperands, _ prefixKeys: UnsafeBufferPointer<Int>, out: DiTMatrix,
    logsumexp: UnsafeMutablePointer<Float>
  ) {
    let (e, rule) = (a.extents, a.rule)
    unsafe self.init(
      qkv: DiTMatrix(a.qkv), out: out, logsumexp: logsumexp, scale: 1 / Float(e.headSize).squareRoot(),
      scales: a.scales.isEmpty ? nil : a.scales.pointer, tokens: e.tokens, heads: e.heads, dim: e.headSize,
      mask: rule.mask.code, prefix: rule.prefix, prefix_keys: prefixKeys.isEmpty ? nil : prefixKeys.baseAddress,
      columns: rule.columns ?? 0, widths: a.widths.pointer, skipped_values: nil, query_dots: nil)
  }
}

@unsafe private struct SkippedValues: ParallelTask {
  let kernels: DiTKernelTable
  let attention: DiTAttention
  let sums: UnsafeMutablePointer<Float>
  /// Elements of a head.
  let stride: Int

  func run(_ head: Int, worker: Int) {
    unsafe withUnsafePointer(to: attention) { attention in
      unsafe kernels.attention_skipped_values(attention, head, sums + head * stride)
    }
  }
}

@unsafe private struct PackedAttentionForward: ParallelTask {
  let kernels: DiTKernelTable
  let attention: DiTAttention
  /// Queries of a task.
  let group: Int
  let scratch: UnsafeMutableRawPointer
  let scratchBytes: Int

  /// A group has queries of the prefix or of the image.
  private var prefixBlocks: Int { unsafe ceilDivide(attention.prefix, group) }
  var blocks: Int { unsafe prefixBlocks + ceilDivide(attention.tokens - attention.prefix, group) }

  func run(_ index: Int, worker: Int) {
    let queries = unsafe queries(index % blocks)
    unsafe withUnsafePointer(to: attention) { attention in
      unsafe kernels.attention_block(
        attention, index / blocks, queries.lowerBound, queries.count, scratch + worker * scratchBytes)
    }
  }

  private func queries(_ block: Int) -> Range<Int> {
    let inImage = unsafe block - prefixBlocks
    let (base, end) = unsafe inImage < 0 ? (0, attention.prefix) : (attention.prefix, attention.tokens)
    let first = unsafe base + (inImage < 0 ? block : inImage) * group
    return unsafe first..<min(first + group, end)
  }
}

@unsafe private struct PackedAttentionBackward: ParallelTask {
  let kernels: DiTKernelTable
  let attention: DiTAttention
  let qkvGradient, outputGradient: DiTMatrix
  let scratch: UnsafeMutableRawPointer
  let scratchBytes: Int

  func run(_ head: Int, worker: Int) {
    unsafe withUnsafePointer(to: attention) { attention in
      unsafe kernels.attention_backward_head(
        attention, qkvGradient, outputGradient, head, scratch + worker * scratchBytes)
    }
  }
}
