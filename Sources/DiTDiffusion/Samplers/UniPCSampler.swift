// UniPC (Zhao et al. 2023), order 2, B(h) = e^{−h} − 1 ("bh2"): multi-step, deterministic, one evaluation per step.
//
// - data prediction, as DPM-Solver++; the predictor UniP-2 is DPM-Solver++ 2M
// - each new output first corrects the x that it was evaluated at (UniC, of the order of the step that led there), then takes
//   the next step from there; the network is not evaluated again
// - the first step and the last are of order 1; the last, which is x̂_*, is not corrected
// - matches diffusers' UniPCMultistepScheduler (solver_order 2, bh2, lower_order_final, final_sigmas_type zero) on the same
//   kept steps for epsilon, sample and v_prediction
// - no thresholding, no σ grids, no order 3; a variance half of the output is not read

/// UniPC of order 2.
public struct UniPCSampler: ReverseProcess, Equatable {
  public let schedule: RespacedSchedule
  public let evaluations: [NetworkTime]
  private let integrator: ExponentialIntegrator

  public init(_ schedule: RespacedSchedule) { self.init(schedule, ExponentialIntegrator(schedule)) }

  /// With other orders than its own.
  package init(_ schedule: RespacedSchedule, _ integrator: ExponentialIntegrator) {
    self.schedule = schedule
    evaluations = schedule.evaluations
    self.integrator = integrator
  }

  public var stepCount: Int { schedule.count }
  public var variance: Variance { schedule.variance }
  /// The corrected x_{e−1}, m_{e−1} and m_{e−2}.
  public var memoryArrays: Int { 3 }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let clean = integrator.clean[evaluation]
    let step = integrator.predictor(evaluation)
    let correction = evaluation > 0 ? integrator.corrector(evaluation) : nil
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    let (previousAt, olderAt) = (shape.count, 2 * shape.count)
    for n in 0..<shape.samples {
      for i in 0..<size {
        let at = n * size + i
        var value = Double(x[at])
        let current = clean.noised * value + clean.output * Double(output[n * stride + i])
        if let correction {
          value = correction.last * Double(memory[at]) + correction.current * current
          value += correction.previous * Double(memory[previousAt + at])
          if correction.older != 0 { value += correction.older * Double(memory[olderAt + at]) }
        }
        var next = step.noised * value + step.current * current
        if step.previous != 0 { next += step.previous * Double(memory[previousAt + at]) }
        memory[at] = Float(value)
        memory[olderAt + at] = memory[previousAt + at]
        memory[previousAt + at] = Float(current)
        x[at] = Float(next)
      }
    }
  }
}
