import CDiTKernels
import DiTTensor

// What windows see of an image with the channels innermost, (height, width, channels): convolutions of any filter as products over
// gathered patches, filters of one channel each, and pools.
//
//   patches  (pixels, filter · channels), row, column, channel      w  (outputs, filter · channels) in the same order
//
// Source: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning" (2016).

/// Windows over an image: ⌊(height + top + bottom − rows) / stride⌋ + 1 rows of results, columns likewise.
public struct ImageWindows: Equatable, Sendable {
  /// The image's extents.
  public var height, width, channels: Int
  /// Rows and columns of a window.
  public var rows, columns: Int
  public var stride: Int
  /// Rows of nothing above and below the image, columns to its left and right.
  public var top, bottom, left, right: Int

  /// - Parameters:
  ///   - height: of the image.
  ///   - width: of the image.
  ///   - channels: of the image.
  ///   - window: its rows and columns.
  ///   - stride: pixels from window to window.
  ///   - padding: rows of nothing above and below, columns to the left and to the right.
  public init(
    height: Int, width: Int, channels: Int, window: (rows: Int, columns: Int), stride: Int = 1,
    padding: (rows: Int, columns: Int) = (0, 0)
  ) {
    (self.height, self.width, self.channels, self.stride) = (height, width, channels, stride)
    (rows, columns) = window
    (top, bottom, left, right) = (padding.rows, padding.rows, padding.columns, padding.columns)
    check()
  }

  /// The same padding of rows and columns, which may differ before and behind.
  public init(
    height: Int, width: Int, channels: Int, side: Int, stride: Int = 1, before: Int, after: Int
  ) {
    (self.height, self.width, self.channels, self.stride) = (height, width, channels, stride)
    (rows, columns) = (side, side)
    (top, bottom, left, right) = (before, after, before, after)
    check()
  }

  private func check() {
    precondition(
      min(height, width, channels, rows, columns, stride) > 0 && min(top, bottom, left, right) >= 0
        && max(top, bottom) < rows && max(left, right) < columns && height + top + bottom >= rows
        && width + left + right >= columns, "windows of \(rows) × \(columns) over \(height) × \(width)")
  }

  public var resultHeight: Int { (height + top + bottom - rows) / stride + 1 }
  public var resultWidth: Int { (width + left + right - columns) / stride + 1 }
  /// Results of a channel.
  public var pixels: Int { resultHeight * resultWidth }
  /// Numbers under a window.
  public var depth: Int { rows * columns * channels }

  /// Whether a window is one pixel of an image that is read whole: nothing is gathered then.
  var isPointwise: Bool { rows == 1 && columns == 1 && stride == 1 }

  fileprivate var window: DiTWindow {
    DiTWindow(
      height: height, width: width, channels: channels, rows: rows, columns: columns, stride: stride, top: top,
      left: left, result_width: resultWidth)
  }
}

/// A convolution of one image by products over gathered patches: for any filter, and where the channels are so few that
/// Winograd's products would have next to no depth.
public struct PatchConvolution: Equatable, Sendable {
  public var windows: ImageWindows
  public var outputs: Int

  public init(_ windows: ImageWindows, outputs: Int) { (self.windows, self.outputs) = (windows, outputs) }

  /// Filters of 3 × 3.
  ///
  /// - Parameters:
  ///   - height: of the image.
  ///   - width: of the image.
  ///   - channels: of the image.
  ///   - outputs: channels of the result.
  ///   - stride: pixels from window to window.
  ///   - before: rows of zeros above, columns to the left.
  ///   - after: rows of zeros below, columns to the right.
  public init(
    height: Int, width: Int, channels: Int, outputs: Int, stride: Int = 1, before: Int = 1, after: Int = 1
  ) {
    self.init(
      ImageWindows(
        height: height, width: width, channels: channels, side: 3, stride: stride, before: before, after: after),
      outputs: outputs)
  }

  public var resultHeight: Int { windows.resultHeight }
  public var resultWidth: Int { windows.resultWidth }
  var depth: Int { windows.depth }
  var pixels: Int { windows.pixels }
  /// Results that are computed together: their patches take at most a second-level cache's worth.
  var block: Int { min(192, max(48, (1 << 20) / (4 * depth) / groupRows * groupRows)) }
}

