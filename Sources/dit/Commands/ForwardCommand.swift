import ArgumentParser
import DiffusionTransformers

/// `dit forward`: the network once.
struct ForwardCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "forward",
    abstract: "Run the network once on given tensors.",
    discussion: """
      The input is a safetensors file with
        x  (N, C, H, W)  noised images or latents; F32, F16, BF16 or F64
        t  (N)           training time steps, 0 (least noisy) to T−1, or of a
                         flow the real times 1000·s, 0 to 1000
        y  (N)           classes, or num_classes for none; only read by a model
                         with classes
        captions (N, M)  texts, U8, UTF-8, zero-padded; only read by a model
                         with text; without them all are empty
        context (N, C, h, w)  other images; only read by a model with
                         context_image; without them there are none
      where t and y may be I64, I32, U8 or floats. Other tensors are ignored.
      The output has
        output  (N, C', H, W)  F32; what the model predicts (noise, mean, clean
                               image, v or flow), and after it, with a learned
                               variance, the interpolation of its logarithm

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
    try target.checkWritable()
    let output = try tensors.attributingErrors {
      try dit.predict(images: images, times: times, labels: labels, sequence: sequence)
    }
    try target.write([TensorSource("output", output)])
    Warnings.write()
  }
}
