import CDiTKernels

// LayerNorm without parameters, then modulate: n = (x − mean) / √(var + ε), out = n (1 + scale) + shift, where shift and
// scale belong to a sample. x is (samples · tokens, width).

/// Rows of one sample that a task takes; partial sums of a backward pass have this granularity.
private let rowsPerTask = 64

/// A sample's rows cut into parts of `rowsPerTask`.
private struct RowParts {
  let tokens: Int

  var perSample: Int { ceilDivide(tokens, rowsPerTask) }

  @inline(__always) func sample(_ index: Int) -> Int { index / perSample }

  @inline(__always) func rows(_ index: Int) -> Range<Int> {
    let start = index % perSample * rowsPerTask
    return sample(index) * tokens + start..<sample(index) * tokens + min(start + rowsPerTask, tokens)
  }
}

extension ComputeContext {
  /// out = modulate(layerNorm(x), shift, scale).
  ///
  /// - Parameters:
  ///   - output: (samples · tokens, width) in `precision`; overwritten.
  ///   - mean, rstd: saved for backward, one value per row.
  ///   - shift, scale: one row of `width` per sample, `stride` elements apart.
  ///   - epsilon: added to the variance; 1e-6 in the published DiT.
  public func layerNormModulate(
    output: consuming MutableRawSpan, _ precision: Precision, mean: consuming MutableSpan<Float>,
    rstd: consuming MutableSpan<Float>, input: Span<Float>, shift: Span<Float>, scale: Span<Float>, stride: Int,
    epsilon: Float,
    samples: Int, tokens: Int, width: Int
  ) {
    check(output.byteCount, atLeast: samples * tokens * width * precision.size, "layer norm output")
    check(mean.count, atLeast: samples * tokens, "layer norm mean")
    check(rstd.count, atLeast: samples * tokens, "layer norm rstd")
    check(input.count, atLeast: samples * tokens * width, "layer norm input")
    check(shift.count, atLeast: (samples - 1) * stride + width, "shift")
    check(scale.count, atLeast: (samples - 1) * stride + width, "scale")
    unsafe output.withUnsafeMutableBytes { out in
      unsafe mean.withUnsafeMutableBufferPointer { mean in
        unsafe rstd.withUnsafeMutableBufferPointer { rstd in
          unsafe input.withUnsafeBufferPointer { x in
            unsafe shift.withUnsafeBufferPointer { shift in
              unsafe scale.withUnsafeBufferPointer { scale in
                let task = unsafe LayerNormModulate(
                  kernels: kernels, out: out.baseAddress!, precision: precision, mean: mean.baseAddress!,
                  rstd: rstd.baseAddress!,
                  x: x.baseAddress!, shift: shift.baseAddress!, scale: scale.baseAddress!, stride: stride,
                  epsilon: epsilon, width: width, parts: RowParts(tokens: tokens))
                unsafe parallel(samples * task.parts.perSample, task)
              }
            }
          }
        }
      }
    }
  }

  /// The forward's output again, from its saved mean and rstd.
  public func modulateFromStatistics(
    output: consuming MutableRawSpan, _ precision: Precision, mean: Span<Float>, rstd: Span<Float>,
    input: Span<Float>, shift: Span<Float>, scale: Span<Float>, stride: Int, samples: Int, tokens: Int, width: Int
  ) {
    check(output.byteCount, atLeast: samples * tokens * width * precision.size, "layer norm output")
    check(min(mean.count, rstd.count), atLeast: samples * tokens, "layer norm statistics")
    check(input.count, atLeast: samples * tokens * width, "layer norm input")
    check(min(shift.count, scale.count), atLeast: (samples - 1) * stride + width, "shift and scale")
    unsafe output.withUnsafeMutableBytes { out in
      unsafe mean.withUnsafeBufferPointer { mean in
        unsafe rstd.withUnsafeBufferPointer { rstd in
          unsafe input.withUnsafeBufferPointer { x in
            unsafe shift.withUnsafeBufferPointer { shift in
              unsafe scale.withUnsafeBufferPointer { scale in
                let task = unsafe ModulateFromStatistics(
                  kernels: kernels, out: out.baseAddress!, precision: precision, mean: mean.baseAddress!,
                  rstd: rstd.baseAddress!,
                  x: x.baseAddress!, shift: shift.baseAddress!, scale: scale.baseAddress!, stride: stride,
                  width: width, parts: RowParts(tokens: tokens))
                unsafe parallel(samples * task.parts.perSample, task)
              }
            }
          }
        }
      }
    }
  }

  /// Elements of scratch that ``layerNormModulateBackward`` and ``gateBackward`` need.
  public static func rowReductionScratch(samples: Int, tokens: Int, width: Int) -> Int {
    samples * RowParts(tokens: tokens).perSample * 2 * width
  }

