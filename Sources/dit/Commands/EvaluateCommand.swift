import ArgumentParser
import DiTNumpy
import DiffusionTransformers

/// `dit evaluate`: how good samples are, against real ones.
struct EvaluateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate",
    abstract: "Judge samples against real images: Fréchet distance, precision, recall, coverage, copies.",
    discussion: """
      Where a SET is wanted, that is one of
        digits            the data set that ships with the tool
        x.safetensors     images (N, C, H, W), float in [−1, 1] or U8, or latents,
                          samples, or features (N, d); optional labels (N)
        x.npz             arr_0 (N, H, W, C) of bytes, as dit sample writes it,
                          and optional labels arr_1; or statistics, mu (d) and
                          sigma (d, d), of which only the Fréchet distance is known
        a folder          class folders of PNG and JPEG, or such files, read at the
                          other set's size, or --size
      and :test behind it takes every fifth sample (i mod 5 = 4), :train the rest.

        dit sample --classes 0-9 --count 100 --out samples.safetensors
        dit evaluate --samples samples.safetensors --reference digits:test \\
            --training digits:train
        dit evaluate --samples a.npz --reference b.npz --features pca:64 --json
        dit evaluate --reference photos.safetensors --save-statistics photos.npz

      What is measured:
        frechet    |μ_a − μ_b|² + tr(A + B − 2(AB)^½) of the Gaussians of both sets,
                   pixels in [−1, 1]. 0 for equal sets. Larger for fewer samples:
                   compare only sets of as many. No Inception features: figures
                   under that name elsewhere are another scale.
        precision  precision, the share of samples inside a ball around a real
                   image that reaches to its k-th neighbour, and recall, the share
                   of real images inside such balls around samples
        density    density, how many such real balls hold a sample, over k (about 1
                   is right), and coverage, the share of real balls that hold one
        copies     distance from each sample to the nearest training image; exact
                   copies are named
      Where both sets have labels, each class is measured too.
      Definitions, traps and sources: Documentation/Evaluation.md.
      """)

  @Option(help: ArgumentHelp("The set to judge.", valueName: "set"))
  var samples: String?

  @Option(help: ArgumentHelp("The set to judge by: real images, best ones not trained on.", valueName: "set"))
  var reference: String

  @Option(
    help: ArgumentHelp("Where copies are looked for. (default: the reference)", valueName: "set"))
  var training: String?

  @Option(
    help: ArgumentHelp(
      """
      pixels, or pca:K: the K ≤ 64 principal components of the reference. Copies are always sought among pixels. \
      (default: pixels)
      """,
      valueName: "name"))
  var features: String?

  @Option(
    help: ArgumentHelp(
      "Of frechet, precision, density, copies, those wanted, between commas. (default: all that the sets allow)",
      valueName: "list"))
  var measures: String?

  @Option(help: ArgumentHelp("Neighbours for precision and recall. (default: 3)", valueName: "n"))
  var k: Int?

  @Option(help: ArgumentHelp("Neighbours for density and coverage. (default: 5)", valueName: "n"))
  var densityK: Int?

  @Option(
    help: ArgumentHelp(
      "Resamples of the samples for a 95 % interval of the Fréchet distance, 0 to 10000. (default: 0, none)",
      valueName: "n"))
  var bootstrap = 0

  @Option(
    help: ArgumentHelp(
      "Seed of the resamples; sets of as many samples draw the same ones under one seed. (default: 0)", valueName: "n"))
  var seed: Int?

  @Option(
    help: ArgumentHelp(
      """
      Size in pixels that folders of pictures are read at: resized by area, cut from the middle. (default: the other \
      set's)
      """, valueName: "n|hxw"))
  var size: String?

  @Flag(help: "Leave out the classes one by one.")
  var noPerClass = false

  @Option(
    help: ArgumentHelp(
      "Write the reference's mean and covariance of pixels, mu and sigma, to this .npz; --samples may then be left out.",
      valueName: "file"))
  var saveStatistics: String?

  @Flag(help: "Print one JSON object instead of a table.")
  var json = false

  @Option(help: ArgumentHelp("Write the JSON object to this .json too.", valueName: "file"))
  var out: String?

  @OptionGroup var threads: ThreadsOption

  func run() throws {
    let request = try EvaluationRequest(self)
    let statistics = try saveStatistics.map { path throws(Failure) in
      try OutputFile(path, .npz, option: "--save-statistics")
    }
    let target = try out.map { path throws(Failure) in try OutputFile(path, .json) }
    let context = try threads.context()
    let inputs = try EvaluationInputs(
      samples: samples, reference: reference, training: training,
      size: try size.map { text throws(Failure) in try PictureSize(text) })
    let options = try request.options(for: inputs)
    for file in [statistics, target].compactMap(\.self) { try file.checkWritable() }
    if let statistics { try Self.save(inputs.reference, to: statistics, on: context) }
    if let samples = inputs.samples {
      let report = EvaluationReport(
        inputs: inputs, options: options, evaluation: try evaluate(samples, inputs, options, context))
      if let target { try target.saving { try AtomicFile.write(report.json.text, to: target.path) } }
      print(json ? report.json.text : report.table, terminator: "")
      for warning in report.evaluation.warnings { StandardError.write("Warning: \(warning)\n") }
    }
    Warnings.write()
  }

  private func evaluate(
    _ samples: EvaluationInput, _ inputs: EvaluationInputs, _ options: EvaluationOptions, _ context: ComputeContext
  ) throws -> Evaluation {
    var bar: ProgressBar?
    let evaluation = try Evaluation(
      of: samples, against: inputs.reference, training: inputs.training, options: options, on: context
    ) { done, total in
      if bar == nil { bar = ProgressBar("evaluating", unit: "pairs", total: total) }
      bar?.update(done)
    }
    bar?.clear()
    return evaluation
  }

  private static func save(_ reference: EvaluationInput, to file: OutputFile, on context: ComputeContext) throws {
    let statistics =
      switch reference {
      case .samples(let set): try Statistics(of: set, on: context)
      case .statistics(let statistics): statistics
      }
    let d = statistics.mean.count
    let arrays = [
      ("mu", NPYArray(shape: [d], doubles: statistics.mean)),
      ("sigma", NPYArray(shape: [d, d], doubles: statistics.covariance)),
    ]
    try file.saving { try NPZFile.write(arrays, to: file.path) }
  }
}
