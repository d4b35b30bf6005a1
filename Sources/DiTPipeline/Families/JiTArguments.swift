import DiTDiffusion
import DiTFiles
import DiTModel

/// What JiT's trainer is started with, as it stands in its checkpoints under `args`: the names and meanings are those of
/// main_jit.py. Nil is an argument that is not there, or is no usable value.
struct JiTArguments {
  var noiseScale, timeFloor, timeMean, timeDeviation: Double?
  /// More than 0.
  var classDropout: Double?
  /// Nil where an argument of sampling is missing or unknown, or guidance is off: the trainer's default, of which its
  /// published commands say another.
  var sampling: SamplingConfiguration?

  init(_ arguments: ProgramArguments) {
    func real(_ name: String, _ range: ClosedRange<Double>) -> Double? {
      arguments.real(name).flatMap { range.contains($0) ? $0 : nil }
    }
    noiseScale = real("noise_scale", 1e-6...1e6)
    timeFloor = real("t_eps", 1e-6...1)
    timeMean = real("P_mean", -100...100)
    timeDeviation = real("P_std", 1e-6...100)
    classDropout = real("label_drop_prob", 1e-6...0.999)
    let methods: [String: SamplerName] = ["heun": .heun, "euler": .euler]
    if let method = arguments.text("sampling_method").flatMap({ methods[$0] }),
      let steps = arguments.integer("num_sampling_steps"), (1...1000).contains(steps),
      let scale = real("cfg", 0...1000), scale != 1, let low = real("interval_min", 0...1),
      let high = real("interval_max", 0...1), low <= high
    {
      sampling = SamplingConfiguration(
        sampler: Sampler(method, steps: steps, schedule: .linspace),
        guidance: Guidance(scale: scale, interval: low...high, ends: .jit))
    }
  }

  /// Puts into a process what is stored.
  func apply(to diffusion: inout DiffusionConfiguration) {
    diffusion.noiseScale = noiseScale ?? diffusion.noiseScale
    diffusion.timeFloor = timeFloor ?? diffusion.timeFloor
    if case .logitNormal(let mean, let deviation) = diffusion.timeDistribution {
      diffusion.timeDistribution = .logitNormal(mean: timeMean ?? mean, deviation: timeDeviation ?? deviation)
    }
  }

  /// The arguments of a model that is written for JiT's code.
  ///
  /// - Parameters:
  ///   - size: the published network that it is one of.
  ///   - decays: of the two moving averages.
  static func members(
    _ model: ModelConfiguration, size: PublishedSize, decays: (Double, Double)
  ) -> [(key: String, value: TorchWriter.Value)] {
    let (network, diffusion, sampling) = (model.network, model.diffusion, model.sampling)
    var mean = -0.8
    var deviation = 0.8
    if case .logitNormal(let m, let d) = diffusion.timeDistribution { (mean, deviation) = (m, d) }
    let interval = sampling.guidance.interval ?? 0...1
    return [
      ("model", .text(size.name)), ("img_size", .integer(network.inputHeight)),
      ("class_num", .integer(network.numClasses)),
      ("attn_dropout", .real(0)), ("proj_dropout", .real(0)), ("label_drop_prob", .real(network.classDropoutProb)),
      ("P_mean", .real(mean)), ("P_std", .real(deviation)), ("noise_scale", .real(diffusion.noiseScale)),
      ("t_eps", .real(diffusion.timeFloor)), ("ema_decay1", .real(decays.0)), ("ema_decay2", .real(decays.1)),
      ("sampling_method", .text(sampling.sampler.name.rawValue)),
      ("num_sampling_steps", .integer(sampling.sampler.steps)),
      ("cfg", .real(sampling.guidance.scale)), ("interval_min", .real(interval.lowerBound)),
      ("interval_max", .real(interval.upperBound)),
    ]
  }
}
