import DiTEngine

/// Whole sampling runs.
enum SamplingRuns: Section {
  static let name = "sampling"
  static let note =
    "DDIM from noise to latents with guidance 4: each step evaluates every image with and without its label."

  static func run(_ session: Session) throws {
    let (model, steps) = (Model("S"), 20)
    let images = session.isQuick ? 2 : 8
    func name(_ variant: Variant) -> String { "\(model.name), \(images) images, \(steps) steps, \(variant.name)" }
    for variant in session.wanted(Variant.timed, name: name) {
      let weights = Weights.drawn(model.configuration)
      try session.verify(model.name, model.configuration, weights, variant)
      let dit = try makeModel(model.configuration, weights: weights, context: session.context, variant)
      func work(steps: Int) -> SamplingWork {
        SamplingWork(dit, labels: Array(0..<images), steps: steps, guidance: 4)
      }
      try work(steps: 1).run()  // warms up
      let timed = work(steps: steps)
      let time = Measurement(try (0..<3).map { _ in try seconds(timed.run) })
      try session.add(
        name(variant), Field.time(time) + [Field("s/image", "seconds_per_image", time.median / Double(images))])
    }
  }
}
