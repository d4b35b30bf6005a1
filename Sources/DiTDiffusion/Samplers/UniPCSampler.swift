// UniPC (Zhao et al. 2023) of order 1 to 3, "bh1" or "bh2": multi-step, deterministic, one evaluation per step.
//
// - each new output first corrects the x that it was evaluated at (UniC, of the order of the step that led there), then takes
//   the next step from there (UniP); the network is not evaluated again
// - by default as diffusers' UniPCMultistepScheduler by its defaults: data prediction, order 2, bh2, the first step and the
//   last of order 1, to clean data; the predictor is then DPM-Solver++ 2M
// - a variance half of the output is not read

/// UniPC.
public struct UniPCSampler: SamplingProcess, Equatable {
  public let evaluations: [NetworkTime]
  public let variance: Variance
  private let grid: SolverGrid
  private let integrator: ExponentialIntegrator
  private let form: MultistepForm
  private let limit: CleanLimit?
  /// How many earlier outputs are kept.
  private let history: Int

  public init(_ schedule: RespacedSchedule) {
    let grid = SolverGrid(schedule)
    self.init(grid, ExponentialIntegrator(grid))
  }

  /// - Parameters:
  ///   - form: what m is, as the integrator has it.
  ///   - limit: of x̂_*, for data.
  package init(
    _ grid: SolverGrid, _ integrator: ExponentialIntegrator, form: MultistepForm = .data, limit: CleanLimit? = nil
  ) {
    self.grid = grid
    self.integrator = integrator
    self.form = form
    self.limit = form == .data ? limit : nil
    evaluations = grid.times
    variance = grid.variance
    history = integrator.correctors.contains { $0?.oldest ?? 0 != 0 } ? 3 : 2
  }

  public func starting(at step: Int) -> UniPCSampler {
    let rest = grid.starting(at: step)
    return UniPCSampler(rest, integrator.starting(at: step, on: rest), form: form, limit: limit)
  }

  public func level(beforeStep step: Int) -> (signal: Double, spread: Double) { grid.level(beforeStep: step) }

  public var stepCount: Int { grid.count }
  /// The corrected x_{e−1}, m_{e−1}, m_{e−2}, m_{e−3}, and room to sort in.
  public var memoryArrays: Int { 1 + history + (limit?.scratchArrays ?? 0) }

  public func cleanReading(at evaluation: Int) -> (noised: Double, output: Double)? {
    (grid.clean[evaluation].noised, grid.clean[evaluation].output)
  }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let reading = (form == .data ? grid.clean : grid.epsilon)[evaluation]
    let step = integrator.predictors[evaluation]
    let correction = integrator.correctors[evaluation]
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    let (previousAt, olderAt, oldestAt) = (shape.count, 2 * shape.count, 3 * shape.count)
    for n in 0..<shape.samples {
      let first = n * size
      var bound: CleanLimit.Bound?
      if let limit {
        let scratch = (1 + history) * shape.count + first
        bound = limit.bound(&memory, scratch..<scratch + size) { i in
          abs(Float(reading.noised * Double(x[first + i]) + reading.output * Double(output[n * stride + i])))
        }
      }
      for i in 0..<size {
        let at = first + i
        var value = Double(x[at])
        var current = reading.noised * value + reading.output * Double(output[n * stride + i])
        if let bound { current = bound.limited(current) }
        if let correction {
          value = correction.last * Double(memory[at]) + correction.current * current
          value += correction.previous * Double(memory[previousAt + at])
          if correction.older != 0 { value += correction.older * Double(memory[olderAt + at]) }
          if correction.oldest != 0 { value += correction.oldest * Double(memory[oldestAt + at]) }
        }
        var next = step.noised * value + step.current * current
        if step.previous != 0 { next += step.previous * Double(memory[previousAt + at]) }
        if step.older != 0 { next += step.older * Double(memory[olderAt + at]) }
        memory[at] = Float(value)
        if history > 2 { memory[oldestAt + at] = memory[olderAt + at] }
        memory[olderAt + at] = memory[previousAt + at]
        memory[previousAt + at] = Float(current)
        x[at] = Float(next)
      }
    }
  }
}
