// A linear path sampled: dx/ds from s = 1 (noise) to 0 on s_i = 1 − i/S. What dx/ds is of the network's output, and what time
// the network is told, the process says.
//
// - Euler: one evaluation per step; matches diffusers' FlowMatchEulerDiscreteScheduler given the same σ
// - Heun: the mean of the slopes at both ends, two evaluations per step, and one in the last, as networks are not trained at s = 0:
//   2S−1; matches diffusers' FlowMatchHeunDiscreteScheduler given the same σ. SiT's, torchdiffeq's, asks at s = 0 too: 2S
// - a start is ς·N(0,1)
// - MeanFlow: one evaluation per step, of a network whose slope is the mean one over the step that it is told the length of
// - a shift a of the grid: s' = s/(s + a(1−s)), more steps near noise where a < 1; no churn
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

  /// The grid's S+1 times as a network is told them.
  ///
  /// Those of `1000s` are rounded once. Those of `s` and `1-s` have the bits of torch.linspace in float32, which the code of SiT,
  /// LightningDiT, JiT and pMF takes them from; REPA's takes float64's, an ulp away at most. Whether a time that should be the
  /// end of a guidance interval lies above or below it hangs on those bits.
  /// - Parameters:
  ///   - count: S, at least 1.
  ///   - shift: a, above 0; of `1-s` t' = a t/(1 + (a−1) t) in float32, as LightningDiT computes it.
  public func networkGrid(_ count: Int, shift: Double = 1) -> [Float] {
    guard self != .thousandths else { return Self.grid(count, shift: shift).map { Float(time($0)) } }
    guard shift == 1 || self == .oneMinusS else { return Self.grid(count, shift: shift).map { Float($0) } }
    let even = Self.linspace(Float(time(1)), Float(time(0)), points: count + 1)
    guard shift != 1 else { return even }
    return even.map { t in Float(shift) * t / (1 + Float(shift - 1) * t) }
  }

  /// torch.linspace in float32: a fused multiple of the rounded stride, counted from the nearer end.
  ///
  /// - Parameter points: at least 2.
  static func linspace(_ first: Float, _ last: Float, points: Int) -> [Float] {
    precondition(points > 1, "\(points) points of a line")
    let stride = (last - first) / Float(points - 1)
    return (0..<points).map { i in
      i < points / 2 ? first.addingProduct(stride, Float(i)) : last.addingProduct(-stride, Float(points - 1 - i))
    }
  }

  /// s' = s/(s + a(1−s)) of ``grid(_:)``.
  static func grid(_ count: Int, shift: Double) -> [Double] {
    precondition(shift > 0, "a shift of \(shift)")
    let even = grid(count)
    return shift == 1 ? even : even.map { $0 / ($0 + shift * (1 - $0)) }
  }
}

/// How a linear path is walked, where models differ.
public struct FlowOptions: Equatable, Sendable {
  /// a of s' = s/(s + a(1−s)), above 0: below 1 there are more steps near noise. diffusers' `shift` is 1/a.
  public var shift: Double
  /// Whether Heun's last step has two evaluations too, the second at s = 0.
  public var correctsLastStep: Bool

  public init(shift: Double = 1, correctsLastStep: Bool = false) {
    (self.shift, self.correctsLastStep) = (shift, correctsLastStep)
  }
}

/// What the samplers of a linear path share: the grid, the network times of its points, and the slopes there.
struct FlowGrid: Equatable, Sendable {
  /// s_0 = 1 … s_S = 0.
  let times: [Double]
  /// The network times of all of them.
  let networkTimes: [NetworkTime]
  /// t_i − t_{i+1} as the network counts time, above 0.
  let networkStrides: [Float]
  /// dx/ds there.
  private let slopes: [Slope]
  /// ς.
  let noiseScale: Double

  /// - Precondition: the path is linear.
  init(_ process: DiffusionProcess, steps: Int, shift: Double = 1) {
    self.init(
      process, LinearTime.grid(steps, shift: shift), told: Self.linearTime(process).networkGrid(steps, shift: shift))
  }

  /// - Parameters:
  ///   - times: s, from 1 to 0.
  ///   - told: the same as the network counts time.
  init(_ process: DiffusionProcess, _ times: [Double], told: [Float]) {
    self.times = times
    networkTimes = zip(times, told).map { s, told in
      NetworkTime(value: told, index: process.networkTime(s: s).index)
    }
    networkStrides = zip(told, told.dropFirst()).map { abs($0 - $1) }
    slopes = times.map { s in Slope(process, s: s) }
    noiseScale = process.noiseScale
  }

  private init(_ grid: FlowGrid, droppingFirst dropped: Int) {
    times = Array(grid.times.dropFirst(dropped))
    networkTimes = Array(grid.networkTimes.dropFirst(dropped))
    networkStrides = Array(grid.networkStrides.dropFirst(dropped))
    slopes = Array(grid.slopes.dropFirst(dropped))
    noiseScale = grid.noiseScale
  }

  /// The steps from one on.
  ///
  /// - Precondition: `step` in 0…S−1.
  func starting(at step: Int) -> FlowGrid {
    precondition(0..<count ~= step, "step \(step) of \(count)")
    return FlowGrid(self, droppingFirst: step)
  }

  func level(beforeStep step: Int) -> (signal: Double, spread: Double) { (1 - times[step], times[step] * noiseScale) }

  static func linearTime(_ process: DiffusionProcess) -> LinearTime {
    guard let linearTime = process.linearTime else { preconditionFailure("path \(process.path.rawValue)") }
    return linearTime
  }

  /// S.
  var count: Int { times.count - 1 }
  /// s_{i+1} − s_i < 0.
  func stride(_ i: Int) -> Double { times[i + 1] - times[i] }
  func slope(_ i: Int) -> Slope { slopes[i] }

