import DiTEngine

/// What a forward pass costs as images grow.
enum TokenCounts: Section {
  static let name = "tokens"
  static let note = "Steady forward, batch 1. The last column is time a multiply-add over that at 256 tokens."

  static func run(_ session: Session) throws {
    let inputSizes = session.isQuick ? [32, 48, 64] : [32, 48, 64, 96, 128]  // 256 … 4096 tokens
    for size in session.isQuick ? ["S"] : ["S", "XL"] {
      let works = Variant.timed.flatMap { variant in inputSizes.map { (Model(size, inputSize: $0), variant) } }
      let wanted = session.wanted(works, name: name)
      guard !wanted.isEmpty else { continue }
      let weights = Weights.drawn(Model(size).configuration)
      var first: [String: Double] = [:]  // at 256 tokens, by variant
      for (model, variant) in wanted {
        let c = model.configuration
        let fitted = weights.fitted(to: c)
        try session.verify(model.name, c, fitted, variant)
        let work = ForwardWork(
          try makeNetwork(c, weights: fitted, context: session.context, variant), Inputs(c, samples: 1), mode: .steady)
        let time = Measurement(work.run)
        let cost = time.median / Double(c.multiplyAdds)
        if c.tokens == 256 { first[variant.name] = cost }
        try session.add(name(model, variant), Field.time(time) + fields(work, cost, relativeTo: first[variant.name]))
      }
    }
  }

  private static func fields(_ work: ForwardWork, _ cost: Double, relativeTo first: Double?) -> [Field] {
    [
      Field("GMAC", "gmac", work.operations / 2 * 1e-9),
      Field.bytes("workspace", "workspace", work.workspaceBytes),
      first.map { Field("time/MAC", "relative_cost", cost / $0) } ?? Field("time/MAC", "", [:]),
    ]
  }

  private static func name(_ model: Model, _ variant: Variant) -> String {
    "\(model.name), \(model.configuration.tokens) tokens, \(variant.name)"
  }
}
