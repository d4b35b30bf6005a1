import DiTDistributed
import DiTEvaluation
import DiTFeatures
import DiTKernels
import DiTPipeline
import DiTTensor
import DiTTraining

/// Samples of a run's averaged weights, measured while it trains: what `evaluate_every` asks for.
///
/// The samples are of the model's own sampling settings with seed 0, sample i of class i mod C, so that evaluations differ by the weights
/// alone. A network's features of the reference are computed once.
public final class TrainingEvaluator {
  private let reference: EvaluationInput
  private let network: FeatureNetwork?
  private let resize: PictureResize?
  private let features: EvaluationOptions.Features
  private let measures: [EvaluationMeasure]
  private let count: Int
  private let isPixels: Bool
  private var referenceFeatures: PictureFeatures?

  /// - Parameters:
  ///   - trainer: of a model whose samples are pixels, or without a network also latents.
  ///   - reference: of the model's own shape where there is no network.
  ///   - network: whose features are measured; nil for the samples' own numbers, or their `features`.
  ///   - resize: how pictures are fitted to the network's input; its own by default.
  ///   - features: pixels where there is a network.
  ///   - measures: at least one; the first says which weights are the best.
  ///   - count: of samples.
  /// - Throws: `DiTError` for samples and references that cannot be compared.
  public init(
    _ trainer: Trainer, against reference: EvaluationInput, network: FeatureNetwork? = nil,
    resize: PictureResize? = nil, features: EvaluationOptions.Features = .pixels, measures: [EvaluationMeasure],
    count: Int
  ) throws(DiTError) {
    precondition(!measures.isEmpty && count >= 2, "no measures, or \(count) samples")
    let c = trainer.model.network
    let shape = [c.inChannels, c.inputHeight, c.inputWidth]
    if network != nil, !trainer.model.samplesArePixels {
      throw DiTError(
        key: "training.evaluate_features", expected: "pixels or pca:K for a model whose samples are latents",
        found: "a network of pictures")
    }
    if network == nil, let set = reference.set, set.shape != shape {
      throw DiTError(set: set.name, expected: "samples of \(shape), as the model makes them", found: "\(set.shape)")
    }
    try Self.checkCounts(count, reference, shape.reduce(1, *), network, features, measures)
    let needed: [(EvaluationMeasure, Bool, String)] = [
      (.spatial, network?.count(of: .spatial) != nil, "Inception as evaluate_features"),
      (.spatial, reference.spatial != nil || reference.set != nil, "a reference with mu_s and sigma_s, or of samples"),
      (
        .inception, network?.kind == .inceptionV3 && network?.count(of: .logits) != nil,
        "Inception with its classifier as evaluate_features"
      ),
      (.precision, reference.set != nil, "a reference of samples"),
      (.density, reference.set != nil, "a reference of samples"),
      (.copies, reference.set?.shape == shape, "a reference of samples of \(shape)"),
    ]
    for (measure, isPossible, expected) in needed where !isPossible && measures.contains(measure) {
      throw DiTError(
        key: "training.evaluate_measures", expected: "\(expected) for \(measure.rawValue)", found: measure.rawValue)
    }
    (self.reference, self.network, self.resize, self.features) = (reference, network, resize, features)
    (self.measures, self.count, isPixels) = (measures, count, trainer.model.samplesArePixels)
    if let network { try PictureFeatures.check(reference, by: network, outputs: outputs(isReference: true)) }
  }

  private static func checkCounts(
    _ count: Int, _ reference: EvaluationInput, _ depth: Int, _ network: FeatureNetwork?,
    _ features: EvaluationOptions.Features, _ measures: [EvaluationMeasure]
  ) throws(DiTError) {
    let options = EvaluationOptions(measures: measures)
    let neighbors = max(options.precisionNeighbors ?? 0, options.densityNeighbors ?? 0)
    guard count > neighbors else {
      throw DiTError(
        key: "training.evaluate_samples", expected: "at least \(neighbors + 1) for \(neighbors) neighbors",
        found: "\(count)")
    }
    var components = 0
    if case .principal(let count) = features { components = count }
    if let set = reference.set {
      let needed = max(2, neighbors + 1, components + 1)
      guard set.count >= needed else {
        throw DiTError(set: set.name, expected: "at least \(needed) samples to evaluate by", found: "\(set.count)")
      }
    } else if network == nil, reference.depth != depth {
      throw DiTError(
        set: reference.name, .entry("mu"), expected: "\(depth) numbers, as the model's samples have",
        found: "\(reference.depth)")
    }
    if let network, let statistics = reference.statistics, let own = network.count(of: .features),
      statistics.mean.count != own
    {
      throw DiTError(
        set: statistics.name, .entry("mu"), expected: "\(own) numbers, as \(network.kind.rawValue)'s features are",
        found: "\(statistics.mean.count)")
    }
    guard components <= depth else {
      throw DiTError(
        key: "training.evaluate_features", expected: "at most \(depth) components of the model's samples",
        found: "pca:\(components)")
    }
  }

