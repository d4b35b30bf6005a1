import CDiTKernels
import DiTTensor

// A norm, then modulate: out = n (1 + scale) + shift, where shift and scale belong to a sample. x is (samples · tokens, width).
//
//   LayerNorm (without parameters)    n = (x − mean) / √(var + ε)
//   RMSNorm                           n = x / √(mean(x²) + ε), times a weight, (width), where there is one
//
// Which of them it is, is said by the mean: RMSNorm has none.

/// Rows of one sample that a task takes; partial sums of a backward pass have this granularity.
private let rowsPerTask = 64

/// A sample's rows cut into parts of `rowsPerTask`.
private struct RowParts {
  let samples, tokens: Int

  /// - Parameter rows: all samples'.
  init(rows: Int, tokens: Int) {
    precondition(tokens > 0 && rows % tokens == 0, "\(rows) rows in samples of \(tokens) tokens")
    samples = rows / tokens
    self.tokens = tokens
  }

  var perSample: Int { ceilDivide(tokens, rowsPerTask) }
  var count: Int { samples * perSample }

  @inline(__always) func sample(_ index: Int) -> Int { index / perSample }

  @inline(__always) func rows(_ index: Int) -> Range<Int> {
    let start = index % perSample * rowsPerTask
    return sample(index) * tokens + start..<sample(index) * tokens + min(start + rowsPerTask, tokens)
  }

  /// Traps unless `rows` has one for each sample.
  func check(_ rows: Matrix, like x: Matrix, _ name: StaticString) {
    precondition(rows.rows >= samples && rows.columns == x.columns, "\(name): \(rows.rows) rows of \(rows.columns)")
  }
}

/// Traps unless `m` is as large as `x`, without gaps between the rows.
private func checkDense(_ m: Matrix, like x: Matrix, _ name: StaticString) {
  precondition(
    m.rows == x.rows && m.columns == x.columns && m.stride == m.format.rowElements(x.columns) && m.order == .rows,
    "\(name): (\(m.rows), \(m.columns)), \(m.stride) from row to row, for (\(x.rows), \(x.columns))")
}

/// Traps unless the statistics have a value for each row, and a weight belongs to an RMSNorm and has one for each column.
private func check(mean: FloatSlice?, rstd: FloatSlice, weight: FloatSlice?, like x: Matrix) {
  check(min(mean?.count ?? rstd.count, rstd.count), atLeast: x.rows, "norm statistics")
  precondition(mean == nil || weight == nil, "a weight of a LayerNorm: its modulation is all it has")
  if let weight { check(weight.count, atLeast: x.columns, "norm weight") }
}

/// The parts of a forward pass's rows; traps where an operand does not fit.
private func modulatedParts(
  _ output: MutableMatrix, _ mean: FloatSlice?, _ rstd: FloatSlice, _ input: Matrix, _ weight: FloatSlice?,
  _ shift: Matrix, _ scale: Matrix, tokens: Int
) -> RowParts {
  let parts = RowParts(rows: input.rows, tokens: tokens)
  checkDense(output.reading, like: input, "norm output")
  checkDense(input, like: input, "norm input")
  check(mean: mean, rstd: rstd, weight: weight, like: input)
  parts.check(shift, like: input, "shift")
  parts.check(scale, like: input, "scale")
  precondition(shift.stride == scale.stride, "shift and scale of different strides")
  return parts
}

extension ComputeContext {
  /// out = modulate(norm(x), shift, scale), of LayerNorm or of RMSNorm.
  ///
  /// - Parameters:
  ///   - output: (samples · tokens, width), of any format; overwritten.
  ///   - mean: saved for backward, one value per row. Nil: RMSNorm.
  ///   - rstd: saved for backward, one value per row.
  ///   - input: x, of the same extents, float32.
  ///   - weight: RMSNorm's, (width); nil: ones.
  ///   - shift: one row of `width` per sample; all the same row where its stride is 0.
  ///   - scale: the same of the factors.
  ///   - epsilon: added to the variance, or to the mean square; 1e-6 in the published DiT.
  ///   - tokens: rows of a sample.
  public func normModulate(
    output: MutableMatrix, mean: MutableFloatSlice?, rstd: MutableFloatSlice, input: Matrix,
    weight: FloatSlice? = nil, shift: Matrix, scale: Matrix, epsilon: Float, tokens: Int
  ) {
    let parts = modulatedParts(
      output, mean?.reading, rstd.reading, input, weight, shift, scale, tokens: tokens)
    let isInt8 = output.format == .int8
    let task = unsafe NormModulate(
      kernels: kernels, out: isInt8 ? DiTMatrix(int8: output.reading) : DiTMatrix(output), isInt8: isInt8,
      mean: mean?.pointer, rstd: rstd.pointer, x: input.floats, weight: weight?.pointer, shift: shift.floats,
      scale: scale.floats, stride: shift.stride, epsilon: epsilon, width: input.columns, parts: parts)
    unsafe parallel(parts.count, task)
  }

