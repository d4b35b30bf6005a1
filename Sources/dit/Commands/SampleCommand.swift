import ArgumentParser
import DiTDistributed
import DiTEngine
import DiTImaging
import DiTPictures

/// `dit sample`: images from noise.
struct SampleCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sample",
    abstract: "Sample images.",
    discussion: """
      The ending of --out decides what is written:
        .png          a labeled grid, small images enlarged; the file's text
                      entries have seed and settings
        .safetensors  samples (N, C, H, W), not clipped, labels (N), and, where
                      samples are pixels or are decoded, images clipped to
                      [−1, 1]
        .npz          arr_0, uint8 (N, H, W, C), for the ImageNet evaluators
      Samples of 1 or 3 channels are pixels. Others are latents: the autoencoder
      that the model's config.json names as "vae" (or a pipeline has in vae/)
      decodes them; without one they can only be .safetensors.

        dit sample --classes 0-9 --out digits.png
        dit sample --classes 3,7 --count 8 --seed 1 --guidance 2 --out some.png
        dit sample --model DiT-XL-2-256 --classes 207 --fast --out dog.png
        dit sample --model runs/mine --sampler ddpm --steps 250 --out some.npz
        dit sample --noise noise.safetensors --out again.png
        dit sample --model runs/captions --prompt 'the digit seven' --out 7.png
        dit sample --image seven.png --strength 0.6 --classes 1,7 --out like-it.png
        dit sample --model DiT-XL-2-256 --image photo.jpg --mask hole.png \\
            --classes 207 --out dog.png

      Image n depends on the seed, n, its class and the settings, not on the number
      of images (but see --rng) or threads. Ctrl-C stops after the current step and
      writes the images that are finished.
      """)

  @OptionGroup var model: ModelOptions

  @Option(
    help: ArgumentHelp(
      "Classes to sample, in this order: 3, 0,3,7, 0-9, or class names. (default: all, up to 100)", valueName: "list"))
  var classes: String?

  @Option(help: ArgumentHelp("Images per class, at least 1. (default: 1, or as many as --noise has)", valueName: "n"))
  var count: Int?

  @OptionGroup var conditions: ConditionOptions
  @OptionGroup var edit: EditOptions
  @OptionGroup var steps: StepOptions

  @Option(
    help: ArgumentHelp(
      """
      ddim, ddpm (ancestral, many steps), dpmpp (DPM-Solver++ 2M), unipc, deis (both of order 2), pndm, euler, \
      euler_ancestral or heun (two evaluations per step, one in the last); on a linear path euler, heun, \
      sde (Euler–Maruyama, many steps) or dopri5 (as many evaluations as --tolerance asks for), or meanflow, which a network \
      that is told guidance needs (token_groups) and no other one takes. On a diffusers directory each is \
      the class of that name with the saved scheduler's keys. (default: the model's, else ddim, on a linear path heun)
      """, valueName: "name"))
  var sampler: SamplerName?

  @Option(
    help: ArgumentHelp(
      "DDIM stochasticity η, 0–1; 1 adds as much noise as ddpm. (default: the model's, else 0)",
      valueName: "x"))
  var eta: Double?

  @Option(
    help: ArgumentHelp(
      """
      How far a step of dopri5 may be off, relatively and absolutely, as torchdiffeq counts it. (default: the model's, else \
      1e-3,1e-6)
      """, valueName: "rtol,atol"),
    transform: StepTolerance.init(parsing:))
  var tolerance: StepTolerance?

  @OptionGroup var guidance: GuidanceOptions

  @Flag(
    help: """
      Take the settings that Documentation/SpeedAndQuality.md recommends: int8, or bf16, where this CPU has products of it; ten \
      steps of UniPC, on a linear path twelve of Heun; and guidance at middle noise levels only. --precision, --steps \
      and guidance's options hold beside it. With --mixed-cpus, and with --shard on CPUs that differ, say the --precision.
      """)
  var fast = false

  @Option(
    help: ArgumentHelp(
      """
      Forecast evaluations of the network from earlier ones: taylor:N[,ORDER] computes one of N and forecasts what the blocks' \
      halves make in the others, lite:N[,ORDER] what the last block leaves, in little memory. N 2 to 100, ORDER 0 to 4 (2 if \
      left out). For many steps; with few take a better sampler. Not with pndm, heun, dopri5. (default: none)
      """, valueName: "rule"),
    transform: StepCaching.init(parsing:))
  var cache: StepCaching?

  @Option(help: ArgumentHelp("Random seed, 0 to 2⁶⁴−1.", valueName: "n"))
  var seed: UInt64 = 0

  @Option(
    help: ArgumentHelp(
      """
      Random generator: philox, with which image n depends on the seed and n alone, or torch, PyTorch's CPU generator \
      drawn in diffusers' order, which gives the same numbers for the same seed and number of images.
      """, valueName: "name"))
  var rng: RandomStream = .philox

  @Option(
    help: ArgumentHelp(
      """
      Initial noise (N, C, H, W), from a safetensors file as `dit invert` writes it; its labels (N), where it has any, \
      replace --classes.
      """, valueName: "file"))
  var noise: String?

  @Option(
    help: ArgumentHelp(
      """
      Also write x after each step: .png, one row per image; .safetensors, states (S, N, C, H, W) and timesteps (S): \
      training timesteps, or on a linear path the network's times.
      """, valueName: "file"))
  var trajectory: String?

  @Option(
    help: ArgumentHelp(
      """
      Also show the images during sampling, in this .png, replaced about once a second: the predicted clean images; \
      latents of 4 channels by a linear map to RGB.
      """, valueName: "file"))
  var preview: String?

  @OptionGroup var shard: ShardOption
  @OptionGroup var distributed: DistributedOption

  @Option(help: ArgumentHelp("The file to write: .png, .safetensors or .npz.", valueName: "file"))
  var out: String

  func run() throws {
    if let count, count < 1 { throw Failure.usage("--count", expected: "at least 1", found: "\(count)") }
    try edit.check()
    try checkFast()
    let target = try OutputFile(out, .png, .safetensors, .npz)
    let path = try trajectory.map { path throws(Failure) in
      try OutputFile(path, .png, .safetensors, option: "--trajectory")
    }
    if path?.path == out { throw Failure.usage("--trajectory", expected: "another file than --out", found: out) }
    for other in [out, trajectory].compactMap(\.self) where other == preview {
      throw Failure.usage("--preview", expected: "a file of its own", found: other)
    }
    if let share = shard.shard, distributed.distributed != nil {
      throw Failure.usage("--shard", expected: "none beside --distributed", found: "\(share)")
    }
    let (group, context, notes) = try distributed.start(threads: model.threads)
    Warnings.add(notes: notes)
    let share = shard.share(of: group)
    for (option, file) in [("--trajectory", trajectory), ("--preview", preview)] where group.size > 1 {
      if let file { throw Failure.usage(option, expected: "none with several processes", found: file) }
    }
    // OpenBLAS has products of fp32 alone.
    let numerics = fast && model.numerics.gemm != "blas" ? Numerics(precision: .fastest(on: context)) : Numerics()
    let dit = try model.load(on: context, defaults: numerics)
    let whole = try SampleRequest(
      classes: classes, count: count, noise: noise, conditions: conditions, for: dit.configuration)
    let request = whole.part(share)
    guard request.count > 0 || group.size > 1 else {
      throw Failure.usage(
        "--shard", expected: "fewer shares than the \(whole.count) images", found: "\(share)")
    }
    var options = try options(
      for: dit.configuration, isNull: request.labels == nil && request.sequence == nil)
    options.share = share
    let autoencoder = try model.autoencoder(
      for: dit, isNeeded: target.format != .safetensors || edit.image != nil, defaults: numerics)
    try Self.check(target, for: dit.configuration, autoencoder, isWriter: group.isFirst)
    if let path { try Self.check(path, for: dit.configuration, nil, isWriter: true) }
    var preview = try preview.map { path in
      let file = try OutputFile(path, .png, option: "--preview")
      let preview = try SamplingPreview(path, for: dit.configuration, software: "dit")
      try file.checkWritable()
      return preview
    }

    let picture = try edit.picture(for: dit, autoencoder)
    let start = request.start(picture, strength: edit.chosenStrength)

    Interruption.listen()
    let times = try dit.stepTimes(options.sampler, start: start)
    for (option, file) in [("--trajectory", trajectory), ("--preview", self.preview)] where times.isEmpty {
      guard let file else { continue }
      throw Failure.usage(option, expected: "none, as strength \(edit.chosenStrength) takes no step", found: file)
    }
    var states = path.map { _ in Trajectory(count: request.count, of: dit.configuration, times: times) }
    var bar = SamplingBar("sampling")
    let c = dit.configuration.network
    var images = Tensor(zeros: [0, c.inChannels, c.inputHeight, c.inputWidth])
    if let cache {
      let bytes = try dit.cacheByteCount(options, count: request.count)
      StandardError.write("cache \(cache): \((bytes + 999_999) / 1_000_000) MB\n")
    }
    if request.count > 0 {
      images = try request.samples(of: dit, options, from: start, inpainting: picture?.inpainting) { progress in
        states?.record(progress)
        preview?.show(progress)
        return bar.show(progress)
      }.images
      bar.clear()
    }
    images = try group.collect(images, total: whole.count)
    var finished = try group.finishedImages(times.isEmpty ? request.count : bar.finishedImages, total: whole.count)
    let made = group.size > 1 ? whole : request
    let labels = try made.labels ?? dit.nullLabels(made.count)
    guard group.isFirst else {
      try group.barrier()  // until the first has written
      if finished < made.count { throw SamplingBar.interrupted(finished, of: made.count, target) }
      return Ranks.finish()
    }
    if finished > 0 {
      let writer = try SampleWriter(
        model: dit.configuration,
        settings: SampleSettings(
          options, software: "dit", saved: dit.configuration.diffusersScheduler,
          precision: model.numerics.numerics(defaults: numerics).precision,
          classes: labels, prompt: conditions.prompt, hasNoise: noise != nil,
          strength: picture.map { _ in edit.chosenStrength }, hasMask: edit.mask != nil),
        grid: SampleGrid(dit.configuration, countPerClass: made.countPerClass), autoencoder: autoencoder,
        edit: picture)
      finished = try writer.write(
        images.prefix(finished), labels: Array(labels.prefix(finished)), to: target)
      let labels = Array(labels.prefix(finished))
      if let path { try states?.write(finished, labels: writer.grid.names(labels), to: path, writer.settings) }
    }
    try group.barrier()
    if finished < made.count { throw SamplingBar.interrupted(finished, of: made.count, target) }
    try StandardOutput.write("\(out): \(finished) \(finished == 1 ? "image" : "images"), seed \(seed)")
    Warnings.write(preview?.problem, for: dit.configuration)
    Ranks.finish()
  }

  /// Throws for what `--fast` chooses itself, or never takes.
  private func checkFast() throws(Failure) {
    guard fast else { return }
    if distributed.mixedCPUs, model.numerics.precision == nil {
      throw .usage(
        "--precision", expected: "one beside --fast and --mixed-cpus, as each CPU has its own fastest", found: "none")
    }
    let chosen = [
      ("--sampler", sampler?.rawValue), ("--schedule", steps.schedule?.description), ("--eta", eta.map { "\($0)" }),
      ("--tolerance", tolerance?.text), ("--cache", cache.map { "\($0)" }),
    ]
    for case (let option, let found?) in chosen {
      throw .usage(option, expected: "none beside --fast, which has few steps of a sampler of its own", found: found)
    }
  }

  /// What the model says, overridden by the command line.
  private func options(for model: ModelConfiguration, isNull: Bool) throws -> SamplingOptions {
    let sampling =
      fast
      ? try model.fastSampling(scale: guidance.guidance ?? (isNull ? 1 : nil), beginsWithPicture: edit.image != nil)
      : model.sampling
    var options = SamplingOptions(
      sampler: sampling.sampler, guidance: sampling.guidance, seed: seed, random: rng)
    if isNull { options.guidance.scale = 1 }
    if let sampler {
      options.sampler.use(sampler)
    }
    options.caching = cache
    if let eta { options.sampler.eta = eta }
    if let tolerance { options.sampler.tolerance = tolerance }
    steps.apply(to: &options.sampler)
    guidance.apply(to: &options.guidance)
    return options
  }

  /// Throws when the samples of the model cannot be written to that file.
  private static func check(
    _ file: OutputFile, for model: ModelConfiguration, _ autoencoder: Autoencoder?, isWriter: Bool
  ) throws(Failure) {
    let channels = autoencoder?.configuration.imageChannels ?? model.network.inChannels
    if file.format != .safetensors, ![1, 3].contains(channels) {
      throw .usage(
        file.path, expected: ".safetensors, as samples of \(model.network.inChannels) channels are no pictures",
        found: ".\(file.format.rawValue)")
    }
    if isWriter { try file.checkWritable() }
  }
}

extension Trajectory {
  /// Writes the trajectories of the first `count` images: tensors, or one row per image.
  fileprivate func write(
    _ count: Int, labels: [String], to file: OutputFile, _ settings: SampleSettings
  ) throws(Failure) {
    switch file.format {
    case .png:
      let picture = grid(count, labels: labels).rendered()
      try file.saving { try picture.writePNG(to: file.path, text: settings.text) }
    default: try file.write(tensors(count), metadata: settings.metadata)
    }
  }
}

extension RandomStream: ExpressibleByArgument {}
