import DiTFiles
import DiTPipeline
import DiTTraining
import Foundation
import Testing

@Suite("A training run as a sequence of events") struct TrainingEventsTests {
  private let folder: TemporaryDirectory

  init() throws { folder = try TemporaryDirectory() }

  private func bytes(_ path: String) -> Data? { FileManager.default.contents(atPath: folder(path)) }

  @Test("All events are told, and the run's files are those of a blocking run")
  func allEvents() async throws {
    var expected: [String] = []
    let outcome = try TrainingRun(starting: tinyTrainer(), in: folder("blocking")).run { expected.append(name($0)) }
    let training = TrainingEvents(try TrainingRun(starting: tinyTrainer(), in: folder("events")))
    var found: [String] = []
    for try await event in training { found.append(name(event)) }
    #expect(found == expected && found.count > 12)
    #expect(try await training.outcome == outcome)
    for file in ["model.safetensors", "ema.safetensors", "config.json"] {
      #expect(bytes("events/\(file)") == bytes("blocking/\(file)"), "\(file)")
    }
  }

  private func name(_ event: TrainingEvent) -> String {
    switch event {
    case .step(let report, _): "step \(report)"
    case .logged(let report, _): "logged \(report.step)"
    case .validation(let report): "validation \(report)"
    case .sampleDue(let step): "sample \(step)"
    case .evaluationDue(let step): "evaluation \(step)"
    case .checkpoint(let step, let path): "checkpoint \(step) \(URL(filePath: path).lastPathComponent)"
    }
  }

  @Test("A cancelled run saves and throws, and is resumed to the same bytes")
  func cancellation() async throws {
    _ = try TrainingRun(starting: tinyTrainer(), in: folder("whole")).run { _ in }
    let training = TrainingEvents(try TrainingRun(starting: tinyTrainer(), in: folder("stopped")))
    let task = Task {
      for try await event in training {
        if case .step(let report, _) = event, report.step == 3 { unsafe withUnsafeCurrentTask { unsafe $0?.cancel() } }
      }
    }
    await #expect(throws: CancellationError.self) { try await task.value }
    await #expect(throws: CancellationError.self) { try await training.outcome }
    let resumed = TrainingEvents(try TrainingRun(resuming: tinyTrainer(), in: folder("stopped")))
    #expect(try await resumed.outcome == .finished(step: 12))
    #expect(bytes("stopped/model.safetensors") == bytes("whole/model.safetensors"))
  }
}