  /// The gradient of ``layerNormModulate``: with g = dout (1 + scale),
  /// dx += rstd (g − avg(g) − n avg(g n)); dshift = Σ_tokens dout; dscale = Σ_tokens dout n.
  ///
  /// - Parameters:
  ///   - inputGradient: dx, (samples · tokens, width); added to.
  ///   - shiftGradient, scaleGradient: one row per sample, `gradientStride` elements apart; overwritten.
  ///   - scratch: ``rowReductionScratch(samples:tokens:width:)`` elements.
  public func layerNormModulateBackward(
    inputGradient: consuming MutableSpan<Float>, shiftGradient: consuming MutableSpan<Float>,
    scaleGradient: consuming MutableSpan<Float>, gradientStride: Int, scratch: consuming MutableSpan<Float>,
    outputGradient: Span<Float>, mean: Span<Float>, rstd: Span<Float>, input: Span<Float>,
    scale: Span<Float>, stride: Int, samples: Int, tokens: Int, width: Int
  ) {
    let parts = RowParts(tokens: tokens)
    check(inputGradient.count, atLeast: samples * tokens * width, "layer norm input gradient")
    check(
      min(shiftGradient.count, scaleGradient.count), atLeast: (samples - 1) * gradientStride + width,
      "shift and scale gradients")
    check(scratch.count, atLeast: samples * parts.perSample * 2 * width, "layer norm scratch")
    check(min(outputGradient.count, input.count), atLeast: samples * tokens * width, "layer norm output gradient")
    check(min(mean.count, rstd.count), atLeast: samples * tokens, "layer norm statistics")
    check(scale.count, atLeast: (samples - 1) * stride + width, "scale")
    unsafe scratch.withUnsafeMutableBufferPointer { partial in
      unsafe inputGradient.withUnsafeMutableBufferPointer { dx in
        unsafe outputGradient.withUnsafeBufferPointer { dout in
          unsafe mean.withUnsafeBufferPointer { mean in
            unsafe rstd.withUnsafeBufferPointer { rstd in
              unsafe input.withUnsafeBufferPointer { x in
                unsafe scale.withUnsafeBufferPointer { scale in
                  let task = unsafe LayerNormModulateBackward(
                    kernels: kernels, dx: dx.baseAddress!, partial: partial.baseAddress!, dout: dout.baseAddress!,
                    mean: mean.baseAddress!, rstd: rstd.baseAddress!, x: x.baseAddress!, scale: scale.baseAddress!,
                    stride: stride, width: width, parts: parts)
                  unsafe parallel(samples * parts.perSample, task)
                }
              }
            }
          }
        }
      }
      unsafe shiftGradient.withUnsafeMutableBufferPointer { dshift in
        unsafe scaleGradient.withUnsafeMutableBufferPointer { dscale in
          let sum = unsafe SumParts(
            kernels: kernels, first: dshift.baseAddress!, second: dscale.baseAddress!, stride: gradientStride,
            partial: partial.baseAddress!, parts: parts.perSample, width: width)
          unsafe parallel(samples, sum)
        }
      }
    }
  }

  /// The gradient of x += gate ⊙ y: dy = gate ⊙ dx; dgate = Σ_tokens dx ⊙ y.
  ///
  /// - Parameters:
  ///   - outputGradient: dy, (samples · tokens, width), in `precision`; overwritten.
  ///   - gateGradient: one row per sample, `gradientStride` elements apart; overwritten.
  ///   - scratch: ``rowReductionScratch(samples:tokens:width:)`` elements.
  ///   - residualGradient: dx, which passes on unchanged.
  ///   - output: y as the forward saved it, in `precision`.
  public func gateBackward(
    outputGradient: consuming MutableRawSpan, _ precision: Precision, gateGradient: consuming MutableSpan<Float>,
    gradientStride: Int, scratch: consuming MutableSpan<Float>, residualGradient: Span<Float>, output: RawSpan,
    gate: Span<Float>,
    stride: Int, samples: Int, tokens: Int, width: Int
  ) {
    let parts = RowParts(tokens: tokens)
    let bytes = samples * tokens * width * precision.size
    check(min(outputGradient.byteCount, output.byteCount), atLeast: bytes, "gate output and its gradient")
    check(gateGradient.count, atLeast: (samples - 1) * gradientStride + width, "gate gradient")
    check(scratch.count, atLeast: samples * parts.perSample * 2 * width, "gate scratch")
    check(residualGradient.count, atLeast: samples * tokens * width, "gate residual gradient")
    check(gate.count, atLeast: (samples - 1) * stride + width, "gate")
    unsafe scratch.withUnsafeMutableBufferPointer { partial in
      unsafe outputGradient.withUnsafeMutableBytes { dy in
        unsafe residualGradient.withUnsafeBufferPointer { dx in
          unsafe output.withUnsafeBytes { y in
            unsafe gate.withUnsafeBufferPointer { gate in
              let task = unsafe GateBackward(
                kernels: kernels, dy: dy.baseAddress!, precision: precision, partial: partial.baseAddress!,
                dx: dx.baseAddress!, y: y.baseAddress!, gate: gate.baseAddress!, stride: stride, width: width,
                parts: parts)
              unsafe parallel(samples * parts.perSample, task)
            }
          }
        }
      }
      unsafe gateGradient.withUnsafeMutableBufferPointer { dgate in
        let sum = unsafe SumParts(
          kernels: kernels, first: dgate.baseAddress!, second: nil, stride: gradientStride,
          partial: partial.baseAddress!, parts: parts.perSample, width: width)
        unsafe parallel(samples, sum)
      }
    }
  }
}

