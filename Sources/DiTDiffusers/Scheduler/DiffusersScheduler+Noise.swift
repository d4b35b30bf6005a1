// β and ᾱ as diffusers has them. Its tensors are float32: torch.linspace, 1 − β and ᾱ are rounded, and where 1 − ᾱ is small
// that is seen in the samples, so the same is done here; all that follows from ᾱ is in Double.

import DiTDiffusion
import DiTTensor
import Foundation

extension DiffusersScheduler {
  /// The process that the model was trained for, as config.json states it.
  ///
  /// `trained_betas`, and β of schedules that only diffusers has, have no place there: ``noise(_:)`` knows them.
  /// - Throws: `DiTError` naming the key, for a schedule or prediction that is not here.
  public func diffusion(_ variance: Variance) throws(DiTError) -> DiffusionConfiguration {
    let predictions: [String: Prediction] = [
      "epsilon": .epsilon, "sample": .x0, "original_sample": .x0, "v_prediction": .v,
    ]
    guard let prediction = predictions[predictionType] else {
      throw DiTError(
        scheduler: "prediction_type", expected: "epsilon, sample or v_prediction", found: predictionType)
    }
    guard let schedule = DiffusersBetas(rawValue: betaSchedule) else {
      throw DiTError(
        scheduler: "beta_schedule", expected: DiffusersBetas.allCases.map(\.rawValue).joined(separator: ", "),
        found: betaSchedule)
    }
    // Ours are stated for T = 1000.
    let scale = Double(trainSteps) / 1000
    let (start, end) = betaEnds(sampler)
    return DiffusionConfiguration(
      steps: trainSteps, schedule: schedule.ours ?? .linear, betaStart: start * scale, betaEnd: end * scale,
      prediction: prediction, variance: variance)
  }

  /// β_t and ᾱ_t with diffusers' rounding, as the saved class has them.
  ///
  /// - Parameter variance: the model's, which says whether its output has a variance half.
  /// - Throws: `DiTError` naming the key: as ``diffusion(_:)``, T out of range, a β outside (0, 1), trained β that
  ///   are not T.
  public func noise(_ variance: Variance) throws(DiTError) -> NoiseSchedule {
    try noise(variance, for: sampler)
  }

  /// β_t and ᾱ_t as `name` has them; nil is a class that is not here, and reads every key.
  ///
  /// With `rescale_betas_zero_snr` ᾱ_{T−1} is 0, or 2⁻²⁴ in the classes that divide by it.
  /// - Parameter fused: whether products and sums of linear β are rounded once, as torch's kernels do where the CPU can: then
  ///   ᾱ is torch's to the last bit, which decides how σ between timesteps are cut off. Without it some β are a bit off.
  func noise(
    _ variance: Variance, for name: SamplerName?, fused: Bool = false
  ) throws(DiTError) -> NoiseSchedule {
    let diffusion = try diffusion(variance)
    guard 1...NoiseSchedule.maximumSteps ~= trainSteps else {
      throw DiTError(
        scheduler: "num_train_timesteps", expected: "1…\(NoiseSchedule.maximumSteps)", found: "\(trainSteps)")
    }
    let (source, values) = try betas(for: name, fused: fused)
    var betas = values
    for beta in betas where !(1 - beta > 0 && 1 - beta < 1) {
      throw DiTError(scheduler: source, expected: "β inside (0, 1) in float32", found: "\(beta)")
    }
    var bars = Self.products(betas)
    guard bars[bars.count - 1] >= .leastNormalMagnitude else {
      throw DiTError(
        scheduler: source, expected: "a product of 1−β above 0 in float32", found: "\(bars[bars.count - 1])")
    }
    if rescaleBetasZeroSNR ?? false, name?.rescales ?? true {
      guard bars.count > 1 else {
        throw DiTError(
          scheduler: "rescale_betas_zero_snr", expected: "false where there is one training step", found: "true")
      }
      betas = Self.rescaled(bars)
      bars = Self.products(betas)
      if name?.dividesBySignal ?? false { bars[bars.count - 1] = 0x1p-24 }
    }
    return NoiseSchedule(diffusion, betas: betas.map { Double($0) }, alphasCumprod: bars.map { Double($0) })
  }

  /// ᾱ: torch.cumprod accumulates in double and stores float.
  private static func products(_ betas: [Float]) -> [Float] {
    var product = 1.0
    return betas.map { beta in
      product *= Double(1 - beta)
      return Float(product)
    }
  }

  /// β whose √ᾱ is shifted to end at 0 and stretched to begin where it did (Lin et al. 2024, algorithm 1), in float32.
  private static func rescaled(_ bars: [Float]) -> [Float] {
    let roots = bars.map { $0.squareRoot() }
    let (first, last) = (roots[0], roots[roots.count - 1])
    let shifted = roots.map { root -> Float in
      let value = (root - last) * (first / (first - last))
      return value * value
    }
    return shifted.indices.map { 1 - ($0 == 0 ? shifted[0] : shifted[$0] / shifted[$0 - 1]) }
  }

  /// `beta_start` and `beta_end`, or the class's own.
  private func betaEnds(_ name: SamplerName?) -> (start: Double, end: Double) {
    name == .heun ? (betaStart ?? 0.00085, betaEnd ?? 0.012) : (betaStart ?? 0.0001, betaEnd ?? 0.02)
  }

