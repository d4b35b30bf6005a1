import DiTImaging
import DiffusionTransformers
import Foundation

/// Follows a training run: a progress bar with the loss, the pictures of its curves and of where its loss lies, a grid of
/// samples when one is due, and TensorBoard's files.
struct TrainingFollower {
  private let run: TrainingRun
  private var bar: ProgressBar
  private var curves: TrainingCurves
  private var tensorBoard: TensorBoardLog?
  /// The newest validation loss.
  private(set) var validation: ValidationReport?

  /// Images in a grid: one a class, up to this many, or this many where there are no classes.
  private static let gridImages = 10

  /// - Throws: `FileError` when TensorBoard's file cannot be made.
  init(_ run: TrainingRun, tensorBoard: Bool) throws {
    self.run = run
    curves = TrainingCurves(log: "\(run.directory)/\(TrainingRun.logFile)")
    self.tensorBoard = try tensorBoard ? TensorBoardLog(run) : nil
    let (done, total) = (run.trainer.completedSteps, run.trainer.training.steps)
    bar = ProgressBar("training", unit: "steps", total: total, completed: done)
  }

  mutating func show(_ event: TrainingEvent) throws {
    switch event {
    case .step(let report, _): bar.update(report.step, note: String(format: "loss %.4f", report.loss))
    case .logged(let report, let secondsPerStep):
      curves.add(report)
      try tensorBoard?.write(report, secondsPerStep: secondsPerStep)
    case .validation(let report): try show(report)
    case .sampleDue(let step): try writeGrid(step)
    case .checkpoint: try writeCurves()
    }
  }

  private mutating func show(_ report: ValidationReport) throws {
    validation = report
    curves.add(report)
    try writeCurves()
    try tensorBoard?.write(report)
    guard let patches = report.patches else { return }
    let map = LossMap(map: patches, step: report.step)
    let picture = map.picture
    try map.write(to: run.directory, picture: picture)
    try tensorBoard?.write(picture, "loss_map", step: report.step)
  }

  /// DIR/loss.png.
  private func writeCurves() throws {
    guard let picture = curves.picture else { return }
    let file = try OutputFile("\(run.directory)/loss.png", .png)
    try file.saving { try picture.writePNG(to: file.path, text: [(key: "Software", value: "dit")]) }
  }

  mutating func clear() { bar.clear() }

  /// The first samples' captions or context images, for a model without classes that takes them.
  private var sequence: ConditioningSequence? {
    let (data, count) = (run.trainer.data, Self.gridImages)
    switch run.trainer.model.network.sequence {
    case nil: return nil
    case .text: return data.captions.map { captions in .texts((0..<count).map { captions[$0 % captions.count] }) }
    case .image:
      return data.context.map { context in
        let size = context.count / context.shape[0]
        let elements = (0..<count).flatMap { n in
          context.elements[n % context.shape[0] * size..<(n % context.shape[0] + 1) * size]
        }
        return .images(Tensor(shape: [count] + context.shape.dropFirst(), elements: elements))
      }
    }
  }

  /// DIR/samples/step-N.png, from the averaged weights, seed 0. Samples that are no pictures are left out.
  private func writeGrid(_ step: Int) throws {
    let model = run.trainer.model
    guard SampleWriter.isPicture(model) else { return }
    let folder = "\(run.directory)/samples"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let dit = try run.trainer.averagedModel()
    let (options, sequence) = (dit.samplingDefaults, sequence)
    let samples =
      model.network.numClasses > 0
      ? try dit.sample(classes: Array(0..<min(model.network.numClasses, Self.gridImages)), options: options)
      : try dit.sample(count: Self.gridImages, sequence: sequence, options: options)
    let writer = SampleWriter(
      model: model,
      settings: SampleSettings(
        options, precision: run.trainer.training.numerics.precision, classes: samples.labels, hasNoise: false),
      countPerClass: 1)
    let file = try OutputFile("\(folder)/step-\(String(format: "%08d", step)).png", .png)
    let picture = writer.picture(samples.images, labels: samples.labels)
    try file.saving { try picture.writePNG(to: file.path, text: writer.settings.text) }
    try tensorBoard?.write(picture, "samples", step: step)
  }
}
