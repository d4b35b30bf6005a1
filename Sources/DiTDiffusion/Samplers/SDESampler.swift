import DiTKernels

/// The reverse stochastic differential equation of a linear path by Euler–Maruyama, as SiT (Ma et al. 2024) and REPA (Yu et al.
/// 2025) sample by default.
///
/// With g² = 2s·ς² and the score −(x + (1−s)u)/(s·ς²) the drift is d = u − ½g²·score = (2−s)u + x, u = dx/ds, and a step is
///
///     x + (s_{i+1} − s_i) d + ς √(2 s_i (s_i − s_{i+1})) N(0, 1)
///
/// on s_i = 1 − 0.96 i/(S−1), i = 0…S−1; the last step goes from 0.04 to 0 by the drift alone.
public struct SDESampler: SamplingProcess, Equatable {
  public let evaluations: [NetworkTime]
  public let variance: Variance
  public let startScale: Double
  private let grid: FlowGrid

  /// s of the last evaluation.
  public static let lastTime = 0.04

  /// - Parameters:
  ///   - process: the path, and what the network says of it.
  ///   - steps: S, at least 2.
  /// - Precondition: the path is linear.
  public init(_ process: DiffusionProcess, steps: Int) {
    precondition(steps > 1, "\(steps) steps of an SDE")
    self.init(
      FlowGrid(process, Self.times(steps), told: Self.told(FlowGrid.linearTime(process), steps)),
      process.schedule.variance)
  }

  private init(_ grid: FlowGrid, _ variance: Variance) {
    self.grid = grid
    self.variance = variance
    startScale = grid.noiseScale
    evaluations = grid.networkTimes.dropLast()
  }

  public func starting(at step: Int) -> SDESampler { SDESampler(grid.starting(at: step), variance) }
  public func level(beforeStep step: Int) -> (signal: Double, spread: Double) { grid.level(beforeStep: step) }

  private static func times(_ steps: Int) -> [Double] {
    (0..<steps).map { 1 - (1 - lastTime) * Double($0) / Double(steps - 1) } + [0]
  }

  /// SiT takes its times from torch.linspace in float32, REPA in float64.
  private static func told(_ time: LinearTime, _ steps: Int) -> [Float] {
    guard time == .oneMinusS else { return times(steps).map { Float(time.time($0)) } }
    return LinearTime.linspace(0, Float(1 - lastTime), points: steps) + [1]
  }

  public func needsNoise(at evaluation: Int) -> Bool { evaluation < evaluations.count - 1 }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let (s, stride, slope) = (grid.times[evaluation], grid.stride(evaluation), grid.slope(evaluation))
    let deviation = needsNoise(at: evaluation) ? grid.noiseScale * (2 * s * -stride).squareRoot() : 0
    shape.forEachElement(output.count) { at, out in
      let mean = Double(x[at]) + stride * ((2 - s) * slope(x[at], output[out]) + Double(x[at]))
      x[at] = Float(deviation == 0 ? mean : mean + deviation * Double(noise[at]))
    }
  }
}
