import DiTEngine
import Foundation

/// A signal handler can reach nothing but a global.
private let stop = StopSignal()

/// Ctrl-C (SIGINT), SIGTERM and SIGUSR1, which launchers of several processes pass on, as a request to stop after the current step.
/// A second one ends the process at once.
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
        stop.request()
        signal(number, SIG_DFL)
      }
      unsafe sigaddset(&signals, number)
    }
    unsafe pthread_sigmask(SIG_UNBLOCK, &signals, nil)
  }
}
