import DiTDiffusion
import DiTKernels
import DiTTensor
import Foundation
import TestSupport
import Testing

@Suite("MeanFlow: what the network is told, and where a step goes") struct MeanFlowTests {
  private static let shape = BatchShape(samples: 1, channels: 1, height: 1, width: 4)
  private static let start: [Float] = [1.5, -0.25, 3e-9, 40]

  /// What S steps from `start` leave, and the times and lengths that the network is told.
  private func run(
    _ process: DiffusionProcess, steps: Int, from start: [Float] = Self.start,
    network: (_ x: Float, _ s: Double, _ r: Double) -> Double
  ) -> (x: [Float], times: [Float], told: [Float]) {
    let sampler = MeanFlowSampler(process, steps: steps)
    let grid = LinearTime.grid(steps)
    var (x, times, told): ([Float], [Float], [Float]) = (start, [], [])
    var span = x.mutableSpan
    sampler.sample(
      &span, shape: Self.shape,
      predict: { x, step, output in
        times.append(step.time.value)
        told.append(sampler.told(at: step.evaluation))
        for i in x.indices { output[i] = Float(network(x[i], grid[step.evaluation], grid[step.evaluation + 1])) }
      }, noise: { _, _ in })
    return (x, times, told)
  }

  @Test("One step of a network that predicts the image is its image, bit for bit", arguments: [1.0, 2, 4])
  func oneStepIsTheImage(_ noiseScale: Double) throws {
    let process = try linearSchedule(.x0, .s, noiseScale: noiseScale).process
    let image: [Float] = [0.1, -1, 0.3, 1e-30]
    var next = image.makeIterator()
    let found = run(process, steps: 1) { _, _, _ in Double(next.next() ?? .nan) }
    #expect(found.x == image && found.times == [1] && found.told == [1])
    #expect(MeanFlowSampler(process, steps: 1).startScale == noiseScale)
  }

  /// The numbers are torch.linspace(1, 0, S+1)'s in float32, and their differences.
  @Test("The network is told t of a falling float32 grid, and t − r")
  func toldTheStep() throws {
    let process = try linearSchedule(.x0, .s).process
    let three = run(process, steps: 3) { x, _, _ in Double(x) }
    #expect(three.times == [1, 0.6666666, 0.33333334] && three.told == [0.33333337, 0.33333328, 0.33333334])
    #expect(run(process, steps: 4) { x, _, _ in Double(x) }.told == [0.25, 0.25, 0.25, 0.25])
    // A network of another unit is told lengths in it, above 0 whichever end is noise.
    let thousandths = try linearSchedule(.x0, .thousandths).process
    #expect(run(thousandths, steps: 4) { x, _, _ in Double(x) }.told == [250, 250, 250, 250])
    let data = run(try linearSchedule(.velocity, .oneMinusS).process, steps: 4) { x, _, _ in Double(x) }
    #expect(data.times == [0, 0.25, 0.5, 0.75] && data.told == [0.25, 0.25, 0.25, 0.25])
    // Every other sampler tells the time.
    let heun = FlowHeunSampler(process, steps: 2)
    #expect(heun.evaluations.indices.map { heun.told(at: $0) } == [1, 0.5, 0.5])
  }

  /// dx/ds = a·x has the mean slope x·(1 − e^(−a(s−r)))/(s−r) over [r, s]: any number of steps ends where the flow does.
  @Test("With the true mean velocity any number of steps ends where the flow does", arguments: LinearTime.allCases)
  func trueMeanVelocityIsExact(_ time: LinearTime) throws {
    let process = try linearSchedule(.velocity, time).process
    let exact = Self.start.map { Double($0) * exp(-0.7) }
    for steps in [1, 2, 3, 10] {
      let found = run(process, steps: steps) { x, s, r in
        time.direction * Double(x) * (1 - exp(-0.7 * (s - r))) / (s - r)
      }
      #expect(relativeError(found.x.doubles, exact) < 1e-6, "\(steps) steps")
    }
    // Euler with the slope at the start of the step does not.
    let euler = run(process, steps: 3) { x, _, _ in time.direction * Double(x) * 0.7 }
    #expect(relativeError(euler.x.doubles, exact) > 0.05)
  }

  /// u = (z − x̂)/max(t, 0.05): the last of 40 steps is half of the way that is left.
  @Test("z_r = z_t − (t − r)·(z_t − x̂)/max(t, t_floor)", arguments: [1, 3, 40])
  func pixelMeanFlow(_ steps: Int) throws {
    let process = try linearSchedule(.x0, .s).process
    let network = { (x: Float, s: Double, r: Double) in 0.3 * Double(x) + 0.1 * (s - r) - 0.2 }
    let found = run(process, steps: steps, network: network)
    var z = Self.start.doubles
    for i in 0..<steps {
      let (t, r) = (Double(steps - i) / Double(steps), Double(steps - i - 1) / Double(steps))
      z = z.map { z in
        let u = (z - network(Float(z), t, r)) / max(t, 0.05)
        return z - (t - r) * u
      }
    }
    #expect(relativeError(found.x.doubles, z) < 1e-6)
    let clean = found.x.map { Double(network($0, 1 / Double(steps), 0)) }
    let landed = relativeError(found.x.doubles, clean)
    #expect(steps == 40 ? landed > 0.01 : true, "a floor that does nothing")
  }

  @Test("meanflow walks linear paths alone")
  func linearPathsAlone() throws {
    #expect(SamplerName(rawValue: "meanflow") == .meanflow)
    #expect(!DiffusionPath.beta.samplers.contains(.meanflow) && DiffusionPath.linear.samplers.contains(.meanflow))
    let error = #expect(throws: DiTError.self) {
      try SamplerName.meanflow.process(on: noiseSchedule(), .linspace, count: 1)
    }
    #expect(error?.name == "sampler" && error?.found == "meanflow")
    let process = try SamplerName.meanflow.process(on: linearSchedule(.x0, .s), .linspace, count: 3)
    #expect(process is MeanFlowSampler && process.stepCount == 3 && process.memoryArrays == 0)
    #expect(throws: DiTError.self) {
      try SamplerName.meanflow.process(on: linearSchedule(.x0, .s), .linspace, count: 3, eta: 0)
    }
  }

  /// Bits of torch.linspace(0, 1, S+1) and (1, 0, S+1) in float32.
  @Test("The grid of s and 1−s has torch.linspace's bits, that of 1000·s is rounded once")
  func gridBits() {
    let data = LinearTime.oneMinusS.networkGrid(50)
    #expect(data.count == 51 && data[0] == 0 && data[50] == 1 && data[25] == 0.5)
    #expect(data[5].bitPattern == 0x3DCC_CCCC && Float(0.1).bitPattern == 0x3DCC_CCCD)
    #expect(LinearTime.oneMinusS.networkGrid(30)[3].bitPattern == 0x3DCC_CCCE)
    #expect(LinearTime.s.networkGrid(3) == [1, 0.6666666, 0.33333334, 0])
    #expect(LinearTime.thousandths.networkGrid(10).map { Int($0) } == Array(stride(from: 1000, through: 0, by: -100)))
    for count in [1, 2, 7, 250, 1000] {
      for time in LinearTime.allCases {
        let grid = time.networkGrid(count)
        #expect(grid.first == Float(time.time(1)) && grid.last == Float(time.time(0)) && grid.count == count + 1)
        let worst = zip(grid, LinearTime.grid(count)).map { abs(Double($0) - time.time($1)) / time.greatest }.max()
        #expect(worst ?? 1 < 1.2e-7)
      }
    }
  }
}