  /// The forward's output again, from its saved statistics.
  public func modulateFromStatistics(
    output: MutableMatrix, mean: FloatSlice?, rstd: FloatSlice, input: Matrix, weight: FloatSlice? = nil,
    shift: Matrix, scale: Matrix, tokens: Int
  ) {
    let parts = modulatedParts(output, mean, rstd, input, weight, shift, scale, tokens: tokens)
    let task = unsafe ModulateFromStatistics(
      kernels: kernels, out: DiTMatrix(output), mean: mean?.pointer, rstd: rstd.pointer, x: input.floats,
      weight: weight?.pointer, shift: shift.floats, scale: scale.floats, stride: shift.stride, width: input.columns,
      parts: parts)
    unsafe parallel(parts.count, task)
  }

  /// Elements of scratch that `normModulateBackward` and `gateBackward` need.
  public static func rowReductionScratch(samples: Int, tokens: Int, width: Int) -> Int {
    RowParts(rows: samples * tokens, tokens: tokens).count * 2 * width
  }

  /// The gradient of `normModulate`: with g = dout (1 + scale) weight,
  /// dx += rstd (g − avg(g) − n avg(g n)), for RMSNorm without avg(g); dshift = Σ_tokens dout;
  /// dscale = weight Σ_tokens dout n; dweight += Σ_samples (1 + scale) Σ_tokens dout n, samples in order.
  ///
  /// - Parameters:
  ///   - inputGradient: dx, (samples · tokens, width); added to.
  ///   - weightGradient: dweight, (width), added to; nil: not wanted.
  ///   - shiftGradient: one row per sample; overwritten.
  ///   - scaleGradient: one row per sample; overwritten.
  ///   - scratch: ``rowReductionScratch(samples:tokens:width:)`` elements.
  ///   - outputGradient: dout, of dx's extents.
  ///   - mean: as in the forward pass.
  ///   - rstd: as in the forward pass.
  ///   - input: x, of dx's extents.
  ///   - weight: as in the forward pass.
  ///   - scale: as in the forward pass.
  ///   - tokens: as in the forward pass.
  public func normModulateBackward(
    inputGradient: MutableMatrix, weightGradient: MutableFloatSlice? = nil, shiftGradient: MutableMatrix,
    scaleGradient: MutableMatrix, scratch: MutableFloatSlice, outputGradient: Matrix, mean: FloatSlice?,
    rstd: FloatSlice, input: Matrix, weight: FloatSlice? = nil, scale: Matrix, tokens: Int
  ) {
    let (parts, width) = (RowParts(rows: input.rows, tokens: tokens), input.columns)
    checkDense(inputGradient.reading, like: input, "norm input gradient")
    checkDense(outputGradient, like: input, "norm output gradient")
    checkDense(input, like: input, "norm input")
    check(mean: mean, rstd: rstd, weight: weight, like: input)
    check(scratch.count, atLeast: parts.count * 2 * width, "norm scratch")
    parts.check(scale, like: input, "scale")
    parts.check(shiftGradient.reading, like: input, "shift gradient")
    parts.check(scaleGradient.reading, like: input, "scale gradient")
    precondition(weight != nil || weightGradient == nil, "the gradient of a weight that is not there")
    if let weightGradient { check(weightGradient.count, atLeast: width, "norm weight gradient") }
    let task = unsafe NormModulateBackward(
      kernels: kernels, dx: inputGradient.floats, partial: scratch.pointer, dout: outputGradient.floats,
      mean: mean?.pointer, rstd: rstd.pointer, x: input.floats, weight: weight?.pointer, scale: scale.floats,
      stride: scale.stride, width: width, parts: parts)
    unsafe parallel(parts.count, task)
    let sum = unsafe SumParts(
      kernels: kernels, first: DiTMatrix(shiftGradient), second: DiTMatrix(scaleGradient), partial: scratch.pointer,
      parts: parts.perSample, width: width)
    unsafe parallel(parts.samples, sum)
    guard let weight, parts.samples > 0 else { return }
    let last = unsafe NormWeightBackward(
      kernels: kernels, dweight: weightGradient?.pointer, dscale: scaleGradient.floats, stride: scaleGradient.stride,
      weight: weight.pointer, scale: scale.floats, scaleStride: scale.stride, samples: parts.samples, width: width)
    unsafe parallel(last.count, last)
  }

