import DiTFiles
import DiTTensor
import Foundation
import TestSupport
import Testing

/// Every command that takes a model takes torch's `.pt`, whatever its name.
@Suite("Commands on torch .pt files") struct TorchTests {
  private let scratch: Scratch
  private let network = URL(filePath: Fixture.path("digits")).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "torch/network.pt").path(percentEncoded: false)

  init() throws { scratch = try Scratch() }

  @Test("dit forward of a .pt file gives PyTorch's output for each choice of --weights")
  func forward() async throws {
    let expected = try Fixture("nonull/forward").doubles("output64")
    // model's last bias is one more
    for (choice, shift) in [
      ([], 0), (["--weights", "auto"], 0), (["--weights", "ema"], 0), (["--weights", "model"], 1),
    ] {
      _ = try await succeed(
        [
          "forward", "--model", network, "--heads", "3", "--input", Fixture.path("nonull/forward.safetensors"), "--out",
          scratch.path("o.safetensors"),
        ] + choice)
      let found = try scratch.tensors("o.safetensors").floats("output")
      let error = relativeError(found, expected.map { $0 + Double(shift) })
      #expect(error <= outputTolerance, "\(choice): relative error \(error)")
    }
  }

  @Test("info, sample, invert, loss and schedule take a .pt file of any name")
  func otherCommands() async throws {
    let renamed = scratch.path("weights.bin")
    try FileManager.default.copyItem(atPath: network, toPath: renamed)
    let model = ["--model", renamed, "--heads", "3"]
    let info = try await succeed(["info", renamed, "--heads", "3"]).stdout
    #expect(info.contains("\"hidden_size\": 24") && info.contains("\"input_size\": [6, 6]"))
    let out = ["--out", scratch.path("o.safetensors")]
    let few = ["--steps", "2", "--guidance", "1"]
    _ = try await succeed(["sample", "--classes", "0,1"] + few + model + out)
    #expect(try scratch.tensors("o.safetensors").requireEntry(named: "samples").shape == [2, 3, 6, 6])
    let noise = ["--out", scratch.path("n.safetensors")]
    _ = try await succeed(["invert", "--input", scratch.path("o.safetensors")] + few + model + noise)
    #expect(try scratch.tensors("n.safetensors").requireEntry(named: "noise").shape == [2, 3, 6, 6])
    let loss = try await succeed(["loss", "--input", Fixture.path("nonull/loss.safetensors")] + model + out).stdout
    #expect(loss.contains("loss"))
    _ = try await succeed(["schedule", renamed, "--heads", "3", "--steps", "3"])
  }

  @Test("Fine-tuning starts from the chosen weights of a .pt file")
  func trainingStarts() async throws {
    var draw = Draw(seed: 5)
    let pixels = draw.normal(6 * 108, deviation: 0.4).map { min(1, max(-1, $0)) }
    let images = TensorSource("images", Tensor(shape: [6, 3, 6, 6], elements: pixels))
    let data = try scratch.write([images, TensorSource("labels", labels: [0, 1, 2, 3, 4, 0])], to: "d.safetensors")
    var first: [[Float]] = []
    for choice in ["ema", "model"] {
      let run = scratch.path(choice)
      _ = try await succeed([
        "train", "--data", data, "--from", network, "--weights", choice, "--heads", "3", "--steps", "1", "--batch", "2",
        "--out", run,
      ])
      first.append(try SafetensorsFile(contentsOf: "\(run)/model.safetensors").floats("final_layer.linear.bias"))
    }
    // One warm-up step moves a weight by next to nothing.
    let differences = zip(first[0], first[1]).map { $1 - $0 }
    #expect(differences.allSatisfy { abs($0 - 1) < 1e-2 }, "\(differences)")
  }

  @Test("Files and --weights that do not fit are refused by name")
  func refusesWhatDoesNotFit() async throws {
    let out = ["--out", scratch.path("x.safetensors")]
    func sample(_ model: String, _ options: String...) -> [String] { ["sample", "--model", model] + options + out }
    try await expectFailure(sample(network, "--weights", "best"), 65, ["weights", "a tree under best"])
    try await expectFailure(
      sample(Model.digits + "/model.safetensors", "--heads", "4", "--weights", "ema"), 65, ["ema"])
    try await expectFailure(sample(Model.digits, "--weights", "ema"), 65, ["ema.safetensors", "no such file"])
    try await expectFailure(sample(network, "--heads", "5"), 64, ["--heads"])
    for (name, words) in [
      ("plain", ["x_embedder.proj.weight", "f32"]), ("legacy", ["x_embedder.proj.weight"]),
      ("tensor", ["found a tensor"]),
    ] {
      let file = network.replacing("network.pt", with: "\(name).pt")
      try await expectFailure(sample(file), 65, ["\(name).pt"] + words)
    }
    let text = try scratch.write("not weights", to: "text.pt")
    try await expectFailure(["info", text], 65, ["text.pt", "safetensors", "torch .pt"])
    let train = ["train", "--data", "digits", "--out", scratch.path("run"), "--weights", "ema"]
    try await expectFailure(train, 64, ["--weights", "--from"])
    try await expectFailure(train + ["--from", "DiT-S/2"], 64, ["--weights", "--from"])
    try await expectFailure(train + ["--resume"], 64, ["--weights", "--resume"])
  }
}
