import DiTDiffusion
import Foundation
import TestSupport
import Testing

/// One batch: the network's output and what it is compared with.
private struct Batch {
  let loss: TrainingLoss
  let shape: BatchShape
  var clean: [Float]
  let noise: [Float]
  var output: [Float]
  let timesteps: [Int]

  func losses() -> [SampleLoss] {
    var result = [SampleLoss](repeating: .zero, count: shape.samples)
    var losses = result.mutableSpan
    loss.evaluate(
      output: output.span, clean: clean.span, noise: noise.span, levels: timesteps.map(loss.schedule.level),
      shape: shape, losses: &losses)
    return result
  }

  func gradient(weight: Double = 1) -> (losses: [SampleLoss], gradient: [Float]) {
    var result = [SampleLoss](repeating: .zero, count: shape.samples)
    var values = [Float](repeating: .nan, count: output.count)
    var losses = result.mutableSpan
    var gradient = values.mutableSpan
    loss.evaluate(
      output: output.span, clean: clean.span, noise: noise.span, levels: timesteps.map(loss.schedule.level),
      shape: shape, losses: &losses,
      gradient: &gradient, weight: weight)
    return (result, values)
  }

  /// The published schedule on random data; x_* is 8-bit, as the term at t = 0 wants it.
  init(variance: Variance, timesteps: [Int], seed: UInt64) throws {
    var random = Random(seed: seed)
    shape = BatchShape(samples: timesteps.count, channels: 2, height: 3, width: 5)
    loss = TrainingLoss(try noiseSchedule(.linear, variance))
    clean = (0..<shape.count).map { _ in Float(Int.random(in: 0...255, using: &random)) / 127.5 - 1 }
    noise = random.normals(shape.count)
    output = random.normals(shape.outputCount(variance))
    self.timesteps = timesteps
    // ε̂ within 0.3 deviations of ε, so that no likelihood at t = 0 lies under its floor
    let stride = output.count / shape.samples
    for i in 0..<shape.count {
      let at = i / shape.elementsPerSample * stride + i % shape.elementsPerSample
      output[at] = noise[i] + 0.3 * output[at]
    }
  }

  init(_ fixture: Fixture, _ schedule: BetaSchedule, _ variance: Variance) throws {
    let name = "\(schedule.rawValue).\(variance.rawValue)"
    shape = BatchShape(samples: 6, channels: 3, height: 5, width: 7)
    loss = TrainingLoss(try noiseSchedule(schedule, variance))
    clean = try fixture.floats("\(name).clean")
    noise = try fixture.floats("\(name).noise")
    output = try fixture.floats("\(name).output")
    timesteps = try fixture.integers("\(name).timesteps")
  }
}

@Suite("The training loss: mean squared error and variational bound") struct TrainingLossTests {
  static let cases: [(BetaSchedule, Variance)] = [
    (.linear, .learnedRange), (.cosine, .learnedRange), (.linear, .fixedLarge),
  ]

  @Test("MSE, loss and variational bound are the reference's in Double", arguments: cases)
  func termsAreTheOracles(_ schedule: BetaSchedule, _ variance: Variance) throws {
    let fixture = try Fixture("loss")
    let name = "\(schedule.rawValue).\(variance.rawValue)"
    let found = try Batch(fixture, schedule, variance).losses()
    for (key, values) in [("mse", found.map(\.mse)), ("loss", found.map(\.loss)), ("vb", found.compactMap(\.vb))] {
      guard key != "vb" || variance == .learnedRange else {
        #expect(values.isEmpty)
        continue
      }
      let error = elementwiseError(values, try fixture.values("\(name).\(key)"))
      #expect(error < 1e-9, "\(name) \(key): relative error \(error)")
    }
  }

  /// ε and v channels of each sample apart: they differ by powers of ten. The result is Float, spacing 1.2e-7.
  @Test("The gradient is the reference's, for outputs and variances", arguments: cases)
  func gradientIsTheOracles(_ schedule: BetaSchedule, _ variance: Variance) throws {
    let fixture = try Fixture("loss")
    let batch = try Batch(fixture, schedule, variance)
    let found = batch.gradient().gradient.doubles
    let expected = try fixture.values("\(schedule.rawValue).\(variance.rawValue).gradient")
    let part = batch.shape.elementsPerSample
    let errors = stride(from: 0, to: expected.count, by: part).map {
      relativeError(found[$0..<$0 + part], expected[$0..<$0 + part])
    }
    #expect(errors.count == batch.shape.samples * variance.outputChannels(1))
    #expect(errors.allSatisfy { $0 < 2e-7 }, "\(schedule) \(variance): relative errors \(errors)")
    #expect(batch.gradient().losses == batch.losses())
  }

