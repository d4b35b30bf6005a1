/// A set: samples, or only their mean and covariance, or both.
public struct EvaluationInput: Sendable {
  /// What errors call it.
  public let name: String
  public let set: SampleSet?
  /// Of pixels, or of a network's features; where there are samples too they count in pixels, and the statistics in features.
  public let statistics: Statistics?
  /// Of Inception's spatial features.
  public let spatial: Statistics?
  /// d.
  public let depth: Int

  init(name: String, set: SampleSet?, statistics: Statistics?, spatial: Statistics? = nil, depth: Int) {
    (self.name, self.set, self.statistics, self.spatial, self.depth) = (name, set, statistics, spatial, depth)
  }

  /// Samples.
  ///
  /// - Parameters:
  ///   - set: their numbers.
  ///   - statistics: of a network's features of pictures, which need not be these: ADM's archives have those of all pictures, and some
  ///     of the pictures.
  ///   - spatial: of Inception's spatial features.
  public static func samples(
    _ set: SampleSet, statistics: Statistics? = nil, spatial: Statistics? = nil
  ) -> EvaluationInput {
    EvaluationInput(name: set.name, set: set, statistics: statistics, spatial: spatial, depth: set.depth)
  }

  /// A mean and a covariance.
  ///
  /// - Parameters:
  ///   - statistics: the mean and the covariance.
  ///   - spatial: of Inception's spatial features.
  public static func statistics(_ statistics: Statistics, spatial: Statistics? = nil) -> EvaluationInput {
    EvaluationInput(
      name: statistics.name, set: nil, statistics: statistics, spatial: spatial, depth: statistics.mean.count)
  }
}
