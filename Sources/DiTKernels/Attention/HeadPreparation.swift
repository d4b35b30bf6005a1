import CDiTKernels
import DiTTensor

// What happens to q and k between the product that makes them and attention, in one pass over memory:
//
//   n = x / √(mean(x²) + ε) ⊙ weight      over each head, with one weight for all heads of q and one for those of k
//   y = n, turned by the token's rotary angles
//
// Either may be missing. v passes through.

/// Rows of one sample that a task takes; partial sums of the weights' gradients have this granularity.
private let rowsPerTask = 64

extension ComputeContext {
  /// q and k as attention takes them: each head normalized and turned.
  ///
  /// - Parameters:
  ///   - output: (samples · tokens, 3 · heads · headSize), thirds q, k, v; overwritten. May be the input's own memory.
  ///   - input: qkv, of the same extents and format.
  ///   - queryWeight: (headSize); nil: not normalized.
  ///   - keyWeight: (headSize); nil: not normalized.
  ///   - epsilon: added to a head's mean square.
  ///   - table: ``rotaryTable(output:rows:columns:headSize:order:)`` of `tokens` − `prefix` tokens; nil: not turned.
  ///   - extents: of the samples, tokens and heads.
  ///   - prefix: tokens of a sample before the image's, which are normalized and not turned.
  public func prepareHeads(
    output: MutableMatrix, input: Matrix, queryWeight: FloatSlice?, keyWeight: FloatSlice?, epsilon: Float,
    table: FloatSlice?, _ extents: AttentionExtents, prefix: Int
  ) {
    let cut = HeadRows(extents, prefix: prefix)
    extents.check(qkv: output.reading)
    checkHeads(input, like: output.reading, queryWeight, keyWeight, table, extents, prefix: prefix)
    precondition(
      !output.overlaps(input) || output.reading.memory.offset == input.memory.offset,
      "heads written into another part of what they are made from")
    let task = unsafe PrepareHeads(
      kernels: kernels, out: DiTMatrix(output), x: DiTMatrix(input), queryWeight: queryWeight?.pointer,
      keyWeight: keyWeight?.pointer, epsilon: epsilon, table: table?.pointer, cut: cut)
    unsafe parallel(cut.count, task)
  }

  /// Floats of scratch that ``prepareHeadsBackward(gradient:input:queryWeight:keyWeight:queryWeightGradient:keyWeightGradient:scratch:epsilon:table:_:prefix:)``
  /// needs where it has a weight's gradient to make.
  public static func prepareHeadsScratch(_ extents: AttentionExtents) -> Int {
    HeadRows(extents, prefix: 0).count * 2 * extents.headSize
  }

  /// The gradient of ``prepareHeads(output:input:queryWeight:keyWeight:epsilon:table:_:prefix:)``. A head's root mean
  /// square is computed again from the input.
  ///
  /// - Parameters:
  ///   - gradient: with respect to the output; becomes that with respect to the input. Of its extents and format.
  ///   - input: qkv before it was normalized; where nothing is, not read.
  ///   - queryWeight: as in the forward pass.
  ///   - keyWeight: as in the forward pass.
  ///   - queryWeightGradient: (headSize), added to, in an order that depends on the extents alone; nil: not wanted.
  ///   - keyWeightGradient: the same of the keys.
  ///   - scratch: ``prepareHeadsScratch(_:)`` floats where a weight's gradient is wanted, else none.
  ///   - epsilon: as in the forward pass.
  ///   - table: as in the forward pass.
  ///   - extents: as in the forward pass.
  ///   - prefix: as in the forward pass.
  public func prepareHeadsBackward(
    gradient: MutableMatrix, input: Matrix, queryWeight: FloatSlice?, keyWeight: FloatSlice?,
    queryWeightGradient: MutableFloatSlice?, keyWeightGradient: MutableFloatSlice?, scratch: MutableFloatSlice,
    epsilon: Float, table: FloatSlice?, _ extents: AttentionExtents, prefix: Int
  ) {
    let (cut, size) = (HeadRows(extents, prefix: prefix), extents.headSize)
    extents.check(qkv: gradient.reading)
    checkHeads(input, like: gradient.reading, queryWeight, keyWeight, table, extents, prefix: prefix)
    precondition(
      (queryWeight == nil && keyWeight == nil) || !gradient.overlaps(input), "heads' gradient over their input")
    precondition(
      (queryWeight != nil || queryWeightGradient == nil) && (keyWeight != nil || keyWeightGradient == nil),
      "the gradient of a weight that is not there")
    check(min(queryWeightGradient?.count ?? size, keyWeightGradient?.count ?? size), atLeast: size, "weight gradient")
    let isSummed = queryWeightGradient != nil || keyWeightGradient != nil
    if isSummed { check(scratch.count, atLeast: Self.prepareHeadsScratch(extents), "scratch of heads") }
    let task = unsafe PrepareHeadsBackward(
      kernels: kernels, dx: DiTMatrix(gradient), x: DiTMatrix(input), partial: isSummed ? scratch.pointer : nil,
      queryWeight: queryWeight?.pointer, keyWeight: keyWeight?.pointer, epsilon: epsilon, table: table?.pointer,
      cut: cut)
    unsafe parallel(cut.count, task)
    func add(_ offset: Int, to sums: MutableFloatSlice?) {
      guard let sums else { return }
      unsafe kernels.column_sums(sums.pointer, scratch.pointer + offset, 2 * size, cut.count, size)
    }
    add(0, to: queryWeightGradient)
    add(size, to: keyWeightGradient)
  }
}

