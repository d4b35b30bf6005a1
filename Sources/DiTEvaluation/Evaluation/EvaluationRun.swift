import DiTDistributed
import DiTKernels
import DiTTensor

/// One evaluation: checks the sets, then computes the measures one after another.
final class EvaluationRun {
  private let samples, reference: EvaluationInput
  private let training: SampleSet?
  private let spaces: (samples: PictureFeatures, reference: PictureFeatures)?
  private let options: EvaluationOptions
  private let context: ComputeContext
  private let group: any Communicator
  private let report: (Int, Int) throws -> Void
  private var done = 0
  private var total = 0

  init(
    samples: EvaluationInput, reference: EvaluationInput, training: SampleSet?,
    spaces: (samples: PictureFeatures, reference: PictureFeatures)?, options: EvaluationOptions,
    context: ComputeContext, group: any Communicator, progress: @escaping (Int, Int) throws -> Void
  ) {
    if let spaces {
      precondition(options.features == .pixels, "principal components of a network's features")
      precondition(spaces.samples.network == spaces.reference.network, "features of two networks")
    }
    (self.samples, self.reference, self.training, self.spaces) = (samples, reference, training, spaces)
    (self.options, self.context, self.group, report) = (options, context, group, progress)
  }

  private var neighborhoods: Neighborhoods { Neighborhoods(options) }

  private func search(_ group: any Communicator) -> NeighborSearch {
    NeighborSearch(context: context, group: group) { [unowned self] pairs in try advance(pairs) }
  }

  private func advance(_ amount: Int) throws {
    done += amount * group.size
    try report(min(done, total), total)
  }

  func evaluation() throws -> Evaluation {
    try EvaluationInputCheck(
      samples: samples, reference: reference, training: training, isInFeatures: spaces != nil, options: options
    )()
    total = plannedPairs()
    let (samples, reference, components) = try features()
    var evaluation = Evaluation(dimensions: samples.depth)
    evaluation.explainedVariance = components?.explained
    if options.frechet {
      let remedy = spaces == nil ? "use fewer principal components" : "take more of them"
      for input in [samples, reference] { warn(input, remedy, &evaluation) }
    }
    if options.spatialFrechet, let spaces {
      for input in [spaces.samples.spatial, spaces.reference.spatial] {
        if let input { warn(input, "take more of them", &evaluation) }
      }
    }
    if options.frechet { try measureFrechet(samples, reference, &evaluation) }
    if let spaces { try measure(spaces, &evaluation) }
    if let samples = samples.set, let reference = reference.set {
      if !neighborhoods.isEmpty {
        (evaluation.precisionRecall, evaluation.densityCoverage) = try neighborhoods.judge(
          samples, reference, search(group))
      }
      if options.perClass, samples.labels != nil, reference.labels != nil {
        evaluation.classes = try classes(samples, reference)
      }
    }
    if options.copies, let samples = self.samples.set, let against = training ?? self.reference.set {
      let heldOut = training == nil ? nil : self.reference.set
      evaluation.copies = try CopyCheck(samples, training: against, heldOut: heldOut, search(group))
    }
    return evaluation
  }

  private func measureFrechet(
    _ samples: EvaluationInput, _ reference: EvaluationInput, _ evaluation: inout Evaluation
  ) throws {
    let (a, b) = (try gaussian(samples), try gaussian(reference))
    let distance = FrechetDistance(a, b, on: context)
    evaluation.frechet = distance
    guard options.resamples > 0, let samples = samples.set else { return }
    evaluation.bootstrap = try Bootstrap(
      samples, b, distance: distance.value, resamples: options.resamples, seed: options.seed, on: context, group
    ) { _ in try advance(samples.count) }
  }

  private func gaussian(_ input: EvaluationInput) throws -> Gaussian {
    if let statistics = input.statistics { return try Gaussian(statistics, on: context) }
    guard let set = input.set else {
      throw DiTError(set: input.name, expected: "samples or statistics", found: "neither")
    }
    return try Gaussian(of: set, on: context, group)
  }

  /// What only a network's features have.
  private func measure(
    _ spaces: (samples: PictureFeatures, reference: PictureFeatures), _ evaluation: inout Evaluation
  ) throws {
    if options.spatialFrechet, let a = spaces.samples.spatial, let b = spaces.reference.spatial {
      evaluation.spatialFrechet = FrechetDistance(try gaussian(a), try gaussian(b), on: context)
    }
    if options.inceptionScore, spaces.samples.network.kind == .inceptionV3 {  // of another network it has no such name
      evaluation.inceptionScore = try spaces.samples.logits.map { try InceptionScore($0) }
    }
  }

  // MARK: Inputs

