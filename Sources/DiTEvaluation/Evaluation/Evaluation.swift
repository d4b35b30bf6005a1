import DiTDistributed
import DiTKernels
import DiTTensor

/// What is compared, and how.
public struct EvaluationOptions: Equatable, Sendable {
  /// The feature space of everything but copies.
  public enum Features: Equatable, Sendable {
    /// The samples' own numbers.
    case pixels
    /// This many principal components, 1…64, fitted on the reference.
    case principal(Int)
  }

  public var features = Features.pixels
  public var frechet = true
  /// The Fréchet distance of spatial features, where both sets have them.
  public var spatialFrechet = true
  /// The Inception Score, where the samples have logits.
  public var inceptionScore = true
  /// k of precision and recall; nil for neither.
  public var precisionNeighbors: Int? = 3
  /// k of density and coverage; nil for neither.
  public var densityNeighbors: Int? = 5
  public var copies = true
  /// Whether each class is measured separately too, where both sets have labels.
  public var perClass = true
  /// Resamples for the Fréchet distance's interval; 0 for none.
  public var resamples = 0
  public var seed: UInt64 = 0

  /// The largest number of principal components.
  public static let largestComponents = 64

  public init() {}
}

/// The measures of one class.
public struct ClassEvaluation: Equatable, Sendable {
  public let label: Int
  /// Samples of the class.
  public let samples: Int
  /// References of the class.
  public let reference: Int
  /// Nil where a set has too few of the class.
  public internal(set) var frechet: FrechetDistance?
  /// |μ_samples − μ_reference|; nil where a set has none of the class.
  public internal(set) var meanDistance: Double?
  public internal(set) var precisionRecall: PrecisionRecall?
  public internal(set) var densityCoverage: DensityCoverage?
}

/// The measures of a set of samples against a reference.
public struct Evaluation: Equatable, Sendable {
  /// Coordinates in which it was measured.
  public internal(set) var dimensions: Int
  /// The share of the reference's variance that the principal components hold; nil for pixels.
  public internal(set) var explainedVariance: Double?
  public internal(set) var frechet: FrechetDistance?
  /// Of the spatial features: sFID.
  public internal(set) var spatialFrechet: FrechetDistance?
  /// Of the samples.
  public internal(set) var inceptionScore: InceptionScore?
  public internal(set) var bootstrap: Bootstrap?
  public internal(set) var precisionRecall: PrecisionRecall?
  public internal(set) var densityCoverage: DensityCoverage?
  public internal(set) var copies: CopyCheck?
  /// One entry per label that either set has, ascending; nil where classes were not measured.
  public internal(set) var classes: [ClassEvaluation]?
  /// Notes for the user on the figures, one per line.
  public internal(set) var warnings: [String] = []

  /// Measures `samples` against `reference`.
  ///
  /// - Parameters:
  ///   - samples: what is judged.
  ///   - reference: what it is judged by.
  ///   - training: the set in which copies are sought; by default the reference.
  ///   - features: what a network says of both, in place of their own numbers; copies are sought in these all the same. Not beside principal
  ///     components.
  ///   - options: which measures are taken, and how.
  ///   - context: where to run.
  ///   - group: processes that share the work, each called with the same sets and options; each gets the whole result, which is the
  ///     same at any number of them.
  ///   - progress: called with the work done and the total work, in pairs compared and resamples drawn; throwing ends it, where several
  ///     processes share the work on all of them at the same call or not at all. Of several
  ///     processes each counts its own work, as many times as there are processes.
  /// - Throws: `DiTError`, and what `progress` throws.
  public init(
    of samples: EvaluationInput, against reference: EvaluationInput, training: SampleSet? = nil,
    in features: (samples: PictureFeatures, reference: PictureFeatures)? = nil,
    options: EvaluationOptions = EvaluationOptions(), on context: ComputeContext,
    group: any Communicator = SingleProcess(),
    progress: @escaping (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws {
    let run = EvaluationRun(
      samples: samples, reference: reference, training: training, spaces: features, options: options, context: context,
      group: group, progress: progress)
    self = try run.evaluation()
  }

  /// Throws what ``init(of:against:training:in:options:on:group:progress:)`` would before it measures anything.
  ///
  /// - Parameters:
  ///   - samples: what is judged.
  ///   - reference: what it is judged by.
  ///   - training: the set in which copies are sought.
  ///   - isInFeatures: whether a network's features of both will be given.
  ///   - options: which measures are taken, and how.
  public static func check(
    of samples: EvaluationInput, against reference: EvaluationInput, training: SampleSet? = nil, isInFeatures: Bool,
    options: EvaluationOptions
  ) throws(DiTError) {
    try EvaluationInputCheck(
      samples: samples, reference: reference, training: training, isInFeatures: isInFeatures, options: options
    )()
  }

  init(dimensions: Int) { self.dimensions = dimensions }
}
