import DiTFiles
import DiTTensor
import DiTTraining
import Foundation
import TestSupport
import Testing

@Suite("dit train") struct TrainTests {
  @Test("Training leaves a model directory, its average, a log and pictures of samples")
  func leavesAModelDirectory() async throws {
    let scratch = try Scratch()
    let result = try await scratch.train("run", training: ["sample_every": "6"])
    #expect(result.stdout.contains("12 steps, validation loss") && result.stderr.isEmpty, "\(result)")
    for name in ["config.json", "model.safetensors", "ema.safetensors", "samples/step-00000006.png"] {
      #expect(scratch.exists("run/\(name)"), "\(name)")
    }
    let lines = scratch.log("run")
    #expect(lines.compactMap { $0["mse"] as? Double }.count >= 12, "\(lines.count) lines")
    #expect(try scratch.bytes("run/model.safetensors") != scratch.bytes("run/ema.safetensors"))
    let picture = scratch.path("picture.png")
    _ = try await succeed(["sample", "--model", scratch.path("run"), "--classes", "1,2", "--out", picture])
  }

  /// The configuration's attention is trained, kept with the model, and gives the same bytes at any number of threads.
  @Test("Diffusion-aware attention is trained, saved and the same at any number of threads")
  func trainsDiffusionAwareAttention() async throws {
    let scratch = try Scratch()
    let attention = #""attention": {"temperature": "sqrt_beta", "mask": "soft", "window": "signal"}, "#
    let config = try scratch.write(
      Scratch.training().replacing(#""depth": 1"#, with: attention + #""depth": 1"#), to: "aware.json")
    let command = ["train", "--data", "digits", "--config", config, "--out"]
    _ = try await succeed(command + [scratch.path("run")])
    let name = "blocks.0.attn.noise_mask.mlp.2.weight"
    let trained = try scratch.tensors("run/model.safetensors").floats(name)
    #expect(trained.count == 2 * 4 && trained.allSatisfy { $0 != 0 }, "from 0: \(trained)")
    #expect(scratch.text("run/config.json").contains(#""temperature": "sqrt_beta""#))
    _ = try await succeed(command + [scratch.path("parts"), "--steps", "12", "--threads", "1"])
    #expect(try scratch.bytes("parts/model.safetensors") == scratch.bytes("run/model.safetensors"))
    _ = try await succeed([
      "sample", "--model", scratch.path("run"), "--classes", "1", "--steps", "3", "--out", scratch.path("one.png"),
    ])
  }

  /// What a configuration leaves unsaid about sampling is what measured best, kept in config.json; what it says stays.
  @Test("Sampling settings left out become the best measured ones, and stated ones stay")
  func samplingThatServesBest() async throws {
    let scratch = try Scratch()
    func sampling(_ model: String, _ section: String = "") async throws -> [String: String] {
      let text = Scratch.training(["steps": "1"]).replacing(#""depth": 1"#, with: model + #""depth": 1"#)
        .replacing(#","# + "\n" + #"  "sampling": { "steps": 5, "guidance": 1.5 }"#, with: section)
      #expect(!text.contains("1.5"))
      _ = try await succeed([
        "train", "--data", "digits", "--config", try scratch.write(text, to: "c.json"), "--out", scratch.path("run"),
      ])
      let json = try JSONSerialization.jsonObject(with: scratch.bytes("run/config.json")) as? [String: Any]
      try FileManager.default.removeItem(atPath: scratch.path("run"))
      return (json?["sampling"] as? [String: Any] ?? [:]).mapValues { "\($0)" }
    }
    let linear = try await sampling("")
    #expect(linear == ["sampler": "dpmpp", "steps": "20", "schedule": "jump:0.5", "guidance": "4"], "\(linear)")
    let cosine = try await sampling(#""diffusion": {"schedule": "cosine"}, "#)
    #expect(cosine["sampler"] == "dpmpp" && cosine["schedule"] == "leading", "\(cosine)")
    let velocity = try await sampling(#""diffusion": {"schedule": "cosine", "prediction": "v"}, "#)
    #expect(velocity["schedule"] == "jump:0.5", "\(velocity)")
    let short = try await sampling(#""diffusion": {"steps": 30, "beta_end": 0.01}, "#)
    #expect(short["steps"] == "20", "\(short)")
    let flow = try await sampling(#""learn_sigma": false, "diffusion": {"prediction": "flow"}, "#)
    #expect(flow["sampler"] == "heun" && flow["steps"] == "50", "\(flow)")
    let stated = try await sampling(#""sampling": {"steps": 7}, "#)
    #expect(stated["sampler"] == "ddim" && stated["steps"] == "7" && stated["schedule"] == "linspace", "\(stated)")
    let section = try await sampling("", #", "sampling": {"guidance": 2}"#)
    #expect(section["sampler"] == "dpmpp" && section["guidance"] == "2", "\(section)")
  }

  @Test("--steps, --batch and --seed override the configuration")
  func stepsBatchAndSeedOverride() async throws {
    let scratch = try Scratch()
    _ = try await scratch.train("plain")
    let plain = try scratch.bytes("plain/model.safetensors")
    for (name, arguments, step, samples) in [
      ("steps", ["--steps", "7"], 7, 56), ("batch", ["--batch", "4"], 12, 48), ("seed", ["--seed", "5"], 12, 96),
    ] {
      _ = try await scratch.train(name, arguments)
      let last = scratch.log(name).last { $0["samples"] != nil && $0["mse"] != nil }
      #expect(last?["step"] as? Int == step && last?["samples"] as? Int == samples, "\(name): \(last ?? [:])")
      #expect(try scratch.bytes("\(name)/model.safetensors") != plain, "\(name) changes nothing")
    }
  }

  @Test("Training gives the same bytes at any number of threads")
  func threadsDoNotMatter() async throws {
    let scratch = try Scratch()
    for threads in ["1", "2"] { _ = try await scratch.train(threads, ["--threads", threads]) }
    for name in ["model.safetensors", "ema.safetensors", "config.json"] {
      #expect(try scratch.bytes("1/\(name)") == scratch.bytes("2/\(name)"), "\(name)")
    }
  }

  @Test("Training takes images and labels from a safetensors file")
  func dataFromAFile() async throws {
    let scratch = try Scratch()
    let images = TensorSource(
      "images", Tensor(shape: [20, 1, 8, 8], elements: (0..<1280).map { Float($0 % 17) / 8 - 1 }))
    let labels = TensorSource("labels", labels: (0..<20).map { $0 % 3 })
    let data = try scratch.write([images, labels], to: "data.safetensors")
    _ = try await scratch.train("run", data: data)
    #expect(scratch.exists("run/ema.safetensors"))
  }

  /// The color pictures that ship with the tool bring their own sizes and class names.
  @Test("The shipped emoji bring their own sizes and class names")
  func shippedEmoji() async throws {
    let scratch = try Scratch()
    let command = ["train", "--data", "emoji", "--steps", "1", "--batch", "2", "--threads", "1"]
    _ = try await succeed(command + ["--out", scratch.path("run")])
    let labels = try SafetensorsFile(contentsOf: scratch.path("run/model.safetensors"))
      .tensor("y_embedder.embedding_table.weight")
    #expect(labels.shape == [13, 128])
    #expect(try scratch.tensors("run/model.safetensors").floats("x_embedder.proj.weight").count == 128 * 3 * 16)
    _ = try await succeed([
      "sample", "--model", scratch.path("run"), "--classes", "flags", "--steps", "1", "--out", scratch.path("flag.png"),
    ])
  }

  @Test("Fine-tuning to other classes makes a new label table and keeps the other weights")
  func fromAnotherModelToOtherClasses() async throws {
    let scratch = try Scratch()
    let images = TensorSource("images", Tensor(zeros: [20, 1, 8, 8]))
    let labels = TensorSource("labels", labels: (0..<20).map { $0 % 3 })
    let data = try scratch.write([images, labels], to: "data.safetensors")
    let result = try await succeed([
      "train", "--data", data, "--from", Model.digits, "--steps", "1", "--batch", "2", "--out", scratch.path("run"),
    ])
    #expect(result.stderr.hasPrefix("Note: ") && result.stderr.contains("3"), "\(result.stderr)")
    let tensors = try SafetensorsFile(contentsOf: scratch.path("run/model.safetensors"))
    let original = try SafetensorsFile(contentsOf: "\(Model.digits)/model.safetensors")
    #expect(try tensors.tensor("y_embedder.embedding_table.weight").shape == [4, 32])
    // One step of warm-up moves the weights by next to nothing.
    let (found, expected) = (
      try tensors.floats("blocks.0.attn.qkv.weight"), try original.floats("blocks.0.attn.qkv.weight")
    )
    #expect(relativeError(found, expected.map(Double.init)) < 1e-3)
  }

  /// The fixture's hidden size is none of the published ones, so its state dict does not tell the heads.
  @Test("Fine-tuning from a bare state dict needs --heads")
  func headsOfAStateDict() async throws {
    let scratch = try Scratch()
    let command = [
      "train", "--data", "digits", "--from", "\(Model.digits)/model.safetensors", "--steps", "1", "--batch", "2",
      "--out", scratch.path("run"),
    ]
    try await expectFailure(command, 65, ["heads"])
    try await expectFailure(command + ["--heads", "5"], 64, ["--heads"])
    _ = try await succeed(command + ["--heads", "4"])
    #expect(scratch.text("run/config.json").contains("\"num_heads\": 4"))
  }

  /// The options change the run's settings, which its checkpoints hold and `--resume` keeps to.
  @Test("Precision, GEMM and recomputation are kept with the run and checked when it resumes")
  func numericsAreKept() async throws {
    let scratch = try Scratch()
    _ = try await scratch.train("plain")
    for (name, arguments, key, value, other) in [
      ("bf16", ["--precision", "bf16"], "precision", "\"bf16\"", ["--precision", "fp32"]),
      ("packed", ["--gemm", "packed"], "gemm", "\"packed\"", ["--gemm", "blas"]),
      ("recompute", ["--recompute"], "recompute", "true", []),
    ] {
      _ = try await scratch.train(name, arguments)
      let settings = scratch.text("\(name)/checkpoints/step-00000012/training.json")
      #expect(settings.contains("\"\(key)\": \(value)"), "\(name): \(settings)")
      let resume = ["train", "--data", "digits", "--out", scratch.path(name), "--resume"]
      if !other.isEmpty { try await expectFailure(resume + other, 64, ["training.\(key)"]) }
      let again = try await succeed(resume).stdout
      #expect(again.contains("\(name): 12 steps, all trained before; a larger --steps goes on"), "\(again)")
    }
    try await expectFailure(
      ["train", "--data", "digits", "--out", scratch.path("plain"), "--resume", "--recompute"], 64,
      ["training.recompute is false, not true"])
    let plain = try scratch.bytes("plain/model.safetensors")
    #expect(try scratch.bytes("bf16/model.safetensors") != plain, "not in bf16")
    #expect(try scratch.bytes("recompute/model.safetensors") == plain, "recomputing changes the result")
    let losses = ["plain", "bf16"].map { scratch.log($0).compactMap { $0["mse"] as? Double }.last ?? .nan }
    #expect(abs(losses[1] / losses[0] - 1) < 0.02, "\(losses)")
  }

  @Test("Help lists every training key")
  func helpListsEveryKey() async throws {
    let help = try await succeed(["train", "--help"]).stdout
    for key in TrainingConfiguration.keys { #expect(help.contains("\n  \(key.name) ("), "\(key.name)") }
    for key in ["hidden_size", "class_dropout_prob", "variance"] { #expect(help.contains("\"\(key)\""), "\(key)") }
  }
}

/// Ended by a signal at some step and resumed, a run gives the bytes of one that was left alone.
@Suite("Resuming a run") struct ResumeTests {
  @Test("A run ended by a signal and resumed gives the bytes of one that was left alone")
  func sameBytes() async throws {
    let scratch = try Scratch()
    let settings = [
      "steps": "3000", "checkpoint_every": "200", "keep_checkpoints": "20", "validate_every": "0", "log_every": "10",
    ]
    let config = try scratch.write(Scratch.training(settings), to: "config.json")
    func arguments(_ name: String) -> [String] {
      ["train", "--data", "digits", "--config", config, "--out", scratch.path(name)]
    }
    _ = try await succeed(arguments("whole"))
    let steps = { (name: String) in scratch.log(name).compactMap { $0["step"] as? Int } }
    for (parts, signal) in [("interrupted", SIGINT), ("terminated", SIGTERM), ("killed", SIGKILL)] {
      let run = try Tool.start(arguments(parts), in: scratch)
      await run.send(signal, once: { scratch.exists("\(parts)/checkpoints/step-00000200") })
      let result = try await run.result()
      #expect(result.status == (signal == SIGKILL ? 128 + SIGKILL : 130), "\(result)")
      if signal != SIGKILL { #expect(result.stderr.contains("--resume"), "\(result.stderr)") }
      _ = try await succeed(arguments(parts) + ["--resume"])
      for name in ["model.safetensors", "ema.safetensors", "config.json", "loss.png"] {
        #expect(try scratch.bytes("whole/\(name)") == scratch.bytes("\(parts)/\(name)"), "\(parts), \(name)")
      }
      #expect(steps("whole") == steps(parts), "\(parts)")
    }
  }

  @Test("Resuming with other settings, or without a checkpoint, is refused")
  func refusesOtherSettings() async throws {
    let scratch = try Scratch()
    _ = try await scratch.train("run")
    let again = ["train", "--data", "digits", "--out", scratch.path("run")]
    try await expectFailure(again + ["--config", scratch.path("run.json")], 64, ["holds the checkpoints of a run"])
    try await expectFailure(again + ["--resume", "--steps", "11"], 64, ["training.steps is 12, not 11"])
    try await expectFailure(
      again + ["--resume", "--schedule-steps", "11"], 64, ["training.schedule_steps is 0, not 11"])
    try await expectFailure(again + ["--resume", "--steps", "13", "--batch", "4"], 64, ["training.batch is 8, not 4"])
    try await expectFailure(again + ["--resume", "--seed", "1"], 64, ["training.seed"])
    try await expectFailure(again + ["--resume", "--from", Model.digits], 64, ["--from"])
    try await expectFailure(
      ["train", "--data", "digits", "--out", scratch.path("none"), "--resume"], 65, ["no checkpoint to resume from"])
    #expect(!scratch.exists("none"))
  }
}

@Suite("Errors of dit train") struct TrainErrorTests {
  @Test("Wrong options of dit train exit with 64 and name the option")
  func wrongOptions() async throws {
    let scratch = try Scratch()
    let out = ["--out", scratch.path("run")]
    let data = try scratch.write([TensorSource("images", Tensor(zeros: [4, 1, 8, 8]))], to: "data.safetensors")
    try await expectFailure(["train", "--data", data] + out, 64, ["--config", "--from"])
    try await expectFailure(["train", "--data", "pictures"] + out, 64, ["--data", ".safetensors", "pictures"])
    for option in ["--steps", "--batch"] {
      try await expectFailure(["train", "--data", "digits", option, "0"] + out, 64, [option, "at least 1"])
    }
    try await expectFailure(["train", "--data", "digits", "--seed", "-1"] + out, 64, ["seed"])
    try await expectFailure(["train", "--data", "digits", "--threads", "0"] + out, 64, ["threads"])
    // A single step, lest one that is not refused take the rest of the day.
    let digits = ["train", "--data", "digits", "--steps", "1", "--batch", "2"] + out
    try await expectFailure(
      digits + ["--precision", "fp16"], 64, ["--precision", "bf16", "loss scaling", "fp16"])
    try await expectFailure(digits + ["--precision", "bf16", "--gemm", "blas"], 64, ["--gemm", "OpenBLAS"])
    #expect(scratch.names == ["data.safetensors"])
  }

  @Test("Wrong configurations and data exit with 65 and name the file and the key")
  func wrongInputs() async throws {
    let scratch = try Scratch()
    let out = ["--out", scratch.path("run")]
    let images = TensorSource("images", Tensor(zeros: [20, 1, 8, 8]))
    let labeled = try scratch.write(
      [images, TensorSource("labels", labels: (0..<20).map { $0 })], to: "labels.safetensors")
    let config = try scratch.write(Scratch.training(), to: "config.json")
    let unknown = try scratch.write(Scratch.training(["stepz": "1"]), to: "unknown.json")
    let digits = ["train", "--data", "digits"]
    try await expectFailure(digits + ["--config", unknown] + out, 65, ["unknown.json", "training.stepz"])
    for (key, settings) in [
      ("precision", ["precision": "\"fp16\""]), ("gemm", ["gemm": "\"mkl\""]),
      ("gemm", ["precision": "\"bf16\"", "gemm": "\"blas\""]), ("recompute", ["recompute": "1"]),
    ] {
      let config = try scratch.write(Scratch.training(settings), to: "numerics.json")
      try await expectFailure(digits + ["--config", config] + out, 65, ["numerics.json", "training.\(key)"])
    }
    try await expectFailure(digits + ["--config", scratch.path("no.json")] + out, 65, ["no.json"])
    try await expectFailure(digits + ["--from", Model.latent] + out, 65, ["images"])
    try await expectFailure(
      ["train", "--data", labeled, "--config", config] + out, 65, ["labels.safetensors", "labels"])
    try await expectFailure(
      ["train", "--data", scratch.path("no.safetensors"), "--config", config] + out, 65, ["no.safetensors"])
    #expect(!scratch.exists("run"))
  }

  @Test("An output folder that cannot be made exits with 1")
  func wrongOutputs() async throws {
    let scratch = try Scratch()
    let file = try scratch.write("a file", to: "file")
    let config = try scratch.write(Scratch.training(), to: "config.json")
    try await expectFailure(
      ["train", "--data", "digits", "--config", config, "--out", "\(file)/run"], 1, ["file"])
    #expect(scratch.text("file") == "a file")
  }

  @Test("A run that diverges exits with 1 and keeps its last checkpoint")
  func divergenceKeepsTheLastCheckpoint() async throws {
    let scratch = try Scratch()
    let latents = TensorSource(
      "latents", Tensor(shape: [20, 1, 8, 8], elements: [Float](repeating: 3e38, count: 1280)))
    let labels = TensorSource("labels", labels: [Int](repeating: 1, count: 20))
    let data = try scratch.write([latents, labels], to: "data.safetensors")
    let config = try scratch.write(Scratch.training(), to: "config.json")
    try await expectFailure(
      ["train", "--data", data, "--config", config, "--out", scratch.path("run")], 1,
      ["diverged at step 1", "step-00000000"])
    #expect(scratch.exists("run/checkpoints/step-00000000/model.safetensors"))
    #expect(!scratch.exists("run/model.safetensors"))
  }
}
