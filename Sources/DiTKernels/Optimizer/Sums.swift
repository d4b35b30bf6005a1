import CDiTKernels
import DiTTensor

// Sums of gradients, and their bf16 form on a wire.

/// Who runs a loop over a flat buffer.
public enum FlatLoop: Sendable {
  /// The context's threads; its one caller may ask for it.
  case threads
  /// The calling thread alone, whatever the others do.
  case caller
}

extension ComputeContext {
  /// y += x.
  ///
  /// - Parameters:
  ///   - x: the summands.
  ///   - y: at least as many elements as x.
  ///   - rounded: each sum to bf16, to nearest, ties to even.
  ///   - loop: which threads compute.
  public func add(_ x: FloatSlice, to y: MutableFloatSlice, rounded: Bool = false, by loop: FlatLoop = .caller) {
    check(y.count, atLeast: x.count, "sum")
    let task = unsafe FlatTask(
      kernels: kernels, kind: rounded ? .addRounded : .add, y: y.pointer, x: x.pointer, count: x.count)
    unsafe run(task, by: loop)
  }

  /// Rounds each element to bf16, to nearest, ties to even; a NaN stays one.
  public func roundToBFloat16(_ x: MutableFloatSlice, by loop: FlatLoop = .caller) {
    let task = unsafe FlatTask(
      kernels: kernels, kind: .round, y: x.pointer, x: UnsafePointer(x.pointer), count: x.count)
    unsafe run(task, by: loop)
  }

  /// Elements of float32 that hold as many numbers in bf16.
  public static func packedBFloat16(_ count: Int) -> Int { ceilDivide(count, 2) }

  /// Puts numbers that are bf16 side by side, two in the place of one; of others the lower halves are lost.
  ///
  /// - Parameters:
  ///   - x: the numbers.
  ///   - packed: ``packedBFloat16(_:)`` of x's elements, which are bits, not numbers. Its last half stays where x's count is
  ///     odd.
  public func packBFloat16(_ x: FloatSlice, into packed: MutableFloatSlice) {
    check(packed.count, atLeast: Self.packedBFloat16(x.count), "packed numbers")
    guard !x.isEmpty else { return }
    let halves = unsafe UnsafeMutableRawPointer(packed.pointer).assumingMemoryBound(to: UInt16.self)
    unsafe kernels.pack_bf16(halves, x.pointer, x.count)
  }

  /// ``packBFloat16(_:into:)`` backwards.
  public func unpackBFloat16(_ packed: FloatSlice, into x: MutableFloatSlice) {
    check(packed.count, atLeast: Self.packedBFloat16(x.count), "packed numbers")
    guard !x.isEmpty else { return }
    let halves = unsafe UnsafeRawPointer(packed.pointer).assumingMemoryBound(to: UInt16.self)
    unsafe kernels.unpack_bf16(x.pointer, halves, x.count)
  }

  @unsafe private func run(_ task: FlatTask, by loop: FlatLoop) {
    guard unsafe task.count > 0 else { return }
    switch loop {
    case .threads: unsafe parallel(ceilDivide(task.count, flatChunk), task)
    case .caller: unsafe task.run(0..<task.count)
    }
  }
}

@unsafe private struct FlatTask: ParallelTask {
  enum Kind { case add, addRounded, round }

  let kernels: DiTKernelTable
  let kind: Kind
  let y: UnsafeMutablePointer<Float>
  let x: UnsafePointer<Float>
  let count: Int

  func run(_ index: Int, worker: Int) { unsafe run(flatRange(index, of: count)) }

  func run(_ range: Range<Int>) {
    let (y, x) = unsafe (y + range.lowerBound, x + range.lowerBound)
    switch unsafe kind {
    case .add: unsafe kernels.add(y, x, range.count)
    case .addRounded: unsafe kernels.add_rounded(y, x, range.count)
    case .round: unsafe kernels.round_to_bf16(y, range.count)
    }
  }
}
