import DiTFiles
import DiTImaging
import DiTTensor
import Foundation
import TestSupport
import Testing

/// diffusers' directories as people have them, by every command that takes one.
@Suite("Every command on diffusers directories as people have them") struct OwnedDirectoryTests {
  let scratch: Scratch
  /// The fixture `pipeline` with a text encoder, an unknown key, dropout, names of other classes, and an autoencoder with a
  /// shift and an unknown key.
  let pipeline: String

  init() throws {
    scratch = try Scratch()
    pipeline = scratch.path("p")
    try FileManager.default.copyItem(atPath: Fixture.path("pipeline", folder: "diffusers"), toPath: pipeline)
    try change(
      "model_index.json",
      ("null,\n    null", "\"diffusers\",\n    \"AutoencoderKL\""),
      ("\"4\": \"crane\"", "\"9\": \"crane\""),
      ("\"scheduler\":", "\"text_encoder\": [\"transformers\", \"T5\"], \"scheduler\":"))
    try change("transformer/config.json", ("\"dropout\": 0.0", "\"dropout\": 0.1, \"qk_norm\": null"))
    try AutoencoderFixture("standardised").write(to: URL(filePath: "\(pipeline)/vae"))
    try change("vae/config.json", ("{", "{\"tiling\": true,"))
  }

  private func change(_ file: String, _ pairs: (old: String, new: String)...) throws {
    let path = "\(pipeline)/\(file)"
    var text = try String(contentsOfFile: path, encoding: .utf8)
    for (old, new) in pairs {
      try #require(text.contains(old), "\(file) has no \(old)")
      text = text.replacing(old, with: new)
    }
    try text.write(toFile: path, atomically: false, encoding: .utf8)
  }

  private var modelNotes: [String] {
    [
      "Note: \(pipeline)/model_index.json: text_encoder is ignored,",
      "Note: \(pipeline)/transformer/config.json: dropout 0.1 acts in training alone,",
      "Note: \(pipeline)/transformer/config.json: qk_norm is no key of diffusers' DiTTransformer2DModel,",
      "Note: \(pipeline)/model_index.json: id2label: class 9 ignored,",
    ]
  }
  private var autoencoderNotes: [String] {
    ["Note: \(pipeline)/vae/config.json: tiling is no key of diffusers' AutoencoderKL,"]
  }
  private var scalingNotes: [String] {
    ["Note: \(pipeline)/vae: pictures heed latents_mean and latents_std; diffusers' DiTPipeline does not"]
  }

  /// Expects these lines among stderr's, each once.
  private func run(
    _ arguments: [String], says notes: [String], sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let lines = try await succeed(arguments).stderr.split(separator: "\n").filter { $0.hasPrefix("Note: \(pipeline)") }
    let isExpected = lines.count == notes.count && zip(lines, notes).allSatisfy { $0.hasPrefix($1) }
    #expect(isExpected, "\(arguments): \(lines)", sourceLocation: sourceLocation)
  }

  @Test("Every command that reads a model says once what it ignores, and works")
  func everyCommandSaysWhatItIgnores() async throws {
    let input = Fixture.path("pipeline.safetensors", folder: "diffusers")
    let out = scratch.path("o.safetensors")
    try await run(["forward", "--model", pipeline, "--input", input, "--out", out], says: modelNotes)
    let expected = try SafetensorsFile(contentsOf: input).doubles("output64").values
    #expect(relativeError(try scratch.tensors("o.safetensors").floats("output"), expected) <= outputTolerance)
    try await run(["info", pipeline], says: modelNotes)
    try await run(["info", "--json", pipeline], says: modelNotes)
    try await run(["schedule", pipeline], says: modelNotes)
    try await run(
      ["sample", "--model", pipeline, "--steps", "2", "--classes", "white shark,4", "--out", scratch.path("s.png")],
      says: modelNotes + autoencoderNotes + scalingNotes)
    #expect(try Image(contentsOf: scratch.path("s.png")).channels == 3)
    let x = try SafetensorsFile(contentsOf: input).tensor("x")
    let latents = try scratch.write(
      [TensorSource("latents", x), TensorSource("labels", labels: [0, 1, 4])], to: "l.safetensors")
    try await run(["decode", "--model", pipeline, latents, scratch.path("d.png")], says: autoencoderNotes)
    try await run(["invert", "--model", pipeline, "--input", latents, "--out", out, "--steps", "2"], says: modelNotes)
    let loss = try scratch.write(
      [
        TensorSource("x0", x), TensorSource("t", labels: [0, 431, 999]), TensorSource("y", labels: [0, 1, 2]),
        TensorSource("noise", x),
      ], to: "loss.safetensors")
    try await run(["loss", "--model", pipeline, "--input", loss, "--out", out], says: modelNotes)
    try await run(["convert", pipeline, scratch.path("c")], says: modelNotes)
    try await run(
      ["train", "--data", latents, "--from", pipeline, "--steps", "1", "--batch", "2", "--out", scratch.path("r")],
      says: modelNotes)
    #expect(scratch.text("r/config.json").contains("white shark"))
    try await expectFailure(
      ["sample", "--model", pipeline, "--classes", "9", "--out", scratch.path("e.png")], 64, ["--classes", "9"])
  }

