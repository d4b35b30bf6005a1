import DiTDiffusion
import DiTKernels
import DiTTensor
import TestSupport
import Testing

@Suite("Classifier-free guidance") struct GuidanceTests {
  static let shape = BatchShape(samples: 2, channels: 4, height: 1, width: 3)

  private func combine(_ guidance: Guidance, _ conditional: [Float], _ unconditional: [Float]) -> [Float] {
    var result = [Float](repeating: .nan, count: conditional.count)
    var span = result.mutableSpan
    guidance.combine(
      conditional: conditional.span, unconditional: unconditional.span, shape: Self.shape, into: &span)
    return result
  }

  /// Channels of ε and, with a learned variance, of v: every one by the formula or from the conditional pass.
  @Test("Guided channels follow the formula, and the others are the conditional pass", arguments: [nil, 3, 1], [1, 2])
  func guidedChannelsFollowTheFormula(_ channels: Int?, _ halves: Int) {
    var random = Random(seed: 4)
    let count = halves * Self.shape.count
    let conditional = random.normals(count)
    let unconditional = random.normals(count)
    let found = combine(Guidance(scale: 4, channels: channels), conditional, unconditional)
    let expected = (0..<count).map { i in
      let channel = i / 3 % (4 * halves)
      return channel < channels ?? 4
        ? Double(unconditional[i]) + 4 * (Double(conditional[i]) - Double(unconditional[i])) : Double(conditional[i])
    }
    let error = relativeError(found.doubles, expected)
    #expect(error < 3e-7, "relative error \(error)")
  }

  @Test("Scale 1 is the conditional pass and scale 0 the unconditional one")
  func scalesZeroAndOneAreThePasses() {
    let conditional = (0..<24).map { Float($0) }
    let unconditional = (0..<24).map { Float(100 - $0) }
    #expect(combine(Guidance(scale: 1), conditional, unconditional) == conditional)
    #expect(combine(Guidance(scale: 0), conditional, unconditional) == unconditional)
  }

  @Test("Guidance is active inside the closed interval, at real times too")
  func activeInsideTheClosedInterval() throws {
    let limited = Guidance(scale: 2, interval: 100...700)
    #expect([99, 100, 700, 701].map { limited.isActive(at: NetworkTime($0)) } == [false, true, true, false])
    // A flow's times are real; 1000·s of s = 1 − 3/10 is 700, whatever Double makes of it.
    let process = try noiseSchedule(.cosine, .fixedSmall, prediction: .flow, steps: 10).process
    let times = [0.7, 0.70001, 0.1, 0.0999999].map { process.networkTime(s: $0) }
    #expect(times.map { limited.isActive(at: $0) } == [true, false, true, false])
    #expect(
      LinearTime.grid(10).map { limited.isActive(at: process.networkTime(s: $0)) }
        == [Bool](repeating: false, count: 3) + [Bool](repeating: true, count: 7) + [false])
    #expect(Guidance(scale: 2).isActive(at: NetworkTime(0)))
    #expect(!Guidance(scale: 1, interval: 0...999).isActive(at: NetworkTime(5)))
    #expect(Guidance(scale: 0).isActive(at: NetworkTime(5)))
  }

  /// What torch compares: t of torch.linspace(0, 1, S+1) in float32 with 0.1. Of 10 and 50 steps one time should be 0.1: it is
  /// 0.1 and the number below; of 30 steps it is the number above.
  @Test(
    "JiT's interval is without its ends, and falls as its own times do",
    arguments: [
      (steps: 10, first: 2, closed: 1), (50, 6, 6), (30, 3, 3), (60, 6, 6), (4, 1, 1), (40, 5, 4),
    ])
  func jitsIntervalIsOpen(steps: Int, first: Int, closed: Int) throws {
    let process = try linearSchedule(.x0, .oneMinusS).process
    let times = FlowEulerSampler(process, steps: steps).evaluations
    for (ends, start) in [(Guidance.IntervalEnds.jit, first), (.closed, closed)] {
      let guidance = Guidance(scale: 2.9, interval: 0.1...1, ends: ends)
      let found = times.map { guidance.isActive(at: $0) }
      let expected: [Bool] = times.indices.map { step in step >= start }
      #expect(found == expected, "\(ends)")
    }
    // Each of Heun's evaluations by its own time: the second of step `first` − 1 is the first that is guided.
    let heun = FlowHeunSampler(process, steps: steps).evaluations
    let guidance = Guidance(scale: 2.9, interval: 0.1...1, ends: .jit)
    let found = heun.map { guidance.isActive(at: $0) }
    let expected: [Bool] = heun.indices.map { evaluation in evaluation >= 2 * first - 1 }
    #expect(found == expected)
  }

  @Test("Of JiT's interval a lower end of 0 is guided, an upper end never")
  func jitsEnds() {
    let time = { (value: Float) in NetworkTime(value: value, index: 0) }
    let whole = Guidance(scale: 2, interval: 0...1, ends: .jit)
    #expect([0, 0.5, Float(1).nextDown, 1].map { whole.isActive(at: time($0)) } == [true, true, true, false])
    let inner = Guidance(scale: 2, interval: 0.25...0.75, ends: .jit)
    #expect(
      [0, 0.25, Float(0.25).nextUp, Float(0.75).nextDown, 0.75].map { inner.isActive(at: time($0)) }
        == [false, false, true, true, false])
    #expect(inner != Guidance(scale: 2, interval: 0.25...0.75) && Guidance(scale: 2).ends == .closed)
  }

  @Test("Scales that are not finite and channel counts out of range are refused")
  func impossibleValuesAreRefused() throws {
    #expect(throws: Never.self) { try Guidance(scale: 4, channels: 3).validate(channels: 4) }
    for (guidance, message) in [
      (Guidance(scale: .nan), "guidance: expected a finite scale, found nan"),
      (Guidance(scale: 4, channels: 5), "guidance_channels: expected 1…4, found 5"),
      (Guidance(scale: 4, channels: 0), "guidance_channels: expected 1…4, found 0"),
    ] {
      let error = #expect(throws: DiTError.self) { try guidance.validate(channels: 4) }
      #expect(error?.description == message)
    }
  }

  @Test("Intervals LO,HI are parsed, and anything else is refused")
  func intervalsAreRead() throws {
    #expect(try Guidance.interval(parsing: "100,700") == 100...700)
    #expect(try Guidance.interval(parsing: "0,0") == 0...0)
    #expect(try Guidance.interval(parsing: "0.1,0.75") == 0.1...0.75)
    for text in ["", "5", "700,100", "-1,4", "1,2,3", "a,b", "1,", "nan,1", "0,nan", "0,inf"] {
      let error = #expect(throws: DiTError.self) { try Guidance.interval(parsing: text) }
      #expect(error?.description == "guidance_interval: expected LO,HI with 0 ≤ LO ≤ HI, found '\(text)'")
    }
  }

  @Test("One in N of the guided evaluations that follow one another computes the unconditional pass, from the first on")
  func every() throws {
    var guidance = Guidance(scale: 4)
    let needed = [false, true, true, true, true, true, false, true, true, false]
    #expect(guidance.computed(needed) == needed)
    guidance.every = 2
    #expect(
      guidance.computed(needed) == [false, true, false, true, false, true, false, true, false, false])
    guidance.every = 3
    #expect(
      guidance.computed(needed) == [false, true, false, false, true, false, false, true, false, false])
    guidance.every = 0
    #expect(throws: DiTError.self) { try guidance.validate(channels: 4) }
  }
}