  /// In float32, and the key that they come from.
  private func betas(for name: SamplerName?, fused: Bool) throws(DiTError) -> (key: String, [Float]) {
    if let trainedBetas {
      guard trainedBetas.count == trainSteps else {
        throw DiTError(
          scheduler: "trained_betas", expected: "\(trainSteps) values", found: "\(trainedBetas.count)")
      }
      return ("trained_betas", trainedBetas.map { Float($0) })
    }
    let known = DiffusersBetas.allCases.filter { name == nil || $0.isKnown(to: name) }
    guard let schedule = DiffusersBetas(rawValue: betaSchedule), known.contains(schedule) else {
      throw DiTError(
        scheduler: "beta_schedule",
        expected: known.map(\.rawValue).joined(separator: ", ") + (name.map { " for \($0.rawValue)" } ?? ""),
        found: betaSchedule)
    }
    let (start, end) = betaEnds(name)
    guard !schedule.hasEnds || (start > 0 && end < 1) else {
      let (key, value) = start > 0 ? ("beta_end", end) : ("beta_start", start)
      throw DiTError(scheduler: key, expected: "a value inside (0, 1)", found: "\(value)")
    }
    return (schedule.hasEnds ? "beta_end" : "beta_schedule", schedule.betas(trainSteps, from: start, to: end, fused))
  }

  /// Throws unless the key is absent or has one of these values.
  func require<Value: Equatable>(
    _ key: String, _ value: Value?, in allowed: [Value]
  ) throws(DiTError) {
    guard let value, !allowed.contains(value) else { return }
    throw DiTError(
      scheduler: key, expected: allowed.map { "\($0)" }.joined(separator: " or "), found: "\(value)")
  }
}

extension SamplerName {
  /// Whether the class reads `rescale_betas_zero_snr`.
  fileprivate var rescales: Bool {
    switch self {
    case .ddim, .ddpm, .dpmpp, .unipc, .euler, .eulerAncestral: true
    case .heun, .pndm, .deis, .meanflow, .sde, .dopri5: false
    }
  }

  /// Whether it works with σ, which is infinite where ᾱ is 0.
  fileprivate var dividesBySignal: Bool { self != .ddim && self != .ddpm }
}

/// `beta_schedule`.
enum DiffusersBetas: String, CaseIterable {
  case linear
  case scaledLinear = "scaled_linear"
  case cosine = "squaredcos_cap_v2"
  /// DDPM's alone.
  case sigmoid, laplace
  /// Heun's alone.
  case exp

  /// nil where this engine's own configuration has no word for it.
  var ours: BetaSchedule? {
    switch self {
    case .linear: .linear
    case .scaledLinear: .scaledLinear
    case .cosine: .cosine
    case .sigmoid, .laplace, .exp: nil
    }
  }

  func isKnown(to name: SamplerName?) -> Bool {
    switch self {
    case .linear, .scaledLinear, .cosine: true
    case .sigmoid, .laplace: name == .ddpm
    case .exp: name == .heun
    }
  }

  /// Whether `beta_start` and `beta_end` are read.
  var hasEnds: Bool { [.linear, .scaledLinear, .sigmoid].contains(self) }

  /// β_t in float32.
  func betas(_ steps: Int, from start: Double, to end: Double, _ fused: Bool) -> [Float] {
    switch self {
    case .linear: return Self.linspace(Float(start), Float(end), steps, fused)
    case .scaledLinear:
      return Self.linspace(Float(start.squareRoot()), Float(end.squareRoot()), steps, fused).map { $0 * $0 }
    case .sigmoid:
      return Self.linspace(-6, 6, steps).map { logit in
        1 / (1 + Float(Foundation.exp(-Double(logit)))) * Float(end - start) + Float(start)
      }
    case .cosine: return (0..<steps).map { Float(NoiseSchedule.cosineBeta($0, of: steps)) }
    case .laplace: return Self.betas(steps, ofAlphaBar: Self.laplace)
    case .exp: return Self.betas(steps) { Foundation.exp(-12 * $0) }
    }
  }

  /// 1 − ᾱ(t+1)/ᾱ(t), at most 0.999, ᾱ a function of t/T.
  private static func betas(_ steps: Int, ofAlphaBar bar: (Double) -> Double) -> [Float] {
    (0..<steps).map { t in
      Float(min(1 - bar(Double(t + 1) / Double(steps)) / bar(Double(t) / Double(steps)), 0.999))
    }
  }

  /// √(SNR/(1+SNR)) with log SNR distributed as Laplace's: diffusers' ᾱ.
  private static func laplace(_ t: Double) -> Double {
    let sign = 0.5 - t >= 0 ? 1.0 : -1.0
    let snr = Foundation.exp(-0.5 * sign * log(1 - 2 * abs(0.5 - t) + 1e-6))
    return (snr / (1 + snr)).squareRoot()
  }

  /// torch.linspace in float32: from both ends towards the middle.
  static func linspace(_ start: Float, _ end: Float, _ count: Int, _ fused: Bool = true) -> [Float] {
    guard count > 1 else { return [start] }
    let stride = (end - start) / Float(count - 1)
    guard !fused else {
      return (0..<count).map {
        $0 < count / 2
          ? start.addingProduct(stride, Float($0)) : end.addingProduct(-stride, Float(count - 1 - $0))
      }
    }
    return (0..<count).map {
      $0 < count / 2 ? start + stride * Float($0) : end - stride * Float(count - 1 - $0)
    }
  }
}
