import ArgumentParser
import DiTDistributed
import DiTEngine
import Foundation
import Synchronization

/// What `--distributed` takes.
enum DistributedKind: String, ExpressibleByArgument, CaseIterable {
  case mpi
}

/// `--distributed`.
struct DistributedOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      mpi: this process is one of those that mpirun or srun started, which share the work. One on each machine or socket; \
      see `dit mpi-info`. (default: this process works alone)
      """, valueName: "mpi"))
  var distributed: DistributedKind?

  @Flag(
    name: .customLong("mixed-cpus"),
    help: """
      Let ranks differ in instruction set or BLAS core, which changes the last bits of what they compute.
      """)
  var mixedCPUs = false

  /// The ranks, and where this one computes.
  ///
  /// - Parameter threads: `--threads`.
  func start(threads: ThreadsOption) throws -> (group: any Communicator, context: ComputeContext) {
    guard distributed != nil else {
      if mixedCPUs { throw Failure.usage("--mixed-cpus", expected: "--distributed beside it", found: "none") }
      return (SingleProcess(), try threads.context())
    }
    let ranks = try Ranks.start()
    let reports = try ranks.reports()
    if let problem = reports.bindingProblem, ranks.group.isFirst { Warnings.add(notes: [problem]) }
    if let difference = reports.difference, !mixedCPUs {
      throw DiTError(
        .option, DiTError.Subject(.option("mixed-cpus")),
        problem: "expected ranks that compute alike, so that results do not depend on which does what, or this option; "
          + difference)
    }
    let count = threads.threads ?? ComputeContext.environmentThreads ?? reports.threads(of: ranks.group.rank)
    return (ranks.group, try ComputeContext(threads: count))
  }
}

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
      "\(context.instructionSet.rawValue), bf16 \(context.hasNativeBF16 ? "of the CPU" : "in fp32"), BLAS core \(blas.core)"
    return try RankReport(processors: ComputeContext.availableProcessors, arithmetic: arithmetic).gathered(group)
  }

  /// Whether this process speaks for the run.
  static var isFirst: Bool { current.withLock { $0 }?.group.isFirst ?? true }

  /// Waits for the end that the rank which has failed puts to all, after its message; not for ever.
  static func awaitEnd() { Thread.sleep(forTimeInterval: 10) }

  /// Ends MPI where it was started: all ranks have come to their end.
  static func finish() { current.withLock { $0 }?.group.finish() }

  /// Ends all ranks where MPI was started with others, after this one's message.
  static func abort(status: Int32) {
    guard let group = current.withLock({ $0 })?.group, group.size > 1 else { return }
    group.abort(status: status)
  }
}
