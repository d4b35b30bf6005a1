import ArgumentParser
import DiTDistributed
import DiTEngine

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

  /// The ranks, where this one computes, and what the first is to note.
  ///
  /// - Parameter threads: `--threads`.
  func start(
    threads: ThreadsOption
  ) throws -> (group: any Communicator, context: ComputeContext, notes: [String]) {
    guard distributed != nil else {
      if mixedCPUs { throw Failure.usage("--mixed-cpus", expected: "--distributed beside it", found: "none") }
      return (SingleProcess(), try threads.context(), [])
    }
    let ranks = try Ranks.start()
    let reports = try ranks.reports()
    let notes = ranks.group.isFirst ? [reports.bindingProblem].compactMap(\.self) : []
    if let difference = reports.difference, !mixedCPUs {
      throw DiTError(
        .option, DiTError.Subject(.option("mixed-cpus")),
        problem: "expected ranks that compute alike, so that results do not depend on which does what, or this option; "
          + difference)
    }
    let count = threads.threads ?? ComputeContext.environmentThreads ?? reports.threads(of: ranks.group.rank)
    return (ranks.group, try ComputeContext(threads: count), notes)
  }
}
