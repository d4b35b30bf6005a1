// Where on the forward process a sample stands: x = signal·x_* + spread·ε, of a β path at a training index t with
// signal² + spread² = 1, of a linear path at a real s with signal = 1−s and spread = s·ς.

/// A time as the network takes it.
public struct NetworkTime: Hashable, Sendable {
  /// What the time embedding sees: t itself, or what a linear path counts in (``DiffusionProcess/linearTime``).
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
  /// √ᾱ_t, or 1−s of a linear path.
  public let signal: Double
  /// √(1−ᾱ_t), or s·ς.
  public let spread: Double

  public init(time: NetworkTime, signal: Double, spread: Double) {
    self.time = time
    self.signal = signal
    self.spread = spread
  }
}

extension NoiseSchedule {
  /// The β path's level of training index t.
  ///
  /// - Precondition: t in 0…T−1.
  public func level(at t: Int) -> NoiseLevel {
    precondition(configuration.path == .beta, "path \(configuration.path.rawValue) has no level at a training index")
    precondition(0..<steps ~= t, "timestep \(t) is not in 0…\(steps - 1)")
    let bar = alphasCumprod[t]
    return NoiseLevel(time: NetworkTime(t), signal: bar.squareRoot(), spread: (1 - bar).squareRoot())
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
