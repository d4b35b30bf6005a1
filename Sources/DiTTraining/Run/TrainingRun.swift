// A training run in a folder DIR: the trainer, its checkpoints in DIR/checkpoints, its log DIR/log.jsonl, and at the end
// DIR itself as a model directory. Prints nothing; the caller gets events.

import DiTDiffusion
import DiTDistributed
import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor

/// What happened during a run, in the order in which it happens after a step.
public enum TrainingEvent: Sendable {
  /// A step was done; `seconds` is what it took. Reported for every step.
  case step(StepReport, seconds: Double)
  /// `log_every` says that the log has a line of this step, or it is the last; `secondsPerStep` is the mean since the line
  /// before.
  case logged(StepReport, secondsPerStep: Double)
  /// The averaged weights were measured on the held-out split.
  case validation(ValidationReport)
  /// `sample_every` says that it is time for a sample grid: see ``Trainer/averagedModel()``.
  case sampleDue(step: Int)
  /// `evaluate_every` says that samples are to be evaluated, or the run is at its end: ``TrainingRun/record(_:)`` takes what was found.
  case evaluationDue(step: Int)
  /// A checkpoint is on the disk.
  case checkpoint(step: Int, path: String)
}

/// How a run ended.
public enum TrainingOutcome: Equatable, Sendable {
  /// All steps are done; DIR is a model directory.
  case finished(step: Int)
  /// Stopped on request after this step; checkpoint and DIR hold its weights.
  case interrupted(step: Int)
  /// The run cannot go on; the last good checkpoint is kept, DIR is as it was.
  case diverged(Divergence, lastCheckpoint: String)
}

/// A run in a folder. One caller at a time. Of several processes each has a run in the same folder, and makes the same calls; the first
/// one writes, and the others' data, averages and moments go to it.
public final class TrainingRun {
  /// The log's name in DIR.
  public static let logFile = "log.jsonl"

  /// The model directory in DIR that has the weights of the best evaluation.
  public static let bestDirectory = "best"

  /// DIR.
  public let directory: String
  public let trainer: Trainer
  /// The run has more steps than when its checkpoint was made; nil of a run that goes on as it was.
  public let extended: TrainingExtension?
  private let store: CheckpointStore
  /// Of the first process.
  private let log: JSONLinesLog?
  /// Nil when nothing is running: another process may then take the folder.
  private var claim: RunClaim?
  private var lastCheckpoint: (step: Int, path: String)
  private var secondsSinceLine = 0.0
  private var stepsSinceLine = 0
  /// The line of the best evaluation.
  private var best: [JSONMember]
  /// The step of the newest evaluation in the first process's log; 0 for none.
  private var lastEvaluated: Int

  /// A new run; saves a checkpoint of step 0, so that it can be resumed from the beginning.
  ///
  /// - Parameters:
  ///   - directory: DIR; made if need be.
  ///   - trainer: at step 0.
  ///   - autoencoder: the directory of the autoencoder whose latents the model makes, to be copied to DIR/vae; nil for none,
  ///     or where the model's configuration names one that stays where it is.
  /// - Precondition: a model whose autoencoder is copied names it `vae`.
  /// - Throws: `DiTError` when DIR holds checkpoints, cannot be written, or another process has a run there.
  public init(starting trainer: Trainer, in directory: String, autoencoder: String? = nil) throws {
    precondition(autoencoder == nil || trainer.model.autoencoder == ModelDirectory.autoencoderName, "another name")
    precondition(trainer.completedSteps == 0, "a new run from step \(trainer.completedSteps)")
    let store = CheckpointStore(directory: directory)
    var claim: RunClaim?
    extended = nil
    log = try trainer.group.onFirst {
      guard try store.steps.isEmpty else { throw DiTError(run: directory, .holdsCheckpoints) }
      try Directory.create(directory)
      claim = try RunClaim(directory)
      guard try store.steps.isEmpty else { throw DiTError(run: directory, .holdsCheckpoints) }
      if let autoencoder { try ModelDirectory.copyAutoencoder(autoencoder, to: directory) }
      try Self.keep(trainer.sequencePrior, in: directory)
      return try JSONLinesLog(creating: "\(directory)/\(Self.logFile)")
    }
    (self.store, self.claim) = (store, claim)
    self.directory = directory
    self.trainer = trainer
    best = []
    lastEvaluated = 0
    lastCheckpoint = (0, try store.save(trainer))
  }

