// DPM-Solver++ 2M (Lu et al. 2022b, algorithm 2): multi-step, deterministic, one evaluation per step.
//
// - data prediction: whatever the network predicts becomes x̂_*
// - order 2 by the midpoint rule through the last two x̂_*; order 1 in the first step, and in the last, which is x̂_*
// - matches diffusers' DPMSolverMultistepScheduler (dpmsolver++, solver_order 2, midpoint, lower_order_final,
//   final_sigmas_type zero) on the same kept steps for epsilon, sample and v_prediction; its own grids differ (they leave
//   the lowest step out)
// - no thresholding, no SDE form, no Karras or other σ grids; a variance half of the output is not read

/// DPM-Solver++ 2M.
public struct DPMSolverSampler: ReverseProcess, Equatable {
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
  /// m_{e−1}.
  public var memoryArrays: Int { 1 }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let clean = integrator.clean[evaluation]
    let step = integrator.predictor(evaluation)
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    for n in 0..<shape.samples {
      for i in 0..<size {
        let at = n * size + i
        let value = Double(x[at])
        let current = clean.noised * value + clean.output * Double(output[n * stride + i])
        var next = step.noised * value + step.current * current
        if step.previous != 0 { next += step.previous * Double(memory[at]) }
        memory[at] = Float(current)
        x[at] = Float(next)
      }
    }
  }
}
