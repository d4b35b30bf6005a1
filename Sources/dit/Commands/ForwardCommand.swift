import ArgumentParser
import DiTEngine

/// `dit forward`: one forward pass of the network.
struct ForwardCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "forward",
    abstract: "Run one forward pass of the network on given tensors.",
    discussion: """
      The input is a safetensors file with
        x  (N, C, H, W)  noised images or latents; F32, F16, BF16 or F64
        t  (N)           training timesteps, 0 (least noisy) to T−1, or on a
                         linear path the network's real times: 1000·s, s or 1−s
        y  (N)           classes, or num_classes for the null class; only for a
                         model with classes
        captions (N, M)  texts, U8, UTF-8, zero-padded; optional, only for a
                         model with text; empty texts by default
        context (N, C, h, w)  other images; optional, only for a model with
                         context_image; none by default
      where t and y may be I64, I32, U8 or floats. Other tensors are ignored. A network
      that token_groups tell guidance takes besides, as far as it has tokens for them
        h  (N)           the step's length t − r in the network's time
        w  (N)           the guidance scale ω, at least 1; 1 is none
        t_min, t_max (N) the interval in which it guides
      The output has
        output  (N, C', H, W)  F32; the prediction (noise, mean, clean image, v
                               or velocity), followed, with a learned variance,
                               by the interpolation of its logarithm; on a
                               linear path the first C channels alone; of a
                               network that is told guidance the mean velocity u
                               of the step, (x − x̂_0)/max(t, t_floor)

        dit forward --model runs/mine --input batch.safetensors --out o.safetensors
      """)

  @OptionGroup var model: ModelOptions

  @Option(help: ArgumentHelp("The safetensors file with x, t and y.", valueName: "file"))
  var input: String

  @Option(help: ArgumentHelp("The .safetensors file to write.", valueName: "file"))
  var out: String

  func run() throws {
    let target = try OutputFile(out, .safetensors)
    let dit = try model.load()
    let tensors = try TensorFile(input)
    let images = try tensors.images("x")
    let times = try tensors.numbers("t")
    let labels = dit.configuration.network.numClasses > 0 ? try tensors.integers("y") : []
    let sequence = try tensors.sequence(for: dit.configuration, count: images.shape[0])
    let step = try tensors.step(for: dit.configuration.network)
    try target.checkWritable()
    let output = try tensors.attributingErrors {
      let prediction = try dit.predict(
        images: images, times: times, labels: labels, sequence: sequence, step: step)
      return step == nil ? prediction : dit.meanVelocity(of: prediction, images: images, times: times)
    }
    try target.write([TensorSource("output", output)])
    Warnings.write(for: dit.configuration)
  }
}

extension TensorFile {
  /// What a network that is told guidance is told; nil for another one.
  fileprivate func step(for network: DiTConfiguration) throws -> StepInputs? {
    guard network.isToldGuidance, let groups = network.tokenGroups else { return nil }
    return StepInputs(
      lengths: try numbers("h"), scales: groups.omega > 0 ? try numbers("w") : [],
      starts: groups.tMin > 0 ? try numbers("t_min") : [], ends: groups.tMax > 0 ? try numbers("t_max") : [])
  }
}
