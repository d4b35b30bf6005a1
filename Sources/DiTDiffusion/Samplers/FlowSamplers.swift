// Rectified flow sampled: dx/ds = u(x, s), the network's output, from s = 1 (noise) to 0 on s_i = 1 − i/S.
//
// - Euler: one evaluation per step; matches diffusers' FlowMatchEulerDiscreteScheduler given the same σ
// - Heun: the mean of the slopes at both ends, two evaluations per step, and one in the last, as networks are not trained at s = 0:
//   2S−1; matches diffusers' FlowMatchHeunDiscreteScheduler given the same σ
// - no shift of the grid, no churn

/// What flow samplers share: the grid and the network times of its points.
struct FlowGrid: Equatable, Sendable {
  /// s_0 = 1 … s_S = 0.
  let times: [Double]
  /// T, for the training indices.
  private let steps: Int

  init(_ schedule: NoiseSchedule, steps: Int) {
    precondition(schedule.configuration.isFlow, "the model's prediction is no flow")
    times = FlowSchedule.grid(steps)
    self.steps = schedule.steps
  }

  /// S.
  var count: Int { times.count - 1 }
  func networkTime(_ i: Int) -> NetworkTime { FlowSchedule.networkTime(times[i], steps: steps) }
  /// s_{i+1} − s_i < 0.
  func stride(_ i: Int) -> Double { times[i + 1] - times[i] }
}

/// Euler's method: x + (s_{i+1} − s_i) u.
public struct FlowEulerSampler: ReverseProcess, Equatable {
  public let evaluations: [NetworkTime]
  public let variance: Variance
  private let grid: FlowGrid

  /// - Parameter steps: S, at least 1.
  /// - Precondition: the schedule's prediction is `flow`.
  public init(_ schedule: NoiseSchedule, steps: Int) {
    let grid = FlowGrid(schedule, steps: steps)
    self.grid = grid
    variance = schedule.variance
    evaluations = (0..<steps).map(grid.networkTime)
  }

  public var stepCount: Int { grid.count }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let stride = grid.stride(evaluation)
    for at in 0..<shape.count { x[at] = Float(Double(x[at]) + stride * Double(output[at])) }
  }
}

/// Heun's method: x + (s_{i+1} − s_i)(u_i + u_{i+1})/2, u_{i+1} at the x of an Euler step.
public struct FlowHeunSampler: ReverseProcess, Equatable {
  public let evaluations: [NetworkTime]
  public let variance: Variance
  private let grid: FlowGrid

  /// - Parameter steps: S, at least 1; the network is evaluated 2S−1 times.
  /// - Precondition: the schedule's prediction is `flow`.
  public init(_ schedule: NoiseSchedule, steps: Int) {
    let grid = FlowGrid(schedule, steps: steps)
    self.grid = grid
    variance = schedule.variance
    evaluations = (0..<2 * steps - 1).map { grid.networkTime(($0 + 1) / 2) }
  }

  public var stepCount: Int { grid.count }
  public func step(ofEvaluation evaluation: Int) -> Int { evaluation / 2 }
  /// x_i and u_i.
  public var memoryArrays: Int { 2 }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let stride = grid.stride(evaluation / 2)
    let slopeAt = shape.count
    if evaluation % 2 == 0 {
      for at in 0..<shape.count {
        memory[at] = x[at]
        memory[slopeAt + at] = output[at]
        x[at] = Float(Double(x[at]) + stride * Double(output[at]))
      }
    } else {
      for at in 0..<shape.count {
        let slopes = Double(memory[slopeAt + at]) + Double(output[at])
        x[at] = Float(Double(memory[at]) + 0.5 * stride * slopes)
      }
    }
  }
}

/// Euler's method run backwards: from clean data at s = 0 to noise at 1.
///
/// Step i goes from s_{i+1} up to s_i by x_i = x_{i+1} − (s_{i+1} − s_i) u(x_{i+1}, s_i): the exact inverse of
/// ``FlowEulerSampler`` where u does not change from x_{i+1} to x_i, and it asks the network at the same times.
public struct FlowEulerInversion: ReverseProcess, Equatable {
  public let evaluations: [NetworkTime]
  public let variance: Variance
  private let grid: FlowGrid

  /// - Parameter steps: S, at least 1.
  /// - Precondition: the schedule's prediction is `flow`.
  public init(_ schedule: NoiseSchedule, steps: Int) {
    let grid = FlowGrid(schedule, steps: steps)
    self.grid = grid
    variance = schedule.variance
    evaluations = (0..<steps).reversed().map(grid.networkTime)
  }

  public var stepCount: Int { grid.count }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let stride = grid.stride(grid.count - 1 - evaluation)
    for at in 0..<shape.count { x[at] = Float(Double(x[at]) - stride * Double(output[at])) }
  }
}
