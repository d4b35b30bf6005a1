// A process is a path × a target, with its time, loss, scale and floor. What it answers is compared with formulas in Double
// that are written out here for each of them; then the conventions of SiT, REPA and JiT, as PyTorch computes them.

import DiTDiffusion
import DiTKernels
import DiTTensor
import Foundation
import TestSupport
import Testing

/// A process by its configuration, and what it should answer.
struct ProcessCase: CustomTestStringConvertible, Sendable {
  let path: DiffusionPath
  let prediction: Prediction
  var time = LinearTime.thousandths
  var loss: Prediction?
  var scale = 1.0
  var floor = DiffusionConfiguration.standardFloor

  var testDescription: String {
    "\(path.rawValue), \(prediction.rawValue), \(time.rawValue), loss \(loss?.rawValue ?? "–"), ς \(scale), floor \(floor)"
  }

  static let all: [ProcessCase] =
    [Prediction.epsilon, .mean, .x0, .v].flatMap {
      [ProcessCase(path: .beta, prediction: $0), ProcessCase(path: .beta, prediction: $0, loss: $0)]
    }
    + LinearTime.allCases.flatMap { time in
      [1, 2.5].flatMap { scale in
        [
          ProcessCase(path: .linear, prediction: .velocity, time: time, scale: scale),
          ProcessCase(path: .linear, prediction: .x0, time: time, scale: scale),
          ProcessCase(path: .linear, prediction: .x0, time: time, loss: .x0, scale: scale),
          ProcessCase(path: .linear, prediction: .x0, time: time, loss: .velocity, scale: scale),
          ProcessCase(path: .linear, prediction: .x0, time: time, loss: .velocity, scale: scale, floor: 0.3),
        ]
      }
    } + [ProcessCase(path: .linear, prediction: .flow)]

  func schedule(_ variance: Variance = .fixedSmall, distribution: TimeDistribution = .uniform) throws -> NoiseSchedule {
    try NoiseSchedule(
      DiffusionConfiguration(
        path: path, prediction: prediction, variance: variance, networkTime: time, lossTarget: loss,
        timeDistribution: distribution, noiseScale: scale, timeFloor: floor))
  }

  /// s of a linear path that a network's time stands for.
  func s(_ t: Double) -> Double {
    switch time {
    case .thousandths: t / 1000
    case .s: t
    case .oneMinusS: 1 - t
    }
  }

  /// Network times to ask at: exact in Float.
  var times: [Float] {
    guard path == .linear else { return [0, 1, 60, 500, 999] }
    return [0.03125, 0.25, 0.5, 0.875, 1].map { time == .thousandths ? 1000 * $0 : time == .s ? $0 : 1 - $0 }
  }

  /// x at a network time.
  func noised(_ clean: Double, _ noise: Double, _ t: Double, _ bars: [Double]) -> Double {
    guard path == .linear else { return bars[Int(t)].squareRoot() * clean + (1 - bars[Int(t)]).squareRoot() * noise }
    return (1 - s(t)) * clean + s(t) * scale * noise
  }

  /// What a perfect network says.
  func truth(_ clean: Double, _ noise: Double, _ t: Double, _ schedule: NoiseSchedule) -> Double {
    switch prediction {
    case .epsilon: return noise
    case .x0: return clean
    case .velocity, .flow: return time == .oneMinusS ? clean - scale * noise : scale * noise - clean
    case .v:
      let bar = schedule.alphasCumprod[Int(t)]
      return bar.squareRoot() * noise - (1 - bar).squareRoot() * clean
    case .mean:
      let tables = schedule.tables
      return tables.posteriorCleanCoefficient[Int(t)] * clean + tables.posteriorNoisedCoefficient[Int(t)]
        * noised(clean, noise, t, schedule.alphasCumprod)
    }
  }

