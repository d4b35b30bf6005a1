import DiTEngine

/// DiT-S/2 with the noise mask beside the published one: forward passes and training steps.
enum DiffusionAware: Section {
  static let name = "aware"
  static let note = """
    DiT-S/2, batch 1, fp32. Window `signal`, k = ⌈√ᾱ_t · L⌉: wide at low noise. The last column is the time over the \
    published network's of as many tokens.
    """

  static func run(_ session: Session) throws {
    for size in session.isQuick ? [32] : [32, 64, 128] {
      let published = Model("S", inputSize: size).configuration
      for isTraining in [false, true] {
        var first: Double?
        for work in works(published.tokens) where session.wants(name(published, isTraining, work)) {
          var c = published
          c.attention = work.attention
          let time = try measure(session, c, time: work.time, isTraining: isTraining)
          if work.attention.isStandard { first = time.median }
          let width = c.attention.hasGate ? width(c, work.time) : c.tokens
          try session.add(
            name(c, isTraining, work),
            Field.time(time) + [
              Field("k", "width", Double(width)),
              first.map { Field("to published", "relative_time", time.median / $0) } ?? Field("to published", "", [:]),
            ])
        }
      }
    }
  }

  private struct Work {
    let attention: AttentionConfiguration
    let time: Int
  }

  private static func works(_ tokens: Int) -> [Work] {
    [Work(attention: AttentionConfiguration(), time: 400)]
      + [AttentionConfiguration.Mask.soft, .hard].flatMap { mask in
        [50, 400, 700].map { Work(attention: AttentionConfiguration(mask: mask, window: .signal), time: $0) }
      }
  }

  private static func name(_ c: DiTConfiguration, _ isTraining: Bool, _ work: Work) -> String {
    let mask = work.attention.isStandard ? "published" : "\(work.attention.mask), t = \(work.time)"
    return "\(c.tokens) tokens, \(isTraining ? "training step" : "forward"), \(mask)"
  }

  private static func width(_ c: DiTConfiguration, _ time: Int) -> Int {
    let noise = try? NoiseSchedule(DiffusionConfiguration()).attention
    return c.attention.width(at: time, of: noise, rows: c.inputGrid.rows, columns: c.inputGrid.columns)
  }

  private static func measure(
    _ session: Session, _ c: DiTConfiguration, time: Int, isTraining: Bool
  ) throws -> Measurement {
    let weights = Weights.drawn(c)
    var inputs = Inputs(c, samples: 1)
    inputs.times = [Float(time)]
    if isTraining {
      let work = try TrainingWork(
        c, start: weights, inputs, context: session.context, TrainingWork.Options(recompute: c.tokens > 1024))
      return Measurement(work.run)
    }
    let network = try makeNetwork(c, weights: weights, context: session.context, Variant())
    return Measurement(ForwardWork(network, inputs, mode: .steady).run)
  }
}
