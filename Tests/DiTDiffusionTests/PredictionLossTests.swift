// The loss of every prediction against the long way in torch.

import DiTDiffusion
import TestSupport
import Testing

@Suite("The training loss of every prediction against PyTorch") struct PredictionLossTests {
  static let shape = BatchShape(samples: 5, channels: 2, height: 4, width: 6)
  static let cases = [
    "epsilon:linear:learned_range:uniform", "mean:linear:learned_range:uniform", "x0:linear:learned_range:uniform",
    "v:linear:learned_range:uniform", "epsilon:cosine:fixed_large:min_snr", "mean:cosine:fixed_large:min_snr",
    "x0:cosine:fixed_large:min_snr", "v:cosine:fixed_large:min_snr", "v:linear:learned_range:min_snr",
    "mean:cosine:learned_range:uniform", "flow:linear:fixed_large:uniform", "flow:linear:fixed_small:min_snr",
  ]

  /// A case of the fixture.
  private struct Case {
    let loss: TrainingLoss
    let clean, noise: [Float]
    var output: [Float]
    let levels: [NoiseLevel]

    init(_ name: String, _ fixture: Fixture) throws {
      let words = name.split(separator: ":").map { String($0) }
      let (prediction, variance) = try (
        #require(Prediction(rawValue: words[0])), #require(Variance(rawValue: words[2]))
      )
      let schedule = try noiseSchedule(#require(BetaSchedule(rawValue: words[1])), variance, prediction: prediction)
      loss = TrainingLoss(schedule, weighting: words[3] == "min_snr" ? .minSNR(gamma: 5) : .uniform)
      clean = try fixture.floats("loss.clean")
      noise = try fixture.floats("loss.noise")
      let values = try fixture.floats("\(name).output")
      let interpolation = try fixture.floats("loss.interpolation")
      let size = PredictionLossTests.shape.elementsPerSample
      output = values
      if variance == .learnedRange {
        output = []
        for n in 0..<5 {
          let range = n * size..<(n + 1) * size
          output += values[range]
          output += interpolation[range]
        }
      }
      levels = try fixture.floats(prediction == .flow ? "loss.times" : "loss.timesteps").map {
        schedule.process.level(atNetworkTime: $0)
      }
    }

    func evaluate() -> (losses: [SampleLoss], gradient: [Float], patches: [Float]) {
      let shape = PredictionLossTests.shape
      var losses = [SampleLoss](repeating: .zero, count: 5)
      var gradient = [Float](repeating: .nan, count: output.count)
      var patches = [Float](repeating: .nan, count: 5 * 6)
      var lossSpan = losses.mutableSpan
      var gradientSpan = gradient.mutableSpan
      loss.evaluate(
        output: output.span, clean: clean.span, noise: noise.span, levels: levels, shape: shape, losses: &lossSpan,
        gradient: &gradientSpan)
      var patchSpan = patches.mutableSpan
      loss.patchErrors(
        output: output.span, clean: clean.span, noise: noise.span, levels: levels, shape: shape, patchSize: 2,
        means: &patchSpan)
      return (losses, gradient, patches)
    }
  }

  @Test("MSE, weighted loss, variational bound, gradient and patch map are PyTorch's", arguments: cases)
  func termsAreTheOracles(_ name: String) throws {
    let fixture = try Fixture("predictions")
    let (losses, gradient, patches) = try Case(name, fixture).evaluate()
    for (key, values) in [
      ("mse", losses.map(\.mse)), ("loss", losses.map(\.loss)), ("vb", losses.compactMap(\.vb)),
    ] where !values.isEmpty {
      let error = elementwiseError(values, try fixture.values("\(name).\(key)"))
      #expect(error < 1e-8, "\(name) \(key): relative error \(error)")
    }
    #expect((losses[0].vb != nil) == name.contains("learned_range"))
    let expected = try fixture.values("\(name).gradient")
    let size = Self.shape.elementsPerSample
    let errors = stride(from: 0, to: expected.count, by: size).map {
      relativeError(gradient.doubles[$0..<$0 + size], expected[$0..<$0 + size])
    }
    #expect(gradient.count == expected.count && errors.allSatisfy { $0 < 1e-6 }, "\(name): gradient \(errors)")
    let map = relativeError(patches.doubles, try fixture.values("\(name).patches"))
    #expect(map < 2e-7, "\(name): patch map \(map)")
  }