  /// The squared error of one element that the loss is a mean of.
  func squaredError(_ out: Double, _ clean: Double, _ noise: Double, _ t: Double, _ schedule: NoiseSchedule) -> Double {
    let x = noised(clean, noise, t, schedule.alphasCumprod)
    let error: Double
    if loss == .velocity {
      let sign: Double = time == .oneMinusS ? -1 : 1
      let divisor = max(s(t), floor)
      error = sign * (x - out) / divisor - sign * (x - clean) / divisor
    } else if prediction == .mean {
      let (beta, bar) = (schedule.betas[Int(t)], schedule.alphasCumprod[Int(t)])
      let b = beta / ((1 - bar).squareRoot() * (1 - beta).squareRoot())
      error = (out - truth(clean, noise, t, schedule)) / b
    } else {
      error = out - truth(clean, noise, t, schedule)
    }
    return error * error
  }
}

@Suite("A process is path × target: levels, meanings, losses and times against formulas") struct ProcessTests {
  static let shape = BatchShape(samples: 5, channels: 2, height: 3, width: 5)

  @Test("Levels and noised data are the path's at every kind of time", arguments: ProcessCase.all)
  func levelsAreTheFormulas(_ c: ProcessCase) throws {
    let schedule = try c.schedule()
    let process = schedule.process
    #expect(process.path == c.path && process.target == c.prediction.target)
    #expect(process.lossTarget == (c.loss ?? c.prediction).target)
    #expect(process.timeRange == (c.path == .beta ? 0...999 : c.time == .thousandths ? 0...1000 : 0...1))
    #expect((process.linearTime == nil) == (c.path == .beta) && process.path.hasWholeTimes == (c.path == .beta))
    for time in c.times {
      let level = process.level(atNetworkTime: time)
      #expect(level.time.value == time)
      let (ones, zeros) = (
        c.noised(1, 0, Double(time), schedule.alphasCumprod), c.noised(0, 1, Double(time), schedule.alphasCumprod)
      )
      #expect(abs(level.signal - ones) < 1e-15 && abs(level.spread - zeros) < 1e-15, "at \(time)")
      if c.path == .linear {
        let s = c.s(Double(time))
        #expect(level.time.index == min(999, max(0, Int((s * 1000 - 1e-6).rounded(.up)) - 1)), "at \(time)")
        #expect(process.s(of: level.time) == s && process.level(s: s) == level)
      } else {
        #expect(level.time.index == Int(time) && process.s(of: level.time) == nil)
      }
    }
    let (clean, noise): ([Float], [Float]) = ([0.75, -1.5], [-0.25, 2])
    var noised: [Float] = [0, 0]
    var span = noised.mutableSpan
    let levels = c.times[1...2].map { process.level(atNetworkTime: $0) }
    schedule.addNoise(clean: clean.span, noise: noise.span, levels: levels, into: &span)
    for n in 0..<2 {
      let expected = c.noised(Double(clean[n]), Double(noise[n]), Double(c.times[n + 1]), schedule.alphasCumprod)
      #expect(noised[n] == Float(expected))
    }
  }