  /// Makes samples and measures them. Of several processes, which all call this, each makes its share, and the first one measures.
  ///
  /// - Parameters:
  ///   - trainer: whose averaged weights make the samples.
  ///   - progress: called with what is being done, how much of it is, and all of it; false gives up, where there is one process.
  /// - Returns: on every process what was found; nil where it was given up.
  /// - Throws: `DiTError`; samples that overflow or weights that diverged are of kind `numbers`.
  public func evaluate(
    _ trainer: Trainer, progress: (_ work: String, _ done: Int, _ total: Int) -> Bool = { _, _, _ in true }
  ) throws -> MeasureReport? {
    let isAlone = trainer.group.size == 1
    guard
      let (_, images, labels) = try trainer.evenSamples(
        count: count, progress: { progress("sampling", $0, $1) || !isAlone })
    else { return nil }
    var values: [MeasureReport.Value] = []
    var failure: DiTError?
    if trainer.group.isFirst {
      do {
        let found = try measure(images, labels, on: trainer.context) { work, done, total in
          guard progress(work, done, total) || !isAlone else { throw CancellationError() }
        }
        values = measures.flatMap { found.values(of: $0) }.map { MeasureReport.Value($0.name, $0.value) }
        if found.values(of: measures[0]).isEmpty {
          throw DiTError(
            key: "training.evaluate_measures", expected: "a measure that the sets allow", found: measures[0].rawValue)
        }
      } catch let error as DiTError {
        failure = error
      } catch is CancellationError {
        return nil
      }
    }
    try trainer.group.barrier()  // the first one measures, and takes its time
    try trainer.group.agree(on: failure)
    return MeasureReport(
      step: trainer.completedSteps, samples: count, values: try trainer.group.shared(values),
      isBetterLarger: measures[0].isBetterLarger)
  }

  private func measure(
    _ images: Tensor, _ labels: [Int]?, on context: ComputeContext, _ progress: (String, Int, Int) throws -> Void
  ) throws -> Evaluation {
    // As in a file of pictures.
    let elements = isPixels ? images.elements.map { min(max($0, -1), 1) } : images.elements
    let samples = EvaluationInput.samples(
      SampleSet(
        name: "samples", shape: Array(images.shape.dropFirst()),
        store: FloatStore(depth: images.count / count, elements: elements), labels: labels))
    var options = EvaluationOptions(measures: measures)
    options.features = features
    var spaces: (samples: PictureFeatures, reference: PictureFeatures)?
    if let network {
      let known =
        try referenceFeatures
        ?? PictureFeatures(of: reference, by: network, resize: resize, outputs: outputs(isReference: true)) {
          done, total in
          try progress("features of the reference", done, total)
        }
      referenceFeatures = known
      let own = try PictureFeatures(of: samples, by: network, resize: resize, outputs: outputs(isReference: false)) {
        try progress("features of the samples", $0, $1)
      }
      spaces = (own, known)
    }
    return try withoutActuallyEscaping(progress) { progress in
      try Evaluation(of: samples, against: reference, in: spaces, options: options, on: context) {
        try progress("measuring", $0, $1)
      }
    }
  }

  private func outputs(isReference: Bool) -> [FeatureOutput] {
    var outputs: [FeatureOutput] = []
    let areCompared = measures.contains(.precision) || measures.contains(.density)
    if areCompared || (measures.contains(.frechet) && !(isReference && reference.statistics != nil)) {
      outputs.append(.features)
    }
    if measures.contains(.spatial), !(isReference && reference.spatial != nil) { outputs.append(.spatial) }
    if measures.contains(.inception), !isReference { outputs.append(.logits) }
    return outputs
  }
}

extension Communicator {
  /// The first process's values on every one.
  fileprivate func shared(_ values: [MeasureReport.Value]) throws -> [MeasureReport.Value] {
    guard size > 1 else { return values }
    let words = try gather(values.map(\.name).joined(separator: " "))[0].split(separator: " ").map(String.init)
    let numbers = try gather(
      isFirst ? values.map(\.value) : [Double](repeating: 0, count: words.count))[0]
    return zip(words, numbers).map { MeasureReport.Value($0, $1) }
  }
}
