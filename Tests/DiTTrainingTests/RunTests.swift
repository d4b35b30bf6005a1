import DiTFiles
import DiTPipeline
import DiTTensor
import DiTTraining
import Foundation
import Testing

@Suite("Training runs: resuming, checkpoints, divergence, events and log") struct RunTests {
  private let folder: TemporaryDirectory
  private static let results = [
    "config.json", "model.safetensors", "ema.safetensors", "checkpoints/step-00000012/model.safetensors",
    "checkpoints/step-00000012/ema.safetensors", "checkpoints/step-00000012/state.safetensors",
    "checkpoints/step-00000012/training.json", "checkpoints/step-00000012/config.json",
  ]

  init() throws { folder = try TemporaryDirectory() }

  private func bytes(_ path: String) -> Data? { FileManager.default.contents(atPath: folder(path)) }

  private func names(_ path: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder(path))) ?? []).sorted()
  }

  /// The log without its times.
  private func log(_ run: String) -> [Substring] {
    let text = bytes("\(run)/log.jsonl").map { String(decoding: $0, as: UTF8.self) } ?? ""
    return text.split(separator: "\n").map { $0.prefix { _ in true }.split(separator: ",\"seconds\"")[0] }
  }

  @discardableResult
  private func start(
    _ name: String, _ trainer: Trainer? = nil, until stop: (TrainingEvent) throws -> Void = { _ in }
  ) throws -> TrainingOutcome {
    try TrainingRun(starting: trainer ?? tinyTrainer(), in: folder(name)).run(report: stop)
  }

  @discardableResult
  private func resume(_ name: String, _ trainer: Trainer? = nil) throws -> TrainingOutcome {
    try TrainingRun(resuming: trainer ?? tinyTrainer(), in: folder(name)).run { _ in }
  }

  private func expectSameResults(_ a: String, _ b: String, _ comment: String) {
    for file in Self.results {
      #expect(bytes("\(a)/\(file)") != nil && bytes("\(a)/\(file)") == bytes("\(b)/\(file)"), "\(comment): \(file)")
    }
    #expect(log(a) == log(b) && log(a).count == 15, "\(comment): \(log(b).count) lines")
  }

  // MARK: Resume

  /// Killed after every step, after every validation and after every checkpoint, and resumed.
  @Test("A run killed after any step and resumed ends with the same bytes")
  func resumedRunsEndTheSame() throws {
    try start("whole")
    for kill in 1...11 {
      let name = "killed-\(kill)"
      #expect(throws: Killed.self) {
        try start(name) { event in if case .step(let report, _) = event, report.step == kill { throw Killed() } }
      }
      let last = try #require(try Checkpoint.latest(in: folder(name)))
      #expect(last.step == (kill - 1) / 4 * 4)
      #expect(try resume(name, tinyTrainer(threads: 2)) == .finished(step: 12))
      expectSameResults("whole", name, "killed at step \(kill)")
    }
  }

  @Test("A run killed twice, at validation and at a checkpoint, ends with the same bytes")
  func killedTwiceAndAtOtherPlaces() throws {
    try start("whole")
    #expect(throws: Killed.self) {
      try start("killed") { event in if case .validation(let report) = event, report.step == 8 { throw Killed() } }
    }
    #expect(throws: Killed.self) {
      try TrainingRun(resuming: tinyTrainer(), in: folder("killed")).run { event in
        if case .checkpoint(let step, _) = event, step == 8 { throw Killed() }
      }
    }
    try resume("killed")
    expectSameResults("whole", "killed", "killed twice")
  }

  @Test("A run that is asked to stop saves, and resumed ends with the same bytes")
  func stopsSavesAndGoesOn() throws {
    try start("whole") { _ in }
    let stop = StopSignal()
    let run = try TrainingRun(starting: tinyTrainer(), in: folder("stopped"))
    let outcome = try run.run(
      shouldStop: { stop.isRequested },
      report: { event in if case .step(let report, _) = event, report.step == 5 { stop.request() } })
    #expect(outcome == .interrupted(step: 5))
    #expect(names("stopped/checkpoints") == ["step-00000004", "step-00000005"])
    #expect(bytes("stopped/model.safetensors") == bytes("stopped/checkpoints/step-00000005/model.safetensors"))
    try resume("stopped")
    expectSameResults("whole", "stopped", "stopped")
  }

  @Test("A signal that is repeated within a moment is one request, later it is an order")
  func repeatedSignals() {
    let (stop, start) = (StopSignal(), Int64(7_000_000_000))
    #expect(!stop.isRequested)
    #expect(!stop.request(signal: 15, at: start) && stop.isRequested)
    #expect(!stop.request(signal: 15, at: start + 10_000_000) && !stop.request(signal: 15, at: start + 1_000_000_000))
    #expect(!stop.request(signal: 2, at: start + 60_000_000_000), "another signal")
    #expect(stop.request(signal: 15, at: start + 1_000_000_001) && stop.request(signal: 2, at: start + 70_000_000_000))
  }

  @Test("Resuming a finished run changes nothing")
  func aFinishedRunStaysFinished() throws {
    try start("run")
    let before = Self.results.map { bytes("run/\($0)") }
    let lines = log("run")
    #expect(try resume("run") == .finished(step: 12))
    #expect(Self.results.map { bytes("run/\($0)") } == before && log("run") == lines)
  }

  @Test("Resuming with other settings, model or data is refused by name")
  func otherSettingsAreRefusedByName() throws {
    try start("run")
    let cases: [(trainer: Trainer, messages: [String])] = [
      (
        try tinyTrainer { ($0.steps, $0.seed) = (11, 5) },
        ["training.steps is 12, not 11", "training.seed is 0, not 5"]
      ),
      (
        try tinyTrainer { ($0.steps, $0.scheduleSteps, $0.batch, $0.microBatch) = (24, 12, 9, 3) },
        ["training.batch is 6, not 9"]
      ),
      (try tinyTrainer(model: tinyModel(dropout: 0.2)), ["model.class_dropout_prob is 0.1, not 0.2"]),
      (try tinyTrainer(data: tinyData(count: 24)), ["data.samples is 23, not 24"]),
      (try tinyTrainer(data: tinyData { $0[7] = 0.125 }), ["data.digest"]),
    ]
    for (trainer, messages) in cases {
      let error = #expect(throws: DiTError.self) { try TrainingRun(resuming: trainer, in: folder("run")) }
      for message in messages { #expect(description(error).contains(message), "\(description(error))") }
      #expect(trainer.completedSteps == 0)
    }
  }

  @Test("Resuming with other sampling settings is allowed")
  func samplingSettingsMayDiffer() throws {
    try start("run") { _ in }
    var model = tinyModel()
    model.sampling.guidance.scale = 2
    _ = try TrainingRun(resuming: tinyTrainer(model: model), in: folder("run"))
  }

  @Test("A run without checkpoints is not resumed, and one with them not overwritten")
  func nothingToResumeAndNothingOverwritten() throws {
    #expect(throws: DiTError(run: folder("none"), .noCheckpoint)) {
      try TrainingRun(resuming: tinyTrainer(), in: folder("none"))
    }
    #expect(names("").isEmpty, "a refused resume leaves nothing")
    try start("run")
    #expect(throws: DiTError(run: folder("run"), .holdsCheckpoints)) { try start("run") }
    // Checkpoints that cannot be listed may be there.
    let (log, checkpoints) = (try Data(contentsOf: URL(filePath: folder("run/log.jsonl"))), folder("run/checkpoints"))
    try FileManager.default.moveItem(atPath: checkpoints, toPath: folder("moved"))
    try FileManager.default.createSymbolicLink(atPath: checkpoints, withDestinationPath: "checkpoints")
    #expect(throws: DiTError(file: checkpoints, .refused(operation: "list", code: ELOOP))) { try start("run") }
    #expect(throws: DiTError.self) { try Checkpoint.latest(in: folder("run")) }
    #expect(try Data(contentsOf: URL(filePath: folder("run/log.jsonl"))) == log)
    try Data("x".utf8).write(to: URL(filePath: folder("file")))
    for name in ["file", "file/below"] {
      let error = #expect(throws: DiTError.self) { try start(name) }
      #expect(error?.fileProblem != nil, "\(description(error))")
    }
  }

  // MARK: Checkpoints

  @Test("Old checkpoints are removed as keep_checkpoints says")
  func oldCheckpointsGo() throws {
    var seen: [[String]] = []
    try start("run") { event in if case .checkpoint = event { seen.append(names("run/checkpoints")) } }
    let all = ["step-00000000", "step-00000004", "step-00000008", "step-00000012"]
    #expect(seen == [Array(all[0...1]), Array(all[1...2]), Array(all[2...3])])
    try start("three", tinyTrainer { $0.keepCheckpoints = 3 })
    #expect(names("three/checkpoints") == Array(all[1...3]))
    try start("last", tinyTrainer { $0.checkpointEvery = 0 })
    #expect(names("last/checkpoints") == [all[0], all[3]])
  }

  @Test("Half-written checkpoints and other folders are ignored")
  func halfWrittenCheckpointsAreIgnored() throws {
    try start("whole")
    #expect(throws: Killed.self) {
      try start("run") { event in if case .step(let report, _) = event, report.step == 7 { throw Killed() } }
    }
    let partial = folder("run/checkpoints/.partial-step-00000008")
    try FileManager.default.createDirectory(atPath: partial, withIntermediateDirectories: false)
    try Data("half".utf8).write(to: URL(filePath: "\(partial)/model.safetensors"))
    for other in ["step-8", "step-x", "notes"] {
      try FileManager.default.createDirectory(
        atPath: folder("run/checkpoints/\(other)"), withIntermediateDirectories: false)
    }
    #expect(try Checkpoint.latest(in: folder("run"))?.step == 4)
    try resume("run")
    #expect(names("run/checkpoints") == ["notes", "step-00000008", "step-00000012", "step-8", "step-x"])
    expectSameResults("whole", "run", "with a half-written checkpoint")
  }

  @Test("A damaged checkpoint is refused by file")
  func damagedCheckpointsAreNamed() throws {
    let files = ["model.safetensors", "ema.safetensors", "state.safetensors", "training.json", "config.json"]
    try start("run")
    for file in files {
      let path = folder("run/checkpoints/step-00000012/\(file)")
      let whole = try Data(contentsOf: URL(filePath: path))
      try whole.prefix(whole.count - 9).write(to: URL(filePath: path))
      do {
        _ = try TrainingRun(resuming: tinyTrainer(), in: folder("run"))
        Issue.record("\(file) was taken up")
      } catch {
        #expect(description(error).contains(path), "\(description(error))")
      }
      try whole.write(to: URL(filePath: path))
    }
    // A checkpoint that claims to be of another step.
    try FileManager.default.moveItem(
      atPath: folder("run/checkpoints/step-00000012"), toPath: folder("run/checkpoints/step-00000013"))
    let error = #expect(throws: DiTError.self) { try TrainingRun(resuming: tinyTrainer(), in: folder("run")) }
    #expect(description(error).contains("step: expected 13, found 12"))
  }

  @Test("Checkpoints and the run's folder are model directories")
  func checkpointsAreModelDirectories() throws {
    let trainer = try tinyTrainer()
    try start("run", trainer)
    for path in ["run", "run/checkpoints/step-00000008"] {
      _ = try ModelDirectory(contentsOf: folder(path)).weights(.ema)
    }
    let found = try ModelDirectory(contentsOf: folder("run")).weights(.model).flattened()
    #expect(firstDifference(found, trainer.weights) == nil)
    let average = try ModelDirectory(contentsOf: folder("run")).weights(.ema).flattened()
    #expect(firstDifference(average, trainer.average) == nil)
  }

  // MARK: Divergence

  @Test("A run that diverges stops and keeps its last good checkpoint")
  func divergenceKeepsTheLastGoodCheckpoint() throws {
    let trainer = try tinyTrainer()
    let outcome = try start("run", trainer) { event in
      if case .step(let report, _) = event, report.step == 6 { trainer.weights.fill(.nan) }
    }
    let path = folder("run/checkpoints/step-00000004")
    guard case .diverged(let divergence, path) = outcome else {
      Issue.record("\(outcome)")
      return
    }
    #expect(divergence.step == 7)
    #expect(names("run/checkpoints") == ["step-00000000", "step-00000004"] && bytes("run/model.safetensors") == nil)
    _ = try TrainingRun(resuming: tinyTrainer(), in: folder("run"))
  }

  /// A step whose loss was finite but whose weights are not: its checkpoint is due at once and must not be written.
  @Test("Weights that are not finite are not saved")
  func nonFiniteWeightsAreNotSaved() throws {
    let trainer = try tinyTrainer()
    let outcome = try start("run", trainer) { event in
      if case .step(let report, _) = event, report.step == 8 {
        trainer.average[trainer.table.trainable[0]][3] = .infinity
      }
    }
    let path = folder("run/checkpoints/step-00000004")
    guard case .diverged(let divergence, path) = outcome else {
      Issue.record("\(outcome)")
      return
    }
    #expect(divergence.step == 8 && divergence.loss == nil)
    #expect(divergence.description.contains("after step 8 a weight is not finite"))
    #expect(names("run/checkpoints") == ["step-00000000", "step-00000004"])
  }

  // MARK: Events and log

  @Test("Events come in order: step, validation, sample, evaluation, checkpoint")
  func eventsComeInOrder() throws {
    var events: [String] = []
    try start("run", tinyTrainer { ($0.steps, $0.logEvery, $0.evaluateEvery) = (6, 4, 4) }) { event in
      switch event {
      case .step(let report, let seconds): events.append(seconds > 0 ? "\(report.step)" : "no time")
      case .logged(let report, let seconds): events.append(seconds > 0 ? "logged \(report.step)" : "no time")
      case .validation(let report): events.append("validation \(report.step)")
      case .sampleDue(let step): events.append("sample \(step)")
      case .evaluationDue(let step): events.append("evaluation \(step)")
      case .checkpoint(let step, _): events.append("checkpoint \(step)")
      }
    }
    #expect(
      events == [
        "1", "2", "3", "4", "logged 4", "validation 4", "evaluation 4", "checkpoint 4", "5", "6", "logged 6",
        "sample 6",
        "evaluation 6", "checkpoint 6",
      ])
  }

  @Test("The log has one line per reported step and validation")
  func logHoldsWhatWasReported() throws {
    var reports: [StepReport] = []
    try start("run", tinyTrainer { $0.logEvery = 5 }) { event in
      if case .step(let report, _) = event { reports.append(report) }
    }
    let lines = log("run")
    #expect(lines.count == 6, "steps 5, 10 and the last, and three validations")
    let r = reports[4]
    #expect(
      lines[1]
        == """
        {"step":5,"loss":\(r.loss),"mse":\(r.mse),"vb":\(r.vb ?? 0),"gradient_norm":\(r.gradientNorm),\
        "learning_rate":\(r.learningRate),"samples":30
        """)
    #expect(lines[0].hasPrefix(#"{"step":4,"validation_loss":"#) && lines[0].hasSuffix(#""validation_samples":4}"#))
  }

  @Test("Resuming drops log lines written after the checkpoint")
  func logDropsWhatCameAfterTheCheckpoint() throws {
    let path = folder("log.jsonl")
    let lines = [#"{"step":1,"loss":2}"#, #"{"step":2,"loss":1}"#, #"{"step":3,"loss":1}"#, #"{"step":2,"validation"#]
    try Data(lines.joined(separator: "\n").utf8).write(to: URL(filePath: path))
    let log = try JSONLinesLog(resuming: path, after: 2)
    try log.write(ValidationReport(step: 2, loss: 0.5, mse: 0.25, vb: nil, samples: 7))
    let text = String(decoding: try #require(bytes("log.jsonl")), as: UTF8.self)
    let added = #"{"step":2,"validation_loss":0.5,"validation_mse":0.25,"validation_samples":7}"#
    #expect(text == lines[0] + "\n" + lines[1] + "\n" + added + "\n")
  }

  @Test("No result file holds a time or a path")
  func noFileCarriesTimesOrPaths() throws {
    for name in ["a", "b"] {
      try start(name)
      for file in Self.results {
        let text = String(decoding: try #require(bytes("\(name)/\(file)")), as: UTF8.self)
        #expect(!text.contains(folder.path), "\(file)")
      }
    }
    expectSameResults("a", "b", "two runs")
  }
}
