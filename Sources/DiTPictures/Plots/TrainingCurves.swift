import DiTFiles
import DiTImaging
import DiTTraining

/// The curves of a training run, from its log and from what follows: losses, and below them the learning rate.
///
/// Only steps that the log has count, so that the picture of a run which was resumed is that of one which was not.
public struct TrainingCurves: Sendable {
  private typealias Points = [(x: Double, y: Double)]
  private var training: Points = []
  private var rate: Points = []
  private var validation: Points = []

  /// - Parameter log: the log.jsonl of a run that goes on, or a path without a file; lines that cannot be read are skipped.
  public init(log: String) {
    for line in JSONLinesFile.values(log) {
      guard let values = LogLine(line), let step = values["step"] else { continue }
      if let loss = values["loss"] { self.training.append((step, loss)) }
      if let learningRate = values["learning_rate"] { rate.append((step, learningRate)) }
      if let loss = values["validation_loss"] { validation.append((step, loss)) }
    }
  }

  /// Adds a step of which the log has a line.
  public mutating func add(_ report: StepReport) {
    training.append((Double(report.step), report.loss))
    rate.append((Double(report.step), report.learningRate))
  }

  /// A loss of the held-out samples.
  public mutating func add(_ report: ValidationReport) { validation.append((Double(report.step), report.loss)) }

  /// The losses above the learning rate; nil before the first line of the log.
  public var picture: Image? {
    guard !training.isEmpty else { return nil }
    let window = max(1, min(101, training.count / 20))
    let losses = LinePlot(
      title: "loss", xTitle: "step", yScale: Self.scale(training + validation),
      series: [
        LinePlot.Series(nil, training, thickness: 1, color: PlotColor.blue.faded(to: 0.3)),
        LinePlot.Series("training", Self.smoothed(training, window), color: .blue),
        LinePlot.Series(nil, validation, thickness: 1.5, color: .orange),
        LinePlot.Series(
          validation.isEmpty ? nil : "validation (EMA)", validation, .dots, thickness: 7, color: .orange),
      ], height: 480)
    let rates = LinePlot(
      title: "learning rate", xTitle: "step", yCovers: [0],
      series: [LinePlot.Series(nil, rate, color: .green)], height: 180)
    return .stacked([losses.rendered(), rates.rendered()])
  }

  /// Logarithmic where the losses differ by more than a factor of 4.
  private static func scale(_ points: Points) -> PlotScale {
    let (low, high) = (points.map(\.y).min() ?? 1, points.map(\.y).max() ?? 1)
    return low > 0 && high > 4 * low ? .logarithmic : .linear
  }

  /// The mean over `window` points around each; fewer at the ends, as many on both sides.
  private static func smoothed(_ points: Points, _ window: Int) -> Points {
    var sums = [0.0]
    for point in points { sums.append(sums[sums.count - 1] + point.y) }
    return points.indices.map { index in
      let half = min(window / 2, index, points.count - 1 - index)
      let mean = (sums[index + half + 1] - sums[index - half]) / Double(2 * half + 1)
      return (points[index].x, mean)
    }
  }
}

/// The numbers of a line of log.jsonl.
private struct LogLine {
  private let members: [JSONMember]

  init?(_ line: JSONValue) {
    guard case .object(let members) = line else { return nil }
    self.members = members
  }

  subscript(_ key: String) -> Double? {
    switch members.first(where: { $0.key == key })?.value {
    case .integer(let value)?: Double(value)
    case .number(let value)?: value
    default: nil
    }
  }
}
