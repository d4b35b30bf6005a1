import CDiTKernels
import DiTTensor

// Dropout (Srivastava et al., 2014): an element is kept with probability 1 − rate and scaled by 1/(1 − rate), else it is 0.
// What is kept depends on the sample's key, the stream and the element's index in the sample alone (see dropout.inc): the
// same in any batch, with any number of threads, and again in the backward pass, which is the same call on the gradient.

/// Elements of a sample that a task takes: a whole number of the kernel's steps.
private let elementsPerTask = 256 * 64

extension ComputeContext {
  /// x = x ⊙ mask / (1 − rate), in place.
  ///
  /// Element i of a sample is dropped where word i mod 4 of block i/4 of `Philox` under the sample's key and `stream`,
  /// as a fraction of 2³², is below the rate.
  ///
  /// - Parameters:
  ///   - x: (samples · tokens, width), of any format, without gaps.
  ///   - rate: the share that is dropped, in 0 ..< 1; 0 changes nothing.
  ///   - tokens: rows of a sample.
  ///   - keys: one per sample.
  ///   - stream: which of a sample's masks: one per place in a network.
  ///   - copies: equal parts of the columns that lose the same elements, each a matrix of the width that counts.
  public func dropout(
    _ x: MutableMatrix, rate: Double, tokens: Int, keys: Span<UInt64>, stream: UInt32, copies: Int = 1
  ) {
    precondition(copies > 0 && x.columns % copies == 0, "\(x.columns) columns in \(copies) parts")
    precondition(0 <= rate && rate < 1, "a dropout rate of \(rate)")
    precondition(tokens > 0 && x.rows % tokens == 0, "\(x.rows) rows in samples of \(tokens) tokens")
    precondition(x.stride == x.columns, "rows of \(x.columns), \(x.stride) from row to row")
    precondition(keys.count >= x.rows / tokens, "\(keys.count) keys for \(x.rows / tokens) samples")
    guard rate > 0, x.rows > 0, x.columns > 0 else { return }
    unsafe keys.withUnsafeBufferPointer { keys in
      let task = unsafe Dropout(
        kernels: kernels, x: DiTMatrix(x), keys: keys.baseAddress!, stream: UInt64(stream),
        threshold: UInt32(min(rate * 0x1p32, 0xFFFF_FFFF)), factor: Float(1 / (1 - rate)),
        tokens: tokens, width: x.columns / copies, copies: copies)
      unsafe parallel(x.rows / tokens * task.parts, task)
    }
  }
}

@unsafe private struct Dropout: ParallelTask {
  let kernels: DiTKernelTable
  let x: DiTMatrix
  let keys: UnsafePointer<UInt64>
  let stream: UInt64
  let threshold: UInt32
  let factor: Float
  let tokens, width, copies: Int

  /// Elements of a sample's mask that a task takes: whole rows where there are copies of them.
  private var each: Int { unsafe copies == 1 ? elementsPerTask : width }
  var parts: Int { unsafe ceilDivide(tokens * width, each) }

  func run(_ index: Int, worker: Int) {
    let (sample, first, elements) = unsafe (index / parts, index % parts * each, tokens * width)
    let size = unsafe x.bf16 == 0 ? 4 : 2
    for copy in 0..<(unsafe copies) {
      let at = unsafe copies == 1 ? sample * elements + first : copies * (sample * elements + first) + copy * width
      unsafe kernels.dropout(
        x.data! + at * size, x.bf16, keys[sample], stream, threshold, factor, first, min(each, elements - first))
    }
  }
}