  /// The gradient of x += gate ⊙ y: dy = gate ⊙ dx; dgate = Σ_tokens dx ⊙ y.
  ///
  /// - Parameters:
  ///   - outputGradient: dy, (samples · tokens, width), of y's format; overwritten.
  ///   - gateGradient: one row per sample; overwritten.
  ///   - scratch: ``rowReductionScratch(samples:tokens:width:)`` elements.
  ///   - residualGradient: dx, of the same extents, which passes on unchanged.
  ///   - output: y as the forward saved it.
  ///   - gate: one row per sample, as in the forward pass.
  ///   - tokens: rows of a sample.
  public func gateBackward(
    outputGradient: MutableMatrix, gateGradient: MutableMatrix, scratch: MutableFloatSlice, residualGradient: Matrix,
    output: Matrix, gate: Matrix, tokens: Int
  ) {
    let (parts, width) = (RowParts(rows: output.rows, tokens: tokens), output.columns)
    checkDense(outputGradient.reading, like: output, "gate output gradient")
    checkDense(residualGradient, like: output, "gate residual gradient")
    checkDense(output, like: output, "gate output")
    precondition(outputGradient.format == output.format, "a gradient in \(outputGradient.format)")
    check(scratch.count, atLeast: parts.count * 2 * width, "gate scratch")
    parts.check(gate, like: output, "gate")
    parts.check(gateGradient.reading, like: output, "gate gradient")
    let task = unsafe GateBackward(
      kernels: kernels, dy: DiTMatrix(outputGradient), partial: scratch.pointer, y: DiTMatrix(output),
      dx: residualGradient.floats, gate: gate.floats, stride: gate.stride, width: width, parts: parts)
    unsafe parallel(parts.count, task)
    let sum = unsafe SumParts(
      kernels: kernels, first: DiTMatrix(gateGradient), second: nil, partial: scratch.pointer, parts: parts.perSample,
      width: width)
    unsafe parallel(parts.samples, sum)
  }
}

extension DiTMatrix {
  /// Where row `row` begins.
  @inline(__always) func row(_ row: Int) -> UnsafeMutableRawPointer { unsafe data! + row * ld * (bf16 == 0 ? 4 : 2) }
}

@unsafe private struct NormModulate: ParallelTask {
  let kernels: DiTKernelTable
  let out: DiTMatrix
  let isInt8: Bool
  let mean: UnsafeMutablePointer<Float>?
  let rstd: UnsafeMutablePointer<Float>
  let x: UnsafePointer<Float>
  let weight: UnsafePointer<Float>?
  let shift, scale: UnsafePointer<Float>
  let stride: Int
  let epsilon: Float
  let width: Int
  let parts: RowParts

  func run(_ index: Int, worker: Int) {
    let rows = unsafe parts.rows(index)
    let (row, sample) = unsafe (rows.lowerBound, parts.sample(index))
    guard unsafe !isInt8 else {
      unsafe kernels.norm_modulate_int8(
        out.data! + row * out.ld, out.ld, mean.map { unsafe $0 + row }, rstd + row, x + row * width, weight,
        shift + sample * stride, scale + sample * stride, epsilon, rows.count, width)
      return
    }
    unsafe kernels.norm_modulate(
      out.row(row), out.bf16, mean.map { unsafe $0 + row }, rstd + row, x + row * width, weight,
      shift + sample * stride, scale + sample * stride, epsilon, rows.count, width)
  }
}

