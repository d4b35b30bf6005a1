import ArgumentParser
import DiTEngine

/// `dit-bench`: times the engine on this machine, alone or as a worker beside other engines.
@main
struct DitBench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dit-bench",
    abstract: "Time the engine on this machine.",
    subcommands: [RunCommand.self, ServeCommand.self, DataCommand.self, AutoencoderCommand.self],
    defaultSubcommand: RunCommand.self)

  static func main() {
    BLASReport.restartIfNarrowed()
    main(nil)
  }
}

/// What every subcommand needs.
struct ContextOptions: ParsableArguments {
  @Option(help: "Worker threads; all processors when left out.")
  var threads: Int?

  /// - Throws: `ValidationError` in a debug build, which says nothing about speed; `DiTError`.
  func makeContext() throws -> ComputeContext {
    #if DEBUG
      throw ValidationError("a debug build says nothing about speed; use swift run -c release dit-bench")
    #else
      return try ComputeContext(threads: threads)
    #endif
  }
}

/// Why something cannot be timed.
struct BenchError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}