  /// The sets in the feature space that is measured.
  private func features() throws -> (EvaluationInput, EvaluationInput, PrincipalComponents?) {
    if let spaces { return (spaces.samples.features, spaces.reference.features, nil) }
    guard case .principal(let count) = options.features else { return (own(samples), own(reference), nil) }
    guard let set = samples.set else {
      throw DiTError(
        set: samples.name, expected: "samples, which principal components can be taken of", found: "statistics")
    }
    let components: PrincipalComponents
    let projected: EvaluationInput
    if let reference = reference.set {
      components = try PrincipalComponents(of: reference, count: count, on: context, group)
      projected = .samples(try components.project(reference, on: context))
    } else if let statistics = reference.statistics {
      components = try PrincipalComponents(statistics, count: count, on: context)
      projected = .statistics(try components.projectedStatistics(name: statistics.name))
    } else {
      throw DiTError(set: reference.name, expected: "samples or statistics", found: "neither")
    }
    return (.samples(try components.project(set, on: context)), projected, components)
  }

  /// The samples' own numbers: statistics beside them are of something else.
  private func own(_ input: EvaluationInput) -> EvaluationInput { input.set.map { .samples($0) } ?? input }

  private func warn(_ input: EvaluationInput, _ remedy: String, _ evaluation: inout Evaluation) {
    guard input.statistics == nil, let set = input.set, set.count <= set.depth else { return }
    evaluation.warnings.append(
      "\(set.name): \(set.count) samples of \(set.depth) numbers give a covariance of rank \(set.count - 1) at most: "
        + "compare Fréchet distances only between sets of as many samples, or \(remedy)")
  }

  private func plannedPairs() -> Int {
    guard let samples = samples.set else { return 0 }
    var total = options.frechet ? options.resamples * samples.count : 0
    if let reference = reference.set {
      total += neighborhoods.pairs(samples.count, reference.count)
      if options.perClass, let a = samples.labels, let b = reference.labels {
        for label in Set(a).union(b) where !neighborhoods.isEmpty {
          total += neighborhoods.pairs(a.count { $0 == label }, b.count { $0 == label })
        }
      }
    }
    if options.copies, let against = training ?? reference.set {
      let heldOut = training == nil ? nil : reference.set?.count
      total += CopyCheck.pairs(samples.count, training: against.count, heldOut: heldOut)
    }
    return total
  }

  // MARK: Classes

  private func classes(_ samples: SampleSet, _ reference: SampleSet) throws -> [ClassEvaluation] {
    let labels = Set(samples.labels ?? []).union(reference.labels ?? []).sorted()
    // Each class by one process.
    let search = search(SingleProcess())
    let entries = try group.shared(labels.count, width: ClassEvaluation.numbersCount) { index in
      try measure(labels[index], samples, reference, search).numbers
    }
    return zip(labels, entries).map { label, numbers in
      ClassEvaluation(
        label: label, numbers: numbers, precision: options.precisionNeighbors, density: options.densityNeighbors)
    }
  }

  private func measure(
    _ label: Int, _ samples: SampleSet, _ reference: SampleSet, _ search: NeighborSearch
  ) throws -> ClassEvaluation {
    let (a, b) = (samples.ofClass(label), reference.ofClass(label))
    var entry = ClassEvaluation(label: label, samples: a.count, reference: b.count)
    if a.count > 0, b.count > 0 {
      let means = zip(try a.mean(), try b.mean())
      entry.meanDistance = means.reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot()
    }
    if options.frechet, a.count >= 2, b.count >= 2 {
      entry.frechet = try FrechetDistance(Gaussian(of: a, on: context), Gaussian(of: b, on: context), on: context)
    }
    if !neighborhoods.isEmpty, min(a.count, b.count) >= neighborhoods.needed {
      (entry.precisionRecall, entry.densityCoverage) = try neighborhoods.judge(a, b, search)
    }
    return entry
  }
}

extension ClassEvaluation {
  /// Numbers that stand for one, but for its label and numbers of neighbors.
  fileprivate static let numbersCount = 9

  /// NaN for what there is not.
  fileprivate var numbers: [Double] {
    [
      Double(samples), Double(reference), meanDistance ?? .nan, frechet?.meanTerm ?? .nan,
      frechet?.covarianceTerm ?? .nan, precisionRecall?.precision ?? .nan, precisionRecall?.recall ?? .nan,
      densityCoverage?.density ?? .nan, densityCoverage?.coverage ?? .nan,
    ]
  }

  /// - Parameters:
  ///   - precision: k of precision and recall.
  ///   - density: k of density and coverage.
  fileprivate init(label: Int, numbers: [Double], precision: Int?, density: Int?) {
    self.init(label: label, samples: Int(numbers[0]), reference: Int(numbers[1]))
    meanDistance = numbers[2].isNaN ? nil : numbers[2]
    frechet = numbers[3].isNaN ? nil : FrechetDistance(meanTerm: numbers[3], covarianceTerm: numbers[4])
    precisionRecall = precision.flatMap { k in
      numbers[5].isNaN ? nil : PrecisionRecall(k: k, precision: numbers[5], recall: numbers[6])
    }
    densityCoverage = density.flatMap { k in
      numbers[7].isNaN ? nil : DensityCoverage(k: k, density: numbers[7], coverage: numbers[8])
    }
  }
}
