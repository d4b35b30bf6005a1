import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Waiting for what others do, without a processor of one's own: asked again at once for a few microseconds, then each time after
/// those who have work have had the processor, then ever more rarely, up to a fifth of a millisecond.
struct Wait {
  private let start = ContinuousClock.now
  private let patience: Duration
  private var asked = 0
  private var nap = 20.0e-6

  init(_ patience: Duration) { self.patience = patience }

  /// Rests a little; false where patience has ended.
  mutating func rest() -> Bool {
    asked += 1
    if asked < 100 { return true }
    let waited = ContinuousClock.now - start
    guard waited < patience else { return false }
    if waited < .milliseconds(1) {
      sched_yield()
    } else {
      Thread.sleep(forTimeInterval: nap)
      nap = min(nap * 1.05, 200e-6)
    }
    return true
  }
}
