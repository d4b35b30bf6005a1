import DiTEngine

/// Follows a sampling run: shows its progress, stops it when asked to, and counts the images that are finished.
struct SamplingBar {
  /// The first so many images have taken all steps.
  private(set) var finishedImages = 0
  private let title: String
  private var bar: ProgressBar?

  init(_ title: String) { self.title = title }

  /// Takes note of a step.
  ///
  /// - Returns: whether to go on.
  mutating func show(_ progress: SamplingProgress) -> Bool {
    if bar == nil { bar = ProgressBar(title, unit: "steps", total: progress.totalSteps) }
    bar?.update(progress.completedSteps)
    if progress.step == progress.steps { finishedImages = progress.images.upperBound }
    return !Interruption.isRequested || progress.completedSteps == progress.totalSteps
  }

  mutating func clear() { bar?.clear() }

  /// How a run ends that was stopped after `finished` of `count` images, which are in the outputs.
  static func interrupted(_ finished: Int, of count: Int, _ outputs: OutputFile...) -> Failure {
    let files = outputs.map(\.path).joined(separator: " and ")
    guard finished > 0 else {
      return Failure(
        .interrupted, "interrupted before an image was finished; \(files) not written", isShared: true)
    }
    return Failure(
      .interrupted, "interrupted; the first \(finished) of \(count) images are in \(files)", isShared: true)
  }
}

extension TensorSource {
  /// One whole number per sample, (N), I64.
  init(_ name: String, _ values: some Collection<Int>) {
    self.init(name, shape: [values.count], integers: Array(values))
  }
}
