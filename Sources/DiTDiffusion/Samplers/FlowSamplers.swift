// A linear path sampled: dx/ds from s = 1 (noise) to 0 on s_i = 1 − i/S. What dx/ds is of the network's output, and what time
// the network is told, the process says.
//
// - Euler: one evaluation per step; matches diffusers' FlowMatchEulerDiscreteScheduler given the same σ
// - Heun: the mean of the slopes at both ends, two evaluations per step, and one in the last, as networks are not trained at s = 0:
//   2S−1; matches diffusers' FlowMatchHeunDiscreteScheduler given the same σ
// - a start is ς·N(0,1)
// - no shift of the grid, no churn
// - where the output has twice the channels, its second half is not read

import DiTKernels

extension LinearTime {
  /// s_0 = 1, …, s_i = 1 − i/S, …, s_S = 0: S+1 numbers, each the nearest Double to its fraction.
  ///
  /// - Parameter count: S, at least 1.
  public static func grid(_ count: Int) -> [Double] {
    precondition(count > 0, "a grid of \(count) steps")
    return (0...count).map { Double(count - $0) / Double(count) }
  }
}

/// What the samplers of a linear path share: the grid, the network times of its points, and the slopes there.
struct FlowGrid: Equatable, Sendable {
  /// s_0 = 1 … s_S = 0.
  let times: [Double]
  /// The network times of all but the last.
  let networkTimes: [NetworkTime]
  /// dx/ds there.
  private let slopes: [Slope]

  /// - Precondition: the path is linear.
  init(_ process: DiffusionProcess, steps: Int) {
    times = LinearTime.grid(steps)
    networkTimes = times.dropLast().map { process.networkTime(s: $0) }
    slopes = times.dropLast().map { s in
      let (noised, output) = process.velocity(s: s)
      return Slope(noised: noised, output: output)
    }
  }

  /// S.
  var count: Int { times.count - 1 }
  /// s_{i+1} − s_i < 0.
  func stride(_ i: Int) -> Double { times[i + 1] - times[i] }
  func slope(_ i: Int) -> Slope { slopes[i] }

  /// dx/ds = noised·x + output·out.
  struct Slope: Equatable, Sendable {
    let noised, output: Double

    @inline(__always)
    func callAsFunction(_ x: Float, _ out: Float) -> Double {
      noised == 0 ? output * Double(out) : noised * Double(x) + output * Double(out)
    }
  }
}

/// Euler's method: x + (s_{i+1} − s_i) dx/ds.
public struct FlowEulerSampler: ReverseProcess, Equatable {
  public let evaluations: [NetworkTime]
  public let variance: Variance
  public let startScale: Double
  private let grid: FlowGrid

  /// - Parameter steps: S, at least 1.
  /// - Precondition: the path is linear.
  public init(_ process: DiffusionProcess, steps: Int) {
    grid = FlowGrid(process, steps: steps)
    variance = process.schedule.variance
    startScale = process.noiseScale
    evaluations = grid.networkTimes
  }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let (stride, slope) = (grid.stride(evaluation), grid.slope(evaluation))
    shape.forEachElement(output.count) { at, out in
      x[at] = Float(Double(x[at]) + stride * slope(x[at], output[out]))
    }
  }
}

/// Heun's method: x + (s_{i+1} − s_i)(u_i + u_{i+1})/2, u = dx/ds, u_{i+1} at the x of an Euler step.
public struct FlowHeunSampler: ReverseProcess, Equatable {
  public let evaluations: [NetworkTime]
  public let variance: Variance
  public let startScale: Double
  private let grid: FlowGrid

  /// - Parameter steps: S, at least 1; the network is evaluated 2S−1 times.
  /// - Precondition: the path is linear.
  public init(_ process: DiffusionProcess, steps: Int) {
    let grid = FlowGrid(process, steps: steps)
    self.grid = grid
    variance = process.schedule.variance
    startScale = process.noiseScale
    evaluations = (0..<2 * steps - 1).map { grid.networkTimes[($0 + 1) / 2] }
  }

  public var stepCount: Int { grid.count }
  public func step(ofEvaluation evaluation: Int) -> Int { evaluation / 2 }
  /// x_i and the output there.
  public var memoryArrays: Int { 2 }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let (step, outputAt) = (evaluation / 2, shape.count)
    let (stride, first) = (grid.stride(step), grid.slope(step))
    if evaluation % 2 == 0 {
      shape.forEachElement(output.count) { at, out in
        memory[at] = x[at]
        memory[outputAt + at] = output[out]
        x[at] = Float(Double(x[at]) + stride * first(x[at], output[out]))
      }
    } else {
      let second = grid.slope(step + 1)
      shape.forEachElement(output.count) { at, out in
        let slopes = first(memory[at], memory[outputAt + at]) + second(x[at], output[out])
        x[at] = Float(Double(memory[at]) + 0.5 * stride * slopes)
      }
    }
  }
}

/// Euler's method run backwards: from clean data at s = 0 to ε = x/ς at 1.
///
/// Step i goes from s_{i+1} up to s_i by x_i = x_{i+1} − (s_{i+1} − s_i) u(x_{i+1}, s_i): the exact inverse of
/// ``FlowEulerSampler`` where u does not change from x_{i+1} to x_i, and it asks the network at the same times.
public struct FlowEulerInversion: ReverseProcess, Equatable {
  public let evaluations: [NetworkTime]
  public let variance: Variance
  private let grid: FlowGrid
  private let noiseScale: Double

  /// - Parameter steps: S, at least 1.
  /// - Precondition: the path is linear.
  public init(_ process: DiffusionProcess, steps: Int) {
    grid = FlowGrid(process, steps: steps)
    variance = process.schedule.variance
    noiseScale = process.noiseScale
    evaluations = grid.networkTimes.reversed()
  }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let step = grid.count - 1 - evaluation
    let (stride, slope) = (grid.stride(step), grid.slope(step))
    let divisor = step == 0 ? noiseScale : 1
    shape.forEachElement(output.count) { at, out in
      x[at] = Float((Double(x[at]) - stride * slope(x[at], output[out])) / divisor)
    }
  }
}

extension BatchShape {
  /// Every element of x with the element of an output (N, C', H, W) that is its prediction.
  @inline(__always)
  fileprivate func forEachElement(_ outputCount: Int, _ body: (_ at: Int, _ out: Int) -> Void) {
    let (size, stride) = (elementsPerSample, outputCount / samples)
    for n in 0..<samples {
      for i in 0..<size { body(n * size + i, n * stride + i) }
    }
  }
}
