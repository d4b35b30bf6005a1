import DiTFiles
import DiTTensor
import DiTTraining
import Foundation
import TestSupport
import Testing

/// A model of a few thousand weights, and a run of it whose settings `training` overrides.
private func configuration(_ training: [String: String] = [:]) -> String {
  var settings = [
    "steps": "12", "batch": "8", "learning_rate": "0.001", "warmup_steps": "2", "flip": "false",
    "validation_modulus": "5", "validate_every": "6", "checkpoint_every": "5", "sample_every": "0", "log_every": "1",
  ]
  settings.merge(training) { $1 }
  let section = settings.sorted { $0.key < $1.key }.map { "\"\($0.key)\": \($0.value)" }.joined(separator: ", ")
  return """
    { "model": { "input_size": 8, "patch_size": 4, "in_channels": 1, "hidden_size": 16, "depth": 1, "num_heads": 2,
                 "num_classes": 10 },
      "training": { \(section) },
      "sampling": { "steps": 5, "guidance": 1.5 } }
    """
}

extension Scratch {
  /// Trains in the folder `name`.
  fileprivate func train(
    _ name: String, _ arguments: [String] = [], training: [String: String] = [:], data: String = "digits"
  ) async throws -> Tool.Result {
    let config = try write(configuration(training), to: "\(name).json")
    return try await succeed(["train", "--data", data, "--config", config, "--out", path(name)] + arguments)
  }

