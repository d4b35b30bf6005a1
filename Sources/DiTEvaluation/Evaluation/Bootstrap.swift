import DiTDistributed
import DiTKernels
import DiTTensor

/// How much a Fréchet distance varies with the samples: it is recomputed for bootstrap resamples, drawn with replacement,
/// against the same reference.
///
/// A resample repeats samples, so its covariance is too small in places and its distance biased upwards; plain quantiles
/// would leave out the distance itself. The interval is therefore the distance plus the
/// quantiles of the resamples relative to **their own mean**.
public struct Bootstrap: Equatable, Sendable {
  public let seed: UInt64
  /// One distance per resample. Two sets of equal size draw the same indices under one seed: their resamples are paired.
  public let values: [Double]
  /// The bounds of the interval.
  public let low, high: Double

  /// The share of resamples between `low` and `high`.
  public static let level = 0.95

  public var mean: Double { values.reduce(0, +) / Double(values.count) }

  /// The standard deviation of the resamples.
  public var standardError: Double {
    let mean = mean
    return (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(max(1, values.count - 1))).squareRoot()
  }

  init(
    _ samples: SampleSet, _ reference: Gaussian, distance: Double, resamples: Int, seed: UInt64,
    on context: ComputeContext, _ group: any Communicator, progress: (Int) throws -> Void
  ) throws {
    let values = try group.shared(resamples, width: 1) { resample in
      let weights = Self.counts(of: samples.count, seed: seed, resample: resample).map(Double.init)
      let gaussian = try Gaussian(of: samples, weights: weights, on: context)
      let value = FrechetDistance(gaussian, reference, on: context).value
      try progress(resample + 1)
      return [value]
    }.map { $0[0] }
    self.seed = seed
    self.values = values
    let mean = values.reduce(0, +) / Double(values.count)
    let tail = (1 - Self.level) / 2
    low = distance + quantile(values, tail) - mean
    high = distance + quantile(values, 1 - tail) - mean
  }

  /// How often each of `count` samples occurs in a resample: `count` draws of Philox's stream `resample`.
  public static func counts(of count: Int, seed: UInt64, resample: Int) -> [Int] {
    var random = Philox(seed: seed, stream: UInt64(resample))
    var counts = [Int](repeating: 0, count: count)
    for _ in 0..<count { counts[Int(random.next().multipliedFullWidth(by: UInt64(count)).high)] += 1 }
    return counts
  }
}

/// The quantile of level `p`, between neighbors on a line, as numpy's default.
func quantile(_ values: [Double], _ p: Double) -> Double {
  let sorted = values.sorted()
  guard let last = sorted.indices.last else { return .nan }
  let place = p * Double(last)
  let index = min(last, Int(place))
  let next = min(last, index + 1)
  return sorted[index] + (sorted[next] - sorted[index]) * (place - Double(index))
}
