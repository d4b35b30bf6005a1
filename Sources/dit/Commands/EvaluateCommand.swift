import ArgumentParser
import DiTDistributed
import DiTEngine
import DiTNumpy

/// `dit evaluate`: samples measured against real images.
struct EvaluateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate",
    abstract: "Evaluate samples against real images: Fréchet distance, precision, recall, coverage, copies.",
    discussion: """
      A SET is one of
        digits            the data set that ships with the tool; emoji, too; fashion,
                          where Debian's dataset-fashion-mnist is installed
        x.safetensors     images (N, C, H, W), float in [−1, 1] or U8, or latents,
                          samples, or features (N, d); optional labels (N)
        x.npz             arr_0 (N, H, W, C) of bytes, as dit sample writes it,
                          and optional labels arr_1; or statistics, mu (d) and
                          sigma (d, d), for the Fréchet distance alone
        a folder          class folders of PNG, JPEG and WebP, or such files, read
                          at the other set's size, or --size; tar archives
                          (WebDataset); an IDX file (MNIST's format, .gz or not)
                          or a folder of such files, whose :test are its own
      The suffix :test takes every fifth sample (i mod 5 = 4), :train the rest.

        dit sample --classes 0-9 --count 100 --out samples.safetensors
        dit evaluate --samples samples.safetensors --reference digits:test \\
            --training digits:train
        dit evaluate --samples a.npz --reference b.npz --features pca:64 --json
        dit evaluate --samples a.npz --reference VIRTUAL_imagenet256.npz \\
            --features pt_inception-2015-12-05-6726825d.pth --resize torch-fidelity
        dit evaluate --reference photos.safetensors --save-statistics photos.npz

      Measures:
        frechet    |μ_a − μ_b|² + tr(A + B − 2(AB)^½) of the Gaussians of both sets,
                   pixels in [−1, 1], or features. 0 for equal sets. Biased upwards
                   for few samples: compare sets of equal size only. FID is that of
                   the features of FID's Inception, and of nothing else.
        spatial    the same of Inception's spatial features: ADM's sFID
        inception  the Inception Score: the mean over ten parts of the samples
        precision  precision, the share of samples within the distance of some real
                   image to its k-th nearest neighbor, and recall, the share of
                   real images within such a distance of some sample
        density    density, the number of real images within whose distance a
                   sample lies, on average, divided by k (about 1 for equal
                   sets), and coverage, the share of real images with a sample
                   within it
        copies     distance from each sample to the nearest training image; exact
                   copies are listed
      Where both sets have labels, each class is measured too.
      Definitions, pitfalls and sources:
      Sources/DiffusionTransformers/DiffusionTransformers.docc/Evaluating.md.
      """)

  @Option(help: ArgumentHelp("The set to evaluate.", valueName: "set"))
  var samples: String?

  @Option(help: ArgumentHelp("The reference set: real images, preferably not trained on.", valueName: "set"))
  var reference: String

  @Option(
    help: ArgumentHelp("The set in which copies are sought. (default: the reference)", valueName: "set"))
  var training: String?

  @Option(
    help: ArgumentHelp(
      """
      Feature space: pixels; pca:K, the first K ≤ 64 principal components of the reference; or the file of a network, FID's \
      Inception-v3 or EfficientNet-Lite0. Copies are always sought in pixels. \
      (default: pixels)
      """,
      valueName: "name|file"))
  var features: String?

  @Option(
    help: ArgumentHelp(
      """
      How pictures are resized for a network: \(PictureResize.allCases.map(\.rawValue).joined(separator: ", ")). (default: pytorch-fid \
      for Inception, the network's own else)
      """, valueName: "name"))
  var resize: String?

  @Option(
    help: ArgumentHelp(
      "Measures to compute, separated by commas: frechet, spatial, inception, precision, density, copies. (default: all that the sets allow)",
      valueName: "list"))
  var measures: String?

  @Option(help: ArgumentHelp("Number of neighbors for precision and recall. (default: 3)", valueName: "n"))
  var k: Int?

  @Option(help: ArgumentHelp("Number of neighbors for density and coverage. (default: 5)", valueName: "n"))
  var densityK: Int?

  @Option(
    help: ArgumentHelp(
      "Bootstrap resamples for a 95 % confidence interval of the Fréchet distance, 0 to 10000. (default: 0, none)",
      valueName: "n"))
  var bootstrap = 0

  @Option(
    help: ArgumentHelp(
      "Random seed of the resamples; sets of equal size draw the same indices under one seed. (default: 0)",
      valueName: "n"))
  var seed: Int?

  @Option(
    help: ArgumentHelp(
      """
      Size in pixels at which folders of pictures are read: resized by area, center-cropped. (default: the other \
      set's)
      """, valueName: "n|hxw"))
  var size: String?

  @Flag(help: "Do not measure classes separately.")
  var noPerClass = false

  @Option(
    help: ArgumentHelp(
      "Write the reference's mean and covariance, mu and sigma (of Inception's spatial features mu_s and sigma_s), to this .npz; --samples is then optional.",
      valueName: "file"))
  var saveStatistics: String?

  @Option(
    help: ArgumentHelp(
      "Write what a network says of the samples to this .safetensors: features (N, d), logits, Inception's spatial; labels.",
      valueName: "file"))
  var saveFeatures: String?

  @Flag(help: "Print one JSON object instead of a table.")
  var json = false

  @Option(help: ArgumentHelp("Also write the JSON object to this .json.", valueName: "file"))
  var out: String?

  @OptionGroup var threads: ThreadsOption
  @OptionGroup var distributed: DistributedOption

  func run() throws {
    let request = try EvaluationRequest(self)
    let statistics = try saveStatistics.map { path throws(Failure) in
      try OutputFile(path, .npz, option: "--save-statistics")
    }
    let target = try out.map { path throws(Failure) in try OutputFile(path, .json) }
    let kept = try saveFeatures.map { path throws(Failure) in
      try OutputFile(path, .safetensors, option: "--save-features")
    }
    let (group, context, notes) = try distributed.start(threads: threads)
    let inputs = try EvaluationInputs(
      samples: samples, reference: reference, training: training,
      size: try size.map { text throws(Failure) in try PictureSize(text) },
      keepsPictures: request.network == nil)
    let network = try request.network.map { try FeatureNetwork(contentsOf: $0, context: context) }
    let options = try request.options(for: inputs, network)
    // Of several processes all compute, and the first writes.
    for file in [statistics, target, kept].compactMap(\.self) where group.isFirst { try file.checkWritable() }
    if let samples = inputs.samples {
      try Evaluation.check(
        of: samples, against: inputs.reference, training: inputs.training, isInFeatures: network != nil,
        options: options)
    }
    let features = try network.map { network in
      try FeatureInputs(
        inputs, network, request.resize, options, isSavingStatistics: statistics != nil,
        isSavingFeatures: kept != nil, group)
    }
    // Before anything else can fail: these took the time.
    if let kept, let samples = features?.samples, group.isFirst { try samples.save(to: kept) }
    let found = try statistics.map { _ in
      try features?.referenceStatistics(on: context, group)
        ?? (mean: Self.statistics(inputs.reference, on: context, group), spatial: nil)
    }
    let evaluation = try inputs.samples.map { try evaluate($0, inputs, features, options, context, group) }
    if group.isFirst {
      if let statistics, let found { try Self.save(found, to: statistics) }
      if let evaluation {
        let report = EvaluationReport(
          inputs: inputs, options: options, features: features?.reference, evaluation: evaluation)
        if let target { try target.saving { try AtomicFile.write(report.json.text, to: target.path) } }
        try StandardOutput.write(json ? report.json.text : report.table, terminator: "")
        for warning in evaluation.warnings { StandardError.write("Warning: \(warning)\n") }
      }
      for note in notes + inputs.notes + (features?.notes ?? []) { StandardError.write("Note: \(note)\n") }
      Warnings.write()
    }
    try group.barrier()
    Ranks.finish()
  }

  private func evaluate(
    _ samples: EvaluationInput, _ inputs: EvaluationInputs, _ features: FeatureInputs?, _ options: EvaluationOptions,
    _ context: ComputeContext, _ group: any Communicator
  ) throws -> Evaluation {
    var bar: ProgressBar?
    let evaluation = try Evaluation(
      of: samples, against: inputs.reference, training: inputs.training, in: features?.both, options: options,
      on: context, group: group
    ) { done, total in
      guard group.isFirst else { return }
      if bar == nil { bar = ProgressBar("evaluating", unit: "pairs", total: total) }
      bar?.update(done)
    }
    bar?.clear()
    return evaluation
  }

  private static func statistics(
    _ reference: EvaluationInput, on context: ComputeContext, _ group: any Communicator
  ) throws -> Statistics {
    if let set = reference.set { return try Statistics(of: set, on: context, group: group) }
    return try reference.statistics
      ?? { throw DiTError(set: reference.name, expected: "samples or statistics", found: "neither") }()
  }

  private static func save(_ statistics: (mean: Statistics, spatial: Statistics?), to file: OutputFile) throws {
    let parts = [(statistics.mean, "mu", "sigma")] + (statistics.spatial.map { [($0, "mu_s", "sigma_s")] } ?? [])
    let arrays = parts.flatMap { statistics, mu, sigma in
      let d = statistics.mean.count
      return [
        (mu, NPYArray(shape: [d], doubles: statistics.mean)),
        (sigma, NPYArray(shape: [d, d], doubles: statistics.covariance)),
      ]
    }
    try file.saving { try NPZFile.write(arrays, to: file.path) }
  }
}