/// Traps where an operand does not fit.
private func checkHeads(
  _ input: Matrix, like qkv: Matrix, _ queryWeight: FloatSlice?, _ keyWeight: FloatSlice?, _ table: FloatSlice?,
  _ e: AttentionExtents, prefix: Int
) {
  e.check(qkv: input)
  precondition(input.format == qkv.format, "heads in \(qkv.format) of a qkv in \(input.format)")
  check(
    min(queryWeight?.count ?? e.headSize, keyWeight?.count ?? e.headSize), atLeast: e.headSize, "the heads' weight")
  guard let table else { return }
  precondition(e.headSize % 2 == 0, "pairs of \(e.headSize) elements")
  check(table.count, atLeast: (e.tokens - prefix) * 2 * e.headSize, "rotary table")
}

/// Each sample's rows cut into parts of `rowsPerTask`.
private struct HeadRows {
  let extents: AttentionExtents
  let prefix: Int

  init(_ extents: AttentionExtents, prefix: Int) {
    precondition(0...extents.tokens ~= prefix, "\(prefix) of \(extents.tokens) tokens before the image's")
    self.extents = extents
    self.prefix = prefix
  }

  private var perSample: Int { ceilDivide(extents.tokens, rowsPerTask) }
  var count: Int { extents.samples * perSample }

  /// A task's first row, how many there are, how many of them come before the image's, and the image token of the next.
  func rows(_ index: Int) -> (first: Int, count: Int, still: Int, token: Int) {
    let start = index % perSample * rowsPerTask
    let count = min(rowsPerTask, extents.tokens - start)
    let still = min(count, max(0, prefix - start))
    return (index / perSample * extents.tokens + start, count, still, max(0, start - prefix))
  }
}

@unsafe private struct PrepareHeads: ParallelTask {
  let kernels: DiTKernelTable
  let out, x: DiTMatrix
  let queryWeight, keyWeight: UnsafePointer<Float>?
  let epsilon: Float
  let table: UnsafePointer<Float>?
  let cut: HeadRows

  func run(_ index: Int, worker: Int) {
    let (rows, e) = unsafe (cut.rows(index), cut.extents)
    unsafe kernels.prepare_heads(
      out.row(rows.first), x.row(rows.first), x.bf16, queryWeight, keyWeight, epsilon,
      table.map { unsafe $0 + rows.token * 2 * e.headSize }, rows.still, rows.count, e.heads, e.headSize)
  }
}

@unsafe private struct PrepareHeadsBackward: ParallelTask {
  let kernels: DiTKernelTable
  let dx, x: DiTMatrix
  /// (tasks, 2, headSize), where a weight's gradient is wanted.
  let partial: UnsafeMutablePointer<Float>?
  let queryWeight, keyWeight: UnsafePointer<Float>?
  let epsilon: Float
  let table: UnsafePointer<Float>?
  let cut: HeadRows

  func run(_ index: Int, worker: Int) {
    let (rows, e) = unsafe (cut.rows(index), cut.extents)
    let sums = unsafe partial.map { unsafe $0 + index * 2 * e.headSize }
    unsafe sums?.update(repeating: 0, count: 2 * e.headSize)
    unsafe kernels.prepare_heads_backward(
      dx.row(rows.first), dx.bf16, sums, x.row(rows.first), queryWeight, keyWeight, epsilon,
      table.map { unsafe $0 + rows.token * 2 * e.headSize }, rows.still, rows.count, e.heads, e.headSize)
  }
}
