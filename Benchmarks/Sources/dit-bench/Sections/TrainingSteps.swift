import DiTEngine

/// Forward, backward, AdamW and the average.
enum TrainingSteps: Section {
  static let name = "training"
  static let note = "One step with AdamW and the moving average; six operations a multiply-add of the forward pass."

  static func run(_ session: Session) throws {
    let works = [(Model.digits, 128), (Model("S"), 8), (Model("S"), 32), (Model("B"), 8)].prefix(
      session.isQuick ? 2 : 4
    )
    .flatMap { model, batch in Variant.timed.map { (model, batch, $0) } }
    for (model, batch, variant) in session.wanted(works, name: name) {
      let weights = Weights.drawn(model.configuration)
      try session.verify(model.name, model.configuration, weights, variant)
      let work = try TrainingWork(
        model.configuration, start: weights, Inputs(model.configuration, samples: batch), context: session.context,
        TrainingWork.Options(variant: variant, averages: true))
      let time = Measurement(budget: 10, work.run)
      try session.add(
        name(model, batch, variant),
        Field.time(time) + Field.rate(work.operations, time, peak: session.peaks.peak(variant.precision))
          + [Field("images/s", "images_per_second", Double(batch) / time.median)])
    }
  }

  private static func name(_ model: Model, _ batch: Int, _ variant: Variant) -> String {
    "\(model.name), batch \(batch), \(variant.name)"
  }
}
