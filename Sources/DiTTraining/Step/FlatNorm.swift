import DiTKernels
import DiTTensor

/// ‖x‖ over the trained ranges of a flat buffer, with the memory it takes.
struct FlatNorm {
  private let ranges: [Range<Int>]
  private var scratch: [Double]

  init(_ ranges: [Range<Int>]) {
    self.ranges = ranges
    let longest = ranges.map(\.count).max() ?? 0
    scratch = [Double](repeating: 0, count: ComputeContext.normScratch(longest))
  }

  mutating func value(_ flat: MutableFloatSlice, _ context: ComputeContext) -> Double {
    var sum = 0.0
    for range in ranges { sum += context.sumOfSquares(flat[range].reading, scratch: scratch.mutableSpan) }
    return sum.squareRoot()
  }
}
