import DiTFiles
import DiTPipeline
import DiTTensor
import DiTTraining
import Foundation
import Testing

@Suite("Training runs: evaluations and the best weights") struct RunEvaluationTests {
  private let folder: TemporaryDirectory

  init() throws { folder = try TemporaryDirectory() }

  private func bytes(_ path: String) -> Data? { FileManager.default.contents(atPath: folder(path)) }

  /// The log without its times.
  private func log(_ run: String) -> [Substring] {
    let text = bytes("\(run)/log.jsonl").map { String(decoding: $0, as: UTF8.self) } ?? ""
    return text.split(separator: "\n").map { $0.prefix { _ in true }.split(separator: ",\"seconds\"")[0] }
  }

  /// Evaluations that found `values`, one after another.
  private func recording(
    _ run: TrainingRun, _ values: [Double], isBetterLarger: Bool, upTo last: Int = .max
  ) throws -> [Bool] {
    var (isBest, left) = ([Bool](), values[...])
    _ = try run.run(
      shouldStop: { run.trainer.completedSteps >= last },
      report: { event in
        guard case .evaluationDue(let step) = event, let value = left.popFirst() else { return }
        let report = MeasureReport(
          step: step, samples: 9, values: [.init("first", value), .init("other", -value)],
          isBetterLarger: isBetterLarger)
        isBest.append(try run.record(report))
      })
    return isBest
  }

  /// The averages of three steps, one after another, and which of them DIR/best has.
  @Test("Evaluations are in the log, and the weights of the best one are kept, also over an interruption")
  func bestWeights() throws {
    func trainer() throws -> Trainer {
      try tinyTrainer { ($0.steps, $0.checkpointEvery, $0.evaluateEvery, $0.keepCheckpoints) = (12, 3, 3, 9) }
    }
    func average(_ step: Int, _ name: String) throws -> Data? {
      bytes("\(name)/checkpoints/step-\(String(format: "%08d", step))/ema.safetensors")
    }
    let values = [5.0, 3, 4, 3]
    let run = try TrainingRun(starting: trainer(), in: folder("run"))
    #expect(try recording(run, values, isBetterLarger: false) == [true, true, false, false])
    #expect(try bytes("run/best/ema.safetensors") == average(6, "run") && bytes("run/best/config.json") != nil)
    #expect(try average(6, "run") != average(9, "run"))
    let lines = log("run").filter { $0.contains("evaluation_") }
    #expect(
      lines == [
        #"{"step":3,"evaluation_first":5.0,"evaluation_other":-5.0,"evaluation_samples":9,"best":true}"#,
        #"{"step":6,"evaluation_first":3.0,"evaluation_other":-3.0,"evaluation_samples":9,"best":true}"#,
        #"{"step":9,"evaluation_first":4.0,"evaluation_other":-4.0,"evaluation_samples":9}"#,
        #"{"step":12,"evaluation_first":3.0,"evaluation_other":-3.0,"evaluation_samples":9}"#,
      ])
    // A larger one is better, not a number is not; a run in two parts ends as one.
    let larger = try TrainingRun(starting: trainer(), in: folder("larger"))
    #expect(try recording(larger, [5, .nan, 6, 2], isBetterLarger: true) == [true, false, true, false])
    #expect(try bytes("larger/best/ema.safetensors") == average(9, "larger"))
    #expect(
      log("larger").filter { $0.contains("evaluation_") }[1] == #"{"step":6,"evaluation_samples":9}"#,
      "JSON has no NaN")
    let first = try TrainingRun(starting: trainer(), in: folder("parts"))
    #expect(try recording(first, values, isBetterLarger: false, upTo: 7) == [true, true])
    let second = try TrainingRun(resuming: trainer(), in: folder("parts"))
    #expect(try recording(second, Array(values[2...]), isBetterLarger: false) == [false, false])
    #expect(bytes("parts/best/ema.safetensors") == bytes("run/best/ema.safetensors"))
    #expect(log("parts").filter { $0.contains("evaluation_") } == lines)
    // What is looked at on the way may change; values of other settings do not compare.
    func changed(_ features: String) throws -> Trainer {
      try tinyTrainer {
        ($0.steps, $0.checkpointEvery, $0.evaluateEvery, $0.keepCheckpoints) = (15, 3, 3, 9)
        $0.evaluateFeatures = features
      }
    }
    let alike = try TrainingRun(resuming: changed("pixels"), in: folder("parts"))
    #expect(try recording(alike, [4], isBetterLarger: false) == [false])
    let other = try TrainingRun(resuming: changed("pca:4"), in: folder("run"))
    #expect(try recording(other, [90], isBetterLarger: false) == [true])
    #expect(try bytes("run/best/ema.safetensors") == average(15, "run"))
    // Nor do they after a second resume, where the first was stopped before it measured anything.
    let stopped = try TrainingRun(resuming: changed("pca:4"), in: folder("larger"))
    #expect(try recording(stopped, [], isBetterLarger: true, upTo: 13).isEmpty)
    let again = try TrainingRun(resuming: changed("pca:4"), in: folder("larger"))
    #expect(try recording(again, [1], isBetterLarger: true) == [true])
    #expect(log("larger").contains(#"{"step":12,"evaluations":"changed"}"#))
  }

  /// Of step 6, where the run was stopped while it was under way.
  @Test("An evaluation that was given up is asked for again when the run goes on, also after its last step")
  func evaluationMadeUp() throws {
    func trainer() throws -> Trainer {
      try tinyTrainer { ($0.steps, $0.checkpointEvery, $0.evaluateEvery) = (8, 3, 3) }
    }
    func due(_ run: TrainingRun, upTo last: Int = .max, recordedFrom first: Int = 0) throws -> [Int] {
      var steps: [Int] = []
      _ = try run.run(
        shouldStop: { run.trainer.completedSteps >= last },
        report: { event in
          guard case .evaluationDue(let step) = event else { return }
          steps.append(step)
          guard step < last, step >= first else { return }
          try run.record(MeasureReport(step: step, samples: 2, values: [.init("x", 1)], isBetterLarger: false))
        })
      return steps
    }
    #expect(try due(TrainingRun(starting: trainer(), in: folder("run")), upTo: 6) == [3, 6])
    #expect(try due(TrainingRun(resuming: trainer(), in: folder("run")), recordedFrom: 9) == [6, 8])
    #expect(try due(TrainingRun(resuming: trainer(), in: folder("run"))) == [8])
    #expect(try due(TrainingRun(resuming: trainer(), in: folder("run"))) == [])
  }
}
