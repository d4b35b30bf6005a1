import DiTFiles
import Foundation
import Testing

/// `dit convert`, and every command on a diffusers directory.
@Suite("dit convert, and every command on a diffusers directory") struct ConvertTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures/diffusers").path(percentEncoded: false)
  private static let pipeline = "\(folder)/pipeline"

  /// The fixture's output from a model, by `dit forward`.
  private func error(of model: String, _ scratch: Scratch) async throws -> Double {
    let (input, out) = ("\(Self.folder)/pipeline.safetensors", scratch.path("o.safetensors"))
    _ = try await succeed(["forward", "--model", model, "--input", input, "--out", out])
    return relativeError(
      try scratch.tensors("o.safetensors").floats("output"),
      try SafetensorsFile(contentsOf: input).doubles("output64").values)
  }

  @Test("A diffusers directory runs as a model, with diffusers' output")
  func directoryIsAModel() async throws {
    let scratch = try Scratch()
    #expect(try await error(of: Self.pipeline, scratch) <= outputTolerance)
    let info = try await succeed(["info", Self.pipeline])
    #expect(info.stdout.contains("\"time_frequencies\": \"diffusers\"") && info.stdout.contains("\"norm2_eps\": 1e-05"))
    let json = try await succeed(["info", "--json", "\(Self.folder)/differing"])
    #expect(json.stdout.contains("\"embedders\": \"per_block\""))
  }

  /// Classes by number, by each of their names, and by all of them.
  @Test("Classes are found by number or by any of their names, and an ambiguous name is refused")
  func classesHaveSeveralNames() async throws {
    let scratch = try Scratch()
    let runs = [("0,3", "a"), ("Tinca tinca,white shark", "b"), ("tench, White Shark", "c")]
    for (classes, name) in runs {
      _ = try await succeed(
        [
          "sample", "--model", Self.pipeline, "--classes", classes, "--steps", "3", "--out",
          scratch.path("\(name).safetensors"),
        ])
    }
    let samples = try runs.map { try scratch.tensors("\($0.1).safetensors").floats("samples") }
    #expect(samples[0] == samples[1] && samples[0] == samples[2] && samples[0].allSatisfy(\.isFinite))
    let out = scratch.path("x.safetensors")
    func failure(_ classes: String, _ words: [String]) async throws {
      try await expectFailure(["sample", "--model", Self.pipeline, "--classes", classes, "--out", out], 64, words)
    }
    try await failure("crane", ["classes 2, 4 have that name", "'crane'"])
    try await failure("tinca tinka", ["nearest", "Tinca tinca"])
    _ = try await succeed(
      ["sample", "--model", Self.pipeline, "--classes", "tench, Tinca tinca", "--steps", "1", "--out", out])
    #expect(try scratch.tensors("x.safetensors").integers("labels").values == [0])
  }

  @Test("Converting from diffusers and back keeps the output and the samples")
  func convertsThereAndBack() async throws {
    let scratch = try Scratch()
    let (model, back) = (scratch.path("model"), scratch.path("back"))
    let first = try await succeed(["convert", Self.pipeline, model])
    #expect(first.stdout == "\(model)\n" && first.stderr.isEmpty)
    #expect(try await error(of: model, scratch) <= outputTolerance)
    let second = try await succeed(["convert", model, back, "--to", "diffusers"])
    #expect(second.stderr.contains("num_classes") && second.stderr.contains("vae") && !second.stderr.contains("127"))
    #expect(try await error(of: back, scratch) <= outputTolerance)

    // The scheduler too: the same samples.
    for (name, path) in [("a", Self.pipeline), ("b", model), ("c", back)] {
      _ = try await succeed([
        "sample", "--model", path, "--classes", "1,2", "--steps", "4", "--out", scratch.path("\(name).safetensors"),
      ])
    }
    let samples = try ["a", "b", "c"].map { try scratch.tensors("\($0).safetensors").floats("samples") }
    #expect(samples[0] == samples[1] && samples[0] == samples[2])

    let half = scratch.path("half")
    _ = try await succeed(["convert", model, half, "--dtype", "bf16"])
    let error = try await error(of: half, scratch)
    #expect(error > 1e-4 && error < 0.1)
    #expect(
      scratch.names == ["a.safetensors", "b.safetensors", "back", "c.safetensors", "half", "model", "o.safetensors"])
  }

  @Test("Converting to diffusers says what diffusers computes differently, with the measured error")
  func saysWhatDiffusersComputes() async throws {
    let scratch = try Scratch()
    let run = try await succeed(["convert", Model.latent, scratch.path("d"), "--to", "diffusers"])
    #expect(run.stderr.contains("diffusers divides by 127") && run.stderr.contains("% of the largest output (measured"))
  }

  @Test("Models that cannot be converted and targets that exist are refused; --force replaces")
  func refusesWhatCannotBeConverted() async throws {
    let scratch = try Scratch()
    let out = scratch.path("out")
    try await expectFailure(
      ["convert", Model.oblong, out, "--to", "diffusers"], 65, ["input_size", "a square", "12×20"])
    try await expectFailure(
      ["convert", Model.unconditional, out, "--to", "diffusers"], 65, ["as diffusers' DiT has no other"])
    try await expectFailure(["convert", "DiT-S/2", out], 65, ["a model with weights"])
    try await expectFailure(
      ["convert", Self.pipeline, out, "--weights", "ema"], 65, ["weights", "a diffusers directory"])
    try await expectFailure(["convert", scratch.path("none"), out], 65, ["no such file"])
    #expect(scratch.names.isEmpty)
    _ = try await succeed(["convert", Self.pipeline, out])
    try await expectFailure(["convert", Model.latent, out], 64, ["no directory, or an empty one", "2 files"])
    _ = try await succeed(["convert", Model.latent, out, "--force"])
    #expect(scratch.names == ["out"])
  }

  /// Fine-tuning keeps diffusers' numerics in the new model's config.json.
  @Test("Fine-tuning from a diffusers directory keeps its numerics in config.json")
  func fineTuningStartsFromIt() async throws {
    let scratch = try Scratch()
    let file = try scratch.write(
      [
        TensorSource("latents", shape: [8, 4, 6, 6]) { _, chunk in
          for i in chunk.indices { chunk[i] = Float(i % 7) / 7 }
        },
        TensorSource("labels", labels: [0, 1, 2, 3, 4, 0, 1, 2]),
      ], to: "data.safetensors")
    for name in ["pipeline", "differing"] {
      let run = scratch.path(name)
      _ = try await succeed([
        "train", "--data", file, "--from", "\(Self.folder)/\(name)", "--steps", "2", "--batch", "4", "--out", run,
      ])
      let text = scratch.text("\(name)/config.json")
      #expect(text.contains("\"time_frequencies\": \"diffusers\"") && text.contains("\"norm2_eps\": 1e-05"))
      #expect(text.contains("per_block") == (name == "differing"))
    }
  }
}