  /// What a perfect network says gives x_* back, and on a linear path ς·ε − x_*, above the floor.
  @Test("The truth in any target is converted to the clean image and the velocity", arguments: ProcessCase.all)
  func meaningsAreTheFormulas(_ c: ProcessCase) throws {
    let schedule = try c.schedule()
    let process = schedule.process
    let (clean, noise) = (0.8, -1.3)
    for time in c.times {
      let level = process.level(atNetworkTime: time)
      let x = c.noised(clean, noise, Double(time), schedule.alphasCumprod)
      let out = c.truth(clean, noise, Double(time), schedule)
      let reading = process.clean(at: level.time)
      #expect(abs(reading.noised * x + reading.output * out - clean) < 1e-11, "x̂ at \(time)")
      guard c.path == .linear else { continue }
      let s = c.s(Double(time))
      let slope = process.velocity(s: s)
      let wanted = c.prediction == .x0 ? (x - clean) / max(s, c.floor) : c.scale * noise - clean
      #expect(abs(slope.noised * x + slope.output * out - wanted) < 1e-12, "velocity at \(time)")
      if c.prediction == .x0, s >= c.floor { #expect(abs(wanted - (c.scale * noise - clean)) < 1e-12) }
    }
  }

  /// Loss, gradient (by central differences of the formula) and patch map.
  @Test("The loss and its gradient are the formula's in every combination", arguments: ProcessCase.all)
  func lossesAreTheFormulas(_ c: ProcessCase) throws {
    let schedule = try c.schedule()
    let (shape, size) = (Self.shape, Self.shape.elementsPerSample)
    var random = Random(seed: 90)
    let (clean, noise) = (random.normals(shape.count), random.normals(shape.count))
    let output = random.normals(shape.count)
    let levels = c.times.map { schedule.process.level(atNetworkTime: $0) }
    func formula(_ i: Int, _ out: Double) -> Double {
      c.squaredError(out, Double(clean[i]), Double(noise[i]), Double(c.times[i / size]), schedule) / Double(size)
    }
    var losses = [SampleLoss](repeating: .zero, count: 5)
    var gradient = [Float](repeating: .nan, count: shape.count)
    var patches = [Float](repeating: .nan, count: 5 * 15)
    var lossSpan = losses.mutableSpan
    var gradientSpan = gradient.mutableSpan
    var patchSpan = patches.mutableSpan
    let loss = TrainingLoss(schedule)
    loss.evaluate(
      output: output.span, clean: clean.span, noise: noise.span, levels: levels, shape: shape, losses: &lossSpan,
      gradient: &gradientSpan)
    loss.patchErrors(
      output: output.span, clean: clean.span, noise: noise.span, levels: levels, shape: shape, patchSize: 1,
      means: &patchSpan)
    for n in 0..<5 {
      let range = n * size..<(n + 1) * size
      let expected = range.reduce(0) { $0 + formula($1, Double(output[$1])) }
      #expect(abs(losses[n].loss / expected - 1) < 1e-9 && losses[n].mse == losses[n].loss && losses[n].vb == nil)
      let slopes = range.map { i in
        let step = 1e-4 * max(1, abs(Double(output[i])))
        return (formula(i, Double(output[i]) + step) - formula(i, Double(output[i]) - step)) / (2 * step) / 5
      }
      #expect(relativeError(gradient[range].doubles, slopes) < 1e-6, "gradient of sample \(n)")
      let map = patches[n * 15..<(n + 1) * 15].doubles.reduce(0, +) / 15
      #expect(abs(map / expected - 1) < 1e-6, "map of sample \(n)")
    }
  }

  /// The error of x̂_* counts the same whatever is compared: min(SNR, γ) (x̂_* − x_*)².
  @Test("Min-SNR weights the error of the clean image alike on a linear path", arguments: ProcessCase.all)
  func minSNRWeighsTheCleanImage(_ c: ProcessCase) throws {
    guard c.path == .linear else { return }
    let process = try c.schedule().process
    for time in c.times {
      let level = process.level(atNetworkTime: time)
      let (s, out) = (c.s(Double(time)), 0.7)
      let (clean, noise) = (0.4, -0.6)
      let x = c.noised(clean, noise, Double(time), [])
      let error = c.squaredError(out, clean, noise, Double(time), process.schedule)
      let estimate = c.prediction == .x0 ? out : c.time == .oneMinusS ? x + s * out : x - s * out
      let ratio = (1 - s) * (1 - s) / (s * s * c.scale * c.scale)
      let expected = min(ratio, 5) * (estimate - clean) * (estimate - clean)
      let found = LossWeighting.minSNR(gamma: 5).weight(process, at: level) * error
      #expect(abs(found - expected) < 1e-12 * max(1, expected), "at \(time): \(found), not \(expected)")
    }
  }

  /// SiT's released network has twice the channels: the second half is neither read nor trained.
  @Test("On a linear path a second half of the channels gets no gradient and changes nothing")
  func theSecondHalfIsNotRead() throws {
    let single = ProcessCase(path: .linear, prediction: .velocity, time: .oneMinusS)
    let (shape, size) = (Self.shape, Self.shape.elementsPerSample)
    var random = Random(seed: 91)
    let (clean, noise, half) = (random.normals(shape.count), random.normals(shape.count), random.normals(shape.count))
    let levels = try single.times.map { try single.schedule().process.level(atNetworkTime: $0) }
    var whole: [Float] = []
    for n in 0..<5 { whole += half[n * size..<(n + 1) * size] + [Float](repeating: 1e9, count: size) }
    func run(_ output: [Float], _ variance: Variance) throws -> (losses: [SampleLoss], gradient: [Float]) {
      var losses = [SampleLoss](repeating: .zero, count: 5)
      var gradient = [Float](repeating: .nan, count: output.count)
      var lossSpan = losses.mutableSpan
      var gradientSpan = gradient.mutableSpan
      TrainingLoss(try single.schedule(variance)).evaluate(
        output: output.span, clean: clean.span, noise: noise.span, levels: levels, shape: shape, losses: &lossSpan,
        gradient: &gradientSpan)
      return (losses, gradient)
    }
    let (one, two) = (try run(half, .fixedLarge), try run(whole, .learnedRange))
    #expect(one.losses == two.losses)
    for n in 0..<5 {
      #expect(one.gradient[n * size..<(n + 1) * size] == two.gradient[2 * n * size..<(2 * n + 1) * size])
      #expect(two.gradient[(2 * n + 1) * size..<2 * (n + 1) * size].allSatisfy { $0 == 0 })
    }
    for name in DiffusionPath.linear.samplers where name != .dopri5 {
      let ends = try [Variance.fixedLarge, .learnedRange].map { variance in
        let process = try name.process(on: single.schedule(variance), .linspace, count: 3)
        var x = clean
        var span = x.mutableSpan
        process.sample(
          &span, shape: shape,
          predict: { x, step, output in
            let stride = output.count / 5
            for i in output.indices { output[i] = 1e9 }
            for i in x.indices { output[i / size * stride + i % size] = 0.5 * x[i] + step.time.value }
          }, noise: { _, _ in })
        return x
      }
      #expect(ends[0] == ends[1] && ends[0] != clean, "\(name)")
    }
  }

  // MARK: The families' own formulas

  private static let families: [(String, ProcessCase)] = [
    ("sit", ProcessCase(path: .linear, prediction: .velocity, time: .oneMinusS)),
    ("repa", ProcessCase(path: .linear, prediction: .velocity, time: .s)),
    ("jit", ProcessCase(path: .linear, prediction: .x0, time: .oneMinusS, loss: .velocity)),
    ("jit512", ProcessCase(path: .linear, prediction: .x0, time: .oneMinusS, loss: .velocity, scale: 2)),
  ]

  @Test("Noised data, loss and gradient are SiT's, REPA's and JiT's", arguments: 0..<4)
  func objectivesAreTheFamilies(_ index: Int) throws {
    let (family, c) = Self.families[index]
    let (fixture, shape, size) = (try Fixture("linear"), Self.shape, Self.shape.elementsPerSample)
    let schedule = try c.schedule()
    let (clean, noise) = (try fixture.floats("clean"), try fixture.floats("noise"))
    let output = try fixture.floats("output")
    let levels = try fixture.floats("times").map { schedule.process.level(atNetworkTime: $0) }
    var noised = [Float](repeating: 0, count: shape.count)
    var noisedSpan = noised.mutableSpan
    schedule.addNoise(clean: clean.span, noise: noise.span, levels: levels, into: &noisedSpan)
    #expect(relativeError(noised.doubles, try fixture.values("\(family).noised")) < 1e-7)
    var losses = [SampleLoss](repeating: .zero, count: 5)
    var gradient = [Float](repeating: .nan, count: shape.count)
    var lossSpan = losses.mutableSpan
    var gradientSpan = gradient.mutableSpan
    TrainingLoss(schedule).evaluate(
      output: output.span, clean: clean.span, noise: noise.span, levels: levels, shape: shape, losses: &lossSpan,
      gradient: &gradientSpan)
    #expect(elementwiseError(losses.map(\.loss), try fixture.values("\(family).loss")) < 1e-12)
    let expected = try fixture.values("\(family).gradient")
    for n in 0..<5 {
      let range = n * size..<(n + 1) * size
      #expect(relativeError(gradient[range].doubles, expected[range]) < 1e-7, "gradient of sample \(n)")
    }
  }

  /// JiT's last step does not land on x̂: it begins below the floor.
  @Test(
    "Sampling is SiT's Euler, REPA's Heun and JiT's Heun, step by step",
    arguments: [
      "sit:euler:1", "sit:euler:7", "repa:heun:1", "repa:heun:7", "jit:heun:7", "jit:heun:50", "jit512:heun:50",
    ])
  func samplersAreTheFamilies(_ name: String) throws {
    let words = name.split(separator: ":").map(String.init)
    let (_, c) = try #require(Self.families.first { $0.0 == words[0] })
    let fixture = try Fixture("linear")
    let sampler = try #require(SamplerName(rawValue: words[1]))
    let process = try sampler.process(on: c.schedule(), .linspace, count: Int(words[2]))
    var x = try fixture.floats("start").map { Float(process.startScale * Double($0)) }
    var states: [Double] = []
    var span = x.mutableSpan
    process.sample(
      &span, shape: BatchShape(samples: 2, channels: 2, height: 2, width: 3),
      predict: { x, step, output in
        for i in x.indices {
          let (value, t) = (Double(x[i]), Double(step.time.value))
          output[i] = Float(0.5 * sin(value + 2 * t) - 0.25 * value)
        }
      }, noise: { _, _ in },
      progress: { _, x in
        for i in x.indices { states.append(Double(x[i])) }
        return true
      })
    let expected = try fixture.values(name)
    #expect(process.startScale == c.scale && states.count == expected.count)
    for step in 0..<process.stepCount {
      let range = step * x.count..<(step + 1) * x.count
      #expect(relativeError(states[range], expected[range]) < 2e-6, "step \(step)")
    }
  }

  // MARK: The exact flow, starts, intervals

  /// For data N(m, d²) the flow takes ς·ε at s = 1 to m + d ε. The velocity that is made of x̂_* has no floor in the way here.
  @Test("Euler's error falls like 1/S and Heun's like 1/S² in every convention", arguments: ProcessCase.all)
  func orders(_ c: ProcessCase) throws {
    guard c.path == .linear, c.loss == nil else { return }
    var c = c
    if c.prediction == .x0 { c.floor = 1e-9 }
    let schedule = try c.schedule()
    let shape = BatchShape(samples: 1, channels: 1, height: 5, width: 7)
    for (name, order) in [(SamplerName.euler, 1.0), (.heun, 2)] {
      let errors = try [20, 40, 80].map { count in
        let process = try name.process(on: schedule, .linspace, count: count)
        var random = Random(seed: 21)
        let start = random.normals(shape.count)
        var x = start.map { Float(process.startScale) * $0 }
        _ = GaussianNetwork(schedule: schedule, ripple: 0).run(process, &x, shape: shape)
        return relativeError(x.doubles, start.map { 0.3 + 0.5 * Double($0) })
      }
      for (coarse, fine) in zip(errors, errors.dropFirst()) {
        #expect(abs(log2(coarse / fine) - order) < 0.35, "\(name): \(errors)")
      }
    }
  }

  @Test("Sampling starts from ς·N(0,1), and inversion ends at x/ς")
  func startsAndEnds() throws {
    let schedule = try ProcessCase(path: .linear, prediction: .velocity, time: .s, scale: 4).schedule()
    #expect(try SamplerName.euler.process(on: schedule, .linspace, count: 3).startScale == 4)
    let inversion = try SamplerName.euler.inversion(on: schedule, .linspace, count: 3)
    #expect(inversion.startScale == 1)
    var x: [Float] = [1, -2]
    var span = x.mutableSpan
    inversion.sample(
      &span, shape: BatchShape(samples: 1, channels: 1, height: 1, width: 2),
      predict: { _, _, output in for i in output.indices { output[i] = 3 } }, noise: { _, _ in })
    #expect(x == [1, 0.25])  // (x + 3)/4
  }

  @Test("A guidance interval is inclusive in the network's own time")
  func intervalsAreInclusive() throws {
    for (time, interval) in [(LinearTime.thousandths, 100.0...700.0), (.s, 0.1...0.7), (.oneMinusS, 0.3...0.9)] {
      let process = try ProcessCase(path: .linear, prediction: .velocity, time: time).schedule().process
      let guidance = Guidance(scale: 2, interval: interval)
      try guidance.validate(process)
      let active = LinearTime.grid(10).map { guidance.isActive(at: process.networkTime(s: $0)) }
      #expect(active == (0...10).map { 3...9 ~= $0 }, "\(time.rawValue)")
    }
    let chain = try noiseSchedule().process
    try Guidance(scale: 2, interval: 100...700).validate(chain)
    for (process, interval, message) in [
      (chain, 0.5...700, "guidance_interval: expected whole times, as path is beta, found 0.5,700"),
      (
        try ProcessCase(path: .linear, prediction: .x0, time: .oneMinusS).schedule().process, 100...700,
        "guidance_interval: expected times in 0…1, found 100,700"
      ),
    ] {
      let error = #expect(throws: DiTError.self) { try Guidance(scale: 2, interval: interval).validate(process) }
      #expect(error?.description == message)
    }
  }

  // MARK: Drawn times

  /// The moments of the logit of the network's time, and the share of draws below each of nine quantiles.
  @Test("Drawn times have the logit-normal's moments and quantiles in every convention", arguments: LinearTime.allCases)
  func logitNormalTimes(_ time: LinearTime) throws {
    let (mean, deviation, count) = (-0.8, 0.8, 40_000)
    let process = try ProcessCase(path: .linear, prediction: .x0, time: time)
      .schedule(distribution: .logitNormal(mean: mean, deviation: deviation)).process
    var logits: [Double] = []
    for number in 0..<count {
      var random = Philox(seed: 17, stream: UInt64(number))
      let level = process.level(drawnBy: &random)
      #expect(process.timeRange ~= level.time.value && abs(level.signal + level.spread - 1) < 1e-15)
      let t = Double(level.time.value) / (time == .thousandths ? 1000 : 1)
      logits.append(log(t / (1 - t)))
    }
    let average = logits.reduce(0, +) / Double(count)
    let centered = logits.map { $0 - average }
    func moment(_ power: Int) -> Double {
      centered.reduce(0) { $0 + pow($1 / deviation, Double(power)) } / Double(count)
    }
    // Standard errors: 0.004, 0.007, 0.019 and 0.05.
    #expect(abs(average - mean) < 0.016 && abs(moment(2) - 1) < 0.03, "\(average), \(moment(2))")
    #expect(abs(moment(3)) < 0.08 && abs(moment(4) - 3) < 0.2, "\(moment(3)), \(moment(4))")
    for z in [-1.5, -1, -0.5, 0, 0.5, 1, 1.5] {
      let share = Double(logits.filter { $0 < mean + deviation * z }.count) / Double(count)
      #expect(abs(share - 0.5 * erfc(-z / 2.0.squareRoot())) < 0.01, "below \(z): \(share)")
    }
  }

  @Test("Uniform times are drawn from (0, 1] as ever, whatever the network counts in", arguments: LinearTime.allCases)
  func uniformTimes(_ time: LinearTime) throws {
    let process = try ProcessCase(path: .linear, prediction: .velocity, time: time).schedule().process
    let flow = try ProcessCase(path: .linear, prediction: .flow).schedule().process
    var sum = (0.0, 0.0)
    for number in 0..<10_000 {
      var (one, other) = (Philox(seed: 3, stream: UInt64(number)), Philox(seed: 3, stream: UInt64(number)))
      let (level, old) = (process.level(drawnBy: &one), flow.level(drawnBy: &other))
      #expect(level.spread == old.spread && level.time.index == old.time.index && level.spread > 0 && one == other)
      sum = (sum.0 + level.spread, sum.1 + level.spread * level.spread)
    }
    #expect(abs(sum.0 / 10_000 - 0.5) < 0.012 && abs(sum.1 / 10_000 - 1 / 3.0) < 0.012)
  }
}
