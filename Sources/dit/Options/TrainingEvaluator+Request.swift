import DiTEngine
import DiTPictures

extension TrainingEvaluator {
  /// What a run's configuration asks for.
  ///
  /// - Parameter data: `--data`, whose held-out samples are the reference where the configuration names none.
  /// - Throws: ``Failure`` (64, 65), `DiTError`, and what opening a file throws.
  convenience init(_ trainer: Trainer, _ data: String) throws {
    let training = trainer.training
    func failure(_ key: String, _ expected: String, _ found: String) -> DiTError {
      DiTError(key: "training.\(key)", expected: expected, found: found)
    }
    guard let measures = EvaluationMeasure.list(training.evaluateMeasures) else {
      throw failure(
        "evaluate_measures", "a list of \(EvaluationMeasure.allCases.map(\.rawValue).joined(separator: ", "))",
        "\"\(training.evaluateMeasures)\"")
    }
    let (features, file): (EvaluationOptions.Features, String?)
    do throws(Failure) {
      (features, file) = try EvaluationRequest.features(training.evaluateFeatures)
    } catch {
      throw failure(
        "evaluate_features", "pixels, pca:1 to pca:\(EvaluationOptions.largestComponents), or a network's file",
        "\"\(training.evaluateFeatures)\"")
    }
    var resize: PictureResize?
    if !training.evaluateResize.isEmpty {
      resize = PictureResize(rawValue: training.evaluateResize)
      guard resize != nil, file != nil else {
        throw failure(
          "evaluate_resize",
          file == nil
            ? "\"\" without a network's file" : PictureResize.allCases.map(\.rawValue).joined(separator: ", "),
          "\"\(training.evaluateResize)\"")
      }
    }
    let c = trainer.model.network
    let reference: EvaluationInput
    if training.evaluateReference.isEmpty {
      let heldOut = trainer.validationSamples
      guard heldOut.count >= 2 else {
        throw failure(
          "evaluate_reference", "a set, as fewer than two samples are held out by validation_modulus", "\"\"")
      }
      reference = .samples(SampleSet(trainer.data).subset(heldOut, name: "\(data), held out"))
    } else {
      reference = try EvaluationInputs.set(
        named: training.evaluateReference, shape: [c.inChannels, c.inputHeight, c.inputWidth],
        isLatents: !trainer.model.samplesArePixels)
    }
    try self.init(
      trainer, against: reference, network: file.map { try FeatureNetwork(contentsOf: $0, context: trainer.context) },
      resize: resize, features: features, measures: measures, count: training.evaluateSamples)
  }
}
