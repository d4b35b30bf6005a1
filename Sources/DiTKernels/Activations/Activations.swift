import CDiTKernels
import Foundation

// GELU in its tanh form, x/2 (1 + tanh √(2/π)(x + 0.044715 x³)), and SiLU, x σ(x).

extension ComputeContext {
  /// h = gelu_tanh(pre) and, in the same pass, dpre = dh ⊙ gelu_tanh'(pre).
  ///
  /// - Parameters:
  ///   - output: h, recomputed because the product's weight gradient needs it; overwritten.
  ///   - gradient: dh on entry, dpre on return.
  ///   - preactivation: pre as the forward saved it.
  public func geluBackward(
    output: consuming MutableSpan<Float>, gradient: consuming MutableSpan<Float>, preactivation: Span<Float>
  ) {
    let count = preactivation.count
    check(min(output.count, gradient.count), atLeast: count, "gelu gradient")
    unsafe output.withUnsafeMutableBufferPointer { h in
      unsafe gradient.withUnsafeMutableBufferPointer { dh in
        unsafe preactivation.withUnsafeBufferPointer { pre in
          let task = unsafe GELUBackward(
            kernels: kernels, h: h.baseAddress!, dh: dh.baseAddress!, pre: pre.baseAddress!, count: count)
          unsafe parallel(ceilDivide(count, flatChunk), task)
        }
      }
    }
  }

  /// out = x σ(x), on the calling thread.
  public func silu(output: consuming MutableSpan<Float>, input: Span<Float>) {
    check(output.count, atLeast: input.count, "silu output")
    unsafe output.withUnsafeMutableBufferPointer { out in
      unsafe input.withUnsafeBufferPointer { x in
        guard x.count > 0 else { return }
        unsafe kernels.silu(out.baseAddress!, x.baseAddress!, x.count)
      }
    }
  }

  /// dx = dout ⊙ silu'(x), on the calling thread.
  public func siluBackward(
    inputGradient: consuming MutableSpan<Float>, outputGradient: Span<Float>, input: Span<Float>
  ) {
    check(min(inputGradient.count, outputGradient.count), atLeast: input.count, "silu gradient")
    unsafe inputGradient.withUnsafeMutableBufferPointer { dx in
      unsafe outputGradient.withUnsafeBufferPointer { dout in
        unsafe input.withUnsafeBufferPointer { x in
          guard x.count > 0 else { return }
          unsafe kernels.silu_backward(dx.baseAddress!, dout.baseAddress!, x.baseAddress!, x.count)
        }
      }
    }
  }

  /// y += x.
  public func add(_ x: Span<Float>, to y: consuming MutableSpan<Float>) {
    check(y.count, atLeast: x.count, "sum")
    unsafe y.withUnsafeMutableBufferPointer { y in
      unsafe x.withUnsafeBufferPointer { x in
        guard x.count > 0 else { return }
        unsafe kernels.add(y.baseAddress!, x.baseAddress!, x.count)
      }
    }
  }
}

@unsafe private struct GELUBackward: ParallelTask {
  let kernels: DiTKernelTable
  let h, dh: UnsafeMutablePointer<Float>
  let pre: UnsafePointer<Float>
  let count: Int

  func run(_ index: Int, worker: Int) {
    let range = unsafe flatRange(index, of: count)
    unsafe kernels.gelu_backward(h + range.lowerBound, dh + range.lowerBound, pre + range.lowerBound, range.count)
  }
}

/// x = 1/(1 + e^−x), in place, each in Double and rounded once; for few elements.
public func sigmoid(_ x: consuming MutableSpan<Float>) {
  for index in x.indices { x[index] = Float(1 / (1 + exp(-Double(x[index])))) }
}
