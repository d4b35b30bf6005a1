import DiTFiles
import DiTTensor
import Foundation
import TestSupport
import Testing

/// `lambda_seq` from the configuration to `dit loss`.
@Suite("The sequence loss, from the configuration to dit loss") struct SequenceTests {
  private static let training = """
    "steps": 4, "batch": 8, "learning_rate": 0.001, "warmup_steps": 2, "flip": false, "validation_modulus": 5, \
    "validate_every": 4, "checkpoint_every": 2, "sample_every": 0, "log_every": 1
    """

  private static func configuration(_ weight: Double, patch: Int = 2) -> String {
    """
    { "model": { "input_size": 8, "patch_size": \(patch), "in_channels": 1, "hidden_size": 16, "depth": 1, "num_heads": 2,
                 "num_classes": 10 },
      "training": { \(training), "lambda_seq": \(weight) } }
    """
  }

  private func train(_ scratch: Scratch, _ name: String, weight: Double, _ arguments: [String] = []) async throws {
    let config = try scratch.write(Self.configuration(weight), to: "\(name).json")
    _ = try await succeed(
      ["train", "--data", "digits", "--config", config, "--out", scratch.path(name)] + arguments)
  }

  private func input(_ scratch: Scratch, hasDraws: Bool = true) throws -> String {
    var random = Philox(seed: 3)
    let tensors = ["x0", "noise", "posterior_noise"].map { name in
      TensorSource(name, Tensor(shape: [3, 1, 8, 8], elements: random.normal(count: 192)))
    }
    return try scratch.write(
      (hasDraws ? tensors : Array(tensors.prefix(2))) + [
        TensorSource("t", labels: [0, 1, 700]), TensorSource("y", labels: [3, 4, 10]),
      ], to: hasDraws ? "in.safetensors" : "undrawn.safetensors")
  }

  @Test("lambda_seq trains with the sequence term, logs it, and dit loss measures it")
  func trainedAndMeasured() async throws {
    let scratch = try Scratch()
    try await train(scratch, "with", weight: 0.5)
    try await train(scratch, "without", weight: 0)
    #expect(scratch.exists("with/sequence_prior.safetensors") && !scratch.exists("without/sequence_prior.safetensors"))
    #expect(try scratch.bytes("with/model.safetensors") != scratch.bytes("without/model.safetensors"))
    #expect(scratch.text("with/log.jsonl").contains(#""seq":"#))
    #expect(!scratch.text("without/log.jsonl").contains("seq"))

    let command = ["loss", "--model", scratch.path("with"), "--input", try input(scratch)]
    let printed = try await succeed(command + ["--lambda-seq", "2", "--out", scratch.path("g.safetensors")]).stdout
    _ = try await succeed(command + ["--out", scratch.path("plain.safetensors")])
    let (found, plain) = (try scratch.tensors("g.safetensors"), try scratch.tensors("plain.safetensors"))
    #expect(printed.contains("\nseq  ") && !plain.names.contains("loss.seq"))
    let seq = try found.floats("loss.seq")
    #expect(seq[0] == 0 && seq[1] > 0 && seq[2] > 0, "\(seq)")
    #expect(found.entry(named: "loss.seq_patches")?.shape == [3, 16])
    let expected = zip(try plain.floats("loss.loss"), seq).map { Double($0 + 2 * $1) }
    #expect(relativeError(try found.floats("loss.loss"), expected) < 1e-6)
    let weight = "grad.final_layer.linear.weight"
    #expect(try found.floats(weight) != plain.floats(weight))
  }

  @Test("A resumed run reads its saved prior and ends with the same bytes")
  func resumedWithItsPrior() async throws {
    let scratch = try Scratch()
    try await train(scratch, "whole", weight: 0.5)
    try await train(scratch, "part", weight: 0.5)
    for file in ["checkpoints/step-00000004", "model.safetensors", "ema.safetensors"] {
      try FileManager.default.removeItem(atPath: scratch.path("part/\(file)"))
    }
    _ = try await succeed(["train", "--data", "digits", "--out", scratch.path("part"), "--resume"])
    for file in ["model.safetensors", "sequence_prior.safetensors"] {
      #expect(try scratch.bytes("part/\(file)") == scratch.bytes("whole/\(file)"), "\(file)")
    }
    // What is read is used: another prior, another run.
    try FileManager.default.removeItem(atPath: scratch.path("part/checkpoints/step-00000004"))
    let prior = try scratch.tensors("whole/sequence_prior.safetensors")
    try SafetensorsWriter.write(
      [
        TensorSource("mean", shape: [1, 8, 8], doubles: [Double](repeating: 0.5, count: 64)),
        TensorSource("covariance", shape: [20, 20], doubles: prior.doubles("covariance").values),
        TensorSource("patch_size", shape: [], integers: [2]),
      ], to: scratch.path("part/sequence_prior.safetensors"))
    _ = try await succeed(["train", "--data", "digits", "--out", scratch.path("part"), "--resume"])
    #expect(try scratch.bytes("part/model.safetensors") != scratch.bytes("whole/model.safetensors"))
  }

  @Test("Missing priors, draws and configurations without a sequence are refused")
  func refusesWhatDoesNotFit() async throws {
    let scratch = try Scratch()
    let (drawn, undrawn) = (try input(scratch), try input(scratch, hasDraws: false))
    let loss = ["loss", "--model", Model.digits, "--input", drawn]
    try await expectFailure(loss + ["--lambda-seq", "1"], 65, ["sequence_prior.safetensors", "no such file"])
    try await expectFailure(loss + ["--lambda-seq=-1"], 64, ["--lambda-seq", "-1"])
    try await expectFailure(loss + ["--lambda-seq", "nan"], 64, ["--lambda-seq", "nan"])
    try await expectFailure(
      ["loss", "--model", Model.digits, "--input", undrawn, "--lambda-seq", "1"], 65, ["posterior_noise"])
    let config = try scratch.write(Self.configuration(1, patch: 4), to: "coarse.json")
    try await expectFailure(
      ["train", "--data", "digits", "--config", config, "--out", scratch.path("coarse")], 65,
      ["lambda_seq", "2 rows or 3 columns", "2×2"])
    #expect(!scratch.exists("coarse"))
    let flow = Self.configuration(1).replacing(
      "\"num_classes\": 10 },",
      with: "\"num_classes\": 10, \"learn_sigma\": false, \"diffusion\": { \"prediction\": \"flow\" } },")
    try await expectFailure(
      ["train", "--data", "digits", "--config", try scratch.write(flow, to: "flow.json")]
        + ["--out", scratch.path("flow")], 65, ["lambda_seq", "linear"])
  }
}
