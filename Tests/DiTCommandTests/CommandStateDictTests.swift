import DiTFiles
import DiTTensor
import Foundation
import TestSupport
import Testing

/// State dicts as users have them, by every command that takes a model.
@Suite("Commands on state dicts of every kind") struct StateDictTests {
  private let scratch: Scratch
  private let folder = URL(filePath: Fixture.path("digits")).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "wrapped").path(percentEncoded: false)

  init() throws { scratch = try Scratch() }

  /// A state dict of 4×4 patches of 2×2 over 3 channels, with 4 rows of labels.
  private func write(_ name: String, positions: [Float]? = nil, prefix: String = "") throws -> String {
    let file = try SafetensorsFile(contentsOf: "\(folder)/trained.safetensors")
    let tensors = try file.names.map { name in
      let tensor = try file.tensor(name)
      return TensorSource(
        prefix + name,
        name == "pos_embed" ? Tensor(shape: tensor.shape, elements: positions ?? tensor.elements) : tensor)
    }
    return try scratch.write(tensors, to: name)
  }

  @Test("sample, info, convert, schedule and train --from read wrapped state dicts as the plain one")
  func everyCommand() async throws {
    let plain = try write("plain.safetensors")
    var samples: [[Float]] = []
    for model in [plain, try write("wrapped.safetensors", prefix: "_orig_mod.module."), "\(folder)/trained-legacy2.pt"]
    {
      let heads = ["--heads", "2"]
      let few = ["--steps", "2", "--classes", "0-2", "--out", scratch.path("s.safetensors")]
      _ = try await succeed(["sample", "--model", model] + heads + few)
      samples.append(try scratch.tensors("s.safetensors").floats("samples"))
      #expect(try await succeed(["info", model] + heads).stdout.contains("\"num_classes\": 3"))
      _ = try await succeed(["schedule", model, "--steps", "2"] + heads)
      _ = try await succeed(["convert", model, scratch.path("m"), "--force"] + heads)
      let converted = try SafetensorsFile(contentsOf: scratch.path("m/model.safetensors"))
      #expect(
        try converted.floats("final_layer.linear.weight")
          == SafetensorsFile(contentsOf: plain).floats("final_layer.linear.weight"))
      let images = TensorSource("images", Tensor(shape: [3, 3, 4, 4], elements: [Float](repeating: 0.5, count: 144)))
      let data = try scratch.write([images, TensorSource("labels", labels: [0, 1, 2])], to: "d.safetensors")
      let run = try await succeed(
        ["train", "--data", data, "--from", model, "--steps", "1", "--batch", "3", "--out", scratch.path("run")] + heads
      )
      #expect(run.stdout.contains("1 steps"))
      try FileManager.default.removeItem(atPath: scratch.path("run"))
    }
    #expect(samples[0] == samples[1] && samples[0] == samples[2])
  }

  @Test("What a state dict does not tell is assumed with a note, or stated by --config")
  func classesAreNoted() async throws {
    let plain = try write("plain.safetensors")
    let config = try scratch.write(#"{"num_classes": 4, "num_heads": 2}"#, to: "c.json")
    let out = ["--out", scratch.path("s.safetensors")]
    func sample(_ options: String...) -> [String] { ["sample", "--model", plain, "--steps", "1"] + options + out }
    let note = "Note: \(plain): nothing says how many classes; the label table's 4 rows are read as 3 classes"
    #expect(try await succeed(sample("--heads", "2", "--classes", "0")).stderr.contains(note))
    #expect(try await succeed(["info", plain, "--heads", "2"]).stderr.contains(note))
    #expect(try await succeed(["schedule", plain, "--heads", "2", "--steps", "2"]).stderr.contains(note))
    #expect(try await succeed(["convert", plain, scratch.path("m"), "--heads", "2"]).stderr.contains(note))
    #expect(try await succeed(sample("--config", config, "--classes", "3", "--guidance", "1")).stderr.isEmpty)
    #expect(try await succeed(sample("--config", config, "--classes", "3")).stderr.isEmpty, "guidance is 1 by default")
    try await expectFailure(sample("--config", config, "--classes", "3", "--guidance", "4"), 64, ["guidance", "null"])
    try await expectFailure(sample("--heads", "2", "--classes", "4"), 64, ["class"])
    #expect(try await succeed(["info", plain, "--config", config]).stdout.contains("\"class_dropout_prob\": 0"))
    #expect(try await succeed(["info", "\(folder)/average-ema.pt", "--heads", "2"]).stderr.isEmpty)
    try await expectFailure(["info", Model.digits, "--config", config], 64, ["--config", "state dict"])
    let wrong = try scratch.write(#"{"num_classes": 7, "num_heads": 2}"#, to: "w.json")
    try await expectFailure(["info", plain, "--config", wrong], 65, ["w.json", "num_classes", "4 rows"])
    try await expectFailure(["info", plain, "--config", scratch.path("none.json")], 65, ["none.json", "no such file"])
  }

  @Test("convert refuses a position table that diffusers would compute anew")
  func ownPositions() async throws {
    var draw = Draw(seed: 5)
    let own = try write("own.safetensors", positions: draw.normal(32))
    try await expectFailure(
      ["convert", own, scratch.path("d"), "--to", "diffusers", "--heads", "2"], 65,
      ["own.safetensors", "pos_embed", "computes"])
    #expect(!scratch.exists("d"))
    _ = try await succeed(["convert", own, scratch.path("m"), "--heads", "2"])
    #expect(
      try SafetensorsFile(contentsOf: scratch.path("m/model.safetensors")).floats("pos_embed")
        == SafetensorsFile(contentsOf: own).floats("pos_embed"))
  }

  @Test("A Git LFS pointer in place of a file is named as one, by every reader")
  func pointers() async throws {
    let text =
      "version https://git-lfs.github.com/spec/v1\noid sha256:\(String(repeating: "4d", count: 32))\nsize 2698535453\n"
    let words = ["Git LFS pointer", "git lfs pull", "2698535453 bytes"]
    let out = ["--out", scratch.path("o.safetensors")]
    for name in ["m.pt", "m.safetensors", "m.bin"] {
      let file = try scratch.write(text, to: name)
      try await expectFailure(["sample", "--model", file] + out, 65, [name] + words)
      try await expectFailure(["info", file], 65, [name] + words)
      try await expectFailure(["forward", "--input", file] + out, 65, [name] + words)
    }
    let file = scratch.path("m.safetensors")
    try await expectFailure(["decode", "--model", file, file, scratch.path("o.png")], 65, words)
    try await expectFailure(["train", "--data", file, "--out", scratch.path("run")], 65, words)
    try FileManager.default.createDirectory(atPath: scratch.path("dir"), withIntermediateDirectories: false)
    _ = try scratch.write("{\"model_type\": \"dit\"}", to: "dir/config.json")
    _ = try scratch.write(text, to: "dir/model.safetensors")
    try await expectFailure(["sample", "--model", scratch.path("dir")] + out, 65, ["dir/model.safetensors"] + words)
    _ = try scratch.write(text, to: "dir/config.json")
    try await expectFailure(["sample", "--model", scratch.path("dir")] + out, 65, ["dir/config.json"] + words)
  }
}
