import ArgumentParser

/// `dit-bench run`: everything on this machine, without peers.
struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Time products, kernels, forwards, training steps and sampling; a Markdown report on stdout.",
    discussion: """
      Each number is the median of 3 to 15 calls with their spread. Networks are
      verified before they are timed. A full run goes up to DiT-XL/2 over 4096
      tokens, which takes a while and several gigabytes of memory.
      """)

  static var sections: [any Section.Type] {
    [
      Products.self, Kernels.self, AttentionWindows.self, DiffusionAware.self, Forwards.self, TrainingSteps.self,
      SamplingRuns.self, Requests.self, TokenCounts.self, ThreadScaling.self, MemoryUses.self,
    ]
  }

  @OptionGroup var options: ContextOptions

  @Option(help: ArgumentHelp("Also write the results to a JSON file.", valueName: "file"))
  var json: String?

  @Option(
    help: ArgumentHelp(
      "Time only works whose \"section: work\" contains this regular expression.", valueName: "pattern"))
  var only: String?

  @Flag(help: "Only small works: forwards of S/2 and B/2 at batch 1, and the like.")
  var quick = false

  func run() throws {
    let pattern = try only.map { text in
      guard let pattern = try? Regex(text) else {
        throw ValidationError("--only: expected a regular expression, found '\(text)'")
      }
      return pattern
    }
    try Session(options.makeContext(), only: pattern, isQuick: quick, path: json).run(Self.sections)
  }
}
