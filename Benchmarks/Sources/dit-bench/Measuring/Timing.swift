import Foundation

/// Seconds on a clock that only goes forward.
func seconds() -> Double {
  Double(DispatchTime.now().uptimeNanoseconds) * 1e-9
}

/// Seconds that `body` takes.
func seconds(_ body: () throws -> Void) rethrows -> Double {
  let start = seconds()
  try body()
  return seconds() - start
}

/// The median of a few timed calls, with their spread, in seconds.
struct Measurement {
  let median, fastest, slowest: Double

  /// - Precondition: there is at least one time.
  init(_ times: [Double]) {
    let sorted = times.sorted()
    median = sorted[sorted.count / 2]
    fastest = sorted[0]
    slowest = sorted[sorted.count - 1]
  }

  /// Calls `body` once to warm up, then 3 to 15 times, as often as `budget` seconds allow. Calls too short for the clock
  /// are timed many at once.
  init(budget: Double = 2, _ body: () throws -> Void) rethrows {
    let first = max(1e-7, try seconds(body))
    let calls = max(1, Int(2e-3 / first))
    let count = min(15, max(3, Int(budget / (first * Double(calls))))) | 1
    try self.init(
      (0..<count).map { _ in
        try seconds { for _ in 0..<calls { try body() } } / Double(calls)
      })
  }
}
