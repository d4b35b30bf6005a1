// What all samplers have in common, and the loop that drives one.
//
// A run asks the network for evaluations e = 0, 1, … in a fixed order that is known beforehand; a step takes one of them,
// or several (Heun, PNDM). A sampler owns no state: the caller owns x and the memory that multi-step samplers keep between
// evaluations. Image n of a batch depends on nothing but its own x, outputs and noise.

/// A sampler: turns x at one noise level into x at the next, given the network's outputs.
public protocol ReverseProcess: Sendable {
  /// The network times of the evaluations, in order.
  var evaluations: [NetworkTime] { get }
  /// What the network's time embedding is told at an evaluation: the time, or t − r of a step to r for a network that is told
  /// that instead.
  func told(at evaluation: Int) -> Float
  /// S.
  var stepCount: Int { get }
  /// Which step, 0…S−1 in the order taken, an evaluation belongs to.
  func step(ofEvaluation evaluation: Int) -> Int
  /// Whether the network's output has a variance half.
  var variance: Variance { get }
  /// How many arrays (N, C, H, W) it keeps from one evaluation to the next.
  var memoryArrays: Int { get }
  /// Whether the evaluation reads noise.
  func needsNoise(at evaluation: Int) -> Bool
  /// What N(0, 1) noise is multiplied by to start from.
  var startScale: Double { get }
  /// x̂_* = noised·x + output·out at an evaluation; nil where the model's schedule says it.
  func cleanReading(at evaluation: Int) -> (noised: Double, output: Double)?
  /// Goes on with the output of one evaluation, in place. Allocates nothing.
  ///
  /// - Parameters:
  ///   - evaluation: 0, 1, … in order.
  ///   - x: (N, C, H, W), what the network was asked about; replaced by what it is to be asked about next, or at the end by
  ///     the sample.
  ///   - shape: (N, C, H, W) of x.
  ///   - output: the network's, (N, C', H, W): the prediction, then v with `learned_range`.
  ///   - noise: N(0, 1), (N, C, H, W); not read (and may be empty) unless `needsNoise(at: evaluation)`.
  ///   - memory: ``memoryArrays`` times (N, C, H, W), as the evaluation before left it; anything at first.
  func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>)
}

/// A sampler that goes from noise to data, and can begin on its way there.
public protocol SamplingProcess: ReverseProcess {
  /// x = signal·x_* + spread·ε before a step.
  ///
  /// - Parameter step: 0…S−1 in the order taken.
  func level(beforeStep step: Int) -> (signal: Double, spread: Double)
  /// The steps from one on, as if there had been none before: a multi-step solver begins again with order 1.
  ///
  /// - Parameter step: 0…S−1; from 0 on they are all of them.
  func starting(at step: Int) -> Self
}

extension ReverseProcess {
  public func told(at evaluation: Int) -> Float { evaluations[evaluation].value }
  public var stepCount: Int { evaluations.count }
  public func step(ofEvaluation evaluation: Int) -> Int { evaluation }
  public var memoryArrays: Int { 0 }
  public func needsNoise(at evaluation: Int) -> Bool { false }
  public var startScale: Double { 1 }
  public func cleanReading(at evaluation: Int) -> (noised: Double, output: Double)? { nil }

  /// The network time of the first evaluation of each step.
  public var stepTimes: [NetworkTime] {
    let evaluations = evaluations
    return evaluations.indices.filter { $0 == 0 || step(ofEvaluation: $0 - 1) != step(ofEvaluation: $0) }
      .map { evaluations[$0] }
  }
}

/// Where a run is.
public struct SamplingStep: Equatable, Sendable {
  /// 1…count in the order the steps are taken.
  public let number: Int
  /// S.
  public let count: Int
  /// The evaluation, 0 for the first; after a step its last one.
  public let evaluation: Int
  /// The network time of that evaluation.
  public let time: NetworkTime

  package init(number: Int, count: Int, evaluation: Int, time: NetworkTime) {
    (self.number, self.count, self.evaluation, self.time) = (number, count, evaluation, time)
  }
}

extension ReverseProcess {
  /// Walks all S steps.
  ///
  /// Outputs, noise and memory are allocated once; the steps themselves allocate nothing.
  /// - Parameters:
  ///   - x: (N, C, H, W): noise at first, samples at the end (of an inversion the other way round).
  ///   - shape: (N, C, H, W) of x.
  ///   - predict: the network (with guidance, if any): fills the output (N, C', H, W) for x at the evaluation's time.
  ///   - noise: fills N(0, 1) values (N, C, H, W); called only where they are needed.
  ///   - finish: called after each step with x, which it may change.
  ///   - progress: called after that with x as it then is; false stops.
  /// - Returns: whether all steps were taken.
  @discardableResult
  public func sample(
    _ x: inout MutableSpan<Float>, shape: BatchShape,
    predict: (_ x: Span<Float>, _ step: SamplingStep, _ output: inout MutableSpan<Float>) throws -> Void,
    noise: (_ step: SamplingStep, _ noise: inout MutableSpan<Float>) throws -> Void,
    finish: (_ step: SamplingStep, _ x: inout MutableSpan<Float>) -> Void = { _, _ in },
    progress: (_ step: SamplingStep, _ x: Span<Float>) -> Bool = { _, _ in true }
  ) rethrows -> Bool {
    let evaluations = evaluations
    let drawsNoise = evaluations.indices.contains { needsNoise(at: $0) }
    var outputs = [Float](repeating: 0, count: shape.outputCount(variance))
    var normals = [Float](repeating: 0, count: drawsNoise ? shape.count : 0)
    var memories = [Float](repeating: 0, count: memoryArrays * shape.count)
    var output = outputs.mutableSpan
    var normal = normals.mutableSpan
    var memory = memories.mutableSpan
    for e in evaluations.indices {
      let number = step(ofEvaluation: e) + 1
      let step = SamplingStep(number: number, count: stepCount, evaluation: e, time: evaluations[e])
      try predict(x.span, step, &output)
      if needsNoise(at: e) { try noise(step, &normal) }
      advance(e, x: &x, shape: shape, output: output.span, noise: normal.span, memory: &memory)
      let isLast = e == evaluations.count - 1 || self.step(ofEvaluation: e + 1) + 1 != number
      guard isLast else { continue }
      finish(step, &x)
      guard progress(step, x.span) else { return false }
    }
    return true
  }

  /// Traps unless the arguments of `advance` fit each other.
  func check(_ evaluation: Int, _ x: Int, _ shape: BatchShape, _ output: Int, _ noise: Int, _ memory: Int) {
    precondition(evaluations.indices ~= evaluation, "evaluation \(evaluation) of \(evaluations.count)")
    shape.require("x", x, is: shape.count)
    shape.require("output", output, is: shape.outputCount(variance))
    shape.require("memory", memory, is: memoryArrays * shape.count)
    if needsNoise(at: evaluation) { shape.require("noise", noise, is: shape.count) }
  }
}
