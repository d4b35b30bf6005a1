import DiTFiles
import DiTPipeline
import DiTTensor
import DiTTraining
import Foundation
import Testing

@Suite("Runs resumed with more steps, and one run per folder") struct ExtendedRunTests {
  private let folder: TemporaryDirectory

  init() throws { folder = try TemporaryDirectory() }

  private func bytes(_ path: String) -> Data? { FileManager.default.contents(atPath: folder(path)) }

  private func lines(_ run: String) -> [String] {
    let text = bytes("\(run)/log.jsonl").map { String(decoding: $0, as: UTF8.self) } ?? ""
    return text.split(separator: "\n").map(String.init)
  }

  /// Trains `name` for 12 steps, then on with other settings; returns the rates of all steps and the whole's extension.
  private func extend(
    _ name: String, from first: (inout TrainingConfiguration) -> Void = { _ in },
    to second: (inout TrainingConfiguration) -> Void
  ) throws -> (rates: [Double], extended: TrainingExtension?) {
    var rates: [Double] = []
    func note(_ event: TrainingEvent) { if case .step(let report, _) = event { rates.append(report.learningRate) } }
    _ = try TrainingRun(starting: tinyTrainer(first), in: folder(name)).run(report: note)
    let trainer = try tinyTrainer {
      first(&$0)
      second(&$0)
    }
    let run = try TrainingRun(resuming: trainer, in: folder(name))
    #expect(try run.run(report: note) == .finished(step: trainer.training.steps))
    return (rates, run.extended)
  }

  /// 3e-3 (1 + cos(π min(1, (step − 3) / (end − 3)))) / 2 after three steps of warm-up.
  private func rate(_ step: Int, end: Int) -> Double {
    if step <= 3 { return 3e-3 * Double(step) / 3 }
    return 3e-3 * (1 + cos(Double.pi * min(1, Double(step - 3) / Double(end - 3)))) / 2
  }

