// Every sampler with every prediction it takes, where the right end is known: for Gaussian data N(m, d²) the probability
// flow from x at noise level (signal a, spread σ) ends at m + d (x − a m)/√(a² d² + σ²).

import DiTDiffusion
import TestSupport
import Testing

@Suite("Every sampler with every prediction against the exact flow of Gaussian data") struct ConvergenceTests {
  static let shape = BatchShape(samples: 1, channels: 1, height: 5, width: 7)

  /// The largest error of the ends of S steps, relative to the largest end. Steps are dense at low noise, where λ moves
  /// fast: what samplers of order 2 need.
  private func error(_ name: SamplerName, _ prediction: Prediction, _ count: Int) throws -> Double {
    let schedule = try noiseSchedule(.linear, .fixedSmall, prediction: prediction)
    let process = try name.process(
      on: schedule, prediction == .flow || name == .pndm ? .linspace : .quadratic, count: count)
    var random = Random(seed: 21)
    var x = random.normals(Self.shape.count)
    let first = schedule.process.level(atNetworkTime: process.evaluations[0].value)
    let width = (first.signal * first.signal * 0.25 + first.spread * first.spread).squareRoot()
    let expected = x.map { 0.3 + 0.5 * (Double($0) - first.signal * 0.3) / width }
    _ = GaussianNetwork(schedule: schedule, ripple: 0).run(process, &x, shape: Self.shape)
    return relativeError(x.doubles, expected)
  }

  /// Errors fall like S^−order: from S to 2S by 2^order, more or less.
  @Test(
    "The error of the samples falls with the steps at each sampler's order",
    arguments: [
      (SamplerName.ddim, 1.0, [Prediction.epsilon, .mean, .x0, .v], 40), (.dpmpp, 2, [.epsilon, .mean, .x0, .v], 20),
      (.unipc, 2, [.epsilon, .mean, .x0, .v], 20), (.euler, 1, [.flow], 20), (.heun, 2, [.flow], 20),
      (.euler, 1, [.epsilon, .mean, .x0, .v], 40), (.heun, 2, [.epsilon, .mean, .x0, .v], 20),
      (.deis, 2, [.epsilon, .mean, .x0, .v], 20),
    ])
  func endsConverge(_ name: SamplerName, _ order: Double, _ predictions: [Prediction], _ count: Int) throws {
    for prediction in predictions {
      let errors = try [count, 2 * count, 4 * count].map { try error(name, prediction, $0) }
      #expect(errors[0] < 0.1 && errors[2] < errors[0] / (order == 1 ? 3 : 8), "\(name) \(prediction): \(errors)")
      #expect(errors[2] > 1e-6, "no discretized flow is that exact: \(errors)")
    }
  }

  /// Order 2 beats order 1.
  @Test("Second-order samplers are more exact than first-order ones at equal steps")
  func higherOrdersNeedFewerSteps() throws {
    let (ddim, dpmpp, unipc) = try (
      error(.ddim, .epsilon, 48), error(.dpmpp, .epsilon, 48), error(.unipc, .epsilon, 48)
    )
    #expect(dpmpp < ddim / 3 && unipc < ddim / 3, "ddim \(ddim), dpmpp \(dpmpp), unipc \(unipc)")
    // PNDM keeps even steps, and is better with them than DDIM with steps that suit it.
    for prediction in [Prediction.epsilon, .mean, .x0, .v] {
      let pndm = try error(.pndm, prediction, 48)
      #expect(pndm < ddim / 10, "pndm, \(prediction): \(pndm), ddim \(ddim)")
    }
    #expect(try error(.heun, .flow, 12) < error(.euler, .flow, 12) / 3)
  }

