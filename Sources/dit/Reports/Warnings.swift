import DiTEngine
import DiTTensor
import Foundation
import Synchronization

/// Notes for the user on a command that succeeded. Printed last: stderr's first line is the error where there is one.
enum Warnings {
  private static let notes = Mutex<[String]>([])

  /// Remembers notes for ``write(_:)``.
  static func add(notes new: [String]) {
    notes.withLock { notes in for note in new where !notes.contains(note) { notes.append(note) } }
  }

  /// The notes alone; for a command that computes nothing.
  static func writeNotes() {
    for note in notes.withLock({ $0 }) { StandardError.write("Note: \(note)\n") }
  }

  /// - Parameters:
  ///   - problem: a failure that did not end the command.
  ///   - model: the model that was read, whose file may have keys that are ignored.
  static func write(_ problem: String? = nil, for model: ModelConfiguration? = nil) {
    if let note = model?.diffusersScheduler.flatMap(ignored) { add(notes: [note]) }
    writeNotes()
    for text in [problem, narrowed(.current), unreadThreads].compactMap(\.self) {
      StandardError.write("Warning: \(text)\n")
    }
  }

  /// A warning where `OMP_NUM_THREADS` is set to what is no number of threads.
  private static var unreadThreads: String? {
    guard let value = ProcessInfo.processInfo.environment["OMP_NUM_THREADS"], ComputeContext.environmentThreads == nil
    else { return nil }
    return "OMP_NUM_THREADS is \(Message.oneLine(value)), not a number of threads, and was not used"
  }

  /// The keys of a saved scheduler that nothing reads; nil where there are none.
  static func ignored(_ saved: DiffusersScheduler) -> String? {
    let keys = saved.ignoredKeys
    guard !keys.isEmpty else { return nil }
    return
      "the saved scheduler's \(keys.joined(separator: ", ")) \(keys.count == 1 ? "is" : "are") ignored, as by diffusers"
  }

  /// A warning where OpenBLAS runs narrower kernels than the CPU supports.
  static func narrowed(_ report: BLASReport) -> String? {
    guard report.isNarrowed else { return nil }
    return """
      OpenBLAS runs its \(report.core) kernels, narrower than this CPU's \(InstructionSet.supported.rawValue); unset \
      OPENBLAS_CORETYPE if it is set
      """
  }
}
