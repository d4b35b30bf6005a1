// What outputs mean: the conversions against their definitions, and every sampler with every prediction against diffusers.

import DiTDiffusion
import Foundation
import TestSupport
import Testing

/// The exact answer for Gaussian data N(mean, deviation²), in a prediction's own terms, plus a ripple.
struct GaussianNetwork {
  let schedule: NoiseSchedule
  var mean = 0.3
  var deviation = 0.5
  var ripple = 0.1

  func output(_ x: Double, _ level: NoiseLevel) -> Double {
    let (signal, spread) = (level.signal, level.spread)
    let variance = signal * signal * deviation * deviation + spread * spread
    let epsilon = spread * (x - signal * mean) / variance
    let clean = mean + signal * deviation * deviation * (x - signal * mean) / variance
    let exact: Double
    switch schedule.configuration.prediction {
    case .epsilon: exact = epsilon
    case .x0: exact = clean
    case .v: exact = signal * epsilon - spread * clean
    case .velocity, .flow:
      let process = schedule.process
      exact = (process.linearTime == .oneMinusS ? -1 : 1) * (process.noiseScale * epsilon - clean)
    case .mean:
      let (t, tables) = (level.time.index, schedule.tables)
      exact = tables.posteriorCleanCoefficient[t] * clean + tables.posteriorNoisedCoefficient[t] * x
    }
    return exact + ripple * sin(x + Double(level.time.value) / 100)
  }

  /// Fills (N, C', H, W) for x (N, C, H, W); a variance half is 0.
  func predict(_ x: Span<Float>, _ time: NetworkTime, _ shape: BatchShape, _ output: inout MutableSpan<Float>) {
    let level = schedule.process.level(atNetworkTime: time.value)
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    for i in 0..<shape.count { output[i / size * stride + i % size] = Float(self.output(Double(x[i]), level)) }
  }

  /// Runs a process on x; returns x after every step, one after the other.
  func run(
    _ process: some ReverseProcess, _ x: inout [Float], shape: BatchShape, noise: [Float] = []
  ) -> [Double] {
    var states: [Double] = []
    var span = x.mutableSpan
    process.sample(
      &span, shape: shape, predict: { x, step, output in predict(x, step.time, shape, &output) },
      noise: { step, normal in
        for i in normal.indices { normal[i] = noise[(step.number - 1) * shape.count + i] }
      },
      progress: { _, x in
        for i in x.indices { states.append(Double(x[i])) }
        return true
      })
    return states
  }
}

@Suite("What the network predicts: conversions, and every sampler against diffusers") struct PredictionTests {
  static let chains: [Prediction] = [.epsilon, .mean, .x0, .v]

  /// From x_*, ε to x_t and the right output and back, at every t; what no prediction changes is the true μ̃.
  @Test(
    "Converting any prediction at any t finds the clean image, the noise and the posterior mean",
    arguments: chains, BetaSchedule.allCases)
  func conversionsFindTheTruth(_ prediction: Prediction, _ name: BetaSchedule) throws {
    let schedule = try noiseSchedule(name, prediction: prediction)
    let coefficients = PredictionCoefficients(schedule)
    let (clean, epsilon) = (0.8, -1.3)
    var worst = (clean: 0.0, epsilon: 0.0, mean: 0.0)
    for t in 0..<1000 {
      let (signal, spread) = (schedule.alphasCumprod[t].squareRoot(), (1 - schedule.alphasCumprod[t]).squareRoot())
      let x = signal * clean + spread * epsilon
      let mean =
        schedule.tables.posteriorCleanCoefficient[t] * clean + schedule.tables.posteriorNoisedCoefficient[t] * x
      let output = [
        Prediction.epsilon: epsilon, .mean: mean, .x0: clean, .v: signal * epsilon - spread * clean,
      ][prediction]!
      func error(_ affine: (noised: Double, output: Double), _ truth: Double) -> Double {
        abs(affine.noised * x + affine.output * output - truth)
      }
      worst.clean = max(worst.clean, error(coefficients.clean(at: t), clean))
      worst.epsilon = max(worst.epsilon, error(coefficients.epsilon(at: t), epsilon))
      worst.mean = max(worst.mean, error(coefficients.mean(at: t), mean))
    }
    // The two ways to write μ̃ differ by 1e-13 or so; 1/b is up to 2e2.
    #expect(worst.clean < 1e-11 && worst.epsilon < 1e-9 && worst.mean < 1e-12, "\(prediction), \(name): \(worst)")
  }

