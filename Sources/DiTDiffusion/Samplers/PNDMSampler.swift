// PNDM (Liu et al. 2022): Adams-Bashforth of order 4 in the training timestep, around DDIM's transfer
//
//   x' = √(ᾱ'/ᾱ) x + (√(1−ᾱ') − √(ᾱ'/ᾱ) √(1−ᾱ)) ε̂
//
// Until there are four outputs there are two ways to begin:
//
// - Runge-Kutta ("F-PNDM"): three steps of four evaluations each, the middle ones at half the stride; S ≥ 4, S + 9 evaluations
// - with fewer outputs ("PLMS"): the first step is taken twice, the second time with the mean of both outputs; then orders 2
//   and 3; S + 1 evaluations
//
// - matches diffusers' PNDMScheduler, which mixes the outputs before they are taken for ε̂
// - a variance half of the output is not read

/// PNDM.
public struct PNDMSampler: SamplingProcess, Equatable {
  /// What one evaluation does.
  package struct Stage: Equatable, Sendable {
    /// The step that it belongs to.
    package var step: Int
    /// ε̂ or the output that is mixed, from what the network saw and said.
    package var reading: Reading
    /// The mixture: of this output, the three kept before it, newest first, and the Runge-Kutta sum.
    package var weights: (current: Double, kept: (Double, Double, Double), sum: Double)
    /// What this output adds to the Runge-Kutta sum; nil clears it.
    package var toSum: Double?
    /// Whether this output is kept.
    package var keeps: Bool
    /// Whether the step starts from x as the network saw it; else from the x that was kept.
    package var startsHere: Bool
    /// Whether x as the network saw it is kept to start from again.
    package var keepsStart: Bool
    /// The step: noised·x + output·mixture.
    package var transfer: Reading

    package static func == (a: Stage, b: Stage) -> Bool {
      a.step == b.step && a.reading == b.reading && a.weights.current == b.weights.current
        && a.weights.kept == b.weights.kept && a.weights.sum == b.weights.sum && a.toSum == b.toSum
        && a.keeps == b.keeps && a.startsHere == b.startsHere && a.keepsStart == b.keepsStart
        && a.transfer == b.transfer
    }
  }

  /// A step by itself, whatever came before it.
  package struct Step: Equatable, Sendable {
    /// The training timestep that it starts from, and its ᾱ.
    package let time: Int
    package let alphaBar: Double
    /// What the output there is taken for, and x̂_*.
    package let reading, clean: Reading
    /// To where the step ends: noised·x + output·mixture.
    package let transfer: Reading
  }

  public let evaluations: [NetworkTime]
  public let variance: Variance
  private let steps: [Step]
  private let stages: [Stage]
  private let clean: [Reading]

  /// - Parameters:
  ///   - stages: of each evaluation.
  ///   - clean: x̂_* there.
  package init(
    evaluations: [NetworkTime], stages: [Stage], clean: [Reading], steps: [Step], variance: Variance
  ) {
    precondition(evaluations.count == stages.count && clean.count == stages.count, "a stage for each evaluation")
    self.evaluations = evaluations
    self.stages = stages
    self.clean = clean
    self.steps = steps
    self.variance = variance
  }

  public var stepCount: Int { steps.count }
  public func step(ofEvaluation evaluation: Int) -> Int { stages[evaluation].step }

  /// The rest by PLMS, also where the sampler begins with Runge-Kutta steps.
  public func starting(at step: Int) -> PNDMSampler {
    precondition(steps.indices ~= step, "step \(step) of \(steps.count)")
    return step == 0 ? self : PNDMSampler(withoutRungeKutta: Array(steps[step...]), variance: variance)
  }

  public func level(beforeStep step: Int) -> (signal: Double, spread: Double) {
    (steps[step].alphaBar.squareRoot(), (1 - steps[step].alphaBar).squareRoot())
  }

  /// PLMS.
  ///
  /// - Parameter again: the transfer of the first step's second time; nil is that of the first.
  package init(withoutRungeKutta steps: [Step], again: Reading? = nil, variance: Variance) {
    var (order, stages) = ([steps[0]], [Stage(0, steps[0], outputs: 1)])
    if steps.count > 1 {
      order.append(steps[1])
      stages.append(
        Stage(
          step: 0, reading: steps[1].reading, weights: (0.5, (0.5, 0, 0), 0), toSum: nil, keeps: false,
          startsHere: false, keepsStart: false, transfer: again ?? steps[0].transfer))
    }
    for i in steps.indices.dropFirst() {
      order.append(steps[i])
      stages.append(Stage(i, steps[i], outputs: min(i + 1, 4)))
    }
    self.init(
      evaluations: order.map { NetworkTime($0.time) }, stages: stages, clean: order.map(\.clean), steps: steps,
      variance: variance)
  }
  /// The x to start from again, the Runge-Kutta sum, and three outputs.
  public var memoryArrays: Int { 5 }

