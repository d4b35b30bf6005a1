import DiTDistributed
import DiTEngine
import Foundation
import Synchronization

/// The ranks of this run, as far as MPI was started.
final class Ranks: Sendable {
  private static let current = Mutex<Ranks?>(nil)

  let group: MPICommunicator

  private init(_ group: MPICommunicator) { self.group = group }

  /// Starts MPI.
  static func start() throws -> Ranks {
    let ranks = Ranks(try MPICommunicator())
    current.withLock { $0 = ranks }
    return ranks
  }

  /// What each rank runs on.
  func reports() throws -> [RankReport] {
    let blas = BLASReport.current
    let context = try ComputeContext(threads: 1)
    let arithmetic =
      "\(context.instructionSet.rawValue), bf16 \(context.hasNativeBF16 ? "of the CPU" : "in fp32"), "
      + "int8 \(context.hasNativeInt8 ? "of the CPU" : "of 16 bits"), BLAS core \(blas.core)"
    return try RankReport(processors: ComputeContext.availableProcessors, arithmetic: arithmetic).gathered(group)
  }

  /// Whether this process speaks for the run.
  static var isFirst: Bool { current.withLock { $0 }?.group.isFirst ?? true }

  /// Waits for the end that the rank which has failed puts to all, after its message; not for ever.
  static func awaitEnd() { Thread.sleep(forTimeInterval: 10) }

  /// Ends MPI where it was started: all ranks have come to their end.
  static func finish() { current.withLock { $0 }?.group.finish() }

  /// Lets the first rank speak where all have come to the same error: it then ends the others.
  static func letFirstSpeak() {
    if let group = current.withLock({ $0 })?.group, !group.isFirst { Thread.sleep(forTimeInterval: 2) }
  }

  /// Ends all ranks where MPI was started with others, after this one's message.
  static func abort(status: Int32) {
    guard let group = current.withLock({ $0 })?.group else { return }
    if group.size > 1 { group.abort(status: status) }
    group.finish()
  }
}