@unsafe private struct LayerNormModulate: ParallelTask {
  let kernels: DiTKernelTable
  let out: UnsafeMutableRawPointer
  let precision: Precision
  let mean, rstd: UnsafeMutablePointer<Float>
  let x, shift, scale: UnsafePointer<Float>
  let stride: Int
  let epsilon: Float
  let width: Int
  let parts: RowParts

  func run(_ index: Int, worker: Int) {
    let rows = unsafe parts.rows(index)
    let (row, sample) = unsafe (rows.lowerBound, parts.sample(index))
    unsafe kernels.layernorm_modulate(
      out + row * width * precision.size, precision.flag, mean + row, rstd + row, x + row * width,
      shift + sample * stride, scale + sample * stride,
      epsilon, rows.count, width)
  }
}

@unsafe private struct ModulateFromStatistics: ParallelTask {
  let kernels: DiTKernelTable
  let out: UnsafeMutableRawPointer
  let precision: Precision
  let mean, rstd, x, shift, scale: UnsafePointer<Float>
  let stride, width: Int
  let parts: RowParts

  func run(_ index: Int, worker: Int) {
    let rows = unsafe parts.rows(index)
    let (row, sample) = unsafe (rows.lowerBound, parts.sample(index))
    unsafe kernels.modulate_from_stats(
      out + row * width * precision.size, precision.flag, mean + row, rstd + row, x + row * width,
      shift + sample * stride, scale + sample * stride,
      rows.count, width)
  }
}

@unsafe private struct LayerNormModulateBackward: ParallelTask {
  let kernels: DiTKernelTable
  let dx, partial: UnsafeMutablePointer<Float>
  let dout, mean, rstd, x, scale: UnsafePointer<Float>
  let stride, width: Int
  let parts: RowParts

  func run(_ index: Int, worker: Int) {
    let rows = unsafe parts.rows(index)
    let row = rows.lowerBound
    let sums = unsafe partial + index * 2 * width
    unsafe sums.update(repeating: 0, count: 2 * width)
    unsafe kernels.layernorm_modulate_backward(
      dx + row * width, sums, sums + width, dout + row * width, mean + row, rstd + row, x + row * width,
      scale + parts.sample(index) * stride, rows.count, width)
  }
}

@unsafe private struct GateBackward: ParallelTask {
  let kernels: DiTKernelTable
  let dy: UnsafeMutableRawPointer
  let precision: Precision
  let partial: UnsafeMutablePointer<Float>
  let dx: UnsafePointer<Float>
  let y: UnsafeRawPointer
  let gate: UnsafePointer<Float>
  let stride, width: Int
  let parts: RowParts

  func run(_ index: Int, worker: Int) {
    let rows = unsafe parts.rows(index)
    let row = rows.lowerBound
    let sums = unsafe partial + index * 2 * width
    unsafe sums.update(repeating: 0, count: 2 * width)
    unsafe kernels.gate_backward(
      dy + row * width * precision.size, sums, dx + row * width, y + row * width * precision.size, precision.flag,
      gate + parts.sample(index) * stride, rows.count,
      width)
  }
}

/// The partial sums of a sample's parts, added in order: the first `width` of each to `first`, the next to `second`.
@unsafe private struct SumParts: ParallelTask {
  let kernels: DiTKernelTable
  let first: UnsafeMutablePointer<Float>
  let second: UnsafeMutablePointer<Float>?
  let stride: Int
  let partial: UnsafePointer<Float>
  let parts, width: Int

  func run(_ sample: Int, worker: Int) {
    unsafe add(into: first, sample, offset: 0)
    if let second = unsafe second { unsafe add(into: second, sample, offset: width) }
  }

  private func add(into target: UnsafeMutablePointer<Float>, _ sample: Int, offset: Int) {
    let row = unsafe target + sample * stride
    unsafe row.update(repeating: 0, count: width)
    unsafe kernels.column_sums(row, partial + sample * parts * 2 * width + offset, 2 * width, parts, width)
  }
}
