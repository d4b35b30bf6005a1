// How well a set covers another and is covered by it, by balls around each point that reach to its k-th nearest
// neighbor in its own set. Balls hold their border, so a set against itself scores 1.
//
//   precision  the share of samples inside any reference ball          (Kynkäänniemi et al. 2019, eq. 1 and 2)
//   recall     the share of references inside any sample's ball
//   density    reference balls that hold a sample, on average, over k  (Naeem et al. 2020, eq. 3)
//   coverage   the share of reference balls that hold any sample       (eq. 4)

import DiTKernels

/// Precision and recall.
public struct PrecisionRecall: Equatable, Sendable {
  public let k: Int
  public let precision, recall: Double
}

/// Density and coverage.
public struct DensityCoverage: Equatable, Sendable {
  public let k: Int
  /// 0 or more; about 1 for two draws from one distribution.
  public let density: Double
  public let coverage: Double
}

/// Which of the two are wanted, with how many neighbors.
struct Neighborhoods {
  let precision: Int?
  let density: Int?

  init(_ options: EvaluationOptions) {
    (precision, density) = (options.precisionNeighbors, options.densityNeighbors)
  }

  /// Samples that a set must have.
  var needed: Int { max(precision ?? 0, density ?? 0) + 1 }

  var isEmpty: Bool { precision == nil && density == nil }

  /// The pairs that will be compared, for progress.
  func pairs(_ samples: Int, _ reference: Int) -> Int {
    isEmpty ? 0 : samples * reference + reference * reference + (precision == nil ? 0 : samples * samples)
  }

  func judge(
    _ samples: SampleSet, _ reference: SampleSet, _ search: NeighborSearch
  ) throws -> (PrecisionRecall?, DensityCoverage?) {
    let own = try search.within(reference, nearest: max(precision ?? 0, density ?? 0))
    let radii = [precision, density].compactMap { $0 }.map { own.squaredRadii($0) }
    let sampleRadii = try precision.map { try search.within(samples, nearest: $0).squaredRadii($0) }
    let found = try search.between(
      samples, reference, radiiOfA: sampleRadii.map { [$0] } ?? [], radiiOfB: radii)
    let balls = radii.count
    func count(_ ball: Int) -> [Int] { (0..<samples.count).map { Int(found.a.hits[$0 * balls + ball]) } }
    let precisionRecall = precision.map { k in
      PrecisionRecall(
        k: k, precision: share(count(0)) { $0 > 0 }, recall: share(found.b.hits) { $0 > 0 })
    }
    let densityCoverage = density.map { k in
      DensityCoverage(
        k: k, density: Double(count(balls - 1).reduce(0, +)) / Double(k * samples.count),
        coverage: share(Array(zip(found.b.distances, radii[balls - 1]))) { $0 <= $1 })
    }
    return (precisionRecall, densityCoverage)
  }
}

private func share<Item>(_ items: [Item], _ holds: (Item) -> Bool) -> Double {
  Double(items.count(where: holds)) / Double(items.count)
}