  /// Central differences of mean(mse) by ε̂ and of mean(vb) by v, each divided by the step that Float really took.
  @Test("The gradient is the slope by central differences")
  func gradientIsTheSlope() throws {
    let batch = try Batch(variance: .learnedRange, timesteps: [0, 1, 40, 300], seed: 7)
    let gradient = batch.gradient().gradient.doubles
    let size = batch.shape.elementsPerSample
    var slopes: [Double] = []
    for i in batch.output.indices {
      var (low, high) = (batch, batch)
      low.output[i] -= 0x1p-10
      high.output[i] += 0x1p-10
      let width = Double(high.output[i]) - Double(low.output[i])
      let ofEpsilon = i % (2 * size) < size
      let rise = zip(high.losses(), low.losses()).map { above, below in
        ofEpsilon ? above.mse - below.mse : (above.vb ?? 0) - (below.vb ?? 0)
      }
      slopes.append(rise.reduce(0, +) / Double(batch.shape.samples) / width)
    }
    for part in stride(from: 0, to: slopes.count, by: size) {
      let error = relativeError(gradient[part..<part + size], slopes[part..<part + size])
      #expect(error < 2e-6, "sample \(part / size / 2), \(part / size % 2 == 0 ? "ε" : "v"): relative error \(error)")
    }
  }

  /// The term at t = 0 where μ is x_* itself: an inner bin reaches as far to both sides, an edge bin to infinity.
  @Test("The discretized likelihood at t = 0 has its closed form, edge bins included")
  func likelihoodOfAKnownBin() throws {
    var batch = try Batch(variance: .learnedRange, timesteps: [0], seed: 3)
    batch.clean.replaceSubrange(0..<2, with: [-1, 1])
    // ε̂ = ε and v = 1: mean x_*, σ² = β_0 = 1e-4, edges at z = ±(1/255)/0.01.
    for i in 0..<batch.shape.count {
      batch.output[i] = batch.noise[i]
      batch.output[batch.shape.count + i] = 1
    }
    // 0.5(1 + tanh(√(2/π)(z + 0.044715 z³))) at z = 0.392157.
    let upper = 0.6525110309
    let mass = batch.clean.map { abs($0) > 0.999 ? upper : 2 * upper - 1 }
    let expected = mass.map { -log2($0) }.reduce(0, +) / Double(mass.count)
    let found = batch.losses()[0].vb ?? .nan
    #expect(abs(found - expected) < 1e-8, "\(found), expected \(expected)")
  }

  /// Where ε̂ = ε and σ² is the posterior's own (v = −1), nothing is left to learn.
  @Test("The true reverse process has loss and gradient zero")
  func theTrueReverseProcessCostsNothing() throws {
    var batch = try Batch(variance: .learnedRange, timesteps: [1, 50, 999], seed: 5)
    let size = batch.shape.elementsPerSample
    for i in 0..<batch.shape.count {
      let at = i / size * 2 * size + i % size
      batch.output[at] = batch.noise[i]
      batch.output[at + size] = -1
    }
    let (losses, gradient) = batch.gradient()
    #expect(losses.allSatisfy { $0.mse == 0 && abs($0.vb ?? 1) < 1e-15 }, "\(losses)")
    #expect(gradient.allSatisfy { abs($0) < 1e-15 })
  }

  @Test("The weight scales the gradient and not the losses")
  func weightScalesTheGradientOnly() throws {
    let batch = try Batch(variance: .learnedRange, timesteps: [0, 400], seed: 9)
    let (losses, whole) = batch.gradient()
    let (same, quarter) = batch.gradient(weight: 0.25)
    #expect(losses == same)
    #expect(whole.map { $0 / 4 } == quarter)
  }

  /// Outputs of a diverging network give finite gradients as long as they are finite themselves.
  @Test("Extreme variances give finite losses and gradients")
  func extremeVariancesStayFinite() throws {
    var batch = try Batch(variance: .learnedRange, timesteps: [0, 0], seed: 11)
    let size = batch.shape.elementsPerSample
    for i in 0..<size {
      batch.output[size + i] = i % 2 == 0 ? -2000 : 2000
    }
    let (losses, gradient) = batch.gradient()
    #expect(losses.allSatisfy { $0.loss.isFinite }, "\(losses)")
    #expect(gradient.allSatisfy { $0.isFinite })
  }
}
