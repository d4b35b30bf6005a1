import DiTDiffusion

// What `dit info` says of a model in words.

extension ModelConfiguration {
  /// The process, such as "linear path, the network says x0, its time runs from noise at 0 to data at 1".
  public var processSummary: String {
    let d = diffusion
    guard d.path == .linear else {
      return "beta path, \(d.steps) steps, \(d.schedule.rawValue) schedule; the network says \(d.prediction.rawValue)"
    }
    var words = ["linear path", "the network says \(d.prediction.target == .x0 ? "x0" : "the velocity")"]
    switch d.networkTime {
    case .oneMinusS: words.append("its time runs from noise at 0 to data at 1")
    case .s: words.append("its time runs from data at 0 to noise at 1")
    case .thousandths: words.append("its time runs from data at 0 to noise at 1000")
    }
    if d.loss == .mseAndCosine { words.append("the loss has the cosine over channels") }
    if d.lossTarget == .velocity, d.prediction == .x0 { words.append("the loss compares velocities") }
    if d.noiseScale != 1 { words.append("noise of deviation \(Guidance.text(d.noiseScale))") }
    return words.joined(separator: ", ")
  }

  /// How it is sampled by default, such as "heun, 50 steps, guidance 3 where 0.1 < t < 1".
  public var samplingSummary: String {
    let (sampler, guidance) = (sampling.sampler, sampling.guidance)
    var words = ["\(sampler.name.rawValue)", "\(sampler.steps) \(sampler.steps == 1 ? "step" : "steps")"]
    if sampler.shift != 1 { words.append("shift \(Guidance.text(sampler.shift))") }
    let channels = guidance.channels.map { " on \($0) channels" } ?? ""
    let scale = "guidance \(Guidance.text(guidance.scale))\(channels)"
    guard let interval = guidance.interval else {
      words.append(guidance.scale == 1 ? "no guidance" : scale)
      return words.joined(separator: ", ")
    }
    let (low, high) = (Guidance.text(interval.lowerBound), Guidance.text(interval.upperBound))
    if network.timeInputs > 1 {
      words.append("told \(scale) in \(low)…\(high), in one pass")
    } else if guidance.ends == .jit {
      words.append("\(scale) where \(interval.lowerBound > 0 ? "\(low) < " : "")t < \(high)")
    } else {
      words.append("\(scale) where \(low) ≤ t ≤ \(high)")
    }
    return words.joined(separator: ", ")
  }
}
