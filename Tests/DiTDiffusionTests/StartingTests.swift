import DiTDiffusion
import Testing

/// A sampler begun at any of its steps.
@Suite("Samplers begun on the way") struct StartingTests {
  private static let shape = BatchShape(samples: 2, channels: 2, height: 1, width: 5)
  private static let beta: [SamplerName] = [.ddim, .ddpm, .dpmpp, .unipc, .deis, .euler, .eulerAncestral, .heun, .pndm]
  private static let linear: [SamplerName] = [.euler, .heun, .meanflow, .sde]
  private static let steps = 7

  private func process(_ name: SamplerName, _ schedule: NoiseSchedule) throws -> any SamplingProcess {
    try name.process(on: schedule, .linspace, count: Self.steps)
  }

  private static func noise(_ evaluation: Int, _ values: inout MutableSpan<Float>) {
    for i in values.indices { values[i] = Float((i * 17 + 31 * evaluation) % 23 - 11) / 8 }
  }

  /// The sample of x by a network; `skipped` evaluations came before the first.
  private func run(
    _ process: any SamplingProcess, _ x: [Float], skipped: Int = 0, until: Int = .max,
    _ network: (Float, Float) -> Float
  ) -> [Float] {
    var x = x
    var span = x.mutableSpan
    process.sample(
      &span, shape: Self.shape,
      predict: { x, step, output in for i in x.indices { output[i] = network(x[i], step.time.value) } },
      noise: { step, noise in Self.noise(step.evaluation + skipped, &noise) },
      progress: { step, _ in step.number < until })
    return x
  }

  /// The network's x̂_* is the image whatever it sees, so that a sampler that takes its readings and weights for the right
  /// levels ends at the image, from each of its steps and with whatever orders.
  @Test("With a network that knows the image, every start ends at the image", arguments: [true, false])
  func everyStartEndsAtTheImage(isLinear: Bool) throws {
    let schedule =
      try isLinear ? linearSchedule(.x0, .s, noiseScale: 1.5) : noiseSchedule(.linear, .fixedSmall, prediction: .x0)
    var random = Random(seed: 4)
    let (image, noise) = (random.normals(Self.shape.count), random.normals(Self.shape.count))
    for name in isLinear ? Self.linear : Self.beta where name != .sde {  // which ends with noise of s = 0.04
      let whole = try process(name, schedule)
      for first in 0..<Self.steps {
        let rest = whole.starting(at: first)
        #expect(rest.stepCount == Self.steps - first && rest.stepTimes == Array(whole.stepTimes[first...]), "\(name)")
        let (signal, spread) = rest.level(beforeStep: 0)
        #expect((signal, spread) == whole.level(beforeStep: first))
        var at = -1
        let x = zip(image, noise).map { Float(signal * Double($0) + spread * Double($1)) }
        let found = run(rest, x) { _, _ in
          at += 1
          return image[at % image.count]
        }
        let error = zip(found, image).map { abs($0 - $1) }.max() ?? .infinity
        #expect(error < 2e-5, "\(name) from step \(first): \(error)")
      }
    }
  }

  /// What has no memory does not know that there were steps before.
  @Test("Samplers without memory take the rest of a whole run to the bit")
  func theRestIsTheWhole() throws {
    func network(_ x: Float, _ time: Float) -> Float { 0.5 * x - 0.1 * (time / 1000) }
    var random = Random(seed: 5)
    let start = random.normals(Self.shape.count)
    let runs: [(NoiseSchedule, [SamplerName])] = [
      (try noiseSchedule(.linear, .fixedSmall), [.ddim, .ddpm, .euler, .eulerAncestral, .heun]),
      (try linearSchedule(.velocity, .oneMinusS), Self.linear),
    ]
    for (schedule, names) in runs {
      for name in names {
        let whole = try process(name, schedule)
        let sample = run(whole, start, network)
        for first in 1..<Self.steps {
          let skipped = whole.evaluations.indices.filter { whole.step(ofEvaluation: $0) < first }.count
          let state = run(whole, start, until: first, network)
          #expect(run(whole.starting(at: first), state, skipped: skipped, network) == sample, "\(name) from \(first)")
        }
      }
    }
  }

  /// All of them are what they were; PNDM's Runge-Kutta steps too.
  @Test("A start at the first step changes nothing")
  func startingAtZero() throws {
    for name in Self.beta {
      let whole = try process(name, noiseSchedule(.linear, .fixedSmall))
      let (all, start) = (whole.starting(at: 0), [Float](repeating: 0.25, count: Self.shape.count))
      #expect(all.evaluations == whole.evaluations && all.memoryArrays == whole.memoryArrays)
      #expect(run(all, start) { x, _ in 0.5 * x } == run(whole, start) { x, _ in 0.5 * x }, "\(name)")
    }
  }

  /// Between the steps of a run x may be changed, and the change is what the next step sees.
  @Test("What is changed after a step is what the next step sees")
  func finishChangesWhatFollows() throws {
    let whole = try process(.ddim, noiseSchedule(.linear, .fixedSmall))
    var (x, seen) = ([Float](repeating: 1, count: Self.shape.count), [Float]())
    var span = x.mutableSpan
    whole.sample(
      &span, shape: Self.shape,
      predict: { x, _, output in
        seen.append(x[0])
        for i in x.indices { output[i] = 0 }
      }, noise: { _, _ in }, finish: { step, x in x[0] = Float(step.number) })
    #expect(seen == [1] + (1..<Self.steps).map { Float($0) } && x[0] == Float(Self.steps))
  }
}
