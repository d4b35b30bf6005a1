import DiTFiles
import DiTPipeline
import DiTTensor

/// A log of one JSON object per line, appended and handed to the system line by line.
///
/// A step: `{"step":10,"loss":…,"mse":…,"vb":…,"seq":…,"gradient_norm":…,"learning_rate":…,"samples":1280,"seconds":…}`,
/// seconds being the mean of a step since the line before. A validation:
/// `{"step":1000,"validation_loss":…,"validation_mse":…,"validation_vb":…,"validation_seq":…,"validation_samples":…}`.
/// An evaluation of samples, the best so far or not:
/// `{"step":1000,"evaluation_frechet":…,"evaluation_samples":1000,"best":true}`.
/// A run resumed with other settings of its evaluations, with which those before it do not compare:
/// `{"step":1000,"evaluations":"changed"}`.
/// A run resumed with more steps:
/// `{"step":1000,"steps":2000,"steps_before":1000,"schedule_steps":2000,"schedule_steps_before":1000}`, where a cosine comes
/// to 0 at step `schedule_steps`.
/// A run with `ema_decays` has `validation_loss_ema-b` too for each further decay b.
/// `vb` is there with a learned variance only, `seq` (w_t L_seq) with `lambda_seq` only. Of a run's files only this one has
/// durations, and TensorBoard's times of day.
public struct JSONLinesLog {
  public var path: String { file.path }
  private let file: JSONLinesFile

  /// An empty log, in place of one that may be there.
  ///
  /// - Throws: `DiTError`.
  public init(creating path: String) throws {
    file = try JSONLinesFile(path)
  }

  /// The log of a run that goes on after `step`: later lines, and one cut off in the middle, are dropped.
  ///
  /// - Throws: `DiTError`.
  public init(resuming path: String, after step: Int) throws {
    file = try JSONLinesFile(path) { line in
      guard case .object(let members) = line,
        case .integer(let found)? = members.first(where: { $0.key == "step" })?.value
      else { return false }
      return found <= step
    }
  }

  /// Appends the line of a run that was resumed with more steps.
  func write(_ extended: TrainingExtension) throws(DiTError) {
    try file.append(
      .object([
        JSONMember("step", .integer(extended.step)), JSONMember("steps", .integer(extended.steps)),
        JSONMember("steps_before", .integer(extended.oldSteps)),
        JSONMember("schedule_steps", .integer(extended.scheduleEnd)),
        JSONMember("schedule_steps_before", .integer(extended.oldScheduleEnd)),
      ]))
  }

  /// Appends the line of a run that was resumed with other settings of its evaluations: those before it do not compare.
  func writeChangedMeasures(step: Int) throws(DiTError) {
    try file.append(
      .object([JSONMember("step", .integer(step)), JSONMember(MeasureReport.settingsKey, .string("changed"))]))
  }

  /// Appends a step's line.
  public func write(_ report: StepReport, seconds: Double) throws(DiTError) {
    try write(
      report.step,
      [
        ("loss", report.loss), ("mse", report.mse), ("vb", report.vb), ("cosine", report.cosine),
        ("seq", report.seq),
        ("gradient_norm", report.gradientNorm), ("learning_rate", report.learningRate),
      ], counter: ("samples", report.samplesSeen), seconds: seconds)
  }

  /// Appends a validation's line.
  public func write(_ report: ValidationReport) throws(DiTError) {
    try write(
      report.step,
      [
        ("validation_loss", report.loss), ("validation_mse", report.mse), ("validation_vb", report.vb),
        ("validation_cosine", report.cosine), ("validation_seq", report.seq),
      ] + report.furtherAverages.map { ("validation_loss_\(ModelDirectory.averageName($0.decay))", $0.loss) },
      counter: ("validation_samples", report.samples))
  }

  /// Appends an evaluation's line.
  func write(_ report: MeasureReport, isBest: Bool) throws(DiTError) {
    try file.append(.object(report.line(isBest: isBest)))
  }

  private func write(
    _ step: Int, _ values: [(name: String, value: Double?)], counter: (name: String, value: Int),
    seconds: Double? = nil
  ) throws(DiTError) {
    var line = [JSONMember("step", .integer(step))]
    line += values.compactMap { name, value in value.map { JSONMember(name, .number($0)) } }
    line.append(JSONMember(counter.name, .integer(counter.value)))
    if let seconds { line.append(JSONMember("seconds", .number((seconds * 1e6).rounded() / 1e6))) }
    try file.append(.object(line))
  }
}
