import CDiTKernels
import DiTTensor
import Foundation

// SiLU, x σ(x), for few elements: on the calling thread. GELU is an epilogue of products.

extension ComputeContext {
  /// out = x σ(x).
  ///
  /// - Parameters:
  ///   - output: as many elements as x; may be its memory.
  ///   - input: x.
  public func silu(output: MutableFloatSlice, input: FloatSlice) {
    check(output.count, atLeast: input.count, "silu output")
    guard !input.isEmpty else { return }
    unsafe kernels.silu(output.pointer, input.pointer, input.count)
  }

  /// dx = dout ⊙ silu'(x).
  ///
  /// - Parameters:
  ///   - inputGradient: dx, as many elements as x; may be dout's memory.
  ///   - outputGradient: dout, as many elements as x.
  ///   - input: x.
  public func siluBackward(inputGradient: MutableFloatSlice, outputGradient: FloatSlice, input: FloatSlice) {
    check(min(inputGradient.count, outputGradient.count), atLeast: input.count, "silu gradient")
    guard !input.isEmpty else { return }
    unsafe kernels.silu_backward(inputGradient.pointer, outputGradient.pointer, input.pointer, input.count)
  }
}

/// x = 1/(1 + e^−x), in place, each in Double and rounded once; for few elements.
public func sigmoid(_ x: consuming MutableSpan<Float>) {
  for index in x.indices { x[index] = Float(1 / (1 + exp(-Double(x[index])))) }
}
