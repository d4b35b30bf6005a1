import CPeak
import Glibc
import Synchronization

/// GFLOP/s of float32 multiply-adds with `threads` threads at once.
func fp32Peak(threads: Int) -> Double {
  var handles: [pthread_t] = []
  let box = PeakSum()
  for _ in 0..<threads {
    var handle = pthread_t()
    let context = unsafe Unmanaged.passRetained(box).toOpaque()
    let status = unsafe pthread_create(
      &handle, nil,
      { context in
        let box = unsafe Unmanaged<PeakSum>.fromOpaque(context!).takeRetainedValue()
        let value = peak_fp32(0.4)
        box.total.withLock { $0 += value }
        return nil
      }, context)
    precondition(status == 0, "cannot start a thread")
    handles.append(handle)
  }
  for handle in handles { pthread_join(handle, nil) }
  return box.total.withLock { $0 }
}

private final class PeakSum: Sendable {
  let total = Mutex(0.0)
}
