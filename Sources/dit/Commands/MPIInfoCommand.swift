import ArgumentParser
import DiTDistributed
import DiTEngine

/// `dit mpi-info`.
struct MPIInfoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mpi-info",
    abstract: "Show the MPI library that is found, and what each rank runs on.",
    discussion: """
      By itself it shows the library; under a launcher every rank:

        dit mpi-info
        mpirun -np 2 --bind-to none dit mpi-info

      The library is found at run time: \(MPILibrary.variable) names one, else those of the
      launcher's kind are tried first. See
      Sources/DiffusionTransformers/DiffusionTransformers.docc/Cluster.md.
      """)

  func run() throws {
    let ranks = try Ranks.start()
    let reports = try ranks.reports()
    let threads = try ranks.group.gather([
      Double(ComputeContext.environmentThreads ?? reports.threads(of: ranks.group.rank))
    ]).map { Int($0[0]) }
    guard ranks.group.isFirst else { return Ranks.finish() }
    let library = ranks.group.library
    var lines = [
      "library       \(library.path)", "version       \(library.version)", "ABI           \(library.abi.rawValue)",
      "threads       \(ranks.group.threads.words)",
      "ranks         \(ranks.group.size)",
    ]
    for (rank, report) in reports.enumerated() {
      lines.append(
        "rank \(rank)\(String(repeating: " ", count: max(1, 9 - "\(rank)".count)))\(report.host), processors \(report.allowed) "
          + "(\(report.processors) of \(report.online)), \(threads[rank]) threads, \(report.arithmetic)")
    }
    if let problem = reports.bindingProblem { lines.append("note          \(problem)") }
    if let difference = reports.difference { lines.append("note          \(difference)") }
    try StandardOutput.write(lines.joined(separator: "\n"))
    Ranks.finish()
  }
}

extension MPICommunicator.Threads {
  fileprivate var words: String {
    switch self {
    case .one: "the one that started MPI may call it"
    case .serialized: "any may call, one at a time"
    case .several: "several may call at once"
    }
  }
}
