import DiTDiffusers
import DiTDiffusion
import DiTKernels

/// What samples were made with, as the text entries of a PNG or the metadata of a safetensors file. Neither time nor path:
/// the same settings give the same bytes.
public struct SampleSettings: Sendable {
  /// In the order in which a viewer shows them.
  public let text: [(key: String, value: String)]

  /// The same as a safetensors file's metadata.
  public var metadata: [String: String] { Dictionary(text.map { ($0.key, $0.value) }) { first, _ in first } }

  /// - Parameters:
  ///   - options: of the run.
  ///   - software: the program's name.
  ///   - saved: the model's saved diffusers scheduler, which says which timesteps are sampled where `options` do not.
  ///   - precision: of the network's matrix products.
  ///   - classes: one per image; none for an unconditional model.
  ///   - prompt: the text, of a model that takes one.
  ///   - hasNoise: whether the initial noise was given, not drawn from the seed.
  ///   - strength: of image to image.
  ///   - hasMask: whether a part of the image was kept.
  public init(
    _ options: SamplingOptions, software: String, saved: DiffusersScheduler? = nil, precision: Precision,
    classes: [Int], prompt: String? = nil, hasNoise: Bool, strength: Double? = nil, hasMask: Bool = false
  ) {
    let sampler = options.sampler
    var text = [
      (key: "Software", value: software), (key: "Seed", value: "\(options.seed)"),
      (key: "Random numbers", value: options.random.rawValue),
      (key: "Sampler", value: sampler.name.rawValue), (key: "Steps", value: "\(sampler.steps)"),
      (key: "Schedule", value: sampler.rule(saved: saved).description),
    ]
    if let eta = sampler.eta { text.append((key: "Eta", value: "\(eta)")) }
    if sampler.shift != 1 { text.append((key: "Shift", value: "\(sampler.shift)")) }
    if sampler.name == .dopri5 {
      text.append((key: "Tolerance", value: (sampler.tolerance ?? .standard).text))
    }
    text.append((key: "Guidance", value: "\(options.guidance.scale)"))
    if let interval = options.guidance.interval {
      let isOpen = options.guidance.ends == .jit
      text.append((key: "Guidance interval", value: Guidance.text(interval) + (isOpen ? " without its ends" : "")))
    }
    if let channels = options.guidance.channels { text.append((key: "Guidance channels", value: "\(channels)")) }
    if options.guidance.every > 1 { text.append((key: "Guidance every", value: "\(options.guidance.every)")) }
    if let caching = options.caching { text.append((key: "Cache", value: caching.description)) }
    text.append((key: "Precision", value: precision.rawValue))
    if let prompt { text.append((key: "Prompt", value: prompt)) }
    if let strength { text.append((key: "Image strength", value: "\(strength)")) }
    if hasMask { text.append((key: "Mask", value: "given")) }
    if hasNoise { text.append((key: "Start", value: "given noise")) }
    if !classes.isEmpty {
      text.append((key: "Classes", value: classes.map(String.init).joined(separator: ",")))
    }
    self.text = text
  }
}
