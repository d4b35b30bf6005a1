import CPeak
import DiTEngine
import Foundation
import Synchronization

/// What the machine can do at most, with a number of threads at once; it moves while others share the processor.
struct Peaks {
  /// GFLOP/s of multiply-adds in float32.
  let fp32: Double
  /// GFLOP/s of bfloat16 products; nil when this CPU has no instruction for them.
  let bf16: Double?

  /// The best of four measurements of a tenth of a second each.
  static func measured(threads: Int) -> Peaks {
    func best(_ measure: @escaping @Sendable (Double) -> Double) -> Double {
      (0..<4).map { _ in sum(threads: threads, measure) }.max() ?? 0
    }
    let bf16 = best(peak_bf16)
    return Peaks(fp32: best(peak_fp32), bf16: bf16 > 0 ? bf16 : nil)
  }

  /// The peak that a variant is measured against: float32's where the CPU has no other.
  func peak(_ precision: Precision) -> Double {
    precision == .bf16 ? bf16 ?? fp32 : fp32
  }

  private static func sum(threads: Int, _ measure: @escaping @Sendable (Double) -> Double) -> Double {
    let total = Total()
    let group = DispatchGroup()
    for _ in 0..<threads {
      group.enter()
      Thread.detachNewThread {
        let value = measure(0.1)
        total.value.withLock { $0 += value }
        group.leave()
      }
    }
    group.wait()
    return total.value.withLock { $0 }
  }

  private final class Total: Sendable {
    let value = Mutex(0.0)
  }
}
