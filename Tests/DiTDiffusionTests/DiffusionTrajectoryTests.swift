// Whole runs against Double oracles, and against what the mathematics says where it has a closed form.

import DiTDiffusion
import Foundation
import TestSupport
import Testing

/// ε̂ of Gaussian data N(mean, deviation²): exact without the ripple. v is an arbitrary smooth function.
private struct AnalyticNetwork {
  let schedule: NoiseSchedule
  var mean = 0.3
  var deviation = 0.5
  var ripple = 0.1

  /// Fills (N, C', H, W) for x (N, C, H, W).
  func predict(_ x: Span<Float>, _ t: Int, _ shape: BatchShape, _ output: inout MutableSpan<Float>) {
    let bar = schedule.alphasCumprod[t]
    let variance = bar * deviation * deviation + 1 - bar
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    for i in 0..<shape.count {
      let value = Double(x[i])
      let at = i / size * stride + i % size
      let exact = (1 - bar).squareRoot() * (value - bar.squareRoot() * mean) / variance
      output[at] = Float(exact + ripple * sin(value + Double(t) / 100))
      if stride > size { output[at + size] = Float(sin(2 * value - Double(t) / 300)) }
    }
  }
}

/// A case of the fixture, as its name says: SAMPLER:SCHEDULE:RULE:S:ETA:VARIANCE.
private struct Case {
  let sampler: String
  let network: AnalyticNetwork
  let respaced: RespacedSchedule
  let rule: StepSchedule
  let eta: Double

  init(_ name: String) throws {
    let words = name.split(separator: ":").map { String($0) }
    sampler = words[0]
    let rule = try #require(BetaSchedule(rawValue: words[1]))
    let variance = try #require(Variance(rawValue: words[5]))
    network = AnalyticNetwork(schedule: try noiseSchedule(rule, variance))
    let count = try #require(Int(words[3]))
    self.rule = try StepSchedule(parsing: words[2])
    respaced = try RespacedSchedule(network.schedule, self.rule, count: count)
    eta = try #require(Double(words[4]))
  }
}

@Suite("Whole runs against references in Double and closed forms") struct TrajectoryTests {
  static let shape = BatchShape(samples: 2, channels: 3, height: 3, width: 5)

  /// Every step of every case. Inputs are equal; x and ε̂ are rounded to Float once a step.
  @Test("Every state of every sampler is the Double reference's")
  func trajectoriesAreTheOracles() throws {
    let fixture = try Fixture("trajectories")
    let names = fixture.names.filter { $0.contains(":") }
    #expect(names.count == 16)
    let noise = try fixture.floats("noise")
    for name in names {
      let found = try run(Case(name), fixture, noise)
      let expected = try fixture.values(name)
      let size = Self.shape.count
      #expect(found.count == expected.count, "\(name)")
      let errors = stride(from: 0, to: min(found.count, expected.count), by: size).map {
        relativeError(found[$0..<$0 + size], expected[$0..<$0 + size])
      }
      #expect(errors.allSatisfy { $0 < 3e-6 }, "\(name): relative errors \(errors)")
    }
  }

  /// x after each step, one after the other.
  private func run(_ test: Case, _ fixture: Fixture, _ noise: [Float]) throws -> [Double] {
    var x = try fixture.floats(test.sampler == "invert" ? "clean" : "start")
    var span = x.mutableSpan
    var found: [Double] = []
    let shape = Self.shape
    func predict(_ x: Span<Float>, _ step: SamplingStep, _ output: inout MutableSpan<Float>) {
      test.network.predict(x, step.time.index, shape, &output)
    }
    func record(_ step: SamplingStep, _ x: Span<Float>) -> Bool {
      for i in x.indices { found.append(Double(x[i])) }
      return true
    }
    if test.sampler == "invert" {
      DDIMInversion(test.respaced).sample(
        &span, shape: shape, predict: { predict($0, $1, &$2) }, noise: { _, _ in }, progress: { record($0, $1) })
      return found
    }
    let name = try #require(SamplerName(rawValue: test.sampler))
    let sampler = try name.process(
      on: test.network.schedule, test.rule, count: test.respaced.count, eta: name == .ddim ? test.eta : nil)
    sampler.sample(
      &span, shape: shape, predict: { predict($0, $1, &$2) },
      noise: { step, normal in
        for i in normal.indices { normal[i] = noise[(step.number - 1) * shape.count + i] }
      }, progress: { record($0, $1) })
    return found
  }

