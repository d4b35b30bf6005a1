import DiTFiles
import DiTTensor
import Foundation
import TestSupport
import Testing

/// Runs that are disturbed: by another run, a signal at the wrong moment, a disk that is full, a folder that goes.
@Suite("Disturbed training runs") struct TrainFailureTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// A small run; `training` overrides its settings.
  private func arguments(_ name: String, _ training: [String: Int] = [:]) throws -> [String] {
    var settings = [
      "steps": 10, "batch": 4, "warmup_steps": 2, "validation_modulus": 5, "validate_every": 0, "checkpoint_every": 2,
      "sample_every": 0, "log_every": 1,
    ]
    settings.merge(training) { $1 }
    let section = settings.sorted { $0.key < $1.key }.map { "\"\($0.key)\": \($0.value)" }.joined(separator: ", ")
    let config = try scratch.write(
      """
      { "model": { "input_size": 8, "patch_size": 4, "in_channels": 1, "hidden_size": 16, "depth": 1, "num_heads": 2,
                   "num_classes": 10 }, "training": { \(section) }, "sampling": { "steps": 2, "guidance": 1 } }
      """, to: "\(name).json")
    return ["train", "--data", "digits", "--config", config, "--out", scratch.path(name)]
  }

  /// The files below a folder, with what they hold.
  private func files(_ name: String) -> [String: Data] {
    var files: [String: Data] = [:]
    for case let file as String in FileManager.default.enumerator(atPath: scratch.path(name)) ?? .init() {
      if let bytes = try? scratch.bytes("\(name)/\(file)") { files[file] = bytes }
    }
    return files
  }

  private func checkpoints(_ name: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: scratch.path("\(name)/checkpoints"))) ?? []).sorted()
  }

  // MARK: Two runs

  /// The first is stopped (SIGSTOP), so that it holds the folder however long the others take.
  @Test("A second run, or a conversion, in the folder of one that still lives is told who holds it and changes nothing")
  func heldFolder() async throws {
    _ = try await succeed(try arguments("run", ["checkpoint_every": 10]))
    let resume = ["train", "--data", "digits", "--out", scratch.path("run"), "--resume", "--steps", "1000000"]
    let run = try Tool.start(resume, in: scratch)
    let scratch = scratch
    await run.send(SIGSTOP) { scratch.exists("run/checkpoints/step-00000020") }
    #expect(run.isRunning, "\(run.stderr)")
    let before = files("run")
    let holder = "\(scratch.path("run")): in use by process \(run.processIdentifier) on "
    try await expectFailure(resume, 1, [holder])
    try await expectFailure(resume + ["--seed", "7"], 1, [holder])
    try await expectFailure(try arguments("run"), 64, ["holds the checkpoints of a run"])
    try await expectFailure(["convert", Model.digits, scratch.path("run"), "--force"], 1, [holder])
    #expect(files("run") == before)
    await run.send(SIGKILL) { true }
    #expect(try await run.result().status == 128 + SIGKILL)
    // A killed run keeps nobody out.
    try await expectFailure(resume + ["--seed", "7"], 64, ["training.seed is 0, not 7"])
    _ = try await succeed(["convert", Model.digits, scratch.path("run"), "--force"])
    #expect(scratch.exists("run/config.json") && !scratch.exists("run/checkpoints"))
  }

  @Test("A run leaves no lock behind when it has ended")
  func noLockIsLeft() async throws {
    _ = try await succeed(try arguments("run"))
    #expect(files("run").keys.allSatisfy { !$0.contains(".dit-") }, "\(files("run").keys)")
    try await expectFailure(try arguments("run") + ["--resume", "--seed", "3"], 64, ["training.seed"])
    #expect(files("run").keys.allSatisfy { !$0.contains(".dit-") }, "\(files("run").keys)")
  }

  // MARK: More steps

  @Test("dit train --resume --steps goes on with more steps; the note and the log say what became of the cosine")
  func moreSteps() async throws {
    _ = try await succeed(try arguments("whole", ["steps": 16, "schedule_steps": 16]))
    for (name, extra, note) in [
      ("stretched", [], "the cosine stretched to step 16, from 10"),
      ("kept", ["--schedule-steps", "10"], "the cosine as it was, 0 from step 10 on (schedule_steps)"),
    ] {
      _ = try await succeed(try arguments(name))
      let result = try await succeed(
        ["train", "--data", "digits", "--out", scratch.path(name), "--resume", "--steps", "16"] + extra)
      #expect(
        result.stderr.hasPrefix(
          "Note: resumed after step 10 with 16 steps in place of 10; learning rate: \(note)"), "\(result.stderr)")
      #expect(scratch.text("\(name)/log.jsonl").contains(#"{"step":10,"steps":16,"steps_before":10,"#))
      #expect(result.stdout.contains("16 steps"))
    }
    // Planned from the beginning, the cosine of 16 steps stopped at 10 and goes on: the bytes of 16 steps in one.
    _ = try await succeed(try arguments("parts", ["schedule_steps": 16]))
    _ = try await succeed(["train", "--data", "digits", "--out", scratch.path("parts"), "--resume", "--steps", "16"])
    for file in ["model.safetensors", "ema.safetensors", "checkpoints/step-00000016/state.safetensors"] {
      #expect(try scratch.bytes("parts/\(file)") == scratch.bytes("whole/\(file)"), "\(file)")
      #expect(try scratch.bytes("kept/\(file)") != scratch.bytes("stretched/\(file)"), "\(file)")
    }
  }

  // MARK: Signals, disks, folders

  /// With a checkpoint after every step there is hardly a moment without one being written.
  @Test("SIGTERM while a checkpoint is written ends with 130 after it, and the run goes on to the same bytes")
  func terminatedInACheckpoint() async throws {
    let settings = ["steps": 20, "checkpoint_every": 1]
    _ = try await succeed(try arguments("whole", settings))
    let scratch = scratch
    let run = try Tool.start(try arguments("parts", settings), in: scratch)
    await run.send(SIGTERM) {
      let names = try? FileManager.default.contentsOfDirectory(atPath: scratch.path("parts/checkpoints"))
      return names?.contains { $0.hasPrefix(".partial-") && !$0.hasSuffix("0") } ?? false
    }
    let result = try await run.result()
    #expect(result.status == 130 && result.error.contains("which is saved; --resume goes on from it"), "\(result)")
    #expect(checkpoints("parts").allSatisfy { $0.hasPrefix("step-") }, "\(checkpoints("parts"))")
    _ = try await succeed(try arguments("parts", settings) + ["--resume"])
    for file in ["model.safetensors", "ema.safetensors", "config.json", "checkpoints/step-00000020/state.safetensors"] {
      #expect(try scratch.bytes("parts/\(file)") == scratch.bytes("whole/\(file)"), "\(file)")
    }
  }

  /// Between the size of the weights and that of AdamW's moments: the weights of a checkpoint can be written, the moments
  /// cannot.
  @Test("A checkpoint that the disk does not hold ends the run with 1 and its name; the files before are whole")
  func fullDisk() async throws {
    _ = try await succeed(try arguments("run", ["keep_checkpoints": 5]))
    let before = files("run")
    let (weights, moments) = (
      before["model.safetensors"]?.count ?? 0, before["checkpoints/step-00000010/state.safetensors"]?.count ?? 0
    )
    let limit = (weights + moments) / 2
    #expect(weights < limit && limit < moments)
    // In blocks of 512 bytes, or of 1024 in some shells.
    let script = """
      ulimit -f \(limit / 512); [ "$(ulimit -f)" = unlimited ] && exit 99; exec "$0" "$@"
      """
    let result = try await Tool.shell(
      script, ["train", "--data", "digits", "--out", scratch.path("run"), "--resume", "--steps", "20"])
    #expect(
      result.status == 1 && result.stderr.contains("Error: ")
        && result.stderr.contains("checkpoints/step-00000012/state.safetensors: cannot write")
        && result.stderr.contains("File too large"), "\(result)")
    let after = files("run")
    for (file, bytes) in before where file != "log.jsonl" && file != "loss.png" {
      #expect(after[file] == bytes, "\(file)")
    }
    #expect(checkpoints("run").last == "step-00000010" && !checkpoints("run").contains { $0.hasPrefix(".") })
    let resumed = try await succeed(
      ["train", "--data", "digits", "--out", scratch.path("run"), "--resume", "--steps", "20"])
    #expect(resumed.stdout.contains("20 steps"))
  }

  @Test("A run whose folder is moved away while it trains ends with 1, and makes no new one")
  func folderThatGoes() async throws {
    let scratch = scratch
    let run = try Tool.start(try arguments("run", ["steps": 1_000_000]), in: scratch)
    await run.send(0) {
      guard scratch.exists("run/checkpoints/step-00000004") else { return false }
      return unsafe rename(scratch.path("run"), scratch.path("moved")) == 0
    }
    let result = try await run.result()
    #expect(
      result.status == 1 && result.error.contains("\(scratch.path("run")): was removed, moved or replaced"), "\(result)"
    )
    #expect(!scratch.exists("run"))
    #expect(checkpoints("moved").contains { $0.hasPrefix("step-") })
  }

  @Test("What stands in the way of a run's files is named, with status 1, and what was saved stays")
  func obstacles() async throws {
    for (name, file) in [("below-a-file", "checkpoints"), ("no-log", "log.jsonl/x")] {
      let path = scratch.path("\(name)/\(file)")
      try FileManager.default.createDirectory(
        at: URL(filePath: path).deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data("x".utf8).write(to: URL(filePath: path))
      try await expectFailure(try arguments(name), 1, ["\(name)/\(file.split(separator: "/")[0])"])
      #expect(scratch.text("\(name)/\(file)") == "x" && !scratch.exists("\(name)/model.safetensors"))
    }
    try await expectFailure(try arguments("x").dropLast() + ["/proc/nothing/here"], 1, ["/proc/nothing"])
    // Met only after some steps.
    for (name, obstacle) in [("samples", "samples"), ("curves", "loss.png/x")] {
      let path = scratch.path("\(name)/\(obstacle)")
      try FileManager.default.createDirectory(
        at: URL(filePath: path).deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data("x".utf8).write(to: URL(filePath: path))
      try await expectFailure(
        try arguments(name, ["sample_every": 5]), 1, ["\(name)/\(obstacle.split(separator: "/")[0])"])
      #expect(checkpoints(name).contains { $0.hasPrefix("step-") } && scratch.exists("\(name)/\(obstacle)"))
      try FileManager.default.removeItem(atPath: scratch.path("\(name)/\(obstacle.split(separator: "/")[0])"))
      _ = try await succeed(try arguments(name, ["sample_every": 5]) + ["--resume"])
    }
  }
}