  /// The run in `directory`, from its newest checkpoint on: weights, moments, average, order of the data and random
  /// numbers are those of a run that was never interrupted. Lines of the log after the checkpoint are dropped.
  ///
  /// With more `steps` the run goes on with AdamW's moments, the average, the order of the data and the random numbers as
  /// one of so many steps would, but for the learning rate, which is ``TrainingConfiguration/learningRate(step:)`` of the new
  /// settings: a cosine is stretched to the new last step, unless `schedule_steps` keeps it where it was. ``extended`` and a
  /// line of the log say so.
  ///
  /// - Parameters:
  ///   - trainer: with the settings and the data of the run, perhaps with more `steps` and other `schedule_steps`; its
  ///     values are replaced.
  ///   - directory: of the run.
  ///   - claim: of the same folder; nil takes it here.
  /// - Throws: `DiTError` when there is no checkpoint or its settings differ, naming the keys, or a file of the run
  ///   cannot be written; when another process has a run there, and what reading the files throws.
  public init(resuming trainer: Trainer, in directory: String, claim: RunClaim? = nil) throws {
    store = CheckpointStore(directory: directory)
    precondition(claim == nil || claim?.directory == directory, "a claim of another folder")
    // Of several processes the first has the folder.
    if let claim {
      self.claim = claim
      _ = try trainer.group.onFirst {}
    } else {
      self.claim = try trainer.group.onFirst { try RunClaim(directory) } ?? nil
    }
    guard let checkpoint = try Checkpoint.latest(in: directory) else {
      throw DiTError(run: directory, .noCheckpoint)
    }
    try trainer.group.requireSame(Double(checkpoint.step), "the newest checkpoint that rank 0 sees, of one folder")
    try checkpoint.check(trainer.model, trainer.training, trainer.data)
    try trainer.restore(checkpoint)
    extended = checkpoint.extended(by: trainer.training)
    let extended = extended
    let isMeasuredAlike = trainer.training.measures(asIn: checkpoint.training)
    log = try trainer.group.onFirst {
      do {
        try Self.keep(trainer.sequencePrior, in: directory)
        let log = try JSONLinesLog(resuming: "\(directory)/\(Self.logFile)", after: checkpoint.step)
        if let extended { try log.write(extended) }
        if !isMeasuredAlike { try log.writeChangedMeasures(step: checkpoint.step) }
        return log
      } catch let error as DiTError where error.fileProblem != nil {
        throw error.of(.output)
      }
    }
    self.directory = directory
    self.trainer = trainer
    let log = "\(directory)/\(Self.logFile)"
    best = try trainer.group.onFirst { MeasureReport.best(inLog: log) } ?? []
    lastEvaluated = try trainer.group.onFirst { MeasureReport.lastStep(inLog: log) } ?? 0
    lastCheckpoint = (checkpoint.step, checkpoint.path)
  }

  /// Writes DIR's sequence prior. One that is there is this run's, or without λ_seq another's.
  private static func keep(_ prior: SequencePrior?, in directory: String) throws {
    let path = "\(directory)/\(SequencePrior.fileName)"
    if let prior {
      try prior.write(to: path)
    } else {
      try Directory.remove(path)
    }
  }

  /// Trains to the last step, or until `shouldStop`, which is called before every step, of any process; then saves a checkpoint and writes
  /// DIR's own config.json, model.safetensors and ema.safetensors.
  ///
  /// - Parameters:
  ///   - shouldStop: true ends the run after a checkpoint.
  ///   - report: hears of every event; what it throws ends the run as it is, without a checkpoint.
  /// - Returns: how it ended; divergence is a value, not an error.
  /// - Throws: `DiTError` when a sample can no longer be read, after saving as for a request to stop; when something
  ///   cannot be written, or DIR is no longer there; what `report` throws. The files that were there are whole: a
  ///   checkpoint or model that could not be finished has left the one before.
  public func run(
    shouldStop: () -> Bool = { false }, report: (TrainingEvent) throws -> Void
  ) throws -> TrainingOutcome {
    try claimAgain()
    defer { claim = nil }
    do {
      // What was given up when the run was interrupted; only the first process has the log.
      if try trainer.group.any(trainer.group.isFirst && isEvaluationDue && lastEvaluated < trainer.completedSteps) {
        try report(.evaluationDue(step: trainer.completedSteps))
      }
      while trainer.completedSteps < trainer.training.steps {
        if try trainer.group.any(shouldStop()) {
          try leave(report)
          return .interrupted(step: trainer.completedSteps)
        }
        try advance(report)
      }
      try leave(report)
      return .finished(step: trainer.completedSteps)
    } catch {
      if let divergence = (error as? DiTError)?.divergence {
        return .diverged(divergence, lastCheckpoint: lastCheckpoint.path)
      }
      try claim?.check()  // of a folder that has gone that is the news, not which file was met first
      throw error
    }
  }

