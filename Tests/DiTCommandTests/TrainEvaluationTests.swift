import DiTFiles
import DiTTensor
import Foundation
import TestSupport
import Testing

@Suite("dit train: samples are measured on the way") struct TrainEvaluationTests {
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
    // The losses, the learning rate, and a plot each of distance, precision and recall.
    let height = try scratch.bytes("run/loss.png")[20..<24].reduce(0) { $0 << 8 | Int($1) }
    #expect(height == 480 + 180 + 3 * 240)
    _ = try await succeed([
      "sample", "--model", scratch.path("run/best"), "--classes", "3", "--out", scratch.path("three.png"),
    ])
    _ = try await scratch.train("first", ["--steps", "7", "--schedule-steps", "12"], training: settings)
    #expect(
      scratch.log("first").filter { $0["evaluation_frechet"] != nil }.compactMap { $0["step"] as? Int } == [6, 7])
  }

  /// EfficientNet-Lite0 with weights that a hash draws.
  private func lite(_ scratch: Scratch) throws -> String {
    let weights = try HashedWeights("efficientnet")
    return try scratch.write(
      try weights.keys.map {
        TensorSource($0.name, Tensor(shape: $0.shape, elements: try weights.slice($0.name).array))
      },
      to: "lite.safetensors")
  }

  @Test("A network's features of the samples are measured on the way, as dit evaluate does")
  func evaluatesInFeatures() async throws {
    let scratch = try Scratch()
    let lite = try lite(scratch)
    let bytes = (0..<12 * 64).map { UInt8(truncatingIfNeeded: $0 * $0 / 7 + $0) }
    let reference = try scratch.write(
      [TensorSource("images", shape: [12, 1, 8, 8], bytes: bytes)], to: "few.safetensors")
    let result = try await scratch.train(
      "run",
      training: [
        "evaluate_every": "6", "evaluate_samples": "10", "evaluate_reference": "\"\(reference)\"",
        "evaluate_features": "\"\(lite)\"", "evaluate_resize": "\"pytorch-fid\"",
        "evaluate_measures": "\"precision,frechet\"",
      ])
    #expect(result.stderr.isEmpty, "\(result)")
    let lines = scratch.log("run").filter { $0["evaluation_samples"] as? Int == 10 }
    #expect(lines.compactMap { $0["step"] as? Int } == [6, 12])
    let samples = scratch.path("samples.safetensors")
    _ = try await succeed(["sample", "--model", scratch.path("run"), "--classes", "0-9", "--out", samples])
    let text = try await succeed([
      "evaluate", "--samples", samples, "--reference", reference, "--json", "--measures", "precision,frechet",
      "--features", lite, "--resize", "pytorch-fid",
    ]).stdout
    let found = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let distance = try #require((found["frechet"] as? [String: Any])?["distance"] as? Double)
    let measured = try #require(lines[1]["evaluation_frechet"] as? Double)
    #expect(distance > 0 && abs(distance - measured) <= 1e-6 * distance, "\(distance) by hand, \(measured) on the way")
    let precision = try #require((found["precision_recall"] as? [String: Any])?["precision"] as? Double)
    #expect(lines[1]["evaluation_precision"] as? Double == precision)
  }

  @Test("Evaluations that fail do not end a run: the first is said at once, the last at the end")
  func failingEvaluations() async throws {
    let scratch = try Scratch()
    let lite = try lite(scratch)
    let settings = [
      "evaluate_every": "6", "evaluate_samples": "4", "evaluate_reference": "\"digits:test\"",
      "evaluate_features": "\"\(lite)\"",
    ]
    let config = try scratch.write(Scratch.training(settings), to: "c.json")
    // Features lie in the temporary folder, which is not there.
    let result = try await Tool.shell(
      "TMPDIR=\(scratch.path("none")) \"$0\" \"$@\"",
      ["train", "--data", "digits", "--config", config, "--out", scratch.path("run")])
    #expect(result.status == 0 && scratch.exists("run/model.safetensors"), "\(result)")
    let warnings = result.stderr.split(separator: "\n").filter { $0.contains("Warning: ") }
    #expect(warnings.count == 2, "\(result.stderr)")
    #expect(warnings.first?.contains("no evaluation of step 6: ") == true)
    #expect(warnings.last?.contains("no evaluation of step 12: ") == true)
  }

  @Test("What cannot be evaluated is said of its key before the first step")
  func badEvaluations() async throws {
    let scratch = try Scratch()
    let lite = try lite(scratch)
    let latents = try scratch.write(
      [TensorSource("latents", Tensor(shape: [9, 4, 8, 8], elements: (0..<2304).map { Float($0 % 7) }))],
      to: "latents.safetensors")
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
      (
        ["evaluate_features": "\"\(lite)\"", "evaluate_reference": "\"\(latents)\""],
        ["latents.safetensors", "pictures of 1 or 3 channels"]
      ),
      (["evaluate_reference": "\"nothing.npz\""], ["nothing.npz", "no such file"]),
      (["validation_modulus": "0", "validate_every": "0"], ["training.evaluate_reference", "held out"]),
      (["evaluate_samples": "1"], ["training.evaluate_samples", "2"]),
    ]
    for (index, (settings, words)) in cases.enumerated() {
      let config = try scratch.write(Scratch.training(["evaluate_every": "6"].merging(settings) { $1 }), to: "c.json")
      try await expectFailure(
        ["train", "--data", "digits", "--config", config, "--out", scratch.path("run-\(index)")], 65, words)
      #expect(!scratch.exists("run-\(index)/log.jsonl"))
    }
  }
}