@unsafe private struct ModulateFromStatistics: ParallelTask {
  let kernels: DiTKernelTable
  let out: DiTMatrix
  let mean: UnsafePointer<Float>?
  let rstd, x: UnsafePointer<Float>
  let weight: UnsafePointer<Float>?
  let shift, scale: UnsafePointer<Float>
  let stride, width: Int
  let parts: RowParts

  func run(_ index: Int, worker: Int) {
    let rows = unsafe parts.rows(index)
    let (row, sample) = unsafe (rows.lowerBound, parts.sample(index))
    unsafe kernels.modulate_from_stats(
      out.row(row), out.bf16, mean.map { unsafe $0 + row }, rstd + row, x + row * width, weight,
      shift + sample * stride, scale + sample * stride, rows.count, width)
  }
}

@unsafe private struct NormModulateBackward: ParallelTask {
  let kernels: DiTKernelTable
  let dx, partial: UnsafeMutablePointer<Float>
  let dout: UnsafePointer<Float>
  let mean: UnsafePointer<Float>?
  let rstd, x: UnsafePointer<Float>
  let weight: UnsafePointer<Float>?
  let scale: UnsafePointer<Float>
  let stride, width: Int
  let parts: RowParts

  func run(_ index: Int, worker: Int) {
    let rows = unsafe parts.rows(index)
    let row = rows.lowerBound
    let sums = unsafe partial + index * 2 * width
    unsafe sums.update(repeating: 0, count: 2 * width)
    unsafe kernels.norm_modulate_backward(
      dx + row * width, sums, sums + width, dout + row * width, mean.map { unsafe $0 + row }, rstd + row,
      x + row * width, weight, scale + parts.sample(index) * stride, rows.count, width)
  }
}

/// What an RMSNorm's weight makes of the samples' sums, by columns: dweight and, in place, dscale.
@unsafe private struct NormWeightBackward: ParallelTask {
  static let columns = 256

  let kernels: DiTKernelTable
  let dweight: UnsafeMutablePointer<Float>?
  let dscale: UnsafeMutablePointer<Float>
  let stride: Int
  let weight, scale: UnsafePointer<Float>
  let scaleStride, samples, width: Int

  var count: Int { unsafe ceilDivide(width, Self.columns) }

  func run(_ index: Int, worker: Int) {
    let first = unsafe index * Self.columns
    unsafe kernels.norm_weight_backward(
      dweight.map { unsafe $0 + first }, dscale + first, stride, weight + first, scale + first, scaleStride, samples,
      min(Self.columns, width - first))
  }
}

@unsafe private struct GateBackward: ParallelTask {
  let kernels: DiTKernelTable
  let dy: DiTMatrix
  let partial: UnsafeMutablePointer<Float>
  let y: DiTMatrix
  let dx, gate: UnsafePointer<Float>
  let stride, width: Int
  let parts: RowParts

  func run(_ index: Int, worker: Int) {
    let rows = unsafe parts.rows(index)
    let row = rows.lowerBound
    let sums = unsafe partial + index * 2 * width
    unsafe sums.update(repeating: 0, count: 2 * width)
    unsafe kernels.gate_backward(
      dy.row(row), sums, dx + row * width, y.row(row), dy.bf16, gate + parts.sample(index) * stride,
      rows.count, width)
  }
}

/// The partial sums of a sample's parts, added in order: the first `width` of each to `first`, the next to `second`.
@unsafe private struct SumParts: ParallelTask {
  let kernels: DiTKernelTable
  let first: DiTMatrix
  let second: DiTMatrix?
  let partial: UnsafePointer<Float>
  let parts, width: Int

  func run(_ sample: Int, worker: Int) {
    unsafe add(into: first, sample, offset: 0)
    if let second = unsafe second { unsafe add(into: second, sample, offset: width) }
  }

  private func add(into target: DiTMatrix, _ sample: Int, offset: Int) {
    let row = unsafe target.row(sample).assumingMemoryBound(to: Float.self)
    unsafe row.update(repeating: 0, count: width)
    unsafe kernels.column_sums(row, partial + sample * parts * 2 * width + offset, 2 * width, parts, width)
  }
}
