import CBenchAllocations
import Foundation

/// The memory of this process.
struct MemoryUse {
  /// Bytes in memory now, and the most there have been.
  let resident, peak: Int

  /// Reads VmRSS and VmHWM.
  ///
  /// - Throws: ``BenchError`` where there is no /proc.
  static func current() throws -> MemoryUse {
    guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else {
      throw BenchError("/proc/self/status: expected a readable file, found none")
    }
    func bytes(_ key: String) throws -> Int {
      let words = status.split(separator: "\n").first { $0.hasPrefix(key + ":") }?.split { $0 == "\t" || $0 == " " }
      guard let words, words.count == 3, let kilobytes = Int(words[1]) else {
        throw BenchError("/proc/self/status: expected \(key) in kB, found none")
      }
      return kilobytes << 10
    }
    return try MemoryUse(resident: bytes("VmRSS"), peak: bytes("VmHWM"))
  }

  /// Lets the peak begin anew at what is in memory now.
  static func resetPeak() {
    try? Data("5".utf8).write(to: URL(filePath: "/proc/self/clear_refs"))
  }
}

/// Counts the allocations of the thread that makes it, and of threads started meanwhile: a context made after it has
/// counted workers.
struct AllocationWatch: ~Copyable {
  init() { dit_allocations_watch() }
  deinit { dit_allocations_unwatch() }

  /// Whether allocations can be counted here.
  static var isSupported: Bool { dit_allocations_supported() != 0 }

  /// Allocations of the second of two calls.
  func allocations(_ body: () throws -> Void) rethrows -> Int {
    try body()
    let before = dit_allocations_count()
    try body()
    return dit_allocations_count() - before
  }
}