  /// Outputs of one function in each prediction: `mean` costs what ε does.
  @Test("Predicting the mean costs what predicting the noise costs for the same function")
  func theMeansLossIsEpsilons() throws {
    var losses: [Prediction: [Double]] = [:]
    for prediction in [Prediction.epsilon, .mean] {
      let schedule = try noiseSchedule(.linear, .fixedSmall, prediction: prediction)
      var random = Random(seed: 5)
      let shape = BatchShape(samples: 4, channels: 1, height: 3, width: 5)
      let (clean, noise, guess) = (random.normals(15 * 4), random.normals(15 * 4), random.normals(15 * 4))
      let levels = [0, 3, 300, 999].map { schedule.level(at: $0) }
      var output = guess
      if prediction == .mean {
        let tables = schedule.tables
        for i in guess.indices {
          let (level, t) = (levels[i / 15], levels[i / 15].time.index)
          let x = level.signal * Double(clean[i]) + level.spread * Double(noise[i])
          let estimate = (x - level.spread * Double(guess[i])) / level.signal
          output[i] = Float(
            tables.posteriorCleanCoefficient[t] * estimate + tables.posteriorNoisedCoefficient[t] * x)
        }
      }
      var values = [SampleLoss](repeating: .zero, count: 4)
      var span = values.mutableSpan
      TrainingLoss(schedule).evaluate(
        output: output.span, clean: clean.span, noise: noise.span, levels: levels, shape: shape, losses: &span)
      losses[prediction] = values.map(\.loss)
    }
    let error = elementwiseError(losses[.mean] ?? [], losses[.epsilon] ?? [])
    #expect(error < 1e-4, "relative error \(error)")  // the mean is rounded to Float and divided by b
  }

  /// Min-SNR weighs the same error of x̂_* the same in every prediction, and γ matters.
  @Test("Min-SNR weights the error of the clean image alike in every prediction")
  func minSNRWeighsTheCleanImage() throws {
    func weight(_ prediction: Prediction, _ level: NoiseLevel) throws -> Double {
      LossWeighting.minSNR(gamma: 5).weight(try noiseSchedule(prediction: prediction).process, at: level)
    }
    for t in [0, 50, 400, 999] {
      let level = try noiseSchedule().level(at: t)
      let ratio = level.signal * level.signal / (level.spread * level.spread)
      let clean = try weight(.x0, level)
      #expect(clean == min(ratio, 5))
      // An error e of ε̂ is one of e/√SNR in x̂_*; one of v is e σ.
      let epsilon = try weight(.epsilon, level)
      #expect(abs(epsilon * ratio / clean - 1) < 1e-12)
      let v = try weight(.v, level)
      #expect(abs(v / (level.spread * level.spread) / clean - 1) < 1e-12)
      #expect(try LossWeighting.uniform.weight(noiseSchedule(prediction: .x0).process, at: level) == 1)
    }
    let low = try noiseSchedule().level(at: 5)
    #expect(try LossWeighting.minSNR(gamma: 1).weight(noiseSchedule(prediction: .x0).process, at: low) == 1)
    let flow = try noiseSchedule(.linear, .fixedSmall, prediction: .flow).process
    let weights = [0, 0.5, 1].map { LossWeighting.minSNR(gamma: 5).weight(flow, at: flow.level(s: $0)) }
    #expect(weights == [0, 0.25, 0])
  }
}