  /// Takes the folder again where this is not the first call.
  private func claimAgain() throws {
    guard trainer.group.isFirst, claim == nil else { return }
    claim = try RunClaim(directory)
    let newest = try store.steps.last.map(store.path) ?? "none"
    guard newest == lastCheckpoint.path else {
      throw DiTError(
        file: directory, .entry("newest checkpoint"), expected: lastCheckpoint.path, found: newest)
    }
  }

  /// A step and what is due after it. The checkpoint comes last, so that a run resumed from it does not repeat the rest.
  private func advance(_ report: (TrainingEvent) throws -> Void) throws {
    let start = ContinuousClock.now
    let step = try reading(report) { try trainer.step() }
    let seconds = Double((ContinuousClock.now - start) / .nanoseconds(1)) * 1e-9
    try claim?.check()
    try report(.step(step, seconds: seconds))
    try logStep(step, seconds, report)
    if isDue(trainer.training.validateEvery), let validation = try reading(report, trainer.validate) {
      try log?.write(validation)
      try report(.validation(validation))
    }
    if isDue(trainer.training.sampleEvery) { try report(.sampleDue(step: step.step)) }
    if isEvaluationDue { try report(.evaluationDue(step: step.step)) }
    if isDue(trainer.training.checkpointEvery) { try save(report) }
  }

  /// Takes what an evaluation of the present step found: a line of the log; where it is the best so far, DIR/best becomes the model
  /// directory of the averaged weights. Of several processes the first one's report counts; all call it.
  ///
  /// - Returns: whether it is the best so far.
  /// - Throws: `DiTError` where something cannot be written.
  @discardableResult
  public func record(_ report: MeasureReport) throws -> Bool {
    let isBetter = try trainer.group.onFirst { report.isBetter(than: best) } ?? false
    let isBest = try trainer.group.gather([isBetter ? 1 : 0])[0][0] == 1
    if isBest {
      try claim?.check()
      try trainer.export(CheckpointStore.seen(trainer.model, levels: 1), to: "\(directory)/\(Self.bestDirectory)")
      best = report.line(isBest: true)
    }
    try trainer.group.onFirst { try log?.write(report, isBest: isBest) }
    lastEvaluated = report.step
    return isBest
  }

  /// Data that can no longer be read end the run, but what was learnt is saved first.
  private func reading<Report>(
    _ report: (TrainingEvent) throws -> Void, _ body: () throws -> Report
  ) throws -> Report {
    do {
      return try body()
    } catch let error as DiTError where error.kind == .data {
      try leave(report)
      throw error
    }
  }

  private var isEvaluationDue: Bool {
    let (every, step) = (trainer.training.evaluateEvery, trainer.completedSteps)
    return step > 0 && (isDue(every) || (every > 0 && step == trainer.training.steps))
  }

  private func isDue(_ every: Int) -> Bool {
    every > 0 && trainer.completedSteps % every == 0
  }

  private func logStep(
    _ step: StepReport, _ seconds: Double, _ report: (TrainingEvent) throws -> Void
  ) throws {
    secondsSinceLine += seconds
    stepsSinceLine += 1
    guard isDue(trainer.training.logEvery) || step.step == trainer.training.steps else { return }
    let mean = secondsSinceLine / Double(stepsSinceLine)
    (secondsSinceLine, stepsSinceLine) = (0, 0)
    try log?.write(step, seconds: mean)
    try report(.logged(step, secondsPerStep: mean))
  }

  /// The checkpoint of the present step, unless it is there already; then the old ones go.
  private func save(_ report: (TrainingEvent) throws -> Void) throws {
    guard lastCheckpoint.step != trainer.completedSteps else { return }
    try claim?.check()
    try trainer.requireFinite()
    lastCheckpoint = (trainer.completedSteps, try store.save(trainer))
    if trainer.group.isFirst { try store.prune(keeping: trainer.training.keepCheckpoints) }
    try report(.checkpoint(step: trainer.completedSteps, path: lastCheckpoint.path))
  }

  private func leave(_ report: (TrainingEvent) throws -> Void) throws {
    try save(report)
    try trainer.export(to: directory)
    try trainer.group.barrier()  // the first has written
  }
}
