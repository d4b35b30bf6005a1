import DiTEngine

/// A table of the local benchmark.
protocol Section {
  static var name: String { get }
  /// One line below the title: what is counted, and how.
  static var note: String { get }
  /// Times every work that the session wants.
  static func run(_ session: Session) throws
}

/// A local run: where it runs, what is wanted of it, and where its results go.
final class Session {
  let context: ComputeContext
  let isQuick: Bool
  /// Measured at the start of the present section.
  private(set) var peaks: Peaks
  let report: Report
  private let pattern: Regex<AnyRegexOutput>?
  private var section: any Section.Type = Products.self
  private var verified: Set<String> = []

  /// - Parameters:
  ///   - pattern: works are timed whose "section: work" contains a match; nil is all.
  ///   - path: the JSON file; nil is none.
  init(_ context: ComputeContext, only pattern: Regex<AnyRegexOutput>?, isQuick: Bool, path: String?) throws {
    self.context = context
    self.pattern = pattern
    self.isQuick = isQuick
    peaks = .measured(threads: context.threads)
    report = try Report(Machine(context, peaks), path: path)
  }

  func run(_ sections: [any Section.Type]) throws {
    for section in sections {
      self.section = section
      peaks = .measured(threads: context.threads)
      try section.run(self)
    }
    report.finish()
  }

  /// Whether a work of the present section is to be timed.
  func wants(_ work: String) -> Bool {
    guard let pattern else { return true }
    return "\(section.name): \(work)".contains(pattern)
  }

  /// Those of `works` that are wanted, by name.
  func wanted<Work>(_ works: [Work], name: (Work) -> String) -> [Work] { works.filter { wants(name($0)) } }

  func add(_ work: String, _ fields: [Field]) throws { try report.add(section, work, fields) }

  /// Compares a network's passes once a session, before anything of it is timed.
  ///
  /// - Throws: ``BenchError`` when they disagree.
  func verify(_ name: String, _ configuration: DiTConfiguration, _ weights: Weights, _ variant: Variant) throws {
    let work = "\(name), \(configuration.tokens) tokens, \(variant.name)"
    guard verified.insert(work).inserted else { return }
    report.add(try Verification(work, configuration, weights: weights, context: context, variant))
  }
}
