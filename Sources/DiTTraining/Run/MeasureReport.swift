import DiTFiles

/// What an evaluation of samples found after a step.
public struct MeasureReport: Equatable, Sendable {
  public let step: Int
  /// Samples that were made for it.
  public let samples: Int
  /// Values by name, such as `frechet`; the first says which weights are the best.
  public let values: [Value]
  /// Whether a larger one of the first is better.
  public let isBetterLarger: Bool

  /// A value by its name.
  public struct Value: Equatable, Sendable {
    public let name: String
    public let value: Double

    public init(_ name: String, _ value: Double) { (self.name, self.value) = (name, value) }
  }

  public init(step: Int, samples: Int, values: [Value], isBetterLarger: Bool) {
    precondition(!values.isEmpty, "an evaluation that measured nothing")
    (self.step, self.samples, self.values, self.isBetterLarger) = (step, samples, values, isBetterLarger)
  }

  package static let prefix = "evaluation_"
  private static let bestKey = "best"
  /// Of a line that says that evaluations have other settings from here on.
  static let settingsKey = "evaluations"

  /// The log's line. A value that is not finite, which JSON cannot say, is left out.
  func line(isBest: Bool) -> [JSONMember] {
    [JSONMember("step", .integer(step))]
      + values.filter(\.value.isFinite).map { JSONMember(Self.prefix + $0.name, .number($0.value)) }
      + [JSONMember(Self.prefix + "samples", .integer(samples))]
      + (isBest ? [JSONMember(Self.bestKey, .bool(true))] : [])
  }

  /// The line of the best evaluation of a log, of those with the settings of its end; none where there is none.
  static func best(inLog path: String) -> [JSONMember] {
    var best: [JSONMember] = []
    for case .object(let members) in JSONLinesFile.values(path) {
      if members.contains(where: { $0.key == settingsKey }) { best = [] }
      if members.contains(where: { $0.key == bestKey && $0.value == .bool(true) }) { best = members }
    }
    return best
  }

  /// The step of the newest evaluation of a log; 0 where there is none.
  static func lastStep(inLog path: String) -> Int {
    var last = 0
    for case .object(let members) in JSONLinesFile.values(path)
    where members.contains(where: { $0.key.hasPrefix(prefix) }) {
      if case .integer(let step)? = members.first(where: { $0.key == "step" })?.value { last = max(last, step) }
    }
    return last
  }

  /// Whether the first value is better than the one that the line of another evaluation has of that name, or that has none.
  func isBetter(than line: [JSONMember]) -> Bool {
    let (name, value) = (Self.prefix + values[0].name, values[0].value)
    guard value.isFinite else { return false }
    switch line.first(where: { $0.key == name })?.value {
    case .number(let other)?: return isBetterLarger ? value > other : value < other
    case .integer(let other)?: return isBetterLarger ? value > Double(other) : value < Double(other)
    default: return true
    }
  }
}