  /// From pictures to latents, a model of them, its samples, and pictures: each by the numbers of the config.json.
  @Test("Pictures become latents of 16 shifted channels, a model of them, and pictures again")
  func shiftedAutoencodersGoAllTheWay() async throws {
    let fixture = try AutoencoderFixture("shifted")
    try fixture.write(to: scratch.url.appending(path: "vae"))
    let images = try fixture.file.tensor("0.images")
    let input = try scratch.write(
      [TensorSource("images", images), TensorSource("labels", labels: [1, 0])], to: "in.safetensors")
    let z = scratch.path("z.safetensors")
    _ = try await succeed(["encode", "--model", scratch.path("vae"), input, z])
    let encoded = try scratch.tensors("z.safetensors")
    let expected = try fixture.file.floats("0.encoded").map(Double.init)
    #expect(relativeError(try encoded.floats("latents"), expected) <= 2e-5)
    #expect(try encoded.floats("latents") == encoded.floats("mean").map { ($0 - 0.0609) * 1.5305 })

    let latents = try fixture.file.tensor("0.latents")
    let file = try scratch.write([TensorSource("latents", latents)], to: "l.safetensors")
    _ = try await succeed(["decode", "--model", scratch.path("vae"), file, scratch.path("x.safetensors")])
    let pictures = try fixture.file.floats("0.decoded").map { Double(min(1, max(-1, $0))) }
    #expect(relativeError(try scratch.tensors("x.safetensors").floats("images"), pictures) <= 2e-5)

    let config = try scratch.write(
      """
      { "model": { "input_size": [5, 7], "patch_size": 1, "in_channels": 16, "hidden_size": 16, "depth": 1, "num_heads": 2,
                   "num_classes": 2, "vae": "\(scratch.path("vae"))" },
        "training": { "steps": 2, "batch": 2, "sample_every": 0 }, "sampling": { "steps": 2 } }
      """, to: "config.json")
    _ = try await succeed(["train", "--data", z, "--out", scratch.path("run"), "--config", config])
    #expect(try scratch.bytes("run/vae/config.json") == scratch.bytes("vae/config.json"))
    _ = try await succeed(["sample", "--model", scratch.path("run"), "--out", scratch.path("s.safetensors")])
    let samples = try scratch.tensors("s.safetensors")
    let again = try scratch.write([TensorSource("samples", samples.tensor("samples"))], to: "again.safetensors")
    _ = try await succeed(["decode", "--model", scratch.path("run"), again, scratch.path("again-out.safetensors")])
    #expect(try scratch.tensors("again-out.safetensors").floats("images") == samples.floats("images"))
  }

  @Test("A training script's checkpoint, and each of its directories, are models by the weights asked for")
  func checkpointsOfTrainingScripts() async throws {
    let checkpoint = Fixture.path("checkpoint", folder: "diffusers")
    let input = Fixture.path("checkpoint.safetensors", folder: "diffusers")
    let out = scratch.path("o.safetensors")
    for (path, weights, name) in [
      (checkpoint, "auto", "transformer_ema"), (checkpoint, "ema", "transformer_ema"),
      (checkpoint, "model", "transformer"), ("\(checkpoint)/transformer_ema", "auto", "transformer_ema"),
      ("\(checkpoint)/transformer", "auto", "transformer"),
    ] {
      let run = try await succeed(
        ["forward", "--model", path, "--weights", weights, "--input", input, "--out", out])
      #expect(!run.stderr.contains("Note"))
      let expected = try SafetensorsFile(contentsOf: input).doubles("\(name).output64").values
      let found = try scratch.tensors("o.safetensors").floats("output")
      #expect(relativeError(found, expected) <= outputTolerance, "\(path) \(weights)")
    }
    try await expectFailure(
      ["forward", "--model", "\(checkpoint)/transformer", "--weights", "ema", "--input", input, "--out", out], 65,
      ["transformer: weights", "a moving average", "a diffusers directory without one"])
    _ = try await succeed(["info", checkpoint])
  }

  @Test("A bare autoencoder of 16 channels asks for its factor, one of 4 says that it is assumed")
  func bareAutoencoders() async throws {
    let fixture = try AutoencoderFixture("tiny")
    let bare = scratch.path("ae.safetensors")
    try SafetensorsWriter.write(fixture.weights { fixture.compVis[$0] ?? "" }, to: bare)
    let latents = try scratch.write(
      [TensorSource("latents", fixture.file.tensor("0.latents"))], to: "l.safetensors")
    let run = try await succeed(["decode", "--model", bare, latents, scratch.path("x.png")])
    #expect(run.stderr.contains("Note: \(bare): scaling_factor 0.18215, sd-vae's, is assumed"))
    let wide = fixture.weights().map { source in
      source.name == "decoder.conv_in.weight" ? TensorSource(source.name, Tensor(zeros: [64, 16, 3, 3])) : source
    }
    let other = scratch.path("wide.safetensors")
    try SafetensorsWriter.write(wide, to: other)
    try await expectFailure(
      ["decode", "--model", other, latents, scratch.path("y.png")], 65,
      ["wide.safetensors: scaling_factor", "config.json", "1.5305 with shift_factor 0.0609", "16 latent channels"])
  }
}
