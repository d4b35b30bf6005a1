// JiT's files through the command line: convert, fine-tune, sample.

import DiTFiles
import DiTTensor
import Foundation
import TestSupport
import Testing

@Suite("JiT's files through the command line") struct JiTCommandTests {
  private let scratch: Scratch
  /// The folder of JiT's trainer, of a size that is not published.
  private let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures/families/jit").path(percentEncoded: false)

  init() throws { scratch = try Scratch() }

  private func keys() throws -> String { try scratch.write(#"{"in_context_start": 1}"#, to: "keys.json") }

  private func stored(_ set: String) throws -> [Float] {
    try TorchFile(contentsOf: "\(folder)/checkpoint-last.pth", tree: .named([set])).tensor("final_layer.linear.weight")
      .elements
  }

  private func written(_ name: String) throws -> [Float] {
    try scratch.tensors(name).floats("final_layer.linear.weight")
  }

  @Test("--weights all keeps the trained weights and both averages; without it the preferred average alone is there")
  func allWeights() async throws {
    let keys = try keys()
    _ = try await succeed([
      "convert", folder, scratch.path("all"), "--weights", "all", "--config", keys,
    ])
    #expect(try written("all/model.safetensors") == stored("model"))
    #expect(try written("all/ema.safetensors") == stored("model_ema1"))
    #expect(try written("all/ema-0.9996.safetensors") == stored("model_ema2"))
    _ = try await succeed(["convert", folder, scratch.path("one"), "--config", keys])
    #expect(try written("one/model.safetensors") == stored("model_ema1") && !scratch.exists("one/ema.safetensors"))
  }

  @Test(
    "A size that JiT's code cannot build, another family, and all weights for diffusers are refused"
  )
  func refusals() async throws {
    let keys = try keys()
    try await expectFailure(
      ["convert", folder, scratch.path("out"), "--to", "jit", "--config", keys], 65,
      ["depth, hidden_size, patch_size: expected those of JiT-B/16 to JiT-H/32"])
    try await expectFailure(
      ["convert", Model.unconditional, scratch.path("out"), "--to", "jit"], 65, ["family: expected jit"])
    try await expectFailure(
      ["convert", folder, scratch.path("out"), "--to", "diffusers", "--weights", "all", "--config", keys], 65,
      ["weights: expected one set"])
    #expect(!scratch.exists("out"))
  }

  @Test("Training goes on from the folder's weights, by JiT's recipe, and keeps two averages of its own")
  func fineTuning() async throws {
    let images = (0..<16 * 192).map { Float($0 % 37) / 18 - 1 }
    let data = try scratch.write(
      [
        TensorSource("images", Tensor(shape: [16, 3, 8, 8], elements: images)),
        TensorSource("labels", shape: [16], integers: (0..<16).map { $0 % 4 }),
      ], to: "data.safetensors")
    let configuration = try scratch.write(
      #"""
      {"model": {"family": "jit", "input_size": 8, "patch_size": 2, "hidden_size": 24, "depth": 2, "num_heads": 2,
       "num_classes": 4, "patch_bottleneck": 5, "in_context_tokens": 4, "in_context_start": 1},
       "training": {"steps": 2, "batch": 8, "micro_batch": 8, "learning_rate": 1e-6, "warmup_steps": 1, "schedule": "constant",
       "beta2": 0.95, "weight_decay": 0, "ema_decays": [0.9999, 0.9996], "ema_warmup": false, "validate_every": 0,
       "sample_every": 0, "validation_modulus": 0}}
      """#, to: "train.json")
    _ = try await succeed([
      "train", "--data", data, "--from", folder, "--weights", "model", "--config", configuration, "--out",
      scratch.path("run"),
    ])
    let (old, new) = (try stored("model"), try written("run/model.safetensors"))
    let moved = zip(old, new).map { abs($0 - $1) }.max() ?? 0
    #expect(moved > 0 && moved < 1e-5, "two steps of 1e-6 from the folder's weights: \(moved)")
    #expect(try written("run/ema.safetensors") != written("run/ema-0.9996.safetensors"))
    _ = try await succeed([
      "sample", "--model", scratch.path("run"), "--classes", "0-3", "--steps", "2", "--out", scratch.path("s.png"),
    ])
  }
}
