import DiTEngine
import DiTImaging
import DiTPictures
import Foundation

/// Shows a training run: a progress bar with the loss, the pictures of its curves and of its loss by patch, a grid of
/// samples when one is due, and TensorBoard's files.
struct TrainingMonitor {
  private let run: TrainingRun
  private var bar: ProgressBar
  private var curves: TrainingCurves
  private var tensorBoard: TensorBoardLog?
  /// The newest validation loss.
  private(set) var validation: ValidationReport?
  /// The newest evaluation.
  private(set) var evaluation: MeasureReport?
  /// Why a sample grid or an evaluation is missing, one line, the last that has not been said: a run does not end for that.
  private(set) var problem: String?
  private var hasSaidProblem = false

  /// - Throws: `DiTError` when TensorBoard's file cannot be made.
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
    case .evaluationDue: break  // all processes take part: see TrainCommand
    case .checkpoint: try writeCurves()
    }
  }

  private mutating func show(_ report: ValidationReport) throws {
    validation = report
    curves.add(report)
    try writeCurves()
    try tensorBoard?.write(report)
    guard let map = report.patches else { return }
    let picture = map.picture(afterStep: report.step)
    try write(map, picture, step: report.step)
    try tensorBoard?.write(picture, "loss_map", step: report.step)
  }

  /// How far an evaluation is.
  mutating func show(_ work: String, _ done: Int, _ total: Int) {
    bar.update(run.trainer.completedSteps, note: "evaluating: \(work), \(done) of \(total)")
  }

  /// What an evaluation found.
  mutating func show(_ report: MeasureReport, isBest: Bool) throws {
    evaluation = report
    curves.add(report, isBest: isBest)
    try writeCurves()
    try tensorBoard?.write(report)
  }

  /// An evaluation that came to nothing, which does not end a run.
  mutating func note(_ error: DiTError) { note("no evaluation of step \(run.trainer.completedSteps): \(error)") }

  /// Says the first problem at once, since the next evaluations may fail as this one, and keeps the last for the end.
  private mutating func note(_ text: String) {
    guard hasSaidProblem else {
      hasSaidProblem = true
      bar.clear()
      StandardError.write("Warning: \(text)\n")
      return
    }
    problem = text
  }

  /// Of a run that does not end as it should.
  func sayProblem() {
    if let problem { StandardError.write("Warning: \(problem)\n") }
  }

  /// DIR/loss.png.
  private func writeCurves() throws {
    guard let picture = curves.picture else { return }
    let file = try OutputFile("\(run.directory)/loss.png", .png)
    try file.saving { try picture.writePNG(to: file.path, text: [(key: "Software", value: "dit")]) }
  }

  mutating func clear() { bar.clear() }

  /// DIR/samples/step-N.png, from the averaged weights, seed 0. Samples that are latents are left out.
  private mutating func writeGrid(_ step: Int) throws {
    let grid: (picture: Image, settings: SampleSettings)?
    do {
      grid = try run.trainer.sampleGrid(software: "dit")
    } catch let error as DiTError where error.isOfSamples {
      note("no sample grid of step \(step): \(error)")
      return
    }
    guard let (picture, settings) = grid else { return }
    let folder = "\(run.directory)/samples"
    try Directory.create(folder, withParents: false)
    let file = try OutputFile("\(folder)/step-\(String(format: "%08d", step)).png", .png)
    try file.saving { try picture.writePNG(to: file.path, text: settings.text) }
    try tensorBoard?.write(picture, "samples", step: step)
  }

  /// DIR/loss_map.png, and the same in numbers, DIR/loss_map.safetensors.
  private func write(_ map: PatchLossMap, _ picture: Image, step: Int) throws(Failure) {
    let numbers = try OutputFile("\(run.directory)/loss_map.safetensors", .safetensors)
    try numbers.write(map.tensors, metadata: ["step": "\(step)"])
    let file = try OutputFile("\(run.directory)/loss_map.png", .png)
    try file.saving { try picture.writePNG(to: file.path, text: [(key: "Software", value: "dit")]) }
  }
}

extension DiTError {
  /// Whether samples have overflowed, here or on another process, which ends no run; diverged weights do.
  var isOfSamples: Bool { kind == .numbers && !(cause is Divergence) }
}
