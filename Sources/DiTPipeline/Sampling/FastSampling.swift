import DiTDiffusion
import DiTKernels
import DiTModel
import DiTTensor

/// The settings for speed that Documentation/SpeedAndQuality.md measures: what `dit sample --fast` takes.
extension ModelConfiguration {
  /// Few steps of a sampler of second order, and guidance where it serves.
  ///
  /// On a β path ten steps of UniPC (T where that is fewer) on `quadratic`, or on `leading` where an x̂_* at T−1 would be the
  /// network's output times more than 10³; on a linear path twelve of Heun. Guidance above 1 keeps an interval that the model
  /// has, and else holds where noise is between 0.27 and 5.1 times the signal (t = 80 … 570 of the published DiT). A network that
  /// is told guidance has settings of few steps of its own, and keeps them. UniPC on `quadratic` is this package's own also where
  /// a diffusers scheduler was saved: of that the β, the prediction and what it clips count, no keys of its solver.
  ///
  /// - Parameters:
  ///   - scale: the scale of guidance; nil is the model's.
  ///   - beginsWithPicture: whether the run begins with a picture, of which a strength leaves a part of the steps: they are then
  ///     `leading`, so that the strength is a share of the times too.
  /// - Throws: `DiTError` where the noise schedule does.
  public func fastSampling(
    scale: Double? = nil, beginsWithPicture: Bool = false
  ) throws(DiTError) -> SamplingConfiguration {
    var fast = sampling
    if let scale { fast.guidance.scale = scale }
    guard !network.isToldGuidance else { return fast }
    let process = try noise().process
    fast.sampler.tolerance = nil
    let isLinear = process.path == .linear
    fast.sampler.steps = max(1, min(isLinear ? 12 : 10, process.steps))
    if isLinear {
      fast.sampler.use(.heun)
      fast.sampler.schedule = .linspace
    } else {
      fast.sampler.use(.unipc)
      fast.sampler.eta = nil
      fast.sampler.schedule = process.isReadAtLastStep && !beginsWithPicture ? .quadratic : .leading
    }
    if fast.guidance.scale > 1, fast.guidance.interval == nil {
      fast.guidance.interval = process.times(ofNoise: Self.guidedNoise)
    }
    return fast
  }

  /// σ/α where guidance serves.
  private static let guidedNoise = 0.27...5.1
}

extension Precision {
  /// int8 where this CPU has products of it, else bf16 where it has those, else fp32.
  public static func fastest(on context: ComputeContext) -> Precision {
    context.hasNativeInt8 ? .int8 : context.hasNativeBF16 ? .bf16 : .fp32
  }
}

extension DiffusionProcess {
  /// Whether x̂_* at T−1 is not far larger than what the network puts out there.
  fileprivate var isReadAtLastStep: Bool {
    let last = networkTime(Float(steps - 1))
    return abs(clean(at: last).output) < 1000
  }

  /// The network's times at which noise is so many times the signal, ends included; nil where there are none.
  fileprivate func times(ofNoise ratios: ClosedRange<Double>) -> ClosedRange<Double>? {
    if let linearTime {
      let ends = [ratios.lowerBound, ratios.upperBound].map { linearTime.time($0 / ($0 + noiseScale)) }
      return min(ends[0], ends[1])...max(ends[0], ends[1])
    }
    let times = (0..<steps).filter { time in
      let level = schedule.level(at: time)
      return level.spread >= ratios.lowerBound * level.signal && level.spread <= ratios.upperBound * level.signal
    }
    guard let first = times.first, let last = times.last else { return nil }
    return Double(first)...Double(last)
  }
}
