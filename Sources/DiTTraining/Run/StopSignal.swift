import Synchronization

/// A request to stop, which may come from another thread or from inside a signal handler: one lock-free flag.
///
/// A program that handles SIGINT keeps one in a global constant, touches it before it installs the handler, calls
/// ``request()`` in the handler and passes `{ stop.isRequested }` to ``TrainingRun/run(shouldStop:report:)``.
public final class StopSignal: Sendable {
  private let flag = Atomic<Bool>(false)
  /// When each signal came first, in nanoseconds; 0 for not yet.
  private let moments = (0..<65).map { _ in Moment() }

  private final class Moment: Sendable {
    let time = Atomic<Int64>(0)
  }

  public init() {}

  /// Asks to stop. Safe to call from a signal handler: it neither allocates nor locks.
  public func request() { flag.store(true, ordering: .relaxed) }

  /// Asks to stop because of a signal. Safe to call from its handler.
  ///
  /// Schedulers send the same signal twice within a moment, which is one request; a person who sends it again means it.
  ///
  /// - Parameters:
  ///   - signal: its number, 1 to 64.
  ///   - time: now, in nanoseconds above 0.
  /// - Returns: whether the same signal had come more than a second before: the process is to end at once.
  public func request(signal: Int32, at time: Int64) -> Bool {
    request()
    let moment = moments[Int(signal)]
    let (isFirst, first) = moment.time.compareExchange(expected: 0, desired: time, ordering: .relaxed)
    return !isFirst && time - first > 1_000_000_000
  }

  /// Whether a stop was requested.
  public var isRequested: Bool { flag.load(ordering: .relaxed) }
}
