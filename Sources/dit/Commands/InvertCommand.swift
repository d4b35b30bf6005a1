import ArgumentParser
import DiTEngine

/// `dit invert`: sampling run backwards.
struct InvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "invert",
    abstract: "DDIM inversion (on a linear path Euler's): from images or latents to their noise.",
    discussion: """
      The input is a safetensors file with one of
        samples  (N, C, H, W)  as `dit sample` writes; preferred to the others
        images   (N, C, H, W)  in [−1, 1], or U8 read as x/127.5 − 1
        latents  (N, C, H, W)
      and, for a model with classes, optionally
        labels   (N)           classes; without them the null class is used, with
                               guidance 1
      The output has noise (N, C, H, W) and labels, and can be sampled again:

        dit invert --input a.safetensors --steps 250 --out noise.safetensors
        dit sample --noise noise.safetensors --sampler ddim --steps 250 --out b.png

      Sample with ddim (a linear path: euler) and the same steps, schedule and guidance.
      The more steps and the less guidance, the smaller the error: each step uses the
      prediction at the previous image, so the error is proportional to 1/steps.
      """)

  @OptionGroup var model: ModelOptions

  @Option(help: ArgumentHelp("The safetensors file with images or latents.", valueName: "file"))
  var input: String

  @OptionGroup var steps: StepOptions
  @OptionGroup var guidance: GuidanceOptions

  @Option(help: ArgumentHelp("The .safetensors file to write.", valueName: "file"))
  var out: String

  func run() throws {
    let target = try OutputFile(out, .safetensors)
    let dit = try model.load()
    let tensors = try TensorFile(input)
    let (name, images) = try Self.images(in: tensors)
    let isConditional = dit.configuration.network.numClasses > 0
    let labels = isConditional && tensors.contains("labels") ? try tensors.integers("labels") : nil
    let options = options(for: dit.configuration, hasLabels: labels != nil)
    if isConditional, labels == nil, options.guidance.scale != 1 {
      throw Failure.usage(
        "--guidance", expected: "1, as \(input) has no labels", found: "\(options.guidance.scale)")
    }
    try target.checkWritable()

    Interruption.listen()
    var bar = SamplingBar("inverting")
    let noise = try tensors.attributingErrors(["images": name, "classes": "labels"]) {
      try dit.invert(images, classes: labels, options: options) { bar.show($0) }
    }
    bar.clear()
    let finished = bar.finishedImages
    if finished > 0 {
      let labels = noise.labels.isEmpty ? [] : [TensorSource("labels", noise.labels.prefix(finished))]
      try target.write([TensorSource("noise", noise.images.prefix(finished))] + labels)
    }
    if !noise.isComplete { throw SamplingBar.interrupted(finished, of: images.shape[0], target) }
    try StandardOutput.write("\(out): noise of \(finished) \(finished == 1 ? "image" : "images")")
    Warnings.write(for: dit.configuration)
  }

  /// What the model says, steps and guidance overridden; without labels nothing is guided unless asked for.
  private func options(for model: ModelConfiguration, hasLabels: Bool) -> SamplingOptions {
    var options = SamplingOptions(
      sampler: model.sampling.inversion(model.diffusion), guidance: Guidance(scale: 1))
    if hasLabels { options.guidance = model.sampling.guidance }
    steps.apply(to: &options.sampler)
    guidance.apply(to: &options.guidance)
    return options
  }

  private static func images(in tensors: TensorFile) throws -> (name: String, images: Tensor) {
    let found = ["images", "latents"].filter(tensors.contains)
    if tensors.contains("samples") { return ("samples", try tensors.images("samples")) }
    guard found.count == 1 else {
      throw Failure.input(
        tensors.file.path, "tensors", expected: "one of samples, images, latents",
        found: found.isEmpty ? "none" : found.joined(separator: " and "))
    }
    return (found[0], try tensors.imagesOrBytes(found[0]))
  }
}