  /// ᾱ next to 0 and to 1.
  @Test("Conversions stay finite where the cumulative alpha is next to 0 or 1", arguments: chains)
  func conversionsStayFinite(_ prediction: Prediction) throws {
    let schedule = try NoiseSchedule(
      DiffusionConfiguration(steps: 1000, betaStart: 1e-12, betaEnd: 0.85, prediction: prediction))
    let coefficients = PredictionCoefficients(schedule)
    #expect(schedule.alphasCumprod[999] < 1e-200)
    for t in [0, 1, 500, 999] {
      for (noised, output) in [coefficients.clean(at: t), coefficients.epsilon(at: t), coefficients.mean(at: t)] {
        #expect(noised.isFinite && output.isFinite, "t = \(t)")
      }
    }
  }

  static let shape = BatchShape(samples: 2, channels: 2, height: 2, width: 3)

  /// Every step of every case. Inputs are equal; x, outputs and history are rounded to Float.
  @Test("Every step of DDPM, DDIM, DPM-Solver++ and UniPC is diffusers' for every prediction")
  func trajectoriesAreDiffusers() throws {
    let fixture = try Fixture("predictions")
    let names = fixture.names.filter { name in
      ["dpmpp:", "unipc:", "ddim:", "ddpm:"].contains { name.hasPrefix($0) } && !name.hasSuffix(".timesteps")
    }
    #expect(names.count == 30)
    let noise = try fixture.floats("noise")
    for name in names {
      let words = name.split(separator: ":").map { String($0) }
      let prediction = try #require(Prediction(rawValue: words[2]))
      let variance = words.count > 4 ? Variance(rawValue: words[4]) : nil
      let schedule = try noiseSchedule(
        #require(BetaSchedule(rawValue: words[1])), variance ?? .learnedRange, prediction: prediction)
      let process = try #require(SamplerName(rawValue: words[0])).process(
        on: schedule, .custom(fixture.integers("\(name).timesteps")), count: nil,
        eta: words[0] == "ddim" ? Double(words[4]) : nil)
      var x = try fixture.floats("start")
      let found = GaussianNetwork(schedule: schedule).run(process, &x, shape: Self.shape, noise: noise)
      try expectEqual(found, fixture.values(name), name, tolerance: words[1] == "cosine" ? 3e-5 : 3e-6)
    }
  }

  @Test("Euler and Heun trajectories are diffusers'", arguments: [SamplerName.euler, .heun], [1, 2, 7])
  func flowsAreDiffusers(_ name: SamplerName, _ count: Int) throws {
    let fixture = try Fixture("predictions")
    let schedule = try noiseSchedule(.linear, .fixedSmall, prediction: .flow)
    let process = try name.process(on: schedule, .linspace, count: count)
    #expect(process.stepCount == count && process.evaluations.count == (name == .euler ? count : 2 * count - 1))
    var x = try fixture.floats("start")
    let found = GaussianNetwork(schedule: schedule).run(process, &x, shape: Self.shape)
    try expectEqual(found, fixture.values("\(name):\(count)"), "\(name):\(count)", tolerance: 1e-6)
  }

  /// Each state's error relative to the state.
  private func expectEqual(_ found: [Double], _ expected: [Double], _ name: String, tolerance: Double) throws {
    let size = Self.shape.count
    #expect(found.count == expected.count, "\(name): \(found.count) values of \(expected.count)")
    let errors = stride(from: 0, to: min(found.count, expected.count), by: size).map {
      relativeError(found[$0..<$0 + size], expected[$0..<$0 + size])
    }
    #expect(errors.allSatisfy { $0 < tolerance }, "\(name): relative errors \(errors)")
  }

  /// One function in four predictions is one trajectory: also for `mean`, which diffusers does not know.
  @Test(
    "One function expressed in the four predictions gives one trajectory",
    arguments: [SamplerName.ddpm, .ddim, .dpmpp, .unipc], Variance.allCases)
  func predictionsOfOneFunctionAgree(_ name: SamplerName, _ variance: Variance) throws {
    let ends = try Self.chains.map { prediction in
      let schedule = try noiseSchedule(.linear, variance, prediction: prediction)
      var random = Random(seed: 4)
      var x = random.normals(Self.shape.count)
      let noise = random.normals(12 * Self.shape.count)
      let process = try name.process(on: schedule, .linspace, count: 12)
      let states = GaussianNetwork(schedule: schedule, ripple: 0).run(process, &x, shape: Self.shape, noise: noise)
      #expect(states.count == 12 * Self.shape.count)
      return x
    }
    for (prediction, end) in zip(Self.chains, ends).dropFirst() {
      let error = relativeError(end.doubles, ends[0].doubles)
      // The output of `mean` is rounded to Float and divided by b, about 0.005.
      #expect(error < (prediction == .mean ? 5e-5 : 3e-6), "\(prediction): relative error \(error)")
    }
  }
}