  fileprivate func log(_ name: String) -> [[String: Any]] {
    text("\(name)/log.jsonl").split(separator: "\n").compactMap {
      try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
    }
  }
}

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

  @Test("Samples are measured on the way, as dit evaluate does, and the best weights kept, whatever interrupts")
  func evaluatesOnTheWay() async throws {
    let scratch = try Scratch()
    let settings = [
      "evaluate_every": "6", "evaluate_samples": "40", "evaluate_reference": "\"digits:test\"",
      "evaluate_measures": "\"frechet,precision\"", "learning_rate": "0.01", "ema_decay": "0.9",
    ]
    let result = try await scratch.train("run", ["--tensorboard"], training: settings)
    #expect(result.stdout.contains(", frechet ") && result.stderr.isEmpty, "\(result)")
    let lines = scratch.log("run").filter { $0["evaluation_frechet"] != nil }
    #expect(lines.compactMap { $0["step"] as? Int } == [6, 12])
    #expect(lines.allSatisfy { $0["evaluation_recall"] != nil && $0["evaluation_samples"] as? Int == 40 })
    #expect(lines[0]["best"] as? Bool == true)
    // By hand: the same samples, the same measures.
    let samples = scratch.path("samples.safetensors")
    let classes = (0..<40).map { "\($0 % 10)" }.joined(separator: ",")
    _ = try await succeed(["sample", "--model", scratch.path("run"), "--classes", classes, "--out", samples])
    let text = try await succeed([
      "evaluate", "--samples", samples, "--reference", "digits:test", "--json", "--measures", "frechet,precision",
    ]).stdout
    let found = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let distance = try #require((found["frechet"] as? [String: Any])?["distance"] as? Double)
    let measured = try #require(lines[1]["evaluation_frechet"] as? Double)
    #expect(abs(distance - measured) <= 1e-6 * distance, "\(distance) by hand, \(measured) on the way")
    let events = try FileManager.default.contentsOfDirectory(atPath: scratch.path("run/tensorboard"))
    let event = try scratch.bytes("run/tensorboard/\(try #require(events.first))")
    for tag in ["evaluation/frechet", "evaluation/recall"] { #expect(event.range(of: Data(tag.utf8)) != nil, "\(tag)") }
    _ = try await succeed([
      "sample", "--model", scratch.path("run/best"), "--classes", "3", "--out", scratch.path("three.png"),
    ])
    _ = try await scratch.train("first", ["--steps", "7", "--schedule-steps", "12"], training: settings)
    #expect(
      scratch.log("first").filter { $0["evaluation_frechet"] != nil }.compactMap { $0["step"] as? Int } == [6, 7])
  }

  @Test("What cannot be evaluated is said of its key before the first step")
  func badEvaluations() async throws {
    let scratch = try Scratch()
    let weights = try HashedWeights("efficientnet")
    let lite = try scratch.write(
      try weights.keys.map {
        TensorSource($0.name, Tensor(shape: $0.shape, elements: try weights.slice($0.name).array))
      },
      to: "lite.safetensors")
    let few = try scratch.write(
      [TensorSource("images", shape: [5, 1, 8, 8], bytes: [UInt8](repeating: 7, count: 320))], to: "few.safetensors")
    let cases: [([String: String], [String])] = [
      (["evaluate_measures": "\"fid\""], ["training.evaluate_measures", "frechet, spatial", "\"fid\""]),
      (["evaluate_measures": "\"frechet,frechet\""], ["training.evaluate_measures"]),
      (["evaluate_features": "\"pca:900\""], ["training.evaluate_features", "pca:64"]),
      (["evaluate_features": "\"none.pth\""], ["none.pth", "no such file"]),
      (["evaluate_resize": "\"clean-fid\""], ["training.evaluate_resize", "without a network's file"]),
      (
        ["evaluate_features": "\"\(lite)\"", "evaluate_resize": "\"best\""],
        ["training.evaluate_resize", "pytorch-fid"]
      ),
      (["evaluate_features": "\"\(lite)\"", "evaluate_measures": "\"spatial\""], ["evaluate_measures", "Inception"]),
      (
        ["evaluate_features": "\"\(lite)\"", "evaluate_measures": "\"inception\""], ["evaluate_measures", "classifier"]
      ),
      (
        ["evaluate_samples": "3", "evaluate_measures": "\"precision\""],
        ["evaluate_samples", "at least 4 for 3 neighbors"]
      ),
      (
        ["evaluate_features": "\"pca:64\"", "evaluate_reference": "\"\(few)\""],
        ["few.safetensors", "at least 65 samples"]
      ),
      (
        ["evaluate_reference": "\"\(Fixture.path("../evaluation/statistics.npz"))\""], ["statistics.npz", "64 numbers"]
      ),
      (["evaluate_reference": "\"nothing.npz\""], ["nothing.npz", "no such file"]),
      (["validation_modulus": "0", "validate_every": "0"], ["training.evaluate_reference", "held out"]),
      (["evaluate_samples": "1"], ["training.evaluate_samples", "2"]),
    ]
    for (index, (settings, words)) in cases.enumerated() {
      let config = try scratch.write(configuration(["evaluate_every": "6"].merging(settings) { $1 }), to: "c.json")
      try await expectFailure(
        ["train", "--data", "digits", "--config", config, "--out", scratch.path("run-\(index)")], 65, words)
      #expect(!scratch.exists("run-\(index)/log.jsonl"))
    }
  }

  /// The configuration's attention is trained, kept with the model, and gives the same bytes at any number of threads.
  @Test("Diffusion-aware attention is trained, saved and the same at any number of threads")
  func trainsDiffusionAwareAttention() async throws {
    let scratch = try Scratch()
    let attention = #""attention": {"temperature": "sqrt_beta", "mask": "soft", "window": "signal"}, "#
    let config = try scratch.write(
      configuration().replacing(#""depth": 1"#, with: attention + #""depth": 1"#), to: "aware.json")
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
      let text = configuration(["steps": "1"]).replacing(#""depth": 1"#, with: model + #""depth": 1"#)
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
      _ = try await succeed(resume)
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
    let config = try scratch.write(configuration(settings), to: "config.json")
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
    let config = try scratch.write(configuration(), to: "config.json")
    let unknown = try scratch.write(configuration(["stepz": "1"]), to: "unknown.json")
    let digits = ["train", "--data", "digits"]
    try await expectFailure(digits + ["--config", unknown] + out, 65, ["unknown.json", "training.stepz"])
    for (key, settings) in [
      ("precision", ["precision": "\"fp16\""]), ("gemm", ["gemm": "\"mkl\""]),
      ("gemm", ["precision": "\"bf16\"", "gemm": "\"blas\""]), ("recompute", ["recompute": "1"]),
    ] {
      let config = try scratch.write(configuration(settings), to: "numerics.json")
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
    let config = try scratch.write(configuration(), to: "config.json")
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
    let config = try scratch.write(configuration(), to: "config.json")
    try await expectFailure(
      ["train", "--data", data, "--config", config, "--out", scratch.path("run")], 1,
      ["diverged at step 1", "step-00000000"])
    #expect(scratch.exists("run/checkpoints/step-00000000/model.safetensors"))
    #expect(!scratch.exists("run/model.safetensors"))
  }
}