  /// η = 0 on Gaussian data follows the probability flow: x_0 = m + s (x_T − √ᾱ m)/√(ᾱ s² + 1 − ᾱ).
  @Test("DDIM with 1000 steps follows the probability flow of Gaussian data")
  func manyStepsFollowTheFlow() throws {
    let network = AnalyticNetwork(schedule: try noiseSchedule(), ripple: 0)
    let sampler = try DDIMSampler(RespacedSchedule(network.schedule, .linspace, count: 1000))
    let shape = BatchShape(samples: 1, channels: 1, height: 5, width: 7)
    var random = Random(seed: 21)
    let start = random.normals(shape.count)
    var x = start
    var span = x.mutableSpan
    sampler.sample(
      &span, shape: shape, predict: { x, step, output in network.predict(x, step.time.index, shape, &output) },
      noise: { _, _ in Issue.record("DDIM(0) drew noise") })
    let bar = network.schedule.alphasCumprod[999]
    let expected = start.map { 0.3 + 0.5 * (Double($0) - bar.squareRoot() * 0.3) / (1 - 0.75 * bar).squareRoot() }
    let error = relativeError(x.doubles, expected)
    #expect(error < 0.01, "relative error \(error)")
    #expect(error > 1e-5, "a discretized flow cannot be that exact: \(error)")
  }

  /// Stochastic samplers reproduce the data's mean and deviation. 6,400 values: standard errors 0.006 and 0.0045; with β̃
  /// 250 steps come out a little narrow (0.484).
  @Test(
    "Stochastic samplers reproduce the data's mean and deviation",
    arguments: [Variance.fixedSmall, .fixedLarge], [nil, 1.0])
  func noisySamplersHitTheDistribution(_ variance: Variance, _ eta: Double?) throws {
    let network = AnalyticNetwork(schedule: try noiseSchedule(.linear, variance), ripple: 0)
    let sampler = try (eta == nil ? SamplerName.ddpm : .ddim).process(
      on: network.schedule, .linspace, count: 250, eta: eta)
    let shape = BatchShape(samples: 4, channels: 1, height: 40, width: 40)
    var random = Random(seed: 33)
    var x = random.normals(shape.count)
    var span = x.mutableSpan
    sampler.sample(
      &span, shape: shape, predict: { x, step, output in network.predict(x, step.time.index, shape, &output) },
      noise: { _, normal in
        for i in normal.indices { normal[i] = random.normal() }
      })
    let mean = x.doubles.reduce(0, +) / Double(x.count)
    let deviation = (x.doubles.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(x.count)).squareRoot()
    #expect(abs(mean - 0.3) < 0.02 && abs(deviation - 0.5) < 0.025, "mean \(mean), deviation \(deviation)")
  }

  /// There and back again: the error falls with the number of steps.
  @Test("DDIM inversion and sampling return to the image, the error falling with the steps")
  func inversionFindsItsNoise() throws {
    let network = AnalyticNetwork(schedule: try noiseSchedule())
    let shape = Self.shape
    var random = Random(seed: 8)
    let clean = random.normals(shape.count).map { 0.3 + 0.5 * $0 }
    let errors = try [20, 200].map { count in
      let sampler = try DDIMSampler(RespacedSchedule(network.schedule, .leading, count: count))
      var x = clean
      var span = x.mutableSpan
      func predict(_ x: Span<Float>, _ step: SamplingStep, _ output: inout MutableSpan<Float>) {
        network.predict(x, step.time.index, shape, &output)
      }
      DDIMInversion(sampler.schedule).sample(
        &span, shape: shape, predict: { predict($0, $1, &$2) }, noise: { _, _ in })
      let moved = relativeError(span.span.indices.map { Double(span[$0]) }, clean.doubles)
      #expect(moved > 0.5, "inversion did not leave the image: \(moved)")
      sampler.sample(&span, shape: shape, predict: { predict($0, $1, &$2) }, noise: { _, _ in })
      return relativeError(x.doubles, clean.doubles)
    }
    #expect(errors[0] < 0.3 && errors[1] < errors[0] / 5, "relative errors \(errors)")
  }
}
