// Where on the forward process a sample stands. Both processes are x = signal·x_* + spread·ε: a β schedule at a training
// index t with signal² + spread² = 1, a rectified flow at a real s with signal + spread = 1.

/// A time as the network takes it.
public struct NetworkTime: Hashable, Sendable {
  /// What the time embedding sees: t itself, or 1000·s of a flow.
  public let value: Float
  /// The training index 0…T−1, whose β and ᾱ diffusion-aware attention uses.
  public let index: Int

  public init(value: Float, index: Int) {
    self.value = value
    self.index = index
  }

  /// Training index t.
  public init(_ t: Int) { self.init(value: Float(t), index: t) }
}

/// A point of the forward process x = signal·x_* + spread·ε.
public struct NoiseLevel: Equatable, Sendable {
  public let time: NetworkTime
  /// √ᾱ_t, or 1−s of a flow.
  public let signal: Double
  /// √(1−ᾱ_t), or s.
  public let spread: Double

  public init(time: NetworkTime, signal: Double, spread: Double) {
    self.time = time
    self.signal = signal
    self.spread = spread
  }
}

extension NoiseSchedule {
  /// The level of training index t.
  ///
  /// - Precondition: t in 0…T−1, and the prediction is not `flow`.
  public func level(at t: Int) -> NoiseLevel {
    precondition(!configuration.isFlow, "a flow has no level at a training index")
    precondition(0..<steps ~= t, "timestep \(t) is not in 0…\(steps - 1)")
    let bar = alphasCumprod[t]
    return NoiseLevel(time: NetworkTime(t), signal: bar.squareRoot(), spread: (1 - bar).squareRoot())
  }

  /// The level of a flow at s in 0…1.
  ///
  /// - Precondition: the prediction is `flow`.
  public func level(atFlow s: Double) -> NoiseLevel {
    precondition(configuration.isFlow, "only a flow has levels at real times")
    precondition(0...1 ~= s, "s = \(s) is not in 0…1")
    return NoiseLevel(time: FlowSchedule.networkTime(s, steps: steps), signal: 1 - s, spread: s)
  }

  /// The level that a network time stands for: t of a β schedule (a whole number), 1000·s of a flow.
  ///
  /// - Precondition: `time` is in ``timeRange``.
  public func level(atNetworkTime time: Float) -> NoiseLevel {
    guard configuration.isFlow else { return level(at: Int(time)) }
    let s = Double(time) / FlowSchedule.timeScale
    return NoiseLevel(time: networkTime(time), signal: 1 - s, spread: s)
  }

  /// The network time with its training index. A time between two indices of a β schedule has the nearer one's.
  ///
  /// - Precondition: `time` is in ``timeRange``.
  public func networkTime(_ time: Float) -> NetworkTime {
    precondition(timeRange ~= time, "time \(time) is not in \(timeRange)")
    let index =
      configuration.isFlow
      ? FlowSchedule.trainingIndex(networkTime: time, steps: steps) : Int(time.rounded())
    return NetworkTime(value: time, index: index)
  }

  /// The times that the network knows: 0…T−1, or 0…1000 of a flow.
  public var timeRange: ClosedRange<Float> {
    0...(configuration.isFlow ? Float(FlowSchedule.timeScale) : Float(steps - 1))
  }

  /// Noises clean data: x = signal·x_* + spread·ε, every sample at its own level.
  ///
  /// Coefficients and products are in Double; each element is rounded once.
  /// - Parameters:
  ///   - clean: x_*, (N, …).
  ///   - noise: ε, the same shape.
  ///   - levels: of each of the N samples.
  ///   - noised: x, the same shape.
  public func addNoise(
    clean: Span<Float>, noise: Span<Float>, levels: [NoiseLevel], into noised: inout MutableSpan<Float>
  ) {
    precondition(
      clean.count == noise.count && clean.count == noised.count,
      "clean has \(clean.count) elements, noise \(noise.count), noised \(noised.count)")
    precondition(
      !levels.isEmpty && clean.count % levels.count == 0, "\(clean.count) elements cannot be \(levels.count) samples")
    let size = clean.count / levels.count
    for n in levels.indices {
      let (signal, spread) = (levels[n].signal, levels[n].spread)
      for i in n * size..<(n + 1) * size {
        noised[i] = Float(signal * Double(clean[i]) + spread * Double(noise[i]))
      }
    }
  }
}
