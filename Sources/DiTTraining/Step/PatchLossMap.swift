import DiTDiffusion

/// Where in the image, and at which noise, the prediction errs: the mse of each patch, averaged in bins of t.
///
/// Bin b holds the t with ⌊t·bins/T⌋ = b; on a linear path, t is the training index of its time. The mean over a bin's patches is
/// the mean mse of its samples.
public struct PatchLossMap: Equatable, Sendable {
  /// T.
  public let steps: Int
  /// Patches of the image, row-major.
  public let rows, columns: Int
  /// Samples in each bin.
  public private(set) var counts: [Int]
  /// (bins, L).
  private var sums: [Double]

  /// As many bins of t as there are at least steps, at most this many.
  public static let defaultBins = 10

  init(steps: Int, rows: Int, columns: Int) {
    let bins = min(steps, Self.defaultBins)
    self.steps = steps
    self.rows = rows
    self.columns = columns
    counts = [Int](repeating: 0, count: bins)
    sums = [Double](repeating: 0, count: bins * rows * columns)
  }

  /// The number of bins.
  public var bins: Int { counts.count }

  /// The t of a bin.
  public func times(ofBin bin: Int) -> ClosedRange<Int> {
    (bin * steps + bins - 1) / bins...((bin + 1) * steps + bins - 1) / bins - 1
  }

  /// The mean mse of each of a bin's patches, (rows, columns); NaN where the bin has no sample.
  public func means(ofBin bin: Int) -> [Double] {
    let patches = rows * columns
    return sums[bin * patches..<(bin + 1) * patches].map { $0 / Double(counts[bin]) }
  }

  /// Adds the patches of samples at their noise levels, (N, L).
  mutating func add(_ errors: Span<Float>, at levels: [NoiseLevel]) {
    let patches = rows * columns
    precondition(errors.count == levels.count * patches, "\(errors.count) errors of \(levels.count)×\(patches) patches")
    for (n, level) in levels.enumerated() {
      let bin = level.time.index * bins / steps
      counts[bin] += 1
      for patch in 0..<patches { sums[bin * patches + patch] += Double(errors[n * patches + patch]) }
    }
  }
}
