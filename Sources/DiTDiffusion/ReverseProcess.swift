// What all samplers have in common, and the loop that drives one.
//
// A sampler addresses steps by index i = 0…S−1 (S−1 the noisiest, walked first), owns no state, and the caller owns x.

/// A sampler: turns x at one noise level into x at the next lower one, given the network's output.
public protocol ReverseProcess: Sendable {
  /// The kept steps, ascending: what the network is asked at.
  var timesteps: [Int] { get }
  /// Whether the network's output has a variance half.
  var variance: Variance { get }
  /// Whether the step at `index` reads its noise.
  func needsNoise(at index: Int) -> Bool
  /// One step, in place. Allocates nothing.
  ///
  /// - Parameters:
  ///   - index: 0…S−1; a whole run goes downwards.
  ///   - x: (N, C, H, W), replaced.
  ///   - output: the network's at (x, τ_index), (N, C', H, W): ε, then v with `learned_range`.
  ///   - noise: N(0, 1), (N, C, H, W); not read (and may be empty) unless `needsNoise(at: index)`.
  func step(_ index: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>)
}

/// The samplers by name, as the command line and config.json's `sampling` block write them.
public enum SamplerName: String, CaseIterable, Sendable {
  case ddpm
  case ddim

  /// The sampler of that name on a respaced schedule.
  ///
  /// - Parameter eta: DDIM's η, 0 when nil.
  /// - Throws: `DiffusionError` when η is not in 0…1, or is given to a sampler which has none.
  public func sampler(on schedule: RespacedSchedule, eta: Double? = nil) throws(DiffusionError) -> any ReverseProcess {
    switch self {
    case .ddim: return try DDIMSampler(schedule, eta: eta ?? 0)
    case .ddpm:
      guard let eta else { return DDPMSampler(schedule) }
      throw DiffusionError("eta", expected: "none with the sampler ddpm", found: "\(eta)")
    }
  }
}

/// Where a run is.
public struct SamplingStep: Equatable, Sendable {
  /// 1…count in the order the steps are taken.
  public let number: Int
  /// S.
  public let count: Int
  /// The kept step's index, 0…S−1.
  public let index: Int
  /// τ_index: what the network is asked at.
  public let timestep: Int
}

extension ReverseProcess {
  /// Walks all S steps, from the noisiest to clean data.
  ///
  /// The output and noise buffers are allocated once; the steps themselves allocate nothing.
  /// - Parameters:
  ///   - x: (N, C, H, W): noise at first, samples at the end.
  ///   - predict: the network (with guidance, if any): fills the output (N, C', H, W) for x at the step's timestep.
  ///   - noise: fills N(0, 1) values (N, C, H, W); called only for the steps that need them.
  ///   - progress: called after each step with x as it then is; false stops.
  /// - Returns: whether all steps were taken.
  @discardableResult
  public func sample(
    _ x: inout MutableSpan<Float>, shape: BatchShape,
    predict: (_ x: Span<Float>, _ step: SamplingStep, _ output: inout MutableSpan<Float>) throws -> Void,
    noise: (_ step: SamplingStep, _ noise: inout MutableSpan<Float>) throws -> Void,
    progress: (_ step: SamplingStep, _ x: Span<Float>) -> Bool = { _, _ in true }
  ) rethrows -> Bool {
    let timesteps = timesteps
    let drawsNoise = timesteps.indices.contains { needsNoise(at: $0) }
    var outputs = [Float](repeating: 0, count: shape.outputCount(variance))
    var normals = [Float](repeating: 0, count: drawsNoise ? shape.count : 0)
    var output = outputs.mutableSpan
    var normal = normals.mutableSpan
    for index in timesteps.indices.reversed() {
      let step = SamplingStep(
        number: timesteps.count - index, count: timesteps.count, index: index, timestep: timesteps[index])
      try predict(x.span, step, &output)
      if needsNoise(at: index) { try noise(step, &normal) }
      self.step(index, x: &x, shape: shape, output: output.span, noise: normal.span)
      guard progress(step, x.span) else { return false }
    }
    return true
  }

  /// Traps unless the arguments of a step fit each other; `noise` is nil where none can be needed.
  func check(_ index: Int, _ x: Int, _ shape: BatchShape, _ output: Int, _ noise: Int?) {
    precondition(timesteps.indices ~= index, "step \(index) of \(timesteps.count)")
    shape.require("x", x, is: shape.count)
    shape.require("output", output, is: shape.outputCount(variance))
    if let noise, needsNoise(at: index) { shape.require("noise", noise, is: shape.count) }
  }
}

extension DDIMSampler {
  /// Runs DDIM backwards over all S steps: clean data becomes the noise that `sample` at η = 0 would start from.
  ///
  /// Exact as S grows; for few steps the round trip errs by how much ε̂ changes from one kept step to the next.
  /// Parameters and result are those of `sample`.
  @discardableResult
  public func invert(
    _ x: inout MutableSpan<Float>, shape: BatchShape,
    predict: (_ x: Span<Float>, _ step: SamplingStep, _ output: inout MutableSpan<Float>) throws -> Void,
    progress: (_ step: SamplingStep, _ x: Span<Float>) -> Bool = { _, _ in true }
  ) rethrows -> Bool {
    let timesteps = timesteps
    var outputs = [Float](repeating: 0, count: shape.outputCount(variance))
    var output = outputs.mutableSpan
    for index in timesteps.indices {
      let step = SamplingStep(number: index + 1, count: timesteps.count, index: index, timestep: timesteps[index])
      try predict(x.span, step, &output)
      invertStep(index, x: &x, shape: shape, output: output.span)
      guard progress(step, x.span) else { return false }
    }
    return true
  }
}
