import ArgumentParser
import DiTDistributed
import DiTEngine
import DiTPictures

/// `dit train`: a model from data.
struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train",
    abstract: "Train a model, from scratch or from another model's weights.",
    discussion: """
      DIR becomes a model directory: config.json, model.safetensors (the last
      weights) and ema.safetensors (their exponential moving average, preferred
      for sampling). Beside them: log.jsonl, one line per log_every steps;
      loss.png, its curves; loss_map.png, the held-out samples' loss by patch and
      t, and the same numbers in loss_map.safetensors (mse (bins, rows, columns),
      samples (bins), and t, where the bins begin); samples/, one grid of images
      per sample_every steps; best/, a model directory of the weights whose samples
      were the best of those measured per evaluate_every steps; checkpoints/,
      from which --resume continues bit for bit; vae/, a copy of the autoencoder
      of the model it started from, if that has one. Ctrl-C finishes the step and
      saves.

        dit train --data digits --out runs/digits
        dit train --data digits --out runs/digits --resume
        dit train --data digits --out runs/digits --resume --steps 8000
        dit train --data pictures --config my.json --out runs/mine
        dit train --data my.safetensors --config my.json --out runs/mine
        dit train --data my.safetensors --from runs/mine --out runs/finer

      A configuration is { "model": {…}, "training": {…}, "sampling": {…} }; every
      part and every key is optional. "model" is a config.json, "sampling" replaces
      its sampling part; where neither is given, the model's config.json gets 20
      steps of dpmpp on jump:0.5, or on leading where a cosine schedule needs it
      (a linear path: heun). The keys of "training":

      \(TrainingRequest.keyTable)

      The defaults for digits, those of the shipped model:

      \(TrainingRequest.digitsTable)

      The keys of "model", with the values of DiT-S/2:

      \(TrainingRequest.modelTable)

      The choices of these keys:

      \(TrainingRequest.choiceTable)

      Optional keys: "text": {"length": bytes} for captions of at most so many bytes
      of UTF-8 (an ASCII letter takes one, a Chinese character three), or
      "context_image": {"input_size": [H, W]} for patches of another image, before
      the image's tokens; "class_names": ["…"]; "latent_statistics": {"mean": […],
      "std": […]} or a file with such tensors; "family", which presets keys; and,
      as in diffusers, "norm2_eps" (1e-6), "embedders" (shared) and
      "diffusers_scheduler". Of "sampling" on a linear path: "shift" (1) for
      euler and heun, "tolerance": [RTOL, ATOL] for dopri5.

      Keys of "diffusion" besides those above, with their defaults:

        "path": "beta"               or "linear", x_s = (1−s)·x0 + s·ς·ε, with
                                     prediction x0 or velocity; "flow" means path
                                     linear, velocity, network_time 1000s
        "network_time": "1000s"      linear: or "s" (1 is noise), "1-s" (1 is data)
        "loss_target": null          the prediction; with x0 on path linear also
                                     "velocity", (x_s − x0)/max(s, t_floor)
        "loss": "mse"                or "mse+cosine" with velocity: also the mean
                                     of 1 − cos over channels
        "time_distribution": "uniform"   linear: or {"logit_normal": [m, d]}
        "noise_scale": 1             linear: ς
        "t_floor": 0.05              linear with x0: the least divisor s
      """)

  @Option(
    help: ArgumentHelp(
      """
      digits or emoji (both ship with the tool), fashion (Fashion-MNIST, as Debian's dataset-fashion-mnist installs it), a folder of \
      class folders of PNG, JPEG and WebP pictures (or of pictures without classes), tar archives of such pictures (WebDataset), an \
      IDX file (MNIST's format, .gz or not) or a folder of such, or a .safetensors file with images (N, C, H, W), float in [−1, 1] or U8, or latents, and optional labels (N).
      """, valueName: "data"))
  var data: String

  @Option(help: ArgumentHelp("The run's folder, created if missing.", valueName: "dir"))
  var out: String

  @Option(
    help: ArgumentHelp(
      "Configuration file. (default: for digits and fashion the shipped models', for emoji another that ships with the tool)",
      valueName: "file"))
  var config: String?

  @Option(
    help: ArgumentHelp(
      """
      Initial weights: this model's, its moving average where it has one; with another number of classes the label table \
      is initialized anew. Of a torch training checkpoint, Adam goes on from the optimizer's state where the order of its \
      parameters is known; a note says whether it does. A published name such as DiT-S/2 gives the configuration of a new model.
      """, valueName: "model"))
  var from: String?

  @Option(
    help: ArgumentHelp(
      "Training steps in total, at least 1; overrides training.steps. With --resume: those of the run, or more.",
      valueName: "n"))
  var steps: Int?

  @Option(
    help: ArgumentHelp(
      """
      Step at which a cosine learning rate has come to 0; overrides training.schedule_steps. With --resume and more \
      --steps: without it the cosine is stretched to the new last step; the old number of steps keeps it as it was.
      """, valueName: "n"))
  var scheduleSteps: Int?

  @Option(help: ArgumentHelp("Batch size, at least 1; overrides training.batch.", valueName: "n"))
  var batch: Int?

  @Option(help: ArgumentHelp("Random seed, at least 0; overrides training.seed.", valueName: "n"))
  var seed: Int?

  @Flag(help: "Continue from the newest checkpoint in --out, with the run's own settings.")
  var resume = false

  @Flag(
    help:
      "Gradient checkpointing: keep a fifth of the activations and recompute the rest; overrides training.recompute.")
  var recompute = false

  @Option(
    help: ArgumentHelp(
      "Pictures of a folder that cannot be decoded: refuse or skip; overrides training.broken_images.",
      valueName: "what"))
  var brokenImages: BrokenImages?

  @Flag(
    help: """
      Also write event files for TensorBoard to DIR/tensorboard: scalars with each line of the log, sample grids and loss \
      maps. Of a run's files only these contain times of day.
      """)
  var tensorboard = false

  @OptionGroup var weights: WeightsOption
  @OptionGroup var heads: HeadsOption
  @OptionGroup var numerics: NumericsOptions
  @OptionGroup var threads: ThreadsOption
  @OptionGroup var distributed: DistributedOption

  @Flag(
    name: .customLong("no-overlap"),
    help: """
      With --distributed: send gradients only after the backward pass, and compute only when all new weights have come, \
      in place of both at once. Changes no bit.
      """)
  var noOverlap = false

  /// Virtual ranks of a run of several processes, where its configuration does not say.
  private static let virtualRanks = 8

  func run() throws {
    if noOverlap, distributed.distributed == nil {
      throw Failure.usage("--no-overlap", expected: "--distributed beside it", found: "none")
    }
    // A scheduler may send its signal at any time, and the run is then to save a step before it ends.
    if distributed.distributed != nil { Interruption.listen() }
    let (group, context, bindings) = try distributed.start(threads: threads)
    let content = try TrainingData(option: data)
    // Before the checkpoint is looked at, which a run that still writes would replace meanwhile.
    let claim = resume && group.isFirst ? try writing { try RunClaim(out) } : nil
    if resume { try group.barrier() }
    var request = try request(for: content)
    let (dataset, notes) = try content.dataset(for: request.model, request.training)
    let trainer = try request.trainer(
      dataset, prior: try prior(request), context: context, group: group, overlapsExchange: !noOverlap)
    let evaluator = try self.evaluator(trainer)
    let run = try open(trainer, request, claim)
    // Not before: stderr's first line is the error where there is one.
    for note in bindings + notes + request.notes + [run.extended?.note].compactMap(\.self) where group.isFirst {
      StandardError.write("Note: \(note)\n")
    }
    if distributed.distributed == nil { Interruption.listen() }
    let isOver = trainer.completedSteps >= trainer.training.steps
    let outcome: TrainingOutcome
    var monitor = group.isFirst ? try writing { try TrainingMonitor(run, tensorBoard: tensorboard) } : nil
    outcome = try reading(trainer) {
      try writing {
        try run.run(
          shouldStop: { Interruption.isRequested },
          report: { event in
            // What a picture is made of lies on all ranks.
            if case .sampleDue = event, monitor == nil { try Self.help(trainer) }
            try monitor?.show(event)
            if case .evaluationDue = event, let evaluator { try Self.evaluate(run, evaluator, &monitor) }
          })
      }
    }
    monitor?.clear()
    if let monitor { try finish(outcome, monitor, wasOver: isOver) } else { try finish(outcome) }
    Ranks.finish()
  }

  /// Makes another process's share of a sample grid. Where that fails, the first one tells.
  private static func help(_ trainer: Trainer) throws {
    do {
      _ = try trainer.sampleGrid(software: "dit")
    } catch let error as DiTError where error.isOfSamples {}
  }

  /// What measures samples on the way; nil where the configuration asks for nothing.
  private func evaluator(_ trainer: Trainer) throws -> TrainingEvaluator? {
    guard trainer.training.evaluateEvery > 0 else { return nil }
    return try TrainingEvaluator(trainer, data)
  }

  /// Measures samples of the present weights. Where that fails, on whichever process, the run goes on; what cannot be written ends it.
  private static func evaluate(
    _ run: TrainingRun, _ evaluator: TrainingEvaluator, _ monitor: inout TrainingMonitor?
  ) throws {
    let found: MeasureReport?
    do {
      found = try evaluator.evaluate(run.trainer) { work, done, total in
        monitor?.show(work, done, total)
        return !Interruption.isRequested
      }
    } catch let error as DiTError where error.divergence == nil {
      monitor?.note(error)
      return
    }
    guard let found else { return }
    let isBest = try run.record(found)
    try monitor?.show(found, isBest: isBest)
  }

  private func request(for content: TrainingData) throws -> TrainingRequest {
    var overrides = TrainingRequest.Overrides()
    (overrides.steps, overrides.scheduleSteps, overrides.batch, overrides.seed) = (steps, scheduleSteps, batch, seed)
    (overrides.numerics, overrides.recompute, overrides.brokenImages) = (numerics, recompute, brokenImages)
    guard resume else {
      return try TrainingRequest(
        data: data, content: content, config: config, from: from, weights: weights, heads: heads,
        overrides: overrides, virtualRanks: distributed.distributed.map { _ in Self.virtualRanks })
    }
    if let word = weights.weights?.rawValue {
      throw Failure.usage("--weights", expected: "none with --resume", found: word)
    }
    if from != nil { throw Failure.usage("--from", expected: "none with --resume", found: "one") }
    guard let checkpoint = try Checkpoint.latest(in: out) else { throw DiTError(run: out, .noCheckpoint) }
    return try TrainingRequest(resuming: checkpoint, config: config, content: content, overrides: overrides)
  }

  /// The prior of a run that goes on; nil where it is to be fitted.
  private func prior(_ request: TrainingRequest) throws -> SequencePrior? {
    guard resume, request.training.lambdaSeq > 0 else { return nil }
    return try SequencePrior(directory: out, for: request.model.network)
  }

  /// A folder that cannot be written is an output's failure, a checkpoint that cannot be read an input's.
  private func open(_ trainer: Trainer, _ request: TrainingRequest, _ claim: RunClaim?) throws -> TrainingRun {
    if resume { return try TrainingRun(resuming: trainer, in: out, claim: claim) }
    return try writing { try TrainingRun(starting: trainer, in: out, autoencoder: request.autoencoder) }
  }

  /// Data that cannot be read any more: the run has saved what it had.
  private func reading<Result>(_ trainer: Trainer, _ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch let error as DiTError where error.kind == .data {
      let step = trainer.completedSteps
      throw Failure(
        .input, "\(error); training stopped after step \(step), which is saved; --resume goes on from it",
        isShared: true)
    }
  }

  private func writing<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch let error as DiTError where error.fileProblem != nil {
      throw Failure(.failure, "\(error)")
    }
  }

  /// - Parameters:
  ///   - monitor: the first process's.
  ///   - wasOver: whether the run had all its steps before.
  private func finish(_ outcome: TrainingOutcome, _ monitor: TrainingMonitor? = nil, wasOver: Bool = false) throws {
    switch outcome {
    case .finished(let step):
      guard let monitor else { return }
      let validation = monitor.validation.map { ", validation loss \($0.loss) after step \($0.step)" } ?? ""
      let evaluation =
        monitor.evaluation.map { ", \($0.values[0].name) \($0.values[0].value) after step \($0.step)" } ?? ""
      let before = wasOver ? ", all trained before; a larger --steps goes on" : ""
      try StandardOutput.write("\(out): \(step) steps\(before)\(validation)\(evaluation)")
      Warnings.write(monitor.problem)
    case .interrupted(let step):
      monitor?.sayProblem()
      throw Failure(
        .interrupted, "interrupted after step \(step), which is saved; --resume goes on from it", isShared: true)
    case .diverged(let divergence, let checkpoint):
      monitor?.sayProblem()
      throw Failure(.failure, "\(divergence); the last good checkpoint is \(checkpoint)", isShared: true)
    }
  }
}

extension BrokenImages: ExpressibleByArgument {}
