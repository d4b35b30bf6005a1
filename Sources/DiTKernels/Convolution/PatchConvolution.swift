import CDiTKernels

// 3 × 3 convolutions as products over gathered patches: for strides, and where the channels are so few that Winograd's
// products would have next to no depth.
//
//   patches  (pixels, 9 · channels), row, column, channel      w  (outputs, 9 · channels) in the same order

/// A 3 × 3 convolution of one image whose result has ⌊(height + before + after − 3) / stride⌋ + 1 rows, columns likewise.
public struct PatchConvolution: Equatable, Sendable {
  public var height, width: Int
  public var channels, outputs: Int
  public var stride: Int
  /// Rows of zeros above (columns to the left), and below (to the right).
  public var before, after: Int

  public init(
    height: Int, width: Int, channels: Int, outputs: Int, stride: Int = 1, before: Int = 1, after: Int = 1
  ) {
    precondition(min(height, width) + before + after >= 3, "3 × 3 filters over \(height) × \(width)")
    self.height = height
    self.width = width
    self.channels = channels
    self.outputs = outputs
    self.stride = stride
    self.before = before
    self.after = after
  }

  public var resultHeight: Int { (height + before + after - 3) / stride + 1 }
  public var resultWidth: Int { (width + before + after - 3) / stride + 1 }
  var depth: Int { 9 * channels }
  var pixels: Int { resultHeight * resultWidth }
  /// Results that are computed together: their patches take at most a second-level cache's worth.
  var block: Int { min(192, max(48, (1 << 20) / (4 * depth) / groupRows * groupRows)) }
}

extension ComputeContext {
  /// w (outputs, channels, 3, 3) in the order of the patches: (outputs, 3, 3, channels).
  public static func patchOrder(
    _ ordered: inout MutableSpan<Float>, weight: Span<Float>, channels: Int, outputs: Int
  ) {
    check(min(ordered.count, weight.count), atLeast: outputs * channels * 9, "filters")
    for o in 0..<outputs {
      for tap in 0..<9 {
        for c in 0..<channels { ordered[(o * 9 + tap) * channels + c] = weight[(o * channels + c) * 9 + tap] }
      }
    }
  }

  private static func check(_ count: Int, atLeast needed: Int, _ name: StaticString) {
    DiTKernels.check(count, atLeast: needed, name)
  }

  /// Float elements of scratch that ``patchConvolution`` needs, for all workers.
  public func patchConvolutionScratch(_ c: PatchConvolution) -> Int { threads * c.block * c.depth }

  /// y = w ∗ x + b.
  ///
  /// - Parameters:
  ///   - output: y, (resultHeight, resultWidth, outputs); overwritten.
  ///   - input: x, (height, width, channels).
  ///   - weight: w in the patches' order: packed by ``packForward(_:weight:inputs:outputs:precision:)``, or, with
  ///     `usesBLAS`, as it is.
  ///   - bias: b, (outputs).
  ///   - scratch: ``patchConvolutionScratch(_:)`` floats.
  public func patchConvolution(
    output: consuming MutableSpan<Float>, input: Span<Float>, weight: RawSpan, _ precision: Precision, usesBLAS: Bool,
    bias: Span<Float>, scratch: consuming MutableSpan<Float>, _ c: PatchConvolution
  ) {
    precondition(!usesBLAS || precision == .fp32, "OpenBLAS has no products of bf16")
    check(output.count, atLeast: c.pixels * c.outputs, "convolution output")
    check(input.count, atLeast: c.height * c.width * c.channels, "convolution input")
    check(bias.count, atLeast: c.outputs, "bias")
    check(scratch.count, atLeast: patchConvolutionScratch(c), "convolution scratch")
    let needed =
      usesBLAS ? c.depth * c.outputs : Self.packedElements(depth: c.depth, columns: c.outputs, precision: precision)
    check(weight.byteCount, atLeast: 4 * needed, "filters")
    unsafe output.withUnsafeMutableBufferPointer { y in
      unsafe input.withUnsafeBufferPointer { x in
        unsafe weight.withUnsafeBytes { w in
          unsafe bias.withUnsafeBufferPointer { b in
            unsafe scratch.withUnsafeMutableBufferPointer { scratch in
              var p = unsafe DiTConvolution()
              unsafe p.x = x.baseAddress!
              unsafe p.height = c.height
              unsafe p.width = c.width
              unsafe p.channels = c.channels
              unsafe p.outputs = c.outputs
              unsafe p.bf16 = precision.flag
              unsafe p.weights = w.baseAddress!
              unsafe p.bias = b.baseAddress!
              unsafe p.y = y.baseAddress!
              unsafe p.result_width = c.resultWidth
              let task = unsafe PatchBlocks(
                kernels: kernels, convolution: p, extents: c, precision: precision, usesBLAS: usesBLAS,
                scratch: scratch.baseAddress!)
              unsafe parallel(ceilDivide(c.pixels, c.block), task)
            }
          }
        }
      }
    }
  }

  private func check(_ count: Int, atLeast needed: Int, _ name: StaticString) {
    DiTKernels.check(count, atLeast: needed, name)
  }
}

@unsafe private struct PatchBlocks: ParallelTask {
  let kernels: DiTKernelTable
  let convolution: DiTConvolution
  let extents: PatchConvolution
  let precision: Precision
  let usesBLAS: Bool
  let scratch: UnsafeMutablePointer<Float>

  func run(_ index: Int, worker: Int) {
    let (c, first) = unsafe (extents, index * extents.block)
    let pixels = min(c.block, c.pixels - first)
    let patches = unsafe scratch + worker * c.block * c.depth
    unsafe withUnsafePointer(to: convolution) { convolution in
      unsafe kernels.gather_patches(patches, convolution, c.stride, c.before, first, pixels)
    }
    let y = unsafe convolution.y! + first * c.outputs
    if unsafe usesBLAS {
      let w = unsafe convolution.weights!.assumingMemoryBound(to: Float.self)
      unsafe sgemm(
        .plain(patches, c.depth), .transposed(w, c.depth), into: y, c.outputs, m: pixels, n: c.outputs, k: c.depth)
      unsafe kernels.add_bias(y, c.outputs, convolution.bias!, pixels, c.outputs)
      return
    }
    var p = unsafe DiTProduct()
    unsafe p.a = DiTMatrix(data: UnsafeMutableRawPointer(patches), ld: c.depth, bf16: precision.flag)
    unsafe p.b = convolution.weights
    unsafe p.columns = c.outputs
    unsafe p.depth = c.depth
    unsafe p.epilogue = Int32(DiTStore.rawValue)
    unsafe p.bias = convolution.bias
    unsafe p.y = DiTMatrix(data: UnsafeMutableRawPointer(y), ld: c.outputs, bf16: 0)
    unsafe withUnsafePointer(to: p) { p in
      for panel in 0..<ceilDivide(c.outputs, panelColumns) { unsafe kernels.product(p, panel, 0, pixels) }
    }
  }
}
