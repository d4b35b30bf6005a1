import CDiTKernels
import DiTTensor

// Group normalization over an image's pixels, as a scale and a shift for each channel: what reads the image next applies
// them.
//
//   x  (rows, width, channels)      groups of channels / groups successive channels

extension ComputeContext {
  /// For each row of x and each channel, the mean of `width` pixels and the sum of their squared deviations from it, m2.
  ///
  /// - Parameters:
  ///   - mean: (rows, channels); overwritten.
  ///   - m2: the same shape; overwritten.
  ///   - input: (rows, width, channels).
  ///   - rows: of x.
  ///   - width: pixels of a row.
  ///   - channels: numbers of a pixel.
  public func rowMoments(
    mean: MutableFloatSlice, spread m2: MutableFloatSlice, input: FloatSlice, rows: Int, width: Int, channels: Int
  ) {
    check(min(mean.count, m2.count), atLeast: rows * channels, "moments")
    check(input.count, atLeast: rows * width * channels, "image")
    guard rows > 0 else { return }
    let task = unsafe RowMoments(
      kernels: kernels, mean: mean.pointer, m2: m2.pointer, x: input.pointer, width: width, channels: channels)
    unsafe parallel(rows, task)
  }

  /// scale = γ / √(var + ε) and shift = β − mean · scale: group normalization is x · scale + shift. The sums are Double, in
  /// a fixed order.
  ///
  /// - Parameters:
  ///   - factors: scale, (channels); overwritten.
  ///   - offsets: shift, (channels); overwritten.
  ///   - means: as ``rowMoments(mean:spread:input:rows:width:channels:)`` leaves them for all rows.
  ///   - squares: m2, left by the same.
  ///   - weights: γ, (channels).
  ///   - biases: β, (channels).
  ///   - epsilon: ε, added to the variance.
  ///   - rows: of x.
  ///   - width: pixels of a row.
  ///   - channels: numbers of a pixel.
  ///   - groups: a divisor of `channels`.
  public func groupNormalization(
    scale factors: MutableFloatSlice, shift offsets: MutableFloatSlice, mean means: FloatSlice,
    spread squares: FloatSlice, weight weights: FloatSlice, bias biases: FloatSlice, epsilon: Float, rows: Int,
    width: Int, channels: Int, groups: Int
  ) {
    var scale = factors.mutableSpan
    var shift = offsets.mutableSpan
    let mean = means.span
    let m2 = squares.span
    let weight = weights.span
    let bias = biases.span
    precondition(channels % groups == 0, "\(channels) channels in \(groups) groups")
    check(min(scale.count, shift.count, weight.count, bias.count), atLeast: channels, "group normalization")
    check(min(mean.count, m2.count), atLeast: rows * channels, "moments")
    let size = channels / groups
    for g in 0..<groups {
      let group = g * size..<(g + 1) * size
      var sum = 0.0
      for r in 0..<rows { for c in group { sum += Double(mean[r * channels + c]) } }
      let center = sum / Double(rows * size)
      var squares = 0.0
      for r in 0..<rows {
        for c in group {
          let distance = Double(mean[r * channels + c]) - center
          squares += Double(m2[r * channels + c]) + Double(width) * distance * distance
        }
      }
      let deviation = (squares / Double(rows * width * size) + Double(epsilon)).squareRoot()
      for c in group {
        let factor = Double(weight[c]) / deviation
        scale[c] = Float(factor)
        shift[c] = Float(Double(bias[c]) - center * factor)
      }
    }
  }

  /// y = x · scale + shift by channel.
  ///
  /// - Parameters:
  ///   - output: y, (pixels, channels), of any format, without gaps; overwritten.
  ///   - input: x, (pixels, channels), float32.
  ///   - scale: (channels).
  ///   - shift: (channels).
  public func channelAffine(output: MutableMatrix, input: FloatSlice, scale: FloatSlice, shift: FloatSlice) {
    let (pixels, channels) = (output.rows, output.columns)
    precondition(output.stride == channels, "gaps between pixels")
    check(input.count, atLeast: pixels * channels, "affine input")
    check(min(scale.count, shift.count), atLeast: channels, "scale and shift")
    guard pixels > 0 else { return }
    let task = unsafe ChannelAffine(
      kernels: kernels, y: DiTMatrix(output), x: input.pointer, scale: scale.pointer, shift: shift.pointer,
      pixels: pixels, channels: channels)
    unsafe parallel(ceilDivide(pixels, ChannelAffine.block), task)
  }
}

@unsafe private struct RowMoments: ParallelTask {
  let kernels: DiTKernelTable
  let mean, m2: UnsafeMutablePointer<Float>
  let x: UnsafePointer<Float>
  let width, channels: Int

  func run(_ row: Int, worker: Int) {
    unsafe kernels.channel_moments(
      mean + row * channels, m2 + row * channels, x + row * width * channels, width, channels)
  }
}

@unsafe private struct ChannelAffine: ParallelTask {
  static let block = 64

  let kernels: DiTKernelTable
  let y: DiTMatrix
  let x, scale, shift: UnsafePointer<Float>
  let pixels, channels: Int

  func run(_ index: Int, worker: Int) {
    let first = unsafe index * Self.block
    unsafe kernels.channel_affine(
      y.row(first), y.bf16, x + first * channels, scale, shift,
      min(Self.block, pixels - first), channels)
  }
}