  public func cleanReading(at evaluation: Int) -> (noised: Double, output: Double)? {
    (clean[evaluation].noised, clean[evaluation].output)
  }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let stage = stages[evaluation]
    let (weights, kept) = (stage.weights, stage.weights.kept)
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    let count = shape.count
    for n in 0..<shape.samples {
      for i in 0..<size {
        let at = n * size + i
        let value = Double(x[at])
        let current = stage.reading.noised * value + stage.reading.output * Double(output[n * stride + i])
        var mixture = weights.current * current
        if weights.sum != 0 { mixture += weights.sum * Double(memory[count + at]) }
        if kept.0 != 0 { mixture += kept.0 * Double(memory[2 * count + at]) }
        if kept.1 != 0 { mixture += kept.1 * Double(memory[3 * count + at]) }
        if kept.2 != 0 { mixture += kept.2 * Double(memory[4 * count + at]) }
        if stage.keepsStart { memory[at] = x[at] }
        if let share = stage.toSum {
          let sum = stage.keepsStart ? 0 : Double(memory[count + at])
          memory[count + at] = Float(sum + share * current)
        }
        if stage.keeps {
          memory[4 * count + at] = memory[3 * count + at]
          memory[3 * count + at] = memory[2 * count + at]
          memory[2 * count + at] = Float(current)
        }
        let start = stage.startsHere ? value : Double(memory[at])
        x[at] = Float(stage.transfer.noised * start + stage.transfer.output * mixture)
      }
    }
  }
}

extension PNDMSampler.Stage {
  private static let adams: [(current: Double, kept: (Double, Double, Double), sum: Double)] = [
    (1, (0, 0, 0), 0), (3.0 / 2, (-1.0 / 2, 0, 0), 0), (23.0 / 12, (-16.0 / 12, 5.0 / 12, 0), 0),
    (55.0 / 24, (-59.0 / 24, 37.0 / 24, -9.0 / 24), 0),
  ]

  /// A step by Adams-Bashforth over `outputs` of them, this one included.
  fileprivate init(_ number: Int, _ step: PNDMSampler.Step, outputs: Int) {
    self.init(
      step: number, reading: step.reading, weights: Self.adams[outputs - 1], toSum: nil, keeps: true, startsHere: true,
      keepsStart: number == 0, transfer: step.transfer)
  }
}

/// The stages of PNDM over a table of training timesteps.
package struct PNDMPlan {
  /// ᾱ of a training timestep; of a negative one, where the last step ends.
  package let alphaBar: (Int) -> Double
  /// Whether the outputs that are mixed are velocities v, which become ε̂ with the x that the step starts from.
  package let mixesVelocities: Bool
  /// ε̂ (the velocity where those are mixed) and x̂_* at a training timestep.
  package let reading: (Int) -> Reading
  package let clean: (Int) -> Reading

  package init(
    alphaBar: @escaping (Int) -> Double, mixesVelocities: Bool, reading: @escaping (Int) -> Reading,
    clean: @escaping (Int) -> Reading
  ) {
    self.alphaBar = alphaBar
    self.mixesVelocities = mixesVelocities
    self.reading = reading
    self.clean = clean
  }

  /// From one training timestep to another, as noised·x + output·mixture.
  private func transfer(from: Int, to: Int) -> Reading {
    let (bar, next) = (alphaBar(from), alphaBar(to))
    let ratio = (next / bar).squareRoot()
    let ofEpsilon = (1 - next).squareRoot() - ratio * (1 - bar).squareRoot()
    guard mixesVelocities else { return Reading(noised: ratio, output: ofEpsilon) }
    return Reading(noised: ratio + ofEpsilon * (1 - bar).squareRoot(), output: ofEpsilon * bar.squareRoot())
  }

  private func step(from t: Int, to next: Int) -> PNDMSampler.Step {
    PNDMSampler.Step(
      time: t, alphaBar: alphaBar(t), reading: reading(t), clean: clean(t), transfer: transfer(from: t, to: next))
  }

  /// PLMS.
  ///
  /// - Parameters:
  ///   - kept: the timesteps from the noisiest down.
  ///   - next: where the step from each of them goes.
  ///   - again: where the second evaluation's step begins, which ends at `kept[1]`.
  package func withoutRungeKutta(
    kept: [Int], next: [Int], again: Int, variance: Variance
  ) -> PNDMSampler {
    PNDMSampler(
      withoutRungeKutta: zip(kept, next).map { step(from: $0, to: $1) },
      again: kept.count > 1 ? transfer(from: again, to: kept[1]) : nil, variance: variance)
  }

  /// F-PNDM.
  ///
  /// - Parameters:
  ///   - kept: the timesteps from the noisiest down, at least four.
  ///   - half: half of the stride.
  ///   - stride: of the later steps.
  package func withRungeKutta(kept: [Int], half: Int, stride: Int, variance: Variance) -> PNDMSampler {
    var (times, stages): ([Int], [PNDMSampler.Stage]) = ([], [])
    for step in 0..<3 {
      let (base, end) = (kept[step], kept[step + 1])
      let middle = end + half
      // Where each evaluation is, what it adds to the sum, and where x goes then.
      for (k, (t, to)) in [(base, base - half), (middle, middle), (middle, middle - half), (end, end)].enumerated() {
        times.append(t)
        stages.append(
          PNDMSampler.Stage(
            step: step, reading: reading(t), weights: k == 3 ? (1.0 / 6, (0, 0, 0), 1) : (1, (0, 0, 0), 0),
            toSum: k == 3 ? nil : k == 0 ? 1.0 / 6 : 1.0 / 3, keeps: k == 0, startsHere: k == 0, keepsStart: k == 0,
            transfer: transfer(from: base, to: to)))
      }
    }
    let steps = kept.indices.map { i in step(from: kept[i], to: i < 3 ? kept[i + 1] : kept[i] - stride) }
    for i in 3..<kept.count {
      times.append(kept[i])
      stages.append(PNDMSampler.Stage(i, steps[i], outputs: 4))
    }
    return PNDMSampler(
      evaluations: times.map { NetworkTime($0) }, stages: stages, clean: times.map(clean), steps: steps,
      variance: variance)
  }
}
