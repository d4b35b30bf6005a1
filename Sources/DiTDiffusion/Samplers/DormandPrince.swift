import DiTKernels
import DiTTensor
import Foundation

/// How far a step of an adaptive sampler may be off: in each element atol + rtol·|x|, in the root mean square of an image.
public struct StepTolerance: Equatable, Sendable {
  public var relative, absolute: Double

  /// SiT's.
  public static let standard = StepTolerance(relative: 1e-3, absolute: 1e-6)

  /// - Parameters:
  ///   - relative: rtol, 0…1.
  ///   - absolute: atol, above 0, at most 1.
  public init(relative: Double, absolute: Double) { (self.relative, self.absolute) = (relative, absolute) }

  /// Refuses what no step can keep.
  ///
  /// - Throws: `DiTError`.
  public func validate() throws(DiTError) {
    guard (0...1).contains(relative), absolute >= 1e-12, absolute <= 1 else {
      throw DiTError(option: "tolerance", expected: "RTOL,ATOL with RTOL in 0…1 and ATOL in 1e-12…1", found: text)
    }
  }

  /// `RTOL,ATOL`.
  public var text: String { "\(relative),\(absolute)" }

  /// Reads `RTOL,ATOL`.
  ///
  /// - Throws: `DiTError` when it is not two numbers in their ranges.
  public init(parsing text: String) throws(DiTError) {
    let words = text.split(separator: ",", omittingEmptySubsequences: false)
    guard words.count == 2, let relative = Double(words[0]), let absolute = Double(words[1]) else {
      throw DiTError(option: "tolerance", expected: "RTOL,ATOL, such as 1e-3,1e-6", found: "'\(text)'")
    }
    self.init(relative: relative, absolute: absolute)
    try validate()
  }
}

/// One image on its way along a linear path's ordinary differential equation by the method of Dormand and Prince (1980), order
/// 5(4), with steps as long as a tolerance allows.
///
/// It walks τ = 1 − s from noise at 0 to data at 1, and asks for dx/dτ at one (τ, x) after another:
///
///     while let question = image.question { image.take(slope at question.time of image.x) }
///
/// Step control is torchdiffeq's, which SiT's code samples with: the first step by Hairer, Nørsett and Wanner (II.4), a step
/// is taken where the error's root mean square is at most 1, the next one is 0.9·error^(−1/5) times as long, between a fifth
/// (a taken one is never shortened) and ten times. A step may go beyond τ = 1, so that a network is asked there too; the
/// result is then the value at 1 of the polynomial of degree 4 through the step (Shampine 1986).
///
/// The state is float32, sums are Double. Allocates nothing after its start.
public struct DormandPrince: Sendable {
  /// What is asked next.
  private enum Stage: Equatable {
    /// dx/dτ at the start.
    case start
    /// The same a small step on, which says how long the first step may be.
    case probe(step: Double)
    /// k_{i+1} of a step, i in 0…5.
    case step(Int)
    case finished
  }

  private let tolerance: StepTolerance
  private var stage = Stage.start
  /// The start of the step, and its length.
  private var start: Double
  private var length = 0.0
  /// x at its start, and where the slope is asked for.
  private var base: [Float]
  private var asked: [Float]
  /// k_1, dx/dτ at the start of the step, and k_2 … k_7.
  private var first: [Float]
  private var slopes: [[Float]]
  /// No network needs more: SiT's take some tens.
  public static let maximumSteps = 10_000
  /// Steps that were taken, and tried.
  public private(set) var taken = 0
  public private(set) var tried = 0

  /// - Parameters:
  ///   - x: at the first τ, the elements of one image.
  ///   - begin: the first τ, 0 up to but not 1.
  ///   - tolerance: in its ranges.
  public init(_ x: [Float], from begin: Double = 0, tolerance: StepTolerance) {
    precondition(0..<1 ~= begin, "a start at \(begin)")
    self.tolerance = tolerance
    start = begin
    base = x
    asked = x
    first = [Float](repeating: 0, count: x.count)
    slopes = [[Float]](repeating: first, count: 6)
  }

  public var isFinished: Bool { stage == .finished }

  /// τ where dx/dτ is asked for, at ``x``. Beyond 1 by up to the length of a step.
  public var time: Double {
    switch stage {
    case .start, .finished: start
    case .probe(let step): start + step
    case .step(let i): start + Self.nodes[i] * length
    }
  }

  /// Where it is asked for.
  public var x: [Float] { asked }

  /// How far the image has come: τ of the last step taken, x there and dx/dτ there; at the end 1 and the sample.
  public var reached: Double { min(1, start) }
  public var state: [Float] { base }
  public var slope: [Float] { first }

  /// Goes on with dx/dτ at (``time``, ``x``).
  ///
  /// - Throws: `DiTError` where steps become too short, or too many: the tolerance is out of float32's reach.
  public mutating func take(_ slope: Span<Float>) throws(DiTError) {
    precondition(slope.count == base.count, "\(slope.count) slopes of \(base.count) elements")
    switch stage {
    case .finished: preconditionFailure("a slope after the end")
    case .start:
      for i in base.indices { first[i] = slope[i] }
      let step = probeStep()
      stage = .probe(step: step)
      for i in base.indices { asked[i] = Float(Double(base[i]) + step * Double(slope[i])) }
    case .probe(let step):
      copy(slope, 0)
      length = firstStep(probe: step)
      try begin()
    case .step(let i):
      copy(slope, i)
      if i < 5 { ask(i + 1) } else { try finishStep() }
    }
  }

