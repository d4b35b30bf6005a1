import DiTTensor

// Classifier-free guidance (Ho & Salimans 2022). ε_c is the network's answer for the label, ε_u for the null label.
// ε stands for what the network predicts: as ε̂ is affine in it, guiding the one is guiding the other.

/// ε̂ = ε_u + s(ε_c − ε_u) inside an interval of times, ε_c outside it.
public struct Guidance: Equatable, Sendable {
  /// s; 1 is the conditional network alone, 0 the unconditional one.
  public var scale: Double
  /// LO…HI in the network's time; nil is everywhere (Kynkäänniemi et al. 2024). That is the training index 0…T−1, or the real
  /// time of a linear path, compared in Float, as the network takes it.
  public var interval: ClosedRange<Double>?
  /// Which of its ends are guided.
  public var ends = IntervalEnds.closed
  /// How many of the C channels of ε are guided, the first ones; nil is all. 3 is the reference's quirk.
  public var channels: Int?
  /// Of so many guided evaluations that follow one another one computes ε_u; the others take ε_c − ε_u from it.
  public var every = 1

  public init(
    scale: Double, interval: ClosedRange<Double>? = nil, channels: Int? = nil, ends: IntervalEnds = .closed
  ) {
    self.scale = scale
    self.interval = interval
    self.channels = channels
    self.ends = ends
  }

  /// Which ends of an interval of times are guided: codebases differ, so it goes with a model's family.
  public enum IntervalEnds: String, CaseIterable, Sendable {
    /// LO ≤ t ≤ HI.
    case closed
    /// t < HI and t > LO, or LO is 0: JiT's (Li & He 2025).
    case jit
    /// LO ≤ t ≤ HI, t being the start of a step for all its evaluations, also Heun's at its end: REPA's (Yu et al. 2025).
    case closedByStep = "closed_by_step"

    /// Whether a time is guided.
    func contains(_ time: Float, _ low: Float, _ high: Float) -> Bool {
      switch self {
      case .closed, .closedByStep: low <= time && time <= high
      case .jit: time < high && (low == 0 || time > low)
      }
    }
  }

  /// Refuses values that a model with C channels cannot take.
  ///
  /// - Throws: `DiTError` when s is not finite or the guided channels are not in 1…C.
  public func validate(channels count: Int) throws(DiTError) {
    guard scale.isFinite else { throw DiTError(option: "guidance", expected: "a finite scale", found: "\(scale)") }
    if let channels, !(1...count ~= channels) {
      throw DiTError(option: "guidance_channels", expected: "1…\(count)", found: "\(channels)")
    }
    guard 1...1000 ~= every else { throw DiTError(option: "guidance_every", expected: "1…1000", found: "\(every)") }
  }

  /// Refuses an interval that the times of a process cannot lie in: one with ends between the whole times of a β path, or one
  /// above all times of a linear path.
  ///
  /// - Throws: `DiTError`.
  public func validate(_ process: DiffusionProcess) throws(DiTError) {
    guard let interval else { return }
    let greatest = process.timeRange.upperBound
    let isWhole =
      interval.lowerBound == interval.lowerBound.rounded() && interval.upperBound == interval.upperBound.rounded()
    let path = process.path
    guard path.hasWholeTimes ? isWhole : interval.lowerBound <= Double(greatest) else {
      throw DiTError(
        option: "guidance_interval",
        expected: path.hasWholeTimes ? "whole times, as path is \(path.rawValue)" : "times in 0…\(Int(greatest))",
        found: Self.text(interval))
    }
  }

  /// `LO,HI`, whole numbers without a fraction.
  public static func text(_ interval: ClosedRange<Double>) -> String {
    "\(text(interval.lowerBound)),\(text(interval.upperBound))"
  }

  package static func text(_ time: Double) -> String { Int(exactly: time).map { "\($0)" } ?? "\(time)" }

  /// Reads an interval as `LO,HI`.
  ///
  /// - Throws: `DiTError` when it is not two finite numbers with 0 ≤ LO ≤ HI.
  public static func interval(parsing text: String) throws(DiTError) -> ClosedRange<Double> {
    let words = text.split(separator: ",", omittingEmptySubsequences: false)
    guard words.count == 2, let low = Double(words[0]), let high = Double(words[1]), 0 <= low, low <= high,
      high.isFinite
    else {
      throw DiTError(option: "guidance_interval", expected: "LO,HI with 0 ≤ LO ≤ HI", found: "'\(text)'")
    }
    return low...high
  }

  /// Whether the unconditional pass is needed at t: s ≠ 1 and t inside the interval.
  public func isActive(at time: NetworkTime) -> Bool {
    guard scale != 1 else { return false }
    guard let interval else { return true }
    return ends.contains(time.value, Float(interval.lowerBound), Float(interval.upperBound))
  }

  /// Whether each evaluation computes the unconditional pass, of which these need it.
  public func computed(_ needed: [Bool]) -> [Bool] {
    var place = 0
    return needed.map { isNeeded in
      place = isNeeded ? place + 1 : 0
      return isNeeded && (place - 1) % every == 0
    }
  }

  /// The times that decide whether the evaluations of a sampler are guided, one each.
  public func decidingTimes(_ process: any ReverseProcess) -> [NetworkTime] {
    let times = process.evaluations
    guard ends == .closedByStep else { return times }
    var start = 0
    return times.indices.map { evaluation in
      if process.step(ofEvaluation: evaluation) != process.step(ofEvaluation: start) { start = evaluation }
      return times[start]
    }
  }

  /// Mixes the two passes' outputs, each (N, C', H, W).
  ///
  /// The guided ε channels become ε_u + s(ε_c − ε_u); the other ε channels and the variance channels are the conditional
  /// pass's. Arithmetic in Float, in the order of the formula.
  /// - Parameters:
  ///   - conditional: the output with the condition.
  ///   - unconditional: the output without it.
  ///   - shape: (N, C, H, W) of x.
  ///   - output: (N, C', H, W), C' = C or 2C.
  public func combine(
    conditional: Span<Float>, unconditional: Span<Float>, shape: BatchShape, into output: inout MutableSpan<Float>
  ) {
    let channels = channels ?? shape.channels
    precondition(
      conditional.count == unconditional.count && conditional.count == output.count,
      "conditional has \(conditional.count) elements, unconditional \(unconditional.count), output \(output.count)")
    precondition(
      output.count == shape.count || output.count == 2 * shape.count,
      "\(output.count) elements are neither one nor two times a batch \(shape)")
    precondition(1...shape.channels ~= channels, "\(channels) guided channels of \(shape.channels)")

    let scale = Float(scale)
    let stride = output.count / shape.samples
    let guided = channels * shape.area
    for n in 0..<shape.samples {
      let start = n * stride
      for i in start..<start + guided {
        output[i] = unconditional[i] + scale * (conditional[i] - unconditional[i])
      }
      for i in start + guided..<start + stride {
        output[i] = conditional[i]
      }
    }
  }
}
