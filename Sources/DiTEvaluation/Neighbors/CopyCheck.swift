import DiTKernels

/// Whether samples are copies of training images, by the distance of each to the nearest: always between the images
/// themselves, also when other measures look at features.
public struct CopyCheck: Equatable, Sendable {
  /// A sample and the training image that it is.
  public struct Pair: Equatable, Sendable {
    public let sample, training: Int
  }

  /// The training set's name.
  public let against: String
  /// Samples at distance 0 from a training image.
  public let exact: Int
  /// The first ``largestList`` of them.
  public let exactPairs: [Pair]
  /// Samples, not exact copies, nearer to a training image than half that image's distance to its nearest other.
  public let near: Int
  /// The mean distance of a sample to the nearest training image.
  public let meanDistance: Double
  /// The mean distance of a training image to the nearest other.
  public let ownMeanDistance: Double
  /// The median over samples of: distance to the nearest training image, over that image's to its nearest other. Nil where
  /// most training images occur twice.
  public let medianRelative: Double?
  /// The mean distance of held-out images to the nearest training image; nil without such.
  public let referenceMeanDistance: Double?

  /// The most pairs that are listed.
  public static let largestList = 100

  /// ``meanDistance`` over ``ownMeanDistance``; nil where that is 0.
  public var ratio: Double? { ownMeanDistance > 0 ? meanDistance / ownMeanDistance : nil }

  /// ``meanDistance`` over ``referenceMeanDistance``: about 1 for samples as new as held-out images.
  public var referenceRatio: Double? { referenceMeanDistance.flatMap { $0 > 0 ? meanDistance / $0 : nil } }

  /// - Parameter heldOut: images that were not trained on; nil for none.
  init(_ samples: SampleSet, training: SampleSet, heldOut: SampleSet?, _ search: NeighborSearch) throws {
    let ownDistances = try search.within(training, nearest: 1).distances.map { $0.squareRoot() }
    let found = try search.between(samples, training).a
    let distances = found.distances.map { $0.squareRoot() }
    let nearest = found.indices.map { Int($0) }
    let copies = distances.indices.filter { distances[$0] == 0 }
    against = training.name
    exact = copies.count
    exactPairs = copies.prefix(Self.largestList).map { Pair(sample: $0, training: nearest[$0]) }
    near = distances.indices.count { distances[$0] > 0 && distances[$0] < ownDistances[nearest[$0]] / 2 }
    meanDistance = Self.mean(distances)
    ownMeanDistance = Self.mean(ownDistances)
    // A training image that occurs twice has its nearest other at 0: for a sample that is not a copy the ratio is infinite.
    let relative = distances.indices.map { index in
      let own = ownDistances[nearest[index]]
      return own > 0 ? distances[index] / own : distances[index] == 0 ? 0 : .infinity
    }
    let median = quantile(relative, 0.5)
    medianRelative = median.isFinite ? median : nil
    referenceMeanDistance = try heldOut.map { heldOut in
      Self.mean(try search.between(heldOut, training).a.distances.map { $0.squareRoot() })
    }
  }

  /// The pairs that will be compared, for progress.
  static func pairs(_ samples: Int, training: Int, heldOut: Int?) -> Int {
    training * (training + samples + (heldOut ?? 0))
  }

  private static func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
}
