import DiffusionTransformers

/// What a sample was made with, as outputs carry it. Neither time nor path.
struct SampleSettings {
  /// In the order in which a viewer shows them.
  let text: [(key: String, value: String)]

  /// The same as a safetensors file's metadata.
  var metadata: [String: String] { Dictionary(text.map { ($0.key, $0.value) }) { first, _ in first } }

  /// - Parameters:
  ///   - saved: the model's saved diffusers scheduler, which says what steps are kept where `options` do not.
  ///   - precision: that of the network's products.
  ///   - hasNoise: whether the start was given and not drawn from the seed.
  init(
    _ options: SamplingOptions, saved: DiffusersScheduler? = nil, precision: Precision, classes: [Int],
    prompt: String? = nil, hasNoise: Bool
  ) {
    let sampler = options.sampler
    var text = [
      (key: "Software", value: "dit"), (key: "Seed", value: "\(options.seed)"),
      (key: "Random numbers", value: options.random.rawValue),
      (key: "Sampler", value: sampler.name.rawValue), (key: "Steps", value: "\(sampler.steps)"),
      (key: "Schedule", value: sampler.rule(saved: saved).description),
    ]
    if let eta = sampler.eta { text.append((key: "Eta", value: "\(eta)")) }
    text.append((key: "Guidance", value: "\(options.guidance.scale)"))
    if let interval = options.guidance.interval {
      text.append((key: "Guidance interval", value: "\(interval.lowerBound),\(interval.upperBound)"))
    }
    if let channels = options.guidance.channels { text.append((key: "Guidance channels", value: "\(channels)")) }
    text.append((key: "Precision", value: precision.rawValue))
    if let prompt { text.append((key: "Prompt", value: prompt)) }
    if hasNoise { text.append((key: "Start", value: "given noise")) }
    if !classes.isEmpty {
      text.append((key: "Classes", value: classes.map(String.init).joined(separator: ",")))
    }
    self.text = text
  }
}
