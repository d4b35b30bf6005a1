import CDiTKernels

// Multi-head self-attention over packed blocks of keys and values (see attention_forward.inc), in float32 or bf16, with the scales
// and windows of diffusion-aware attention.

extension ComputeContext {
  /// Float elements of scratch that ``packedAttention`` (or, with `backward`, its gradient too) needs, for all workers.
  public func packedAttentionScratch(
    _ extents: AttentionExtents, rule: AttentionRule = AttentionRule(), backward: Bool
  ) -> Int {
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

  /// out = softmax(logits) v for every sample and head, with the logits that ``AttentionRule`` defines.
  ///
  /// - Parameters:
  ///   - output: (samples · tokens, heads · headSize) in `precision`; overwritten.
  ///   - logsumexp: saved for backward: log Σ exp(logit), (samples, heads, tokens).
  ///   - scratch: ``packedAttentionScratch(_:rule:backward:)`` floats.
  ///   - qkv: (samples · tokens, 3 · heads · headSize) in `precision`.
  ///   - scales: of q·k, (samples, heads), at least 1e-20; empty: 1/√headSize.
  ///   - widths: k, (samples), whole numbers of at least 1; not read without a mask.
  ///   - prefixKeys: how many of the prefix tokens are keys, (samples); the others are padding. Empty: all.
  public func packedAttention(
    output: consuming MutableRawSpan, logsumexp: consuming MutableSpan<Float>, scratch: consuming MutableRawSpan,
    qkv: RawSpan, _ precision: Precision, _ extents: AttentionExtents, rule: AttentionRule = AttentionRule(),
    scales: Span<Float> = Span(), widths: Span<Float> = Span(), prefixKeys: Span<Int> = Span()
  ) {
    let bytes = packedAttentionBytes(extents, backward: false)
    let (skipped, group) = (skippedElements(extents, rule), queryGroup(extents, rule))
    check(output.byteCount, atLeast: extents.elements * precision.size, "attention output")
    check(scratch.byteCount, atLeast: threads * bytes + 4 * skipped, "attention scratch")
    check(extents, rule, precision, qkv.byteCount, logsumexp.count, scales.count, widths, prefixKeys)
    unsafe output.withUnsafeMutableBytes { out in
      unsafe logsumexp.withUnsafeMutableBufferPointer { lse in
        unsafe scratch.withUnsafeMutableBytes { scratch in
          unsafe qkv.withUnsafeBytes { qkv in
            unsafe withRule(rule, scales, widths, prefixKeys) { rule in
              var attention = unsafe rule.attention(qkv, out, lse.baseAddress!, precision, extents)
              if skipped > 0 {
                let sums = unsafe (scratch.baseAddress! + threads * bytes).assumingMemoryBound(to: Float.self)
                unsafe attention.skipped_values = UnsafePointer(sums)
                let task = unsafe SkippedValues(
                  kernels: kernels, attention: attention, sums: sums,
                  stride: skipped / (extents.samples * extents.heads))
                unsafe parallel(extents.samples * extents.heads, task)
              }
              let task = unsafe PackedAttentionForward(
                kernels: kernels, attention: attention, group: group,
                scratch: scratch.baseAddress!, scratchBytes: bytes)
              unsafe parallel(extents.samples * extents.heads * task.blocks, task)
            }
          }
        }
      }
    }
  }

  /// The gradient of ``packedAttention``; probabilities are recomputed from the saved logsumexp.
  ///
  /// - Parameters:
  ///   - qkvGradient: (samples · tokens, 3 · heads · headSize) in `precision`; overwritten.
  ///   - queryDots: Σ q·dq of each head, (samples, heads), overwritten where it is not empty: what a factor on the
  ///     head's scale has as its gradient, times the factor.
  ///   - outputGradient, output: (samples · tokens, heads · headSize) in `precision`.
  ///   - rule, scales, widths, prefixKeys: as in the forward pass.
  public func packedAttentionBackward(
    qkvGradient: consuming MutableRawSpan, queryDots: consuming MutableSpan<Float> = MutableSpan(),
    scratch: consuming MutableRawSpan, outputGradient: RawSpan, output: RawSpan, logsumexp: Span<Float>, qkv: RawSpan,
    _ precision: Precision, _ extents: AttentionExtents, rule: AttentionRule = AttentionRule(),
    scales: Span<Float> = Span(), widths: Span<Float> = Span(), prefixKeys: Span<Int> = Span()
  ) {
    let bytes = packedAttentionBytes(extents, backward: true)
    let size = extents.elements * precision.size
    check(qkvGradient.byteCount, atLeast: 3 * size, "qkv gradient")
    check(scratch.byteCount, atLeast: threads * bytes, "attention scratch")
    check(min(outputGradient.byteCount, output.byteCount), atLeast: size, "attention output gradient")
    check(queryDots.count, atLeast: queryDots.isEmpty ? 0 : extents.samples * extents.heads, "query dots")
    check(extents, rule, precision, qkv.byteCount, logsumexp.count, scales.count, widths, prefixKeys)
    unsafe qkvGradient.withUnsafeMutableBytes { dqkv in
      unsafe queryDots.withUnsafeMutableBufferPointer { dots in
        unsafe scratch.withUnsafeMutableBytes { scratch in
          unsafe outputGradient.withUnsafeBytes { dout in
            unsafe output.withUnsafeBytes { out in
              unsafe logsumexp.withUnsafeBufferPointer { lse in
                unsafe qkv.withUnsafeBytes { qkv in
                  unsafe withRule(rule, scales, widths, prefixKeys) { rule in
                    let lse = unsafe UnsafeMutablePointer(mutating: lse.baseAddress!)
                    var attention = unsafe rule.attention(
                      qkv, UnsafeMutableRawBufferPointer(mutating: out), lse, precision, extents)
                    unsafe attention.query_dots = dots.isEmpty ? nil : dots.baseAddress
                    let task = unsafe PackedAttentionBackward(
                      kernels: kernels, attention: attention,
                      qkvGradient: DiTMatrix(dqkv, 3 * extents.width, precision),
                      outputGradient: DiTMatrix(dout, extents.width, precision), scratch: scratch.baseAddress!,
                      scratchBytes: bytes)
                    unsafe parallel(extents.samples * extents.heads, task)
                  }
                }
              }
            }
          }
        }
      }
    }
  }

  /// Queries of a task. Packing a block of keys and values costs what 23 queries cost, so a task takes many queries, as
  /// long as that leaves no worker idle at the end; windows differ from block to block. Results do not depend on it.
  private func queryGroup(_ e: AttentionExtents, _ rule: AttentionRule) -> Int {
    guard rule.mask == .none else { return attentionQueries }
    func cost(_ group: Int) -> Int {
      let tasks = e.samples * e.heads * ceilDivide(e.tokens, group)
      return ceilDivide(tasks, threads) * (min(group, e.tokens) + 23)
    }
    var best = attentionQueries
    for blocks in 2...(DiTQueryGroup / DiTQueryBlock) where cost(blocks * attentionQueries) <= cost(best) {
      best = blocks * attentionQueries
    }
    return best
  }

  private func check(
    _ e: AttentionExtents, _ rule: AttentionRule, _ precision: Precision, _ qkv: Int, _ logsumexp: Int, _ scales: Int,
    _ widths: Span<Float>, _ prefixKeys: Span<Int>
  ) {
    check(qkv, atLeast: 3 * e.elements * precision.size, "qkv")
    check(logsumexp, atLeast: e.samples * e.tokens * e.heads, "attention logsumexp")
    check(scales, atLeast: scales == 0 ? 0 : e.samples * e.heads, "attention scales")
    precondition(0..<e.tokens ~= rule.prefix, "\(rule.prefix) of \(e.tokens) tokens before the image's")
    if let columns = rule.columns {
      precondition((e.tokens - rule.prefix) % columns == 0, "\(e.tokens - rule.prefix) tokens, \(columns) columns")
    }
    if rule.mask != .none { check(widths.count, atLeast: e.samples, "attention widths") }
    if !prefixKeys.isEmpty {
      check(prefixKeys.count, atLeast: e.samples, "prefix keys")
      for n in 0..<e.samples {
        precondition(0...rule.prefix ~= prefixKeys[n], "\(prefixKeys[n]) keys of \(rule.prefix) prefix tokens")
      }
    }
  }

  private func check(_ count: Int, atLeast needed: Int, _ name: StaticString) {
    DiTKernels.check(count, atLeast: needed, name)
  }

  private func withRule(
    _ rule: AttentionRule, _ scales: Span<Float>, _ widths: Span<Float>, _ prefixKeys: Span<Int>,
    _ body: (RulePointers) -> Void
  ) {
    unsafe scales.withUnsafeBufferPointer { scales in
      unsafe widths.withUnsafeBufferPointer { widths in
        unsafe prefixKeys.withUnsafeBufferPointer { keys in
          unsafe body(
            RulePointers(
              rule: rule, scales: scales.isEmpty ? nil : scales.baseAddress, widths: widths.baseAddress,
              prefixKeys: keys.isEmpty ? nil : keys.baseAddress))
        }
      }
    }
  }
}

/// Queries that pass over a block of keys together.
private let attentionQueries = DiTQueryBlock

@unsafe private struct RulePointers {
  let rule: AttentionRule
  let scales: UnsafePointer<Float>?
  let widths: UnsafePointer<Float>?
  let prefixKeys: UnsafePointer<Int>?

  func attention(
    _ qkv: UnsafeRawBufferPointer, _ out: UnsafeMutableRawBufferPointer, _ logsumexp: UnsafeMutablePointer<Float>,
    _ precision: Precision, _ e: AttentionExtents
  ) -> DiTAttention {
    unsafe DiTAttention(
      qkv: DiTMatrix(qkv, 3 * e.width, precision), out: DiTMatrix(out, e.width, precision), logsumexp: logsumexp,
      scale: 1 / Float(e.headSize).squareRoot(), scales: scales, tokens: e.tokens, heads: e.heads, dim: e.headSize,
      mask: rule.mask.code, prefix: rule.prefix, prefix_keys: prefixKeys, columns: rule.columns ?? 0, widths: widths,
      skipped_values: nil, query_dots: nil)
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
