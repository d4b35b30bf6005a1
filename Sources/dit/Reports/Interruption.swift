import DiTEngine
import Foundation

/// A signal handler can reach nothing but a global.
private let stop = StopSignal()

/// Ctrl-C (SIGINT), SIGTERM and SIGUSR1, which launchers of several processes pass on, as a request to stop after the current step.
/// The same one again, more than a second later, ends the process at once.
enum Interruption {
  /// Whether a request to stop has come since ``listen()``.
  static var isRequested: Bool { stop.isRequested }

  /// From here on the signals are requests, also where the process that started this one had them blocked.
  static func listen() {
    _ = stop.isRequested  // a signal handler must not be the first to touch it
    var signals = sigset_t()
    unsafe sigemptyset(&signals)
    for number in [SIGINT, SIGTERM, SIGUSR1] {
      signal(number) { number in
        var now = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &now)
        guard stop.request(signal: number, at: Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec) + 1) else {
          return
        }
        signal(number, SIG_DFL)
        raise(number)
      }
      unsafe sigaddset(&signals, number)
    }
    unsafe pthread_sigmask(SIG_UNBLOCK, &signals, nil)
  }
}
