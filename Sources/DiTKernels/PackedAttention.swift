import CDiTKernels

// Multi-head self-attention over packed blocks of keys and values (see attention.inc), in float32 or bf16.

extension ComputeContext {
  /// Float elements of scratch that ``packedAttention`` (or, with `backward`, its gradient too) needs, for all workers.
  public func packedAttentionScratch(tokens: Int, headSize: Int, backward: Bool) -> Int {
    threads * packedAttentionBytes(tokens: tokens, headSize: headSize, backward: backward) / 4
  }

  private func packedAttentionBytes(tokens: Int, headSize: Int, backward: Bool) -> Int {
    unsafe backward ? kernels.attention_gradient_work(tokens, headSize) : kernels.attention_work(tokens, headSize)
  }

  /// out = softmax(q kᵀ / √d) v for every sample and head.
  ///
  /// - Parameters:
  ///   - output: (samples · tokens, heads · headSize) in `precision`; overwritten.
  ///   - logsumexp: saved for backward: log Σ_j exp(q·k_j / √d), (samples, heads, tokens).
  ///   - scratch: ``packedAttentionScratch(tokens:headSize:backward:)`` floats.
  ///   - qkv: (samples · tokens, 3 · heads · headSize) in `precision`.
  public func packedAttention(
    output: consuming MutableRawSpan, logsumexp: consuming MutableSpan<Float>, scratch: consuming MutableRawSpan,
    qkv: RawSpan, _ precision: Precision, samples: Int, tokens: Int, heads: Int, headSize: Int
  ) {
    let elements = samples * tokens * heads * headSize
    let bytes = packedAttentionBytes(tokens: tokens, headSize: headSize, backward: false)
    check(output.byteCount, atLeast: elements * precision.size, "attention output")
    check(logsumexp.count, atLeast: samples * tokens * heads, "attention logsumexp")
    check(scratch.byteCount, atLeast: threads * bytes, "attention scratch")
    check(qkv.byteCount, atLeast: 3 * elements * precision.size, "qkv")
    unsafe output.withUnsafeMutableBytes { out in
      unsafe logsumexp.withUnsafeMutableBufferPointer { lse in
        unsafe scratch.withUnsafeMutableBytes { scratch in
          unsafe qkv.withUnsafeBytes { qkv in
            let width = heads * headSize
            let attention = unsafe DiTAttention(
              qkv: DiTMatrix(qkv, 3 * width, precision), out: DiTMatrix(out, width, precision),
              logsumexp: lse.baseAddress!, scale: 1 / Float(headSize).squareRoot(), tokens: tokens, heads: heads,
              dim: headSize)
            let task = unsafe PackedAttentionForward(
              kernels: kernels, attention: attention, scratch: scratch.baseAddress!, scratchBytes: bytes)
            unsafe parallel(samples * heads * task.blocks, task)
          }
        }
      }
    }
  }

  /// The gradient of ``packedAttention``; probabilities are recomputed from the saved logsumexp.
  ///
  /// - Parameters:
  ///   - qkvGradient: (samples · tokens, 3 · heads · headSize) in `precision`; overwritten.
  ///   - outputGradient, output: (samples · tokens, heads · headSize) in `precision`.
  public func packedAttentionBackward(
    qkvGradient: consuming MutableRawSpan, scratch: consuming MutableRawSpan, outputGradient: RawSpan,
    output: RawSpan, logsumexp: Span<Float>, qkv: RawSpan, _ precision: Precision, samples: Int, tokens: Int,
    heads: Int, headSize: Int
  ) {
    let elements = samples * tokens * heads * headSize
    let bytes = packedAttentionBytes(tokens: tokens, headSize: headSize, backward: true)
    check(qkvGradient.byteCount, atLeast: 3 * elements * precision.size, "qkv gradient")
    check(scratch.byteCount, atLeast: threads * bytes, "attention scratch")
    check(
      min(outputGradient.byteCount, output.byteCount), atLeast: elements * precision.size, "attention output gradient")
    check(logsumexp.count, atLeast: samples * tokens * heads, "attention logsumexp")
    check(qkv.byteCount, atLeast: 3 * elements * precision.size, "qkv")
    unsafe qkvGradient.withUnsafeMutableBytes { dqkv in
      unsafe scratch.withUnsafeMutableBytes { scratch in
        unsafe outputGradient.withUnsafeBytes { dout in
          unsafe output.withUnsafeBytes { out in
            unsafe logsumexp.withUnsafeBufferPointer { lse in
              unsafe qkv.withUnsafeBytes { qkv in
                let width = heads * headSize
                let attention = unsafe DiTAttention(
                  qkv: DiTMatrix(qkv, 3 * width, precision), out: DiTMatrix(out, width, precision),
                  logsumexp: UnsafeMutablePointer(mutating: lse.baseAddress!),
                  scale: 1 / Float(headSize).squareRoot(), tokens: tokens, heads: heads, dim: headSize)
                let task = unsafe PackedAttentionBackward(
                  kernels: kernels, attention: attention, qkvGradient: DiTMatrix(dqkv, 3 * width, precision),
                  outputGradient: DiTMatrix(dout, width, precision), scratch: scratch.baseAddress!,
                  scratchBytes: bytes)
                unsafe parallel(samples * heads, task)
              }
            }
          }
        }
      }
    }
  }
}

@unsafe private struct PackedAttentionForward: ParallelTask {
  /// Queries of a task: QUERY_BLOCK of attention.inc.
  static let queries = 128

  let kernels: DiTKernelTable
  let attention: DiTAttention
  let scratch: UnsafeMutableRawPointer
  let scratchBytes: Int

  var blocks: Int { unsafe ceilDivide(attention.tokens, Self.queries) }

  func run(_ index: Int, worker: Int) {
    let first = unsafe index % blocks * Self.queries
    unsafe withUnsafePointer(to: attention) { attention in
      unsafe kernels.attention_block(
        attention, index / blocks, first, min(Self.queries, self.attention.tokens - first),
        scratch + worker * scratchBytes)
    }
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