  @Test("With more steps the cosine is stretched to the new last step; the steps that were done keep their rates")
  func stretched() throws {
    let (rates, extended) = try extend("run") { $0.steps = 20 }
    #expect(rates == (1...20).map { rate($0, end: $0 <= 12 ? 12 : 20) })
    #expect(rates[11] == 0 && rates[12] > 1e-3 && rates[19] == 0)
    #expect(extended?.oldSteps == 12 && extended?.steps == 20 && extended?.step == 12 && extended?.scheduleEnd == 20)
    #expect(extended?.oldRate == 0 && extended?.rate == rates[12])
    #expect(
      extended?.note == """
        resumed after step 12 with 20 steps in place of 12; learning rate: the cosine stretched to step 20, from 12; \
        step 13 has \(rates[12])
        """)
    let line = #"{"step":12,"steps":20,"steps_before":12,"schedule_steps":20,"schedule_steps_before":12}"#
    #expect(lines("run").filter { $0.contains("steps_before") } == [line], "\(lines("run"))")
  }

  @Test("With schedule_steps at the old number of steps the cosine stays as it was, and the rate 0 from its end on")
  func kept() throws {
    let (rates, extended) = try extend("run") { ($0.steps, $0.scheduleSteps) = (20, 12) }
    #expect(rates == (1...20).map { rate($0, end: 12) } && rates[12...].allSatisfy { $0 == 0 })
    #expect(
      extended?.note == """
        resumed after step 12 with 20 steps in place of 12; learning rate: the cosine as it was, 0 from step 12 on \
        (schedule_steps)
        """)
    // Nothing is learnt any more, while the average still moves towards the weights.
    let weights = ["step-00000020/model", "step-00000016/model"].map { bytes("run/checkpoints/\($0).safetensors") }
    #expect(weights[0] != nil && weights[0] == weights[1])
    #expect(
      bytes("run/checkpoints/step-00000020/ema.safetensors") != bytes("run/checkpoints/step-00000016/ema.safetensors"))
  }

  /// The steps, the moments, the order of the data and the random numbers are those of one run of so many steps.
  @Test("Where the rates are the same a run that was extended has the bytes of one of so many steps")
  func sameBytes() throws {
    for (name, edit) in [
      ("constant", { (c: inout TrainingConfiguration) in c.schedule = .constant }),
      ("cosine", { (c: inout TrainingConfiguration) in c.scheduleSteps = 20 }),
      ("warmup", { (c: inout TrainingConfiguration) in c.warmupSteps = 100 }),
    ] {
      let whole = try tinyTrainer {
        edit(&$0)
        $0.steps = 20
      }
      _ = try TrainingRun(starting: whole, in: folder("whole-\(name)")).run { _ in }
      let (rates, extended) = try extend(name, from: edit) { $0.steps = 20 }
      #expect(rates == (1...20).map { whole.training.learningRate(step: $0) } && extended?.steps == 20)
      for file in ["model", "ema", "checkpoints/step-00000020/state", "checkpoints/step-00000020/model"] {
        let found = bytes("\(name)/\(file).safetensors")
        #expect(found != nil && found == bytes("whole-\(name)/\(file).safetensors"), "\(name): \(file)")
      }
    }
  }

  @Test("An extended run keeps its new length: resumed plainly it is finished, and it can be extended again")
  func extendedTwice() throws {
    _ = try extend("run") { $0.steps = 16 }
    let checkpoint = try #require(try Checkpoint.latest(in: folder("run")))
    #expect(checkpoint.step == 16 && checkpoint.training.steps == 16)
    let plain = try TrainingRun(resuming: tinyTrainer { $0.steps = 16 }, in: folder("run"))
    #expect(plain.extended == nil)
    #expect(try plain.run { _ in } == .finished(step: 16))
    #expect(throws: DiTError.self) { try TrainingRun(resuming: tinyTrainer(), in: folder("run")) }
    let again = try TrainingRun(resuming: tinyTrainer { $0.steps = 18 }, in: folder("run"))
    #expect(try again.run { _ in } == .finished(step: 18))
    #expect(lines("run").filter { $0.contains("steps_before") }.count == 2)
  }

  // MARK: One run per folder

  private func holder(_ body: () throws -> Void) -> String? {
    do {
      try body()
      return nil
    } catch let error as DiTError {
      if case .inUse(let holder, _) = error.fileProblem { return holder }
      return "\(error)"
    } catch {
      return "\(error)"
    }
  }

  @Test("A folder has one run at a time; another is told whose it is and changes nothing")
  func oneRunPerFolder() throws {
    let run = try TrainingRun(starting: tinyTrainer(), in: folder("run"))
    let me = "process \(ProcessInfo.processInfo.processIdentifier) on "
    var refusals: [String?] = []
    let outcome = try run.run { event in
      guard case .step(let report, _) = event, report.step == 6 else { return }
      let before = bytes("run/log.jsonl")
      refusals.append(holder { _ = try TrainingRun(resuming: tinyTrainer(), in: folder("run")) })
      refusals.append(holder { _ = try RunClaim(folder("run")) })
      #expect(bytes("run/log.jsonl") == before)
    }
    #expect(outcome == .finished(step: 12) && refusals.count == 2)
    for refusal in refusals { #expect(refusal?.hasPrefix(me) == true, "\(refusal ?? "not refused")") }
    // A run that has ended is nobody's, also while its object lives.
    #expect(!FileManager.default.fileExists(atPath: folder("run/\(RunClaim.file)")))
    #expect(holder { _ = try TrainingRun(resuming: tinyTrainer(), in: folder("run")) } == nil)
    withExtendedLifetime(run) {}
  }

  @Test("A claim is taken over by the run that is given it, and a folder that is missing has none")
  func claims() throws {
    #expect(try RunClaim(folder("none")) == nil)
    _ = try TrainingRun(starting: tinyTrainer(), in: folder("run")).run { _ in }
    let claim = try #require(try RunClaim(folder("run")))
    let run = try TrainingRun(resuming: tinyTrainer { $0.steps = 14 }, in: folder("run"), claim: claim)
    #expect(try run.run { _ in } == .finished(step: 14))
  }

  @Test("A run whose folder is moved away stops, says so, and makes no new one")
  func folderMovedAway() throws {
    let run = try TrainingRun(starting: tinyTrainer(), in: folder("run"))
    #expect(throws: DiTError(output: folder("run"), .vanished)) {
      try run.run { event in
        guard case .step(let report, _) = event, report.step == 6 else { return }
        try FileManager.default.moveItem(atPath: folder("run"), toPath: folder("moved"))
      }
    }
    #expect(!FileManager.default.fileExists(atPath: folder("run")))
    #expect(try Checkpoint.latest(in: folder("moved"))?.step == 4)
    #expect(try TrainingRun(resuming: tinyTrainer(), in: folder("moved")).run { _ in } == .finished(step: 12))
  }

  @Test("A checkpoint whose moments are not finite is refused by tensor")
  func damagedMoments() throws {
    _ = try TrainingRun(starting: tinyTrainer(), in: folder("run")).run { _ in }
    let path = folder("run/checkpoints/step-00000012/state.safetensors")
    let file = try SafetensorsFile(contentsOf: path)
    let bad = "v.blocks.0.mlp.fc1.bias"
    let tensors = try file.names.map { name in
      if ["step", "samples"].contains(name) {
        return TensorSource(name, shape: [], integers: try file.integers(name).values)
      }
      var tensor = try file.tensor(name)
      if name == bad { tensor.elements[2] = .infinity }
      return TensorSource(name, tensor)
    }
    try SafetensorsWriter.write(tensors, to: path)
    let error = #expect(throws: DiTError.self) { try TrainingRun(resuming: tinyTrainer(), in: folder("run")) }
    #expect(
      error?.description == "\(path): tensor \(bad): expected finite numbers, found inf at element 2")
  }
}
