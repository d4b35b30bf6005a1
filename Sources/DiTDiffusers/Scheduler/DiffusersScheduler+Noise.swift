// β and ᾱ as diffusers has them. Its tensors are float32: torch.linspace, 1 − β and ᾱ are rounded, and where 1 − ᾱ is small
// that is seen in the samples, so the same is done here; all that follows from ᾱ is in Double.

import DiTDiffusion

extension DiffusersScheduler {
  /// How errors name a key of the saved configuration.
  static func name(_ key: String) -> String { "scheduler_config.\(key)" }

  /// The process that the model was trained for, as config.json states it.
  ///
  /// `trained_betas` have no place there: ``noise(_:)`` knows them.
  /// - Throws: `DiffusionError` naming the key, for a schedule or prediction that is not here.
  public func diffusion(_ variance: Variance) throws(DiffusionError) -> DiffusionConfiguration {
    let predictions: [String: Prediction] = ["epsilon": .epsilon, "sample": .x0, "v_prediction": .v]
    guard let prediction = predictions[predictionType] else {
      throw DiffusionError(
        Self.name("prediction_type"), expected: "epsilon, sample or v_prediction", found: predictionType)
    }
    let schedules: [String: BetaSchedule] = [
      "linear": .linear, "scaled_linear": .scaledLinear, "squaredcos_cap_v2": .cosine,
    ]
    guard let schedule = schedules[betaSchedule] else {
      throw DiffusionError(
        Self.name("beta_schedule"), expected: "linear, scaled_linear or squaredcos_cap_v2", found: betaSchedule)
    }
    // Ours are stated for T = 1000.
    let scale = Double(trainSteps) / 1000
    return DiffusionConfiguration(
      steps: trainSteps, schedule: schedule, betaStart: betaStart * scale, betaEnd: betaEnd * scale,
      prediction: prediction, variance: variance)
  }

  /// β_t and ᾱ_t with diffusers' rounding.
  ///
  /// - Parameter variance: the model's, which says whether its output has a variance half.
  /// - Throws: `DiffusionError` naming the key: as ``diffusion(_:)``, T out of range, a β outside (0, 1), trained β that
  ///   are not T, `rescale_betas_zero_snr`.
  public func noise(_ variance: Variance) throws(DiffusionError) -> NoiseSchedule {
    let diffusion = try diffusion(variance)
    guard 1...NoiseSchedule.maximumSteps ~= trainSteps else {
      throw DiffusionError(
        Self.name("num_train_timesteps"), expected: "1…\(NoiseSchedule.maximumSteps)", found: "\(trainSteps)")
    }
    try require("rescale_betas_zero_snr", rescaleBetasZeroSNR, in: [false])
    let (betas, source) = try betas(diffusion.schedule)
    var product = 1.0
    var alphasCumprod: [Double] = []
    for beta in betas {
      let alpha = 1 - beta
      guard alpha > 0 && alpha < 1 else {
        throw DiffusionError(Self.name(source), expected: "β inside (0, 1) in float32", found: "\(beta)")
      }
      // torch.cumprod accumulates in double and stores float.
      product *= Double(alpha)
      alphasCumprod.append(Double(Float(product)))
      guard Float(product) >= .leastNormalMagnitude else {
        throw DiffusionError(Self.name(source), expected: "a product of 1−β above 0 in float32", found: "\(product)")
      }
    }
    return NoiseSchedule(diffusion, betas: betas.map { Double($0) }, alphasCumprod: alphasCumprod)
  }

  /// In float32, and the key that they come from.
  private func betas(_ schedule: BetaSchedule) throws(DiffusionError) -> ([Float], key: String) {
    if let trainedBetas {
      guard trainedBetas.count == trainSteps else {
        throw DiffusionError(
          Self.name("trained_betas"), expected: "\(trainSteps) values", found: "\(trainedBetas.count)")
      }
      return (trainedBetas.map { Float($0) }, "trained_betas")
    }
    guard betaStart > 0, betaEnd < 1 else {
      let (key, value) = betaStart > 0 ? ("beta_end", betaEnd) : ("beta_start", betaStart)
      throw DiffusionError(Self.name(key), expected: "a value inside (0, 1)", found: "\(value)")
    }
    switch schedule {
    case .linear: return (Self.linspace(Float(betaStart), Float(betaEnd), trainSteps), "beta_end")
    case .scaledLinear:
      let roots = Self.linspace(Float(betaStart.squareRoot()), Float(betaEnd.squareRoot()), trainSteps)
      return (roots.map { $0 * $0 }, "beta_end")
    case .cosine:
      return ((0..<trainSteps).map { Float(NoiseSchedule.cosineBeta($0, of: trainSteps)) }, "beta_schedule")
    }
  }

  /// torch.linspace in float32: from both ends towards the middle.
  private static func linspace(_ start: Float, _ end: Float, _ count: Int) -> [Float] {
    guard count > 1 else { return [start] }
    let stride = (end - start) / Float(count - 1)
    return (0..<count).map {
      $0 < count / 2 ? start + stride * Float($0) : end - stride * Float(count - 1 - $0)
    }
  }

  /// Throws unless the key is absent or has one of these values.
  func require<Value: Equatable>(
    _ key: String, _ value: Value?, in allowed: [Value]
  ) throws(DiffusionError) {
    guard let value, !allowed.contains(value) else { return }
    throw DiffusionError(
      Self.name(key), expected: allowed.map { "\($0)" }.joined(separator: " or "), found: "\(value)")
  }
}
