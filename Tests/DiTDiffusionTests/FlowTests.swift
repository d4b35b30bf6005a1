import DiTDiffusion
import DiTKernels
import Testing

@Suite("Flow matching: times, levels and Heun's evaluations") struct FlowTests {
  /// Exactly what whole numbers say: s = (S−i)/S lies in index ⌈sT⌉ − 1, for all S and a few T.
  /// At T = 3000, 1000·s rounded to Float is an index too high for some s.
  @Test(
    "A flow's times fall into the exact training index for every number of steps",
    arguments: [1, 7, 250, 1000, 3000])
  func indicesAreExact(_ steps: Int) throws {
    let process = try noiseSchedule(.cosine, .fixedSmall, prediction: .flow, steps: steps).process
    var wrong: [String] = []
    for count in 1...1000 {
      for (i, s) in LinearTime.grid(count).dropLast().enumerated() {
        let exact = ((count - i) * steps + count - 1) / count - 1
        let time = process.networkTime(s: s)
        let again = LinearTime.thousandths.trainingIndex(networkTime: time.value, steps: steps)
        if time.index != exact || again != exact { wrong.append("\(count - i)/\(count)") }
      }
    }
    #expect(wrong.isEmpty, "T = \(steps): \(wrong.prefix(5))")
    #expect(
      LinearTime.trainingIndex(0, steps: steps) == 0 && LinearTime.trainingIndex(1, steps: steps) == steps - 1)
  }

  /// A little above k/T is still k−1, by 1e-6 of an index.
  @Test("A time above a boundary by less than 1e-6 of an index still belongs to the index below")
  func indicesForgiveRounding() {
    #expect(LinearTime.trainingIndex(0.3.nextUp, steps: 10) == 2)
    #expect(LinearTime.trainingIndex(0.3 + 5e-8, steps: 10) == 2)
    #expect(LinearTime.trainingIndex(0.3 + 2e-7, steps: 10) == 3)
  }

  @Test("A flow's noise levels lie on the straight line from image to noise")
  func levelsAreTheLine() throws {
    let process = try noiseSchedule(.cosine, .fixedSmall, prediction: .flow, steps: 100).process
    let level = process.level(atNetworkTime: 250)
    #expect(level == NoiseLevel(time: NetworkTime(value: 250, index: 24), signal: 0.75, spread: 0.25))
    #expect(process.timeRange == 0...1000)
    #expect(process.networkTime(999.9).index == 99)
    let chain = try noiseSchedule(steps: 100)
    #expect(chain.process.timeRange == 0...99 && chain.process.networkTime(98.4).index == 98)
    #expect(chain.process.level(atNetworkTime: 7) == chain.level(at: 7))
    #expect(abs(chain.level(at: 7).signal - chain.alphasCumprod[7].squareRoot()) < 1e-15)
  }

  /// Heun's evaluations: both ends of each step, and of the last only its start.
  @Test("Heun evaluates both ends of each step, and only the start of the last")
  func heunAsksAtBothEnds() throws {
    let schedule = try noiseSchedule(.linear, .fixedSmall, prediction: .flow)
    let heun = FlowHeunSampler(schedule.process, steps: 4)
    #expect(heun.evaluations.map(\.value) == [1000, 750, 750, 500, 500, 250, 250])
    #expect(heun.evaluations.map(\.index) == [999, 749, 749, 499, 499, 249, 249])
    #expect(heun.stepTimes.map(\.value) == [1000, 750, 500, 250])
    var log: [String] = []
    var x: [Float] = [0]
    var span = x.mutableSpan
    heun.sample(
      &span, shape: BatchShape(samples: 1, channels: 1, height: 1, width: 1),
      predict: { _, step, _ in log.append("\(step.evaluation)@\(step.time.value)") }, noise: { _, _ in },
      progress: { step, _ in
        log.append("step \(step.number)/\(step.count)")
        return step.number < 2
      })
    #expect(log == ["0@1000.0", "1@750.0", "step 1/4", "2@750.0", "3@500.0", "step 2/4"])
  }
}
