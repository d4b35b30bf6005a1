import CDiTKernels
import DiTTensor

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
    _ ordered: MutableFloatSlice, weight: FloatSlice, channels: Int, outputs: Int
  ) {
    DiTKernels.check(min(ordered.count, weight.count), atLeast: outputs * channels * 9, "filters")
    var target = ordered.mutableSpan
    let source = weight.span
    for o in 0..<outputs {
      for tap in 0..<9 {
        for c in 0..<channels { target[(o * 9 + tap) * channels + c] = source[(o * channels + c) * 9 + tap] }
      }
    }
  }

  /// Float elements of scratch that ``patchConvolution`` needs, for all workers.
  public func patchConvolutionScratch(_ c: PatchConvolution) -> Int { threads * c.block * c.depth }

  /// y = w ∗ x + b.
  ///
  /// - Parameters:
  ///   - output: y, (resultHeight, resultWidth, outputs); overwritten.
  ///   - input: x, (height, width, channels).
  ///   - weight: wᵀ in the patches' order, (9 · channels, outputs), in panels, or in columns for OpenBLAS.
  ///   - bias: b, (outputs).
  ///   - scratch: ``patchConvolutionScratch(_:)`` floats.
  public func patchConvolution(
    output: MutableFloatSlice, input: FloatSlice, weight: Matrix, bias: FloatSlice, scratch: MutableFloatSlice,
    _ c: PatchConvolution
  ) {
    let isPacked = weight.order == .panels
    precondition(
      weight.rows == c.depth && weight.columns == c.outputs && (isPacked || weight.order == .columns),
      "filters (\(weight.rows), \(weight.columns)) in \(weight.order)")
    precondition(isPacked || weight.format == .fp32, "OpenBLAS has no products of bf16")
    check(output.count, atLeast: c.pixels * c.outputs, "convolution output")
    check(input.count, atLeast: c.height * c.width * c.channels, "convolution input")
    check(bias.count, atLeast: c.outputs, "bias")
    check(scratch.count, atLeast: patchConvolutionScratch(c), "convolution scratch")
    let p = unsafe DiTConvolution(
      x: input.pointer, x_row: 0, height: c.height, width: c.width, upsample: 0, channels: c.channels,
      outputs: c.outputs, scale: nil, shift: nil, bf16: weight.format.flag, tile: 0, weights: weight.pointer,
      bias: bias.pointer, y: output.pointer, y_row: 0, residual: nil, result_width: c.resultWidth)
    let task = unsafe PatchBlocks(
      kernels: kernels, convolution: p, extents: c, usesBLAS: !isPacked, scratch: scratch.pointer)
    unsafe parallel(ceilDivide(c.pixels, c.block), task)
  }
}

@unsafe private struct PatchBlocks: ParallelTask {
  let kernels: DiTKernelTable
  let convolution: DiTConvolution
  let extents: PatchConvolution
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
    unsafe p.a = DiTMatrix(data: UnsafeMutableRawPointer(patches), ld: c.depth, bf16: convolution.bf16)
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
