// Bounds on x̂_*, for models of pixels: a fixed range, or the dynamic threshold of Imagen (Saharia et al. 2022, section 2.3).

/// How far from 0 x̂_* may lie.
package enum CleanLimit: Equatable, Sendable {
  /// Cut to ±r.
  case range(Double)
  /// Cut to ±s and divided by s, s the quantile of |x̂_*| over a sample, at least 1 and at most `maximum`.
  case threshold(ratio: Double, maximum: Double)

  /// Arrays (N, C, H, W) of memory that ``bound(_:_:)`` works in.
  var scratchArrays: Int { if case .threshold = self { 1 } else { 0 } }

  /// A sample's bound, and what it is divided by.
  struct Bound {
    let bound: Double
    let divisor: Double

    /// Not a number where x̂_* is none.
    @inline(__always)
    func limited(_ value: Double) -> Double {
      value.isNaN ? value : min(bound, max(-bound, value)) / divisor
    }
  }

  /// The bound of one sample.
  ///
  /// - Parameters:
  ///   - elements: where in `scratch` there is room for the sample.
  ///   - magnitude: |x̂_*| of its i-th element.
  func bound(
    _ scratch: inout MutableSpan<Float>, _ elements: Range<Int>, magnitude: (Int) -> Float
  ) -> Bound {
    switch self {
    case .range(let bound): return Bound(bound: bound, divisor: 1)
    case .threshold(let ratio, let maximum):
      for i in 0..<elements.count { scratch[elements.lowerBound + i] = magnitude(i) }
      // torch.quantile computes the rank in float32.
      let rank = Double(Float(ratio) * Float(elements.count - 1))
      let below = Int(rank.rounded(.down))
      let (low, high) = Self.neighbors(&scratch, elements, rank: below)
      let quantile = Double(low) + (rank - Double(below)) * (Double(high) - Double(low))
      let bound = min(max(quantile, 1), maximum)
      return Bound(bound: bound, divisor: bound)
    }
  }

  /// The values of rank k and k + 1 (k where it is the last) among non-negative numbers, which are put in another order.
  ///
  /// Their bit patterns order them, and put what is no number last.
  private static func neighbors(
    _ values: inout MutableSpan<Float>, _ elements: Range<Int>, rank: Int
  ) -> (Float, Float) {
    let target = elements.lowerBound + rank
    var (low, high) = (elements.lowerBound, elements.upperBound - 1)
    while low < high {
      let pivot = values[low + (high - low) / 2].bitPattern
      var (i, j) = (low, high)
      while i <= j {
        while values[i].bitPattern < pivot { i += 1 }
        while values[j].bitPattern > pivot { j -= 1 }
        if i <= j {
          (values[i], values[j]) = (values[j], values[i])
          i += 1
          j -= 1
        }
      }
      if target <= j {
        high = j
      } else if target >= i {
        low = i
      } else {
        break
      }
    }
    let value = values[target]
    guard target + 1 < elements.upperBound else { return (value, value) }
    var next = values[target + 1]
    for i in target + 1..<elements.upperBound where values[i].bitPattern < next.bitPattern { next = values[i] }
    return (value, next)
  }
}
