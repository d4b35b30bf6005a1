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
  /// Of evaluations, by name in the order in which they came, and which are the best so far.
  private var measures: [(name: String, points: Points)] = []
  private var best: [String: Points] = [:]

  /// - Parameter log: the log.jsonl of a run that goes on, or a path without a file; lines that cannot be read are skipped.
  public init(log: String) {
    for line in JSONLinesFile.values(log) {
      guard let values = LogLine(line), let step = values["step"] else { continue }
      if let loss = values["loss"] { self.training.append((step, loss)) }
      if let learningRate = values["learning_rate"] { rate.append((step, learningRate)) }
      if let loss = values["validation_loss"] { validation.append((step, loss)) }
      let found = values.numbers(withPrefix: MeasureReport.prefix).filter { $0.name != "samples" }
      add(found, step: step, isBest: values.says("best"))
    }
  }

  /// Adds a step of which the log has a line.
  public mutating func add(_ report: StepReport) {
    training.append((Double(report.step), report.loss))
    rate.append((Double(report.step), report.learningRate))
  }

  /// A loss of the held-out samples.
  public mutating func add(_ report: ValidationReport) { validation.append((Double(report.step), report.loss)) }

  /// An evaluation of samples; a value that is not finite is no point, as in the log.
  public mutating func add(_ report: MeasureReport, isBest: Bool) {
    add(report.values.filter(\.value.isFinite).map { ($0.name, $0.value) }, step: Double(report.step), isBest: isBest)
  }

  private mutating func add(_ values: [(name: String, value: Double)], step: Double, isBest: Bool) {
    for (name, value) in values {
      if let index = measures.firstIndex(where: { $0.name == name }) {
        measures[index].points.append((step, value))
      } else {
        measures.append((name, [(step, value)]))
      }
    }
    if isBest, let first = values.first { best[first.name, default: []].append((step, first.value)) }
  }

  /// The losses above the learning rate, and above each measure of evaluations; nil before the first line of the log.
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
    return .stacked([losses.rendered(), rates.rendered()] + measures.indices.map(plot).map { $0.rendered() })
  }

  /// A measure; of one that said which weights are the best, with these marked.
  private func plot(_ index: Int) -> LinePlot {
    let (name, points) = measures[index]
    let marked = best[name] ?? []
    return LinePlot(
      title: name.split(separator: "_").joined(separator: " "), xTitle: "step", yScale: Self.scale(points),
      series: [
        LinePlot.Series(nil, points, thickness: 1.5, color: .blue),
        LinePlot.Series(nil, points, .dots, thickness: 5, color: .blue),
        LinePlot.Series(marked.isEmpty ? nil : "best so far", marked, .dots, thickness: 8, color: .orange),
      ], height: 240)
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

  subscript(_ key: String) -> Double? { members.first { $0.key == key }.flatMap { Self.number($0.value) } }

  /// Whether the key's value is true.
  func says(_ key: String) -> Bool { members.contains { $0.key == key && $0.value == .bool(true) } }

  /// The numbers whose keys begin so, under the rest of their keys.
  func numbers(withPrefix prefix: String) -> [(name: String, value: Double)] {
    members.compactMap { member in
      guard member.key.hasPrefix(prefix), let value = Self.number(member.value) else { return nil }
      return (String(member.key.dropFirst(prefix.count)), value)
    }
  }

  private static func number(_ value: JSONValue) -> Double? {
    switch value {
    case .integer(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }
}
