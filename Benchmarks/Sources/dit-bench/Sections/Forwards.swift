import DiTEngine

/// The network once.
enum Forwards: Section {
  static let name = "forwards"
  static let note = """
    `single` computes the modulation in the call; `steady` finds it there, as a step of sampling does. Two operations a \
    multiply-add, counted as papers do.
    """

  static func run(_ session: Session) throws {
    for model in models(session) {
      let batches = session.isQuick || model.resolution > 256 ? [1] : [1, 2, 8]
      let works = batches.flatMap { batch in
        Variant.timed.flatMap { variant in ForwardWork.Mode.allCases.map { (batch, variant, $0) } }
      }
      let wanted = session.wanted(works) { name(model, $0.0, $0.1, $0.2) }
      guard !wanted.isEmpty else { continue }
      let weights = Weights.drawn(model.configuration)
      for (batch, variant, mode) in wanted {
        try session.verify(model.name, model.configuration, weights, variant)
        let network = try makeNetwork(model.configuration, weights: weights, context: session.context, variant)
        let work = ForwardWork(network, Inputs(model.configuration, samples: batch), mode: mode)
        let time = Measurement(work.run)
        try session.add(
          name(model, batch, variant, mode),
          Field.time(time) + Field.rate(work.operations, time, peak: session.peaks.peak(variant.precision)))
      }
    }
  }

  private static func models(_ session: Session) -> [Model] {
    let small = [Model("S"), Model("B")]
    return session.isQuick ? small : small + [Model("L"), Model("XL"), Model("XL", inputSize: 64)]
  }

  private static func name(_ model: Model, _ batch: Int, _ variant: Variant, _ mode: ForwardWork.Mode) -> String {
    "\(model.name) at \(model.resolution)², batch \(batch), \(mode.rawValue), \(variant.name)"
  }
}
