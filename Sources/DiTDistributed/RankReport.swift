import DiTTensor
import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// What each rank runs on, as every rank knows it of all.
package struct RankReport: Equatable, Sendable {
  package let host: String
  /// The processors that the rank may use, as in `0-3,8`; all where the system does not say.
  package let allowed: String
  /// How many those are.
  package let processors: Int
  /// Processors of the host.
  package let online: Int
  /// What results depend on: instruction set, bf16 products, BLAS core.
  package let arithmetic: String

  package init(host: String, allowed: String, processors: Int, online: Int, arithmetic: String) {
    (self.host, self.allowed, self.processors) = (host, allowed, processors)
    (self.online, self.arithmetic) = (online, arithmetic)
  }

  /// This rank's.
  package init(processors: Int, arithmetic: String) {
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") }
    let allowed = line?.split(whereSeparator: \.isWhitespace).last.map(String.init) ?? "all"
    self.init(
      host: Self.hostName, allowed: allowed, processors: processors, online: ProcessInfo.processInfo.processorCount,
      arithmetic: arithmetic)
  }

  private static var hostName: String {
    var name = [CChar](repeating: 0, count: 256)
    guard unsafe gethostname(&name, name.count - 1) == 0 else { return "unknown" }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Whether one processor is all that it may use; a quota of several is no binding.
  fileprivate var isBoundToOne: Bool { allowed != "all" && Int(allowed) != nil }

  private static let separator: Character = "\u{1}"

  private var text: String {
    [host, allowed, "\(processors)", "\(online)", arithmetic].joined(separator: String(Self.separator))
  }

  private init?(_ text: String) {
    let words = text.split(separator: Self.separator, omittingEmptySubsequences: false).map(String.init)
    guard words.count == 5, let processors = Int(words[2]), let online = Int(words[3]) else { return nil }
    self.init(host: words[0], allowed: words[1], processors: processors, online: online, arithmetic: words[4])
  }

  /// Every rank's, in their order.
  package func gathered(_ group: any Communicator) throws(DiTError) -> [RankReport] {
    try group.gather(text).map {
      RankReport($0) ?? RankReport(host: "unknown", allowed: "all", processors: 1, online: 1, arithmetic: "unknown")
    }
  }
}

extension [RankReport] {
  /// How many threads a rank should have: its processors, shared with the ranks of its host that may use the same.
  package func threads(of rank: Int) -> Int {
    let own = self[rank]
    let sharers = count { $0.host == own.host && $0.allowed == own.allowed }
    return Swift.max(1, own.processors / sharers)
  }

  /// What is amiss with how ranks are bound to processors, one line with the flags that mend it; nil where nothing is.
  package var bindingProblem: String? {
    for (rank, own) in enumerated() where own.isBoundToOne && own.online > 1 {
      let onHost = filter { $0.host == own.host }
      guard onHost.count < own.online else { continue }
      let each = own.online / onHost.count
      return
        "rank \(rank) is bound to processor \(own.allowed) alone, of \(own.online) of \(own.host) with \(onHost.count) "
        + "ranks: mpirun --bind-to none (Open MPI) or --map-by ppr:\(onHost.count):node:PE=\(each), "
        + "srun --cpus-per-task=\(each) --cpu-bind=cores gives each its \(each)"
    }
    return nil
  }

  /// In what ranks differ that changes results, one line; nil where in nothing.
  package var difference: String? {
    guard let first, let other = firstIndex(where: { $0.arithmetic != first.arithmetic }) else { return nil }
    return "rank 0 (\(first.host)) computes with \(first.arithmetic), rank \(other) (\(self[other].host)) with "
      + self[other].arithmetic
  }
}
