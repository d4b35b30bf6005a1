// Heun's method on dx̄/dσ = ε̂ (Karras et al. 2022, algorithm 1 without churn), x̄ = x/signal: the mean of the slopes at both
// ends of a step, the second at the x̄ of an Euler step. The last step, to σ = 0, is Euler's: 2S − 1 evaluations.
//
// - matches diffusers' HeunDiscreteScheduler
// - a variance half of the output is not read

/// Heun's method on a β path.
public struct HeunSampler: SamplingProcess, Equatable {
  public let evaluations: [NetworkTime]
  public let variance: Variance
  public let startScale: Double
  private let grid: SolverGrid
  private let limit: CleanLimit?

  /// - Parameters:
  ///   - limit: of x̂_*; the slope then follows from the limited x̂_*.
  ///   - startScale: what N(0, 1) noise is multiplied by.
  package init(_ grid: SolverGrid, limit: CleanLimit? = nil, startScale: Double = 1) {
    self.grid = grid
    self.limit = limit
    self.startScale = startScale
    variance = grid.variance
    evaluations = (0..<2 * grid.count - 1).map { grid.times[($0 + 1) / 2] }
  }

  public func starting(at step: Int) -> HeunSampler {
    HeunSampler(grid.starting(at: step), limit: limit, startScale: startScale)
  }

  public func level(beforeStep step: Int) -> (signal: Double, spread: Double) { grid.level(beforeStep: step) }

  public var stepCount: Int { grid.count }
  public func step(ofEvaluation evaluation: Int) -> Int { evaluation / 2 }
  /// x_i and its slope, and room to sort in.
  public var memoryArrays: Int { 2 + (limit?.scratchArrays ?? 0) }

  public func cleanReading(at evaluation: Int) -> (noised: Double, output: Double)? {
    let reading = grid.clean[(evaluation + 1) / 2]
    return (reading.noised, reading.output)
  }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let (step, isFirst) = (evaluation / 2, evaluation % 2 == 0)
    let at = (evaluation + 1) / 2
    let (clean, epsilon, here) = (grid.clean[at], grid.epsilon[at], grid.levels[at])
    let (from, to) = (grid.levels[step], grid.levels[step + 1])
    let stride = to.sigma - from.sigma
    let size = shape.elementsPerSample
    let outputs = output.count / shape.samples
    for n in 0..<shape.samples {
      let first = n * size
      var bound: CleanLimit.Bound?
      if let limit {
        let scratch = 2 * shape.count + first
        bound = limit.bound(&memory, scratch..<scratch + size) { i in
          abs(Float(clean.noised * Double(x[first + i]) + clean.output * Double(output[n * outputs + i])))
        }
      }
      for i in 0..<size {
        let (value, out) = (Double(x[first + i]), Double(output[n * outputs + i]))
        var slope = epsilon.noised * value + epsilon.output * out
        if let bound {
          slope = (value - here.signal * bound.limited(clean.noised * value + clean.output * out)) / here.spread
        }
        var start = value
        if isFirst {
          memory[first + i] = x[first + i]
          memory[shape.count + first + i] = Float(slope)
        } else {
          start = Double(memory[first + i])
          slope = 0.5 * (Double(memory[shape.count + first + i]) + slope)
        }
        x[first + i] = Float(to.signal * (start / from.signal + stride * slope))
      }
    }
  }
}
