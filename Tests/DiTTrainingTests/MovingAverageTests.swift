import DiTDiffusion
import DiTFiles
import DiTModel
import DiTPipeline
import DiTTensor
import DiTTraining
import Foundation
import Testing

@Suite("Several moving averages: their decays, their files, resuming and validation") struct MovingAverageTests {
  private let folder: TemporaryDirectory

  init() throws { folder = try TemporaryDirectory() }

  private func trainer(_ decays: [Double] = [0.9, 0.5, 0.0001], warmup: Bool = false) throws -> Trainer {
    try tinyTrainer {
      $0.emaDecays = decays
      $0.emaWarmup = warmup
    }
  }

  private func bytes(_ path: String) -> Data? { FileManager.default.contents(atPath: folder(path)) }

  private func names(_ path: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder(path))) ?? []).filter { $0.hasPrefix("ema") }.sorted()
  }

  /// e = d·e + (1 − d)·w after every update, from a copy of the first weights.
  @Test("Each average follows its own decay, limited by the warm-up or not", arguments: [true, false])
  func averagesFollowTheirDecays(_ warmup: Bool) throws {
    let trainer = try trainer(warmup: warmup)
    let decays = [0.9, 0.5, 0.0001]
    let range = try #require(trainer.table.trainable.first)
    var expected = decays.map { _ in trainer.weights[range].array.map { Double($0) } }
    for step in 1...4 {
      _ = try trainer.step()
      let weights = trainer.weights[range].array
      for index in decays.indices {
        let decay = warmup ? min(decays[index], Double(1 + step) / Double(10 + step)) : decays[index]
        for i in weights.indices { expected[index][i] = decay * expected[index][i] + (1 - decay) * Double(weights[i]) }
      }
    }
    #expect(trainer.furtherAverages.map(\.decay) == [0.5, 0.0001])
    for (index, flat) in ([trainer.average] + trainer.furtherAverages.map(\.values)).enumerated() {
      let error = relativeError(flat[range].array, expected[index].map { Float($0) })
      #expect(error < 1e-6, "decay \(decays[index]): relative error \(error)")
    }
    #expect(warmup == (firstDifference(trainer.average, trainer.furtherAverages[0].values) == nil))
  }

  @Test("The first average, the weights and the moments are those of a run with one average, bit for bit")
  func theFirstIsTheOnlyOnes() throws {
    let (several, one) = (try trainer([0.9, 0.5], warmup: true), try tinyTrainer { $0.emaDecay = 0.9 })
    for _ in 0..<3 { #expect(try several.step() == one.step()) }
    #expect(firstDifference(several.average, one.average) == nil)
    #expect(firstDifference(several.weights, one.weights) == nil)
    #expect(firstDifference(several.secondMoment, one.secondMoment) == nil)
    #expect(one.furtherAverages.isEmpty)
  }

  @Test("A run with several averages writes a file of each, and resumed it ends with the same bytes")
  func resumedAveragesEndTheSame() throws {
    struct Killed: Error {}
    _ = try TrainingRun(starting: trainer(), in: folder("whole")).run { _ in }
    #expect(throws: Killed.self) {
      try TrainingRun(starting: trainer(), in: folder("killed")).run { event in
        if case .step(let report, _) = event, report.step == 6 { throw Killed() }
      }
    }
    #expect(try TrainingRun(resuming: trainer(), in: folder("killed")).run { _ in } == .finished(step: 12))
    let files = ["ema-0.0001.safetensors", "ema-0.5.safetensors", "ema.safetensors"]
    for directory in ["", "/checkpoints/step-00000008", "/checkpoints/step-00000012"] {
      #expect(names("whole\(directory)") == files && names("killed\(directory)") == files)
      for file in files {
        #expect(bytes("whole\(directory)/\(file)") == bytes("killed\(directory)/\(file)"), "\(directory)/\(file)")
      }
    }
    #expect(Set(files.map { bytes("whole/\($0)") }).count == 3)
    // What is read by its decay is the file of that name.
    let directory = try ModelDirectory(contentsOf: folder("whole"))
    let average = try Weights(contentsOf: folder("whole/ema-0.5.safetensors"), configuration: tinyNetwork())
    #expect(firstDifference(try directory.weights(averagedWith: 0.5).flattened(), average.flattened()) == nil)
    let error = #expect(throws: DiTError.self) { try directory.weights(averagedWith: 0.75) }
    #expect(error?.file == folder("whole/ema-0.75.safetensors"))
  }

  @Test("Other decays are refused when a run is resumed, and a lost average is named")
  func changesAreNamed() throws {
    _ = try TrainingRun(starting: trainer(), in: folder("run")).run { _ in }
    for (other, key) in [
      (try trainer([0.9, 0.5]), "training.ema_decays"), (try trainer(warmup: true), "training.ema_warmup"),
    ] {
      let error = #expect(throws: DiTError.self) { try TrainingRun(resuming: other, in: folder("run")) }
      #expect(error.map { "\($0)" }?.contains(key) ?? false)
    }
    let lost = folder("run/checkpoints/step-00000012/ema-0.5.safetensors")
    try FileManager.default.removeItem(atPath: lost)
    let error = #expect(throws: DiTError.self) { try TrainingRun(resuming: trainer(), in: folder("run")) }
    #expect(error?.file == lost)
  }

  @Test("Validation measures every average on the same draws, and the log names each")
  func everyAverageIsMeasured() throws {
    let trainer = try trainer([0.9, 0.5])
    for _ in 0..<4 { _ = try trainer.step() }
    let report = try #require(try trainer.validate())
    #expect(report.furtherAverages.map(\.decay) == [0.5])
    // A trainer whose first average has the further one's values measures the same loss.
    let alone = try tinyTrainer {
      $0.emaDecay = 0.5
      $0.emaWarmup = false
    }
    for _ in 0..<4 { _ = try alone.step() }
    #expect(
      report.furtherAverages.map(\.loss) == [try alone.validate()?.loss]
        && report.furtherAverages[0].loss != report.loss)
    _ = try TrainingRun(starting: self.trainer([0.9, 0.5]), in: folder("run")).run { _ in }
    let lines = String(decoding: try #require(bytes("run/log.jsonl")), as: UTF8.self).split(separator: "\n")
    let validations = lines.filter { $0.contains("validation_loss\"") }
    #expect(validations.count == 3 && validations.allSatisfy { $0.contains("\"validation_loss_ema-0.5\":") })
  }

  @Test("A model written over another leaves none of its averages behind")
  func staleAveragesGo() throws {
    try trainer().export(to: folder("model"))
    #expect(names("model") == ["ema-0.0001.safetensors", "ema-0.5.safetensors", "ema.safetensors"])
    _ = try Data("mine".utf8).write(to: URL(filePath: folder("model/ema-mine.safetensors")))
    try trainer([0.9, 0.25]).export(to: folder("model"))
    #expect(names("model") == ["ema-0.25.safetensors", "ema-mine.safetensors", "ema.safetensors"])
  }
}
