import Foundation

/// One line on stderr that is drawn over and over: how far, how fast, how long still. Nothing unless stderr is a terminal.
///
///     sampling [=========>          ] 45% 23/50 steps, 11.2 steps/s, 0:02 left
struct ProgressBar {
  private let title: String
  private let unit: String
  private let total: Int
  private let first: Int
  private let start = ContinuousClock.now
  private var lastDrawn: ContinuousClock.Instant?
  private let isVisible = StandardError.isTerminal

  /// - Parameters:
  ///   - title: what is being done.
  ///   - unit: what is counted, in the plural.
  ///   - total: how many there are in all.
  ///   - completed: how many were done before this process began.
  init(_ title: String, unit: String, total: Int, completed: Int = 0) {
    self.title = title
    self.unit = unit
    self.total = total
    first = completed
  }

  /// Shows that `completed` are done; at most ten times a second, and always the last.
  ///
  /// - Parameter note: something to append, such as the loss.
  mutating func update(_ completed: Int, note: String = "") {
    guard isVisible else { return }
    let now = ContinuousClock.now
    if let lastDrawn, completed < total, now - lastDrawn < .milliseconds(100) { return }
    lastDrawn = now
    let line = Self.line(title, unit, completed - first, completed, total, seconds: (now - start) / .seconds(1))
    StandardError.write("\r\(line)\(note.isEmpty ? "" : ", \(note)")\u{1B}[K")
  }

  /// Takes the line away, so that other text can follow.
  mutating func clear() {
    guard lastDrawn != nil else { return }
    lastDrawn = nil
    StandardError.write("\r\u{1B}[K")
  }

  private static func line(
    _ title: String, _ unit: String, _ done: Int, _ completed: Int, _ total: Int, seconds: Double
  ) -> String {
    let share = total > 0 ? min(1, Double(completed) / Double(total)) : 1
    let filled = Int(share * 20)
    let arrow = filled < 20 ? ">" : ""
    let bar = String(repeating: "=", count: filled) + arrow + String(repeating: " ", count: 20 - filled - arrow.count)
    let rate = seconds > 0 ? Double(done) / seconds : 0
    let left = rate > 0 ? time(Double(total - completed) / rate) : "?"
    return "\(title) [\(bar)] \(Int(share * 100))% \(completed)/\(total) \(unit), \(speed(rate, unit)), \(left) left"
  }

  private static func speed(_ rate: Double, _ unit: String) -> String {
    rate >= 1 || rate == 0
      ? String(format: "%.1f \(unit)/s", rate) : String(format: "%.1f s/\(unit.dropLast())", 1 / rate)
  }

  private static func time(_ seconds: Double) -> String {
    let whole = Int(min(seconds, 359_999))
    let (hours, minutes) = (whole / 3600, whole / 60 % 60)
    return hours > 0
      ? String(format: "%d:%02d:%02d", hours, minutes, whole % 60) : String(format: "%d:%02d", minutes, whole % 60)
  }
}