extension ComputeContext {
  /// w (outputs, channels, rows, columns) in the order of the patches: (outputs, rows, columns, channels).
  ///
  /// - Parameters:
  ///   - ordered: the result; overwritten.
  ///   - weight: w.
  ///   - channels: of the image.
  ///   - outputs: channels of the result.
  ///   - taps: rows · columns.
  public static func patchOrder(
    _ ordered: MutableFloatSlice, weight: FloatSlice, channels: Int, outputs: Int, taps: Int = 9
  ) {
    DiTKernels.check(min(ordered.count, weight.count), atLeast: outputs * channels * taps, "filters")
    var target = ordered.mutableSpan
    let source = weight.span
    for o in 0..<outputs {
      for tap in 0..<taps {
        for c in 0..<channels { target[(o * taps + tap) * channels + c] = source[(o * channels + c) * taps + tap] }
      }
    }
  }

  /// Float elements of scratch that `patchConvolution` needs, for all workers or for the caller.
  public func patchConvolutionScratch(_ c: PatchConvolution, by loop: FlatLoop = .threads) -> Int {
    c.windows.isPointwise ? 0 : (loop == .threads ? threads : 1) * c.block * c.depth
  }

  /// Runs the tasks on the context's threads, or by the caller as worker 0.
  private func run(_ count: Int, _ task: some ParallelTask, by loop: FlatLoop) {
    guard loop == .caller else { return parallel(count, task) }
    for index in 0..<count { task.run(index, worker: 0) }
  }

  /// y = w ∗ x + b, or min(max(y, 0), limit) of that.
  ///
  /// - Parameters:
  ///   - output: y, (resultHeight, resultWidth, outputs), `stride` floats from pixel to pixel; overwritten.
  ///   - stride: `outputs` where it is nil.
  ///   - input: x, (height, width, channels).
  ///   - weight: wᵀ in the patches' order, (depth, outputs), in panels, or in columns for OpenBLAS.
  ///   - bias: b, (outputs).
  ///   - limit: of ReLU (infinity, 6), which OpenBLAS's way does not have; nil: none.
  ///   - scratch: ``patchConvolutionScratch(_:by:)`` floats.
  ///   - c: the extents.
  ///   - loop: which threads compute.
  public func patchConvolution(
    output: MutableFloatSlice, stride: Int? = nil, input: FloatSlice, weight: Matrix, bias: FloatSlice,
    limit: Float? = nil, scratch: MutableFloatSlice, _ c: PatchConvolution, by loop: FlatLoop = .threads
  ) {
    let (isPacked, stride) = (weight.order == .panels, stride ?? c.outputs)
    precondition(
      weight.rows == c.depth && weight.columns == c.outputs && (isPacked || weight.order == .columns),
      "filters (\(weight.rows), \(weight.columns)) in \(weight.order)")
    precondition(isPacked || (weight.format == .fp32 && limit == nil), "OpenBLAS has no products of bf16 and no ReLU")
    precondition(!c.windows.isPointwise || weight.format == .fp32, "pixels in float32 by filters in \(weight.format)")
    precondition(stride >= c.outputs, "\(c.outputs) outputs in \(stride) floats")
    check(output.count, atLeast: (c.pixels - 1) * stride + c.outputs, "convolution output")
    check(input.count, atLeast: c.windows.height * c.windows.width * c.windows.channels, "convolution input")
    check(bias.count, atLeast: c.outputs, "bias")
    check(scratch.count, atLeast: patchConvolutionScratch(c, by: loop), "convolution scratch")
    let task = unsafe PatchBlocks(
      kernels: kernels, extents: c, x: input.pointer, weights: weight.pointer, bf16: weight.format.flag,
      bias: bias.pointer, y: output.pointer, stride: stride, limit: limit, usesBLAS: !isPacked, scratch: scratch.pointer
    )
    unsafe run(ceilDivide(c.pixels, c.block), task, by: loop)
  }

  /// y = min(max(w ∗ x + b, 0), limit), a filter for each channel.
  ///
  /// - Parameters:
  ///   - output: (resultHeight, resultWidth, channels); overwritten.
  ///   - input: x, (height, width, channels).
  ///   - filters: (rows, columns, channels).
  ///   - bias: (channels).
  ///   - limit: the greatest value.
  ///   - w: the extents.
  ///   - loop: which threads compute.
  public func depthwiseConvolution(
    output: MutableFloatSlice, input: FloatSlice, filters: FloatSlice, bias: FloatSlice, limit: Float = .infinity,
    _ w: ImageWindows, by loop: FlatLoop = .threads
  ) {
    check(output.count, atLeast: w.pixels * w.channels, "convolution output")
    check(input.count, atLeast: w.height * w.width * w.channels, "convolution input")
    check(filters.count, atLeast: w.depth, "filters")
    check(bias.count, atLeast: w.channels, "bias")
    let task = unsafe WindowRows(
      kernels: kernels, window: w.window, x: input.pointer, y: output.pointer, stride: w.channels,
      kind: .depthwise(filters.pointer, bias.pointer, limit))
    unsafe run(w.resultHeight, task, by: loop)
  }

