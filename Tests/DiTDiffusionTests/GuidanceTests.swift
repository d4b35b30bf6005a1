import DiTDiffusion
import DiTKernels
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

  @Test("Scales that are not finite and channel counts out of range are refused")
  func impossibleValuesAreRefused() throws {
    #expect(throws: Never.self) { try Guidance(scale: 4, channels: 3).validate(channels: 4) }
    for (guidance, message) in [
      (Guidance(scale: .nan), "guidance: expected a finite scale, found nan"),
      (Guidance(scale: 4, channels: 5), "guidance channels: expected 1…4, found 5"),
      (Guidance(scale: 4, channels: 0), "guidance channels: expected 1…4, found 0"),
    ] {
      let error = #expect(throws: DiffusionError.self) { try guidance.validate(channels: 4) }
      #expect(error?.description == message)
    }
  }

  @Test("Intervals LO,HI are parsed, and anything else is refused")
  func intervalsAreRead() throws {
    #expect(try Guidance.interval(parsing: "100,700") == 100...700)
    #expect(try Guidance.interval(parsing: "0,0") == 0...0)
    #expect(try Guidance.interval(parsing: "0.1,0.75") == 0.1...0.75)
    for text in ["", "5", "700,100", "-1,4", "1,2,3", "a,b", "1,", "nan,1", "0,nan", "0,inf"] {
      let error = #expect(throws: DiffusionError.self) { try Guidance.interval(parsing: text) }
      #expect(error?.description == "guidance interval: expected LO,HI with 0 ≤ LO ≤ HI, found '\(text)'")
    }
  }
}
