import DiTEngine
import DiTEvents
import DiTImaging

/// What `dit train --tensorboard` writes: DIR/tensorboard/events.out.tfevents.…, a new file each time a run is started
/// or resumed.
struct TensorBoardLog {
  private let events: EventFile
  private let batch: Int

  /// - Throws: `DiTError`.
  init(_ run: TrainingRun) throws {
    events = try EventFile(in: "\(run.directory)/tensorboard", after: run.trainer.completedSteps)
    batch = run.trainer.training.batch
  }

  /// A step of which the log has a line too.
  func write(_ report: StepReport, secondsPerStep: Double) throws(DiTError) {
    try events.write(
      step: report.step,
      [
        "training/loss": report.loss, "training/mse": report.mse, "training/vb": report.vb,
        "training/cosine": report.cosine, "training/seq": report.seq, "training/gradient_norm": report.gradientNorm,
        "training/learning_rate": report.learningRate,
        "training/images_per_second": Double(batch) / secondsPerStep,
      ])
  }

  func write(_ report: ValidationReport) throws(DiTError) {
    try events.write(
      step: report.step,
      [
        "validation/loss": report.loss, "validation/mse": report.mse, "validation/vb": report.vb,
        "validation/cosine": report.cosine, "validation/seq": report.seq,
      ])
  }

  func write(_ report: MeasureReport) throws(DiTError) {
    try events.write(
      step: report.step,
      report.values.map { ("evaluation/\($0.name)", $0.value) })
  }

  /// A picture: `samples` or `loss_map`.
  func write(_ picture: Image, _ tag: String, step: Int) throws {
    try events.write(
      step: step, tag, png: picture.pngData(), width: picture.width, height: picture.height,
      channels: picture.channels)
  }
}