  /// The greatest, or the mean, of each channel's pixels under a window; those beside the image do not count.
  ///
  /// - Parameters:
  ///   - output: (resultHeight, resultWidth, channels), `stride` floats from pixel to pixel; overwritten.
  ///   - stride: `channels` where it is nil.
  ///   - input: (height, width, channels).
  ///   - isMean: the mean in place of the greatest.
  ///   - w: the extents.
  ///   - loop: which threads compute.
  public func pool(
    output: MutableFloatSlice, stride: Int? = nil, input: FloatSlice, isMean: Bool, _ w: ImageWindows,
    by loop: FlatLoop = .threads
  ) {
    let stride = stride ?? w.channels
    precondition(stride >= w.channels, "\(w.channels) channels in \(stride) floats")
    check(output.count, atLeast: (w.pixels - 1) * stride + w.channels, "pool output")
    check(input.count, atLeast: w.height * w.width * w.channels, "pool input")
    let task = unsafe WindowRows(
      kernels: kernels, window: w.window, x: input.pointer, y: output.pointer, stride: stride, kind: .pool(isMean))
    unsafe run(w.resultHeight, task, by: loop)
  }
}

@unsafe private struct PatchBlocks: ParallelTask {
  let kernels: DiTKernelTable
  let extents: PatchConvolution
  let x: UnsafePointer<Float>
  let weights: UnsafeRawPointer
  let bf16: Int32
  let bias: UnsafePointer<Float>
  let y: UnsafeMutablePointer<Float>
  let stride: Int
  let limit: Float?
  let usesBLAS: Bool
  let scratch: UnsafeMutablePointer<Float>

  func run(_ index: Int, worker: Int) {
    let (c, first) = unsafe (extents, index * extents.block)
    let pixels = min(c.block, c.pixels - first)
    let patches: UnsafeMutablePointer<Float>
    if c.windows.isPointwise {
      unsafe patches = UnsafeMutablePointer(mutating: x + first * c.depth)
    } else {
      unsafe patches = scratch + worker * c.block * c.depth
      unsafe withUnsafePointer(to: c.windows.window) { window in
        unsafe kernels.gather_patches(patches, bf16, x, window, first, pixels)
      }
    }
    let y = unsafe self.y + first * stride
    if unsafe usesBLAS {
      let w = unsafe weights.assumingMemoryBound(to: Float.self)
      unsafe sgemm(
        .plain(patches, c.depth), .transposed(w, c.depth), into: y, stride, m: pixels, n: c.outputs, k: c.depth)
      unsafe kernels.add_bias(y, stride, bias, pixels, c.outputs)
      return
    }
    var p = unsafe DiTProduct()
    unsafe p.a = DiTMatrix(data: UnsafeMutableRawPointer(patches), ld: c.depth, bf16: bf16)
    unsafe p.b = weights
    unsafe p.columns = c.outputs
    unsafe p.depth = c.depth
    unsafe p.epilogue = Int32(limit == nil ? DiTStore.rawValue : DiTReLU.rawValue)
    unsafe p.limit = limit ?? 0
    unsafe p.bias = bias
    unsafe p.y = DiTMatrix(data: UnsafeMutableRawPointer(y), ld: stride, bf16: 0)
    unsafe withUnsafePointer(to: p) { p in
      for panel in 0..<ceilDivide(c.outputs, panelColumns) { unsafe kernels.product(p, panel, 0, pixels) }
    }
  }
}

/// A row of results.
@unsafe private struct WindowRows: ParallelTask {
  @unsafe enum Kind {
    case depthwise(UnsafePointer<Float>, UnsafePointer<Float>, Float)
    case pool(Bool)
  }

  let kernels: DiTKernelTable
  let window: DiTWindow
  let x: UnsafePointer<Float>
  let y: UnsafeMutablePointer<Float>
  let stride: Int
  let kind: Kind

  func run(_ row: Int, worker: Int) {
    let (width, first) = unsafe (window.result_width, row * window.result_width)
    let y = unsafe self.y + first * stride
    unsafe withUnsafePointer(to: window) { window in
      switch unsafe kind {
      case .depthwise(let filters, let bias, let limit):
        unsafe kernels.depthwise_relu(y, stride, x, filters, bias, limit, window, first, width)
      case .pool(let isMean):
        unsafe kernels.pool(y, stride, x, isMean ? 1 : 0, window, first, width)
      }
    }
  }
}
