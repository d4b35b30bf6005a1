/// A measure by the name that options and configurations give it.
public enum EvaluationMeasure: String, CaseIterable, Sendable {
  /// The Fréchet distance.
  case frechet
  /// That of Inception's spatial features.
  case spatial
  /// The Inception Score.
  case inception
  /// Precision and recall.
  case precision
  /// Density and coverage.
  case density
  /// Exact and near copies.
  case copies

  /// Those of a list between commas.
  ///
  /// - Returns: nil where a word is no measure, or stands twice.
  public static func list(_ text: String) -> [EvaluationMeasure]? {
    let words = text.split(separator: ",", omittingEmptySubsequences: false)
    let measures = words.compactMap { EvaluationMeasure(rawValue: String($0)) }
    return measures.count == words.count && Set(measures).count == words.count ? measures : nil
  }

  /// Whether a larger value is a better one; of precision and density the first counts.
  public var isBetterLarger: Bool { [.inception, .precision, .density].contains(self) }
}

extension EvaluationOptions {
  /// Those measures and no others, with the usual numbers of neighbors, without classes.
  public init(measures: some Collection<EvaluationMeasure>) {
    frechet = measures.contains(.frechet)
    spatialFrechet = measures.contains(.spatial)
    inceptionScore = measures.contains(.inception)
    if !measures.contains(.precision) { precisionNeighbors = nil }
    if !measures.contains(.density) { densityNeighbors = nil }
    copies = measures.contains(.copies)
    perClass = false
  }
}

extension Evaluation {
  /// The values of a measure under the names that logs give them; none where it was not measured.
  public func values(of measure: EvaluationMeasure) -> [(name: String, value: Double)] {
    let values: [(String, Double?)] =
      switch measure {
      case .frechet: [("frechet", frechet?.value)]
      case .spatial: [("spatial_frechet", spatialFrechet?.value)]
      case .inception: [("inception_score", inceptionScore?.mean)]
      case .precision: [("precision", precisionRecall?.precision), ("recall", precisionRecall?.recall)]
      case .density: [("density", densityCoverage?.density), ("coverage", densityCoverage?.coverage)]
      case .copies: [("copies", copies.map { Double($0.exact + $0.near) })]
      }
    return values.compactMap { name, value in value.map { (name, $0) } }
  }
}
