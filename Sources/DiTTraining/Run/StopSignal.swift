import Synchronization

/// A request to stop, which may come from another thread or from inside a signal handler: one lock-free flag.
///
/// A program that handles SIGINT keeps one in a global constant, touches it before it installs the handler, calls
/// ``request()`` in the handler and passes `{ stop.isRequested }` to ``TrainingRun/run(shouldStop:report:)``.
public final class StopSignal: Sendable {
  private let flag = Atomic<Bool>(false)

  public init() {}

  /// Asks to stop. Safe to call from a signal handler: it neither allocates nor locks.
  public func request() { flag.store(true, ordering: .relaxed) }

  /// Whether a stop was requested.
  public var isRequested: Bool { flag.load(ordering: .relaxed) }
}
