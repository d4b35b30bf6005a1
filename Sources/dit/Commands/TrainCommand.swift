import ArgumentParser
import DiffusionTransformers

/// `dit train`: a model from data.
struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train",
    abstract: "Train a model, from the beginning or from another model.",
    discussion: """
      DIR becomes a model directory: config.json, model.safetensors (the last
      weights) and ema.safetensors (their moving average, which sampling
      prefers). Beside them: log.jsonl, a line every few steps; loss.png, its
      curves; loss_map.png, the held-out samples' loss by patch and t, and the
      same as numbers in loss_map.safetensors (mse (bins, rows, columns), samples
      (bins), and t, where the bins begin); samples/, a grid of images every so
      often; checkpoints/, from which --resume goes on bit for bit; vae/, a copy
      of the autoencoder of the model it started from, if that has one. Ctrl-C
      finishes the step and saves.

        dit train --data digits --out runs/digits
        dit train --data digits --out runs/digits --resume
        dit train --data pictures --config my.json --out runs/mine
        dit train --data my.safetensors --config my.json --out runs/mine
        dit train --data my.safetensors --from runs/mine --out runs/finer

      A configuration is { "model": {…}, "training": {…}, "sampling": {…} }; each
      part and each key may be left out. "model" is a config.json, "sampling"
      takes the place of its sampling part; where neither says so, 20 steps of
      dpmpp are kept in the model's config.json, on jump:0.5, or leading where a
      cosine schedule asks for it (a flow: heun). The keys of "training":

      \(TrainingPlan.keyTable)

      For digits the defaults are those of the shipped model:

      \(TrainingPlan.digitsTable)

      The keys of "model", with the values of DiT-S/2:

      \(TrainingPlan.modelTable)

      Instead of those words:

      \(TrainingPlan.wordTable)

      And, where there are any: "text": {"length": bytes} for captions, or
      "context_image": {"input_size": [H, W]} for patches of another image, before
      the image's tokens; "class_names": ["…"]; and, as diffusers has them,
      "norm2_eps" (1e-6), "embedders" (shared) and "diffusers_scheduler".
      """)

  @Option(
    help: ArgumentHelp(
      """
      digits or emoji (both ship with the tool), a folder of class folders of PNG and JPEG pictures (or of pictures without \
      classes), or a .safetensors file with images (N, C, H, W), float in [−1, 1] or U8, or latents, and perhaps labels (N).
      """, valueName: "data"))
  var data: String

  @Option(help: ArgumentHelp("The folder of the run; made if need be.", valueName: "dir"))
  var out: String

  @Option(
    help: ArgumentHelp(
      "Configuration file. (default: for digits that of the shipped model, for emoji one that ships too)",
      valueName: "file"))
  var config: String?

  @Option(
    help: ArgumentHelp(
      """
      Start from this model's weights, its moving average where it has one; with another number of classes the label \
      table is made anew. A published name such as DiT-S/2 gives the sizes of a new model.
      """, valueName: "model"))
  var from: String?

  @Option(help: ArgumentHelp("Updates in the whole run, at least 1; overrides training.steps.", valueName: "n"))
  var steps: Int?

  @Option(help: ArgumentHelp("Samples an update, at least 1; overrides training.batch.", valueName: "n"))
  var batch: Int?

  @Option(help: ArgumentHelp("Seed of all random numbers, at least 0; overrides training.seed.", valueName: "n"))
  var seed: Int?

  @Flag(help: "Go on from the newest checkpoint in the folder; the settings are the run's own.")
  var resume = false

  @Flag(help: "Keep a fifth of the activations and compute the rest again; overrides training.recompute.")
  var recompute = false

  @Option(
    help: ArgumentHelp(
      "Pictures of a folder that cannot be decoded: refuse or skip; overrides training.broken_images.",
      valueName: "what"))
  var brokenImages: BrokenImages?

  @Flag(
    help: """
      Also write event files for TensorBoard to DIR/tensorboard: scalars with each line of the log, sample grids and loss \
      maps. They alone of a run's files hold the time of day.
      """)
  var tensorboard = false

  @OptionGroup var weights: WeightsOption
  @OptionGroup var heads: HeadsOption
  @OptionGroup var numerics: NumericsOptions
  @OptionGroup var threads: ThreadsOption

  func run() throws {
    do {
      try train()
    } catch let error as TrainingError {
      switch error {
      case .holdsCheckpoints, .differs: throw Failure(.usage, "\(error)")
      case .noCheckpoint, .damaged: throw Failure(.input, "\(error)")
      }
    }
  }

  private func train() throws {
    let context = try threads.context()
    let content = try TrainingData(data)
    var plan = try plan(for: content)
    let (dataset, notes) = try content.dataset(for: plan.model, plan.training)
    let trainer = try plan.trainer(dataset, prior: try prior(plan), context: context)
    let run = try open(trainer, plan)
    // Not before: stderr's first line is the error where there is one.
    for note in notes + plan.notes { StandardError.write("Note: \(note)\n") }
    Interruption.listen()
    var follower = try writing { try TrainingFollower(run, tensorBoard: tensorboard) }
    let outcome = try reading(trainer) {
      try writing { try run.run(shouldStop: { Interruption.isRequested }, report: { try follower.show($0) }) }
    }
    follower.clear()
    try finish(outcome, follower)
  }

  private func plan(for content: TrainingData) throws -> TrainingPlan {
    var overrides = TrainingPlan.Overrides()
    (overrides.steps, overrides.batch, overrides.seed) = (steps, batch, seed)
    (overrides.numerics, overrides.recompute, overrides.brokenImages) = (numerics, recompute, brokenImages)
    guard resume else {
      return try TrainingPlan(
        data: data, content: content, config: config, from: from, weights: weights, heads: heads,
        overrides: overrides)
    }
    if let word = weights.weights?.rawValue {
      throw Failure.usage("--weights", expected: "none with --resume", found: word)
    }
    if from != nil { throw Failure.usage("--from", expected: "none with --resume", found: "one") }
    guard let checkpoint = try Checkpoint.latest(in: out) else { throw TrainingError.noCheckpoint(directory: out) }
    return try TrainingPlan(resuming: checkpoint, config: config, content: content, overrides: overrides)
  }

  /// The prior of a run that goes on; nil where it is to be fitted.
  private func prior(_ plan: TrainingPlan) throws -> SequencePrior? {
    guard resume, plan.training.lambdaSeq > 0 else { return nil }
    return try SequencePrior(directory: out, for: plan.model.network)
  }

  /// A folder that cannot be written is an output's failure, a checkpoint that cannot be read an input's.
  private func open(_ trainer: Trainer, _ plan: TrainingPlan) throws -> TrainingRun {
    if resume { return try TrainingRun(resuming: trainer, in: out) }
    return try writing { try TrainingRun(starting: trainer, in: out, autoencoder: plan.autoencoder) }
  }

  /// Data that cannot be read any more: the run has saved what it had.
  private func reading<Result>(_ trainer: Trainer, _ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch let error as DatasetError {
      let step = trainer.completedSteps
      throw Failure(.input, "\(error); training stopped after step \(step), which is saved; --resume goes on from it")
    }
  }

  private func writing<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch let error as FileError {
      throw Failure(.failure, "\(error)")
    }
  }

  private func finish(_ outcome: TrainingOutcome, _ follower: TrainingFollower) throws {
    switch outcome {
    case .finished(let step):
      let validation = follower.validation.map { ", validation loss \($0.loss) after step \($0.step)" } ?? ""
      print("\(out): \(step) steps\(validation)")
      Warnings.write()
    case .interrupted(let step):
      throw Failure(.interrupted, "interrupted after step \(step), which is saved; --resume goes on from it")
    case .diverged(let divergence, let checkpoint):
      throw Failure(.failure, "\(divergence); the last good checkpoint is \(checkpoint)")
    }
  }
}

extension BrokenImages: ExpressibleByArgument {}
