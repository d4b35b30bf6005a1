import DiTKernels
import DiTTensor

extension DiffusionConfiguration {
  /// Throws `DiTError` naming the key of config.json unless path, target, loss, time and scale can be had together. No
  /// key is taken and then not used: what has no meaning for the path must stand at its default.
  func checkProcess() throws(DiTError) {
    guard !prediction.impliesPath || path == .linear else {
      throw Self.error("path", "linear, which prediction \(prediction.rawValue) means", path.rawValue)
    }
    guard !prediction.impliesPath || networkTime == .thousandths else {
      throw Self.error(
        "network_time",
        "1000s, which prediction \(prediction.rawValue) means (path linear with velocity has the others)",
        networkTime.rawValue)
    }
    guard path.targets.contains(prediction.target) else {
      let words = path.targets.map(\.rawValue).joined(separator: ", ")
      throw Self.error("prediction", "one of \(words), as path is \(path.rawValue)", prediction.rawValue)
    }
    try checkLoss()
    switch path {
    case .beta: try checkBeta()
    case .linear: try checkLinear()
    }
  }

  private func checkLoss() throws(DiTError) {
    guard loss == .mse || prediction.target == .velocity else {
      throw Self.error("loss", "mse, as prediction is \(prediction.rawValue) and not velocity", loss.rawValue)
    }
    guard let lossTarget, lossTarget.target != prediction.target else { return }
    let hasVelocity = path == .linear && prediction.target == .x0
    guard hasVelocity, lossTarget == .velocity else {
      throw Self.error(
        "loss_target",
        hasVelocity ? "null, x0 or velocity" : "null or \(prediction.target.rawValue), as prediction says",
        lossTarget.rawValue)
    }
  }

  /// What a β path has no use for.
  private func checkBeta() throws(DiTError) {
    guard networkTime == .thousandths else {
      throw Self.error("network_time", "none on path beta, where times are training indices", networkTime.rawValue)
    }
    guard timeDistribution == .uniform else {
      throw Self.error("time_distribution", "uniform on path beta, whose times are whole", "logit_normal")
    }
    guard noiseScale == 1 else { throw Self.error("noise_scale", "1 on path beta", "\(noiseScale)") }
    guard timeFloor == Self.standardFloor else {
      throw Self.error("t_floor", "none on path beta, which does not use it", "\(timeFloor)")
    }
  }

  private func checkLinear() throws(DiTError) {
    guard noiseScale > 0, noiseScale.isFinite else {
      throw Self.error("noise_scale", "a number above 0", "\(noiseScale)")
    }
    guard timeFloor > 0, timeFloor <= 1 else {
      throw Self.error("t_floor", "a number above 0 and at most 1", "\(timeFloor)")
    }
    guard prediction.target == .x0 || timeFloor == Self.standardFloor else {
      throw Self.error("t_floor", "none with prediction \(prediction.rawValue), which does not use it", "\(timeFloor)")
    }
    if case .logitNormal(let mean, let deviation) = timeDistribution {
      guard mean.isFinite, deviation > 0, deviation.isFinite else {
        throw Self.error("time_distribution", "[m, d] with finite m and d above 0", "[\(mean), \(deviation)]")
      }
    }
  }

  private static func error(_ key: String, _ expected: String, _ found: String) -> DiTError {
    DiTError(option: "diffusion.\(key)", expected: expected, found: found)
  }
}
