import Glibc

/// Seconds on a clock that only goes forward.
func seconds() -> Double {
  var time = timespec()
  unsafe clock_gettime(CLOCK_MONOTONIC, &time)
  return Double(time.tv_sec) + 1e-9 * Double(time.tv_nsec)
}

/// The median of a few timed calls, with their spread.
struct Measurement {
  let median, fastest, slowest: Double

  /// Calls `body` once to warm up, then `count` times.
  init(count: Int, _ body: () -> Void) {
    body()
    var times = (0..<count).map { _ in
      let start = seconds()
      body()
      return seconds() - start
    }
    times.sort()
    median = times[count / 2]
    fastest = times[0]
    slowest = times[count - 1]
  }
}
