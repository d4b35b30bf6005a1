import DiTFiles
import DiTTensor
import Foundation
import TestSupport
import Testing

/// Captions and context images on the command line: trained, sampled, measured, refused.
@Suite("Captions and context images") struct PromptTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// Trains a tiny model for a few steps; returns its folder.
  private func train(_ model: String, data: String = "digits", name: String) async throws -> String {
    let config = try scratch.write(
      """
      { "model": { "input_size": 8, "patch_size": 4, "in_channels": 1, "hidden_size": 16, "depth": 1, "num_heads": 2,
                   "learn_sigma": false, \(model) },
        "training": { "steps": 6, "batch": 8, "learning_rate": 0.02, "warmup_steps": 1, "sample_every": 3 },
        "sampling": { "steps": 3, "guidance": 2 } }
      """, to: "\(name).json")
    _ = try await succeed(["train", "--data", data, "--config", config, "--out", scratch.path(name)])
    #expect(scratch.exists("\(name)/samples/step-00000003.png"), "a grid of captions or context images")
    return scratch.path(name)
  }

  private func sample(_ model: String, _ arguments: String...) async throws -> SafetensorsFile {
    let name = "\(UUID().uuidString).safetensors"
    _ = try await succeed(["sample", "--model", model, "--out", scratch.path(name)] + arguments)
    return try scratch.tensors(name)
  }

  @Test("A model trained on captions follows --prompt, and no prompt is the empty text")
  func captionsFromTrainingToSamples() async throws {
    let model = try await train(#""num_classes": 0, "text": {"length": 15}"#, name: "captions")
    let seven = try await sample(model, "--prompt", "seven", "--count", "3")
    #expect(try seven.requireEntry(named: "samples").shape == [3, 1, 8, 8] && !seven.names.contains("labels"))
    let eight = try await sample(model, "--prompt", "eight", "--count", "3")
    let again = try await sample(model, "--prompt", "seven", "--count", "3")
    let (a, b, c) = try (seven.floats("samples"), eight.floats("samples"), again.floats("samples"))
    #expect(a == c && a != b)
    let empty = try await sample(model, "--prompt", "", "--count", "3")
    let none = try await sample(model, "--count", "3")
    let error = relativeError(try none.floats("samples"), try empty.floats("samples").map(Double.init))
    #expect(error < 1e-4, "no prompt is the empty text: \(error)")
    let picture = scratch.path("seven.png")
    _ = try await succeed(["sample", "--model", model, "--prompt", "seven", "--out", picture])
    #expect(try scratch.bytes("seven.png").range(of: Data("Prompt".utf8)) != nil, "the picture says what was asked")

    try await expectFailure(
      ["sample", "--model", model, "--prompt", "the number seven", "--out", picture], 64,
      ["--prompt", "at most 15 bytes", "16"])
    try await expectFailure(
      ["sample", "--model", model, "--context", picture, "--out", picture], 64, ["--context", "no context image"])
    try await measure(model)
  }

  /// `captions` changes what the network and the loss say, and is refused where it is no text.
  private func measure(_ model: String) async throws {
    var draw = Draw(seed: 9)
    let x = Tensor(shape: [2, 1, 8, 8], elements: draw.normal(128))
    let t = TensorSource("t", labels: [900, 20])
    func run(_ command: String, _ captions: [UInt8]?) async throws -> SafetensorsFile {
      let noise = TensorSource("noise", Tensor(shape: x.shape, elements: x.elements.map { 0.5 - $0 }))
      let names = command == "loss" ? [TensorSource("x0", x), noise] : [TensorSource("x", x)]
      let texts = captions.map { [TensorSource("captions", shape: [2, $0.count / 2], bytes: $0)] } ?? []
      let input = try scratch.write(names + [t] + texts, to: "in.safetensors")
      _ = try await succeed([command, "--model", model, "--input", input, "--out", scratch.path("o.safetensors")])
      return try scratch.tensors("o.safetensors")
    }
    for (command, tensor) in [("forward", "output"), ("loss", "grad.final_layer.linear.weight")] {
      let (none, empty) = (try await run(command, nil), try await run(command, [0, 0]))
      let text = try await run(command, [55, 0, 56, 0])
      #expect(
        try none.floats(tensor) == empty.floats(tensor) && none.floats(tensor) != text.floats(tensor), "\(command)")
    }
    let bad = try scratch.write(
      [TensorSource("x", x), t, TensorSource("captions", shape: [2, 20], bytes: [UInt8](repeating: 65, count: 40))],
      to: "long.safetensors")
    try await expectFailure(
      ["forward", "--model", model, "--input", bad, "--out", scratch.path("o.safetensors")], 65,
      ["long.safetensors", "captions", "at most 15 bytes"])
  }

  @Test("A model trained on context images follows --context")
  func contextImagesFromTrainingToSamples() async throws {
    var draw = Draw(seed: 10)
    let images = Tensor(shape: [6, 1, 8, 8], elements: draw.normal(384).map { max(-1, min(1, 0.4 * $0)) })
    let halves = Tensor(shape: [6, 1, 4, 8], elements: (0..<6).flatMap { images.elements[$0 * 64..<$0 * 64 + 32] })
    let data = try scratch.write(
      [TensorSource("images", images), TensorSource("context", halves)], to: "halves.safetensors")
    let model = try await train(
      #""num_classes": 0, "context_image": {"input_size": [4, 8]}"#, data: data, name: "halves")
    let made = try await sample(model, "--context", data)
    #expect(try made.requireEntry(named: "samples").shape == [6, 1, 8, 8])
    let none = try await sample(model, "--count", "6")
    #expect(try made.floats("samples") != none.floats("samples"))
    let out = scratch.path("o.safetensors")
    try await expectFailure(
      ["sample", "--model", model, "--context", data, "--count", "5", "--out", out], 65, ["context", "5 images"])
    try await expectFailure(
      ["sample", "--model", model, "--prompt", "a", "--out", out], 64, ["--prompt", "takes no text"])
  }

  @Test("--prompt is refused by models without text, and captions too long by training")
  func modelsWithoutTextRefusePrompts() async throws {
    try await expectFailure(
      ["sample", "--prompt", "seven", "--out", scratch.path("o.png")], 64, ["--prompt", "the model takes no text"])
    let config = try scratch.write(
      #"{"model": {"input_size": 8, "in_channels": 1, "num_classes": 0, "text": {"length": 5}}}"#, to: "short.json")
    try await expectFailure(
      ["train", "--data", "digits", "--config", config, "--out", scratch.path("run")], 65,
      ["captions", "at most 5 bytes"])
  }

  /// The data that ship with the tool name each digit in three ways, in rotation.
  @Test("The shipped digits have captions in three forms, in rotation")
  func digitsHaveCaptions() throws {
    let path = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "Sources/dit/Resources/digits.safetensors").path(
        percentEncoded: false)
    let file = try SafetensorsFile(contentsOf: path)
    let (labels, shape) = try (file.integers("labels").values, file.requireEntry(named: "captions").shape)
    let bytes = try file.integers("captions").values.map { UInt8($0) }
    let words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for (n, label) in labels.enumerated() {
      let text = String(decoding: bytes[n * shape[1]..<(n + 1) * shape[1]].prefix { $0 > 0 }, as: UTF8.self)
      let forms = ["the digit \(words[label])", words[label], "\(label)"]
      #expect(text == forms[n % 3], "image \(n)")
    }
  }
}
