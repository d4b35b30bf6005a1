import DiTEngine

/// The same work with more and more threads.
enum ThreadScaling: Section {
  static let name = "threads"
  static let note = "A context for each number of threads; the peak is that of as many threads at once."

  private enum Kind {
    case forward, training
  }

  static func run(_ session: Session) throws {
    let kinds: [(Model, Kind)] = [(Model("S"), .forward), (Model("B"), .forward), (Model("S"), .training)]
    for (model, kind) in kinds.prefix(session.isQuick ? 1 : 3) {
      for variant in Variant.timed {
        let title = "\(kind == .forward ? "forward" : "training step") \(model.name)"
        let batch = kind == .forward ? 1 : 8
        func name(_ threads: Int) -> String { "\(title), batch \(batch), \(variant.name), threads \(threads)" }
        let counts = session.wanted(counts(upTo: session.context.threads), name: name)
        guard !counts.isEmpty else { continue }
        let weights = Weights.drawn(model.configuration)
        try session.verify(model.name, model.configuration, weights, variant)
        var first: Double?
        for threads in counts {
          let inputs = Inputs(model.configuration, samples: batch)
          let (time, operations) = try measure(
            kind, model.configuration, weights, inputs, variant, ComputeContext(threads: threads))
          if threads == 1 { first = time.median }
          let peak = Peaks.measured(threads: threads).peak(variant.precision)
          try session.add(
            name(threads),
            Field.time(time) + Field.rate(operations, time, peak: peak)
              + [first.map { Field("speed-up", "speed_up", $0 / time.median) } ?? Field("speed-up", "", [:])])
        }
      }
    }
  }

  private static func measure(
    _ kind: Kind, _ configuration: DiTConfiguration, _ weights: Weights, _ inputs: Inputs, _ variant: Variant,
    _ context: ComputeContext
  ) throws -> (time: Measurement, operations: Double) {
    switch kind {
    case .forward:
      let network = try makeNetwork(configuration, weights: weights, context: context, variant)
      let work = ForwardWork(network, inputs, mode: .steady)
      return (Measurement(work.run), work.operations)
    case .training:
      let work = try TrainingWork(
        configuration, start: weights, inputs, context: context,
        TrainingWork.Options(variant: variant, averages: true))
      return (Measurement(budget: 10, work.run), work.operations)
    }
  }

  /// 1, 2, 3 … 8, then doublings, and the last.
  private static func counts(upTo last: Int) -> [Int] {
    let doublings = sequence(first: 16) { 2 * $0 }.prefix { $0 < last }
    return Array(1...min(last, 8)) + doublings + (last > 8 ? [last] : [])
  }
}