  private mutating func copy(_ slope: Span<Float>, _ index: Int) {
    for i in base.indices { slopes[index][i] = slope[i] }
  }

  // MARK: The first step

  /// atol + rtol·|x|.
  @inline(__always)
  private func scale(_ x: Float) -> Double { tolerance.absolute + tolerance.relative * Double(abs(x)) }

  /// √(mean e_i²).
  @inline(__always)
  private func norm(_ element: (Int) -> Double) -> Double {
    var sum = 0.0
    for i in base.indices {
      let value = element(i)
      sum += value * value
    }
    return (sum / Double(max(1, base.count))).squareRoot()
  }

  private func probeStep() -> Double {
    let (size, speed) = (
      norm { Double(base[$0]) / scale(base[$0]) }, norm { Double(first[$0]) / scale(base[$0]) }
    )
    return size < 1e-5 || speed < 1e-5 ? 1e-6 : 0.01 * size / speed
  }

  private func firstStep(probe: Double) -> Double {
    let speed = norm { Double(first[$0]) / scale(base[$0]) }
    let bend = norm { (Double(slopes[0][$0]) - Double(first[$0])) / scale(base[$0]) } / probe
    let step =
      speed <= 1e-15 && bend <= 1e-15 ? max(1e-6, probe * 1e-3) : pow(0.01 / max(speed, bend), 1 / Double(Self.order))
    return min(100 * probe, step)
  }

  // MARK: Steps

  private mutating func begin() throws(DiTError) {
    guard length.isFinite, start + length > start, tried < Self.maximumSteps else {
      throw DiTError(
        option: "tolerance",
        expected: "one that \(Self.maximumSteps) steps in float32 can keep, of which \(tried) came to \(start) of 1",
        found: tolerance.text)
    }
    tried += 1
    ask(0)
  }

  /// Asks for k_{i+2}.
  private mutating func ask(_ i: Int) {
    stage = .step(i)
    let weights = Self.weights[i]
    for e in base.indices {
      var sum = weights[0] * Double(first[e])
      for k in weights.indices.dropFirst() where weights[k] != 0 { sum += weights[k] * Double(slopes[k - 1][e]) }
      asked[e] = Float(Double(base[e]) + length * sum)
    }
  }

  /// The sum of all slopes with these weights.
  @inline(__always)
  private func sum(_ weights: [Double], _ e: Int) -> Double {
    var sum = weights[0] * Double(first[e])
    for k in 1..<7 { sum += weights[k] * Double(slopes[k - 1][e]) }
    return sum
  }

  private mutating func finishStep() throws(DiTError) {
    let error = norm { e in
      length * sum(Self.errorWeights, e)
        / (tolerance.absolute + tolerance.relative * Double(max(abs(base[e]), abs(asked[e]))))
    }
    let (from, step) = (start, length)
    let isTaken = error <= 1
    length *= error == 0 ? 10 : min(10, max(0.9 / pow(error, 1 / Double(Self.order)), error < 1 ? 1 : 0.2))
    guard isTaken else { return try begin() }
    taken += 1
    start = from + step
    if start >= 1 {
      interpolate(at: (1 - from) / step, step)
      stage = .finished
      return
    }
    for e in base.indices {
      base[e] = asked[e]
      first[e] = slopes[5][e]
    }
    try begin()
  }

  /// x at a share of the step, from its ends, its middle, and the slopes at its ends.
  private mutating func interpolate(at share: Double, _ step: Double) {
    for e in base.indices {
      let (y0, y1) = (Double(base[e]), Double(asked[e]))
      let (f0, f1) = (step * Double(first[e]), step * Double(slopes[5][e]))
      let middle = y0 + step * sum(Self.middleWeights, e)
      let fourth = 2 * (f1 - f0) - 8 * (y1 + y0) + 16 * middle
      let third = 5 * f0 - 3 * f1 + 18 * y0 + 14 * y1 - 32 * middle
      let second = f1 - 4 * f0 - 11 * y0 - 5 * y1 + 16 * middle
      base[e] = Float(y0 + share * (f0 + share * (second + share * (third + share * fourth))))
      first[e] = slopes[5][e]
    }
  }

  // MARK: The method's numbers

  private static let order = 5
  private static let nodes: [Double] = [1.0 / 5, 3.0 / 10, 4.0 / 5, 8.0 / 9, 1, 1]
  private static let weights: [[Double]] = [
    [1.0 / 5] as [Double], [3.0 / 40, 9.0 / 40] as [Double], [44.0 / 45, -56.0 / 15, 32.0 / 9] as [Double],
    [19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729] as [Double],
    [9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656] as [Double], fifth,
  ]
  /// Of order 5; k_7 is the slope at the end.
  private static let fifth: [Double] = [35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84]
  /// Of order 4 (Shampine 1986).
  private static let fourth: [Double] = [
    1951.0 / 21600, 0, 22642.0 / 50085, 451.0 / 720, -12231.0 / 42400, 649.0 / 6300, 1.0 / 60,
  ]
  private static let errorWeights: [Double] = fourth.indices.map { ($0 < 6 ? fifth[$0] : 0) - fourth[$0] }
  /// Twice those of the middle of the step (Shampine 1986).
  private static let middle: [Double] = [
    6_025_192_743.0 / 30_085_553_152.0, 0, 51_252_292_925.0 / 65_400_821_598.0, -2_691_868_925.0 / 45_128_329_728.0,
    187_940_372_067.0 / 1_594_534_317_056.0, -1_776_094_331.0 / 19_743_644_256.0, 11_237_099.0 / 235_043_384.0,
  ]
  private static let middleWeights: [Double] = middle.map { $0 / 2 }
}