  /// DDPM with each prediction and variance reproduces the data's mean and deviation: 6,400 values, standard errors 0.006
  /// and 0.0045.
  @Test(
    "DDPM reproduces the data's mean and deviation for each prediction and variance",
    arguments: [Prediction.mean, .x0, .v], [Variance.fixedSmall, .fixedLarge, .learnedRange])
  func ancestralSamplingHitsTheDistribution(_ prediction: Prediction, _ variance: Variance) throws {
    try hitsTheDistribution(.ddpm, prediction, variance)
  }

  @Test("Euler ancestral reproduces the data's mean and deviation for each prediction")
  func eulerAncestralHitsTheDistribution() throws {
    for prediction in [Prediction.epsilon, .mean, .x0, .v] {
      try hitsTheDistribution(.eulerAncestral, prediction, .fixedSmall)
    }
  }

  private func hitsTheDistribution(_ name: SamplerName, _ prediction: Prediction, _ variance: Variance) throws {
    let schedule = try noiseSchedule(.linear, variance, prediction: prediction)
    let network = GaussianNetwork(schedule: schedule, ripple: 0)
    let process = try name.process(on: schedule, .linspace, count: 250)
    let shape = BatchShape(samples: 4, channels: 1, height: 40, width: 40)
    var random = Random(seed: 33)
    var x = random.normals(shape.count)
    var span = x.mutableSpan
    process.sample(
      &span, shape: shape, predict: { x, step, output in network.predict(x, step.time, shape, &output) },
      noise: { _, normal in
        for i in normal.indices { normal[i] = random.normal() }
      })
    let mean = x.doubles.reduce(0, +) / Double(x.count)
    let deviation = (x.doubles.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(x.count)).squareRoot()
    #expect(abs(mean - 0.3) < 0.02 && abs(deviation - 0.5) < 0.025, "mean \(mean), deviation \(deviation)")
  }

  /// There and back again, for every prediction: the same noise whatever is predicted, an error that falls with the steps.
  @Test(
    "Inversion and sampling return to the image for every prediction, the error falling with the steps",
    arguments: [Prediction.epsilon, .mean, .x0, .v, .flow])
  func inversionFindsItsNoise(_ prediction: Prediction) throws {
    let schedule = try noiseSchedule(.linear, .fixedSmall, prediction: prediction)
    let network = GaussianNetwork(schedule: schedule, ripple: 0)
    let name: SamplerName = prediction == .flow ? .euler : .ddim
    var random = Random(seed: 8)
    let clean = random.normals(Self.shape.count).map { 0.3 + 0.5 * $0 }
    let errors = try [25, 100, 400].map { count in
      var x = clean
      _ = network.run(try name.inversion(on: schedule, .linspace, count: count), &x, shape: Self.shape)
      // Data's deviation ½ has become 1, up to the discretization.
      let growth = relativeError(x.map { Double($0) }, clean.map { 2 * (Double($0) - 0.3) })
      #expect(growth < 0.6, "S = \(count): \(growth)")
      _ = network.run(try name.process(on: schedule, .linspace, count: count), &x, shape: Self.shape)
      return relativeError(x.doubles, clean.doubles)
    }
    #expect(errors[0] < 0.5 && errors[1] < errors[0] / 2.5 && errors[2] < errors[1] / 2.5, "\(errors)")
  }

  @Test("Inversion finds the same noise whatever the network predicts")
  func inversionDoesNotDependOnThePrediction() throws {
    var ends: [[Double]] = []
    for prediction in [Prediction.epsilon, .mean, .x0, .v] {
      let schedule = try noiseSchedule(prediction: prediction)
      var random = Random(seed: 9)
      var x = random.normals(Self.shape.count)
      let process = try SamplerName.ddim.inversion(on: schedule, .linspace, count: 20)
      _ = GaussianNetwork(schedule: schedule, ripple: 0).run(process, &x, shape: Self.shape)
      ends.append(x.doubles)
    }
    for end in ends.dropFirst() { #expect(relativeError(end, ends[0]) < 1e-5, "\(relativeError(end, ends[0]))") }
  }
}