  /// dx/ds = noised·x + output·out.
  struct Slope: Equatable, Sendable {
    let noised, output: Double

    init(_ process: DiffusionProcess, s: Double) { (noised, output) = process.velocity(s: s) }

    @inline(__always)
    func callAsFunction(_ x: Float, _ out: Float) -> Double {
      noised == 0 ? output * Double(out) : noised * Double(x) + output * Double(out)
    }

    /// x + stride·dx/ds = kept·x + added·out: exactly out where the step lands on it.
    func step(_ stride: Double) -> (kept: Double, added: Double) { (1 + stride * noised, stride * output) }
  }
}

/// Euler's method: x + (s_{i+1} − s_i) dx/ds.
public struct FlowEulerSampler: SamplingProcess, Equatable {
  public let evaluations: [NetworkTime]
  public let variance: Variance
  public let startScale: Double
  fileprivate let grid: FlowGrid

  /// - Parameters:
  ///   - process: the path, and what the network says of it.
  ///   - steps: S, at least 1.
  ///   - shift: of the grid, see ``FlowOptions``.
  /// - Precondition: the path is linear.
  public init(_ process: DiffusionProcess, steps: Int, shift: Double = 1) {
    self.init(FlowGrid(process, steps: steps, shift: shift), process.schedule.variance)
  }

  private init(_ grid: FlowGrid, _ variance: Variance) {
    self.grid = grid
    self.variance = variance
    startScale = grid.noiseScale
    evaluations = grid.networkTimes.dropLast()
  }

  public func starting(at step: Int) -> FlowEulerSampler { FlowEulerSampler(grid.starting(at: step), variance) }
  public func level(beforeStep step: Int) -> (signal: Double, spread: Double) { grid.level(beforeStep: step) }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let (kept, added) = grid.slope(evaluation).step(grid.stride(evaluation))
    shape.forEachElement(output.count) { at, out in
      x[at] = Float(kept * Double(x[at]) + added * Double(output[out]))
    }
  }
}

/// MeanFlow (Geng et al. 2025): x + (s_{i+1} − s_i) u, u the mean of dx/ds over the step, as the network says that is told the
/// step's length.
///
/// Of a network that predicts x̂_* u is (x − x̂_*)/max(s, t_floor) (pixel MeanFlow, Lu et al. 2026): one step gives x̂_*.
public struct MeanFlowSampler: SamplingProcess, Equatable {
  private let euler: FlowEulerSampler

  /// - Parameters:
  ///   - process: the path, and what the network says of it.
  ///   - steps: S, at least 1.
  /// - Precondition: the path is linear.
  public init(_ process: DiffusionProcess, steps: Int) { self.init(FlowEulerSampler(process, steps: steps)) }

  private init(_ euler: FlowEulerSampler) { self.euler = euler }

  public func starting(at step: Int) -> MeanFlowSampler { MeanFlowSampler(euler.starting(at: step)) }
  public func level(beforeStep step: Int) -> (signal: Double, spread: Double) { euler.level(beforeStep: step) }

  public var evaluations: [NetworkTime] { euler.evaluations }
  public var variance: Variance { euler.variance }
  public var startScale: Double { euler.startScale }
  /// t_i − t_{i+1}.
  public func told(at evaluation: Int) -> Float { euler.grid.networkStrides[evaluation] }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    euler.advance(evaluation, x: &x, shape: shape, output: output, noise: noise, memory: &memory)
  }
}

/// Heun's method: x + (s_{i+1} − s_i)(u_i + u_{i+1})/2, u = dx/ds, u_{i+1} at the x of an Euler step.
public struct FlowHeunSampler: SamplingProcess, Equatable {
  public let evaluations: [NetworkTime]
  public let variance: Variance
  public let startScale: Double
  private let grid: FlowGrid
  private let options: FlowOptions

  /// - Parameters:
  ///   - process: the path, and what the network says of it.
  ///   - steps: S, at least 1; the network is evaluated 2S−1 times, or 2S.
  ///   - options: the grid's shift, and whether the last step is Heun's too.
  /// - Precondition: the path is linear.
  public init(_ process: DiffusionProcess, steps: Int, _ options: FlowOptions = FlowOptions()) {
    self.init(FlowGrid(process, steps: steps, shift: options.shift), process.schedule.variance, options)
  }

  private init(_ grid: FlowGrid, _ variance: Variance, _ options: FlowOptions) {
    self.grid = grid
    self.variance = variance
    self.options = options
    startScale = grid.noiseScale
    let steps = grid.count
    evaluations = (0..<(options.correctsLastStep ? 2 * steps : 2 * steps - 1)).map { grid.networkTimes[($0 + 1) / 2] }
  }

  public func starting(at step: Int) -> FlowHeunSampler {
    FlowHeunSampler(grid.starting(at: step), variance, options)
  }

  public func level(beforeStep step: Int) -> (signal: Double, spread: Double) { grid.level(beforeStep: step) }

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

  /// - Parameters:
  ///   - process: the path, and what the network says of it.
  ///   - steps: S, at least 1.
  ///   - shift: of the grid, see ``FlowOptions``.
  /// - Precondition: the path is linear.
  public init(_ process: DiffusionProcess, steps: Int, shift: Double = 1) {
    grid = FlowGrid(process, steps: steps, shift: shift)
    variance = process.schedule.variance
    noiseScale = process.noiseScale
    evaluations = grid.networkTimes.dropLast().reversed()
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
  func forEachElement(_ outputCount: Int, _ body: (_ at: Int, _ out: Int) -> Void) {
    let (size, stride) = (elementsPerSample, outputCount / samples)
    for n in 0..<samples {
      for i in 0..<size { body(n * size + i, n * stride + i) }
    }
  }
}
