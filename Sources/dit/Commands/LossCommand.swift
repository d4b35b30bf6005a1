import ArgumentParser
import DiTEngine

/// `dit loss`: the training loss and its gradients at given noise.
struct LossCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "loss",
    abstract: "Compute the training loss, and its gradients, on given tensors.",
    discussion: """
      The input is a safetensors file with
        x0     (N, C, H, W)  clean images in [−1, 1], or latents; F32, F16, BF16
                             or F64
        t      (N)           training timesteps, 0 to T−1, or on a linear path
                             the network's real times: 1000·s, s or 1−s
        y      (N)           classes, or num_classes for the null class; only for
                             a model with classes
        noise  (N, C, H, W)  the noise ε, of unit variance
        captions (N, M), context (N, C, h, w)  as for `dit forward`
        posterior_noise  (N, C, H, W)
                             with --lambda-seq: the noise with which x_{t−1} is
                             drawn from its posterior given x0 and x_t
      where t and y may be I64, I32, U8 or floats. Other tensors are ignored.
      Labels are not dropped and images not flipped.

      The means over the N samples are printed. The optional output has
        loss.loss     (N)     F32; weight · mse, plus vb and λ·seq where they
                              apply
        loss.mse      (N)     F32; the mean squared error of the prediction, for
                              `mean` divided by the square of ε's coefficient,
                              with loss_target velocity of the velocity
        loss.vb       (N)     F32, in bits; with a learned variance
        loss.cosine   (N)     F32, 1 − cosine over channels; with loss mse+cosine
        loss.seq      (N)     F32, in nats; with --lambda-seq: sequence
                              consistency, weighted by 1−ᾱ_{t−1}; 0 at t = 0
        loss.patches  (N, L)  F32; the mse of each patch, row by row
        loss.seq_patches  (N, L)  F32; the seq of each patch
        grad.NAME             the gradient of mean(loss.loss) for each trainable
                              tensor
      The weight is 1 unless --loss-weighting says otherwise.

        dit loss --model runs/mine --input batch.safetensors --out g.safetensors
      """)

  @OptionGroup var model: ModelOptions

  @Option(help: ArgumentHelp("The safetensors file with x0, t, y and noise.", valueName: "file"))
  var input: String

  @Option(
    help: ArgumentHelp(
      "uniform, or min_snr: the error of the clean image weighted by min(SNR, γ). (default: uniform)", valueName: "name"
    ))
  var lossWeighting = LossWeightingName.uniform

  @Option(help: ArgumentHelp("γ of min_snr, above 0. (default: 5)", valueName: "x"))
  var minSnrGamma: Double?

  @Option(
    help: ArgumentHelp(
      "Weight λ_seq ≥ 0 of the sequence-consistency loss; above 0 it needs the model's sequence_prior.safetensors.",
      valueName: "x"))
  var lambdaSeq = 0.0

  @Option(help: ArgumentHelp("The .safetensors file to write. (default: none, and no gradients)", valueName: "file"))
  var out: String?

  func run() throws {
    let weighting = try weighting()
    let target = try out.map { path throws(Failure) in try OutputFile(path, .safetensors) }
    let dit = try model.load()
    let tensors = try TensorFile(input)
    let clean = try tensors.images("x0")
    let noise = try tensors.images("noise")
    let times =
      dit.configuration.diffusion.path.hasWholeTimes
      ? try tensors.integers("t").map { Float($0) } : try tensors.numbers("t")
    let labels = dit.configuration.network.numClasses > 0 ? try tensors.integers("y") : []
    let sequence = try tensors.sequence(for: dit.configuration, count: clean.shape[0])
    let consistency = try consistency(of: dit, tensors)
    if let target {
      try target.checkWritable()
      let result = try tensors.attributingErrors {
        try dit.lossAndGradients(
          clean: clean, times: times, labels: labels, noise: noise, sequence: sequence, weighting: weighting,
          consistency: consistency)
      }
      let gradients = result.named.map { TensorSource("grad.\($0.name)", $0.tensor) }
      var maps = [TensorSource("loss.patches", result.report.patchErrors)]
      if let patches = result.report.sequencePatches { maps.append(TensorSource("loss.seq_patches", patches)) }
      let losses = Self.columns(result.report.losses).map { TensorSource("loss.\($0.name)", $0.values) }
      try target.write(losses + maps + gradients)
      try Self.printMeans(result.report.losses)
    } else {
      let report = try tensors.attributingErrors {
        try dit.loss(
          clean: clean, times: times, labels: labels, noise: noise, sequence: sequence, weighting: weighting,
          consistency: consistency)
      }
      try Self.printMeans(report.losses)
    }
    Warnings.write(for: dit.configuration)
  }

  private func weighting() throws(Failure) -> LossWeighting {
    guard lossWeighting == .minSNR else {
      if let minSnrGamma {
        throw .usage("--min-snr-gamma", expected: "none without --loss-weighting min_snr", found: "\(minSnrGamma)")
      }
      return .uniform
    }
    let gamma = minSnrGamma ?? TrainingConfiguration().minSNRGamma
    guard gamma > 0, gamma.isFinite else {
      throw .usage("--min-snr-gamma", expected: "a number above 0", found: "\(gamma)")
    }
    return .minSNR(gamma: gamma)
  }

  /// The term that `--lambda-seq` adds to the loss.
  private func consistency(of dit: DiT, _ tensors: TensorFile) throws -> SequenceLossInput? {
    guard lambdaSeq >= 0, lambdaSeq.isFinite else {
      throw Failure.usage("--lambda-seq", expected: "0 or more", found: "\(lambdaSeq)")
    }
    guard lambdaSeq > 0 else { return nil }
    guard dit.configuration.diffusion.path.hasPosterior else {
      throw Failure.usage("--lambda-seq", expected: "0 on a linear path, which has no x_{t−1}", found: "\(lambdaSeq)")
    }
    let drawn = try tensors.images("posterior_noise")
    return SequenceLossInput(
      try SequenceConditionals(directory: ShippedResources.model(model.model), for: dit), weight: lambdaSeq,
      posteriorNoise: drawn)
  }

  /// One list per term, one value per sample.
  private static func columns(_ losses: [SampleLoss]) -> [(name: String, values: Tensor)] {
    let columns = [
      ("loss", losses.map(\.loss)), ("mse", losses.map(\.mse)), ("vb", losses.compactMap(\.vb)),
      ("cosine", losses.compactMap(\.cosine)), ("seq", losses.compactMap(\.seq)),
    ]
    return columns.filter { !$0.1.isEmpty }.map {
      (name: $0.0, values: Tensor(shape: [$0.1.count], elements: $0.1.map(Float.init)))
    }
  }

  private static func printMeans(_ losses: [SampleLoss]) throws(Failure) {
    let count = Double(losses.count)
    var lines = [
      "loss \(losses.reduce(0) { $0 + $1.loss } / count)", "mse  \(losses.reduce(0) { $0 + $1.mse } / count)",
    ]
    let bounds = losses.compactMap(\.vb)
    if !bounds.isEmpty { lines.append("vb   \(bounds.reduce(0, +) / count)") }
    let angles = losses.compactMap(\.cosine)
    if !angles.isEmpty { lines.append("cosine \(angles.reduce(0, +) / count)") }
    let terms = losses.compactMap(\.seq)
    if !terms.isEmpty { lines.append("seq  \(terms.reduce(0, +) / count)") }
    try StandardOutput.write(lines.joined(separator: "\n"))
  }
}

extension LossWeightingName: ExpressibleByArgument {}
