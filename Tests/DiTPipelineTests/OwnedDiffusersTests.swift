// Directories of diffusers as people have them: customized, fine-tuned, saved in the middle of training.

import DiTDiffusers
import DiTFiles
import DiTKernels
import DiTPipeline
import DiTTensor
import Foundation
import TestSupport
import Testing

@Suite("Directories of diffusers as people have them") struct OwnedDiffusersTests {
  private static func fixture(_ path: String) -> String { Fixture.path(path, folder: "diffusers") }
  private static let checkpoint = fixture("checkpoint")

  /// A copy of the fixture `pipeline` after changes of its files.
  private func pipeline(
    _ directory: TemporaryDirectory, _ changes: (file: String, old: String, new: String)...
  ) throws -> String {
    let path = directory("p")
    try? FileManager.default.removeItem(atPath: path)
    try FileManager.default.copyItem(atPath: Self.fixture("pipeline"), toPath: path)
    for (file, old, new) in changes {
      let text = try String(contentsOfFile: "\(path)/\(file)", encoding: .utf8)
      try #require(text.contains(old), "\(file) has no \(old)")
      try text.replacing(old, with: new).write(toFile: "\(path)/\(file)", atomically: false, encoding: .utf8)
    }
    return path
  }

  private func configuration(_ path: String) throws -> ModelConfiguration {
    try ModelReference(path).configuration()
  }

  private func notes(_ path: String) throws -> [String] { try ModelReference(path).described().notes }

  // MARK: Components

  @Test("Components that a DiT does not need are ignored with one note that names them; null entries without")
  func otherComponents() throws {
    let directory = try TemporaryDirectory()
    let path = try pipeline(
      directory,
      (
        "model_index.json", "\"scheduler\":",
        """
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"], "image_encoder": [null, null], "controlnet": null,
        "requires_safety_checker": true, "_module_notes": 1, "scheduler":
        """
      ))
    let found = try configuration(path)
    #expect(
      try notes(path) == [
        "\(path)/model_index.json: safety_checker, feature_extractor, requires_safety_checker are ignored, "
          + "as a DiT needs transformer, scheduler and vae alone"
      ])
    let plain = try configuration(Self.fixture("pipeline"))
    #expect(found == plain)
    #expect(try notes(Self.fixture("pipeline")).isEmpty)
    #expect(found.diffusersScheduler != nil && found.className(0) == "tench, Tinca tinca")
  }

  /// DiTPipeline.from_pretrained does not look at `_class_name`.
  @Test(
    "A pipeline of one's own class with a DiT is read, with a note",
    arguments: ["\"MyDiTPipeline\"", "[\"pipeline\", \"MyDiTPipeline\"]"])
  func customizedPipelines(name: String) throws {
    let directory = try TemporaryDirectory()
    let path = try pipeline(
      directory, ("model_index.json", "\"DiTPipeline\"", name),
      ("model_index.json", "\"scheduler\":", "\"text_encoder\": [\"transformers\", \"T5\"], \"scheduler\":"))
    let found = try configuration(path)
    #expect(
      try notes(path) == [
        "\(path)/model_index.json: MyDiTPipeline is read as diffusers' DiTPipeline, as its transformer is a DiT",
        "\(path)/model_index.json: text_encoder is ignored, as a DiT needs transformer, scheduler and vae alone",
      ])
    #expect(found == (try configuration(Self.fixture("pipeline"))))
  }

  @Test("A pipeline without a DiT is refused by its class, or by the component that is missing")
  func missingComponents() throws {
    let directory = try TemporaryDirectory()
    for (old, new, words) in [
      ("\"transformer\":", "\"unet\":", ["transformer: expected", "DiTTransformer2DModel", "found nothing"]),
      ("\"diffusers\",\n    \"DiTTransformer2DModel\"", "null,\n    null", ["transformer: expected", "found nothing"]),
      (
        "\"diffusers\",\n    \"DiTTransformer2DModel\"", "\"mine\",\n    \"DiT\"", ["transformer", "\"mine\", \"DiT\""]
      ),
    ] {
      let path = try pipeline(directory, ("model_index.json", old, new))
      let error = #expect(throws: DiTError.self) { try configuration(path) }
      let line = error.map { "\($0)" } ?? ""
      #expect(words.allSatisfy(line.contains), "\(line)")
    }
    let path = try pipeline(
      directory, ("model_index.json", "\"DiTPipeline\"", "\"StableDiffusionPipeline\""),
      ("model_index.json", "\"transformer\":", "\"unet\":"))
    let other = #expect(throws: DiTError.self) { try configuration(path) }
    let line = other.map { "\($0)" } ?? ""
    #expect(
      ["_class_name", "DiTPipeline", "DiTTransformer2DModel", "found \"StableDiffusionPipeline\""].allSatisfy(
        line.contains),
      "\(line)")
  }

  // MARK: Names of classes

  @Test("Names of other classes than the network's are passed over with a note; classes without a name are numbers")
  func namesOfOtherClasses() throws {
    let directory = try TemporaryDirectory()
    let file = "model_index.json"
    // Five classes; the names of more, as a directory keeps them that was fine-tuned to fewer.
    var path = try pipeline(
      directory, (file, "\"4\": \"crane\"", "\"4\": \"crane\", \"5\": \"ray\", \"999\": \"paper\""))
    var found = try configuration(path)
    #expect(found.classNames == ["tench, Tinca tinca", "goldfish, Carassius auratus", "crane", "white shark", "crane"])
    #expect(
      try notes(path) == [
        "\(path)/model_index.json: id2label: 2 classes, 5 to 999, ignored, as the network has the classes 0 to 4"
      ])
    // Of one class more, and of negative ones.
    path = try pipeline(directory, (file, "\"4\": \"crane\"", "\"-1\": \"crane\""))
    found = try configuration(path)
    #expect(found.classNames?.last == "4")
    let ignored = try notes(path)
    #expect(ignored.count == 1 && ignored[0].contains("id2label: class -1 ignored"))
    // Of some of the classes, in no order and with gaps.
    path = try pipeline(
      directory, (file, "\"0\": \"tench, Tinca tinca\",", ""), (file, "\"2\": \"crane\",", ""))
    found = try configuration(path)
    #expect(found.classNames == ["0", "goldfish, Carassius auratus", "2", "white shark", "crane"])
    #expect(try notes(path).isEmpty)
    // Of none of them.
    path = try pipeline(directory, (file, "\"id2label\": {", "\"id2label\": {\"7\": \"seven\"}, \"others\": {"))
    found = try configuration(path)
    #expect(found.classNames == nil)
    #expect(try notes(path).count == 2)
    // What is exported names the classes that had names.
    path = try pipeline(directory, (file, "\"2\": \"crane\",", ""))
    try ModelConversion(path, to: .dit).write(to: directory("a"))
    try ModelConversion(directory("a"), to: .diffusers).write(to: directory("b"))
    let written = try String(contentsOfFile: directory("b/model_index.json"), encoding: .utf8)
    #expect(written.contains("\"3\": \"white shark\"") && !written.contains("\"2\":"))
    #expect(try configuration(directory("b")).classNames == configuration(path).classNames)
  }

  // MARK: The transformer's keys

  /// diffusers: "The config attributes … were passed to DiTTransformer2DModel, but are not expected and will be ignored."
  @Test(
    "Keys that diffusers' DiT ignores, and dropout, are ignored with a note each, and the network computes the same")
  func ignoredKeys() throws {
    let directory = try TemporaryDirectory()
    let path = try pipeline(
      directory,
      (
        "transformer/config.json", "\"dropout\": 0.0",
        """
        "dropout": 0.1, "qk_norm": true, "cross_attention_dim": 768, "_commit_hash": "x", "sample_posterior": null
        """
      ))
    let found = try DiT(contentsOf: path)
    let file = "\(path)/transformer/config.json"
    #expect(
      found.notes == [
        "\(file): dropout 0.1 acts in training alone, and `dit train` trains without it",
        "\(file): qk_norm, cross_attention_dim, sample_posterior are no keys of diffusers' DiTTransformer2DModel, "
          + "which ignores them",
      ])
    let plain = try DiT(contentsOf: Self.fixture("pipeline"))
    #expect(found.configuration == plain.configuration)
    let input = try SafetensorsFile(contentsOf: Self.fixture("pipeline.safetensors"))
    let outputs = try [found, plain].map {
      try $0.predict(images: input.tensor("x"), times: [0, 431, 999], labels: input.integers("y").values)
    }
    #expect(outputs[0] == outputs[1])
  }

  @Test("Many unknown keys make one line of bounded length")
  func manyKeys() throws {
    let directory = try TemporaryDirectory()
    let keys = (0..<40).map { "\"key\($0)\": 1, \"line\\n\($0)\": 1" }.joined(separator: ", ")
    let path = try pipeline(directory, ("transformer/config.json", "\"dropout\": 0.0", "\"dropout\": 0, \(keys)"))
    let notes = try notes(path)
    #expect(notes.count == 1 && notes[0].contains("and 72 more are no keys") && !notes[0].contains { $0.isNewline })
  }

  // MARK: Averages

  /// The fixture's inputs through what `path` stands for.
  private func output(_ path: String, _ weights: WeightChoice = .emaPreferred) throws -> Tensor {
    let model = try DiT(contentsOf: path, context: ComputeContext(threads: 1), weights: weights)
    let file = try SafetensorsFile(contentsOf: Self.fixture("checkpoint.safetensors"))
    #expect(model.notes.isEmpty)
    return try model.predict(
      images: file.tensor("x"), times: file.integers("t").values.map { Float($0) },
      labels: file.integers("y").values)
  }

  private func expect(
    _ path: String, _ weights: WeightChoice, is name: String, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let file = try SafetensorsFile(contentsOf: Self.fixture("checkpoint.safetensors"))
    let difference = Difference(try output(path, weights), try file.tensor("\(name).output64"))
    #expect(difference.relative <= 1e-5, "\(path) \(weights): \(difference)", sourceLocation: sourceLocation)
  }

  @Test("A directory of EMAModel.save_pretrained is a transformer, alone and in a training script's checkpoint")
  func averagesAreRead() throws {
    let average = "\(Self.checkpoint)/transformer_ema"
    for choice in WeightChoice.common where choice != .model { try expect(average, choice, is: "transformer_ema") }
    for choice in WeightChoice.common where choice != .ema {
      try expect("\(Self.checkpoint)/transformer", choice, is: "transformer")
    }
    try expect(Self.checkpoint, .emaPreferred, is: "transformer_ema")
    try expect(Self.checkpoint, .ema, is: "transformer_ema")
    try expect(Self.checkpoint, .model, is: "transformer")
  }

  @Test("A checkpoint may call its parts unet and have one of them; a pipeline's average is taken when asked for")
  func placesOfAverages() throws {
    let directory = try TemporaryDirectory()
    let files = FileManager.default
    for (name, part) in [("a/unet_ema", "transformer_ema"), ("b/unet", "transformer")] {
      try files.createDirectory(atPath: directory(String(name.prefix(1))), withIntermediateDirectories: true)
      try files.copyItem(atPath: "\(Self.checkpoint)/\(part)", toPath: directory(name))
      for choice in WeightChoice.common where choice != (part == "transformer" ? .ema : .model) {
        try expect(directory(String(name.prefix(1))), choice, is: part)
      }
    }
    // Under a name of one's own it is what every choice asks for: its keys also stay when it is trained on.
    try files.copyItem(atPath: "\(Self.checkpoint)/transformer_ema", toPath: directory("best_ema"))
    for choice in WeightChoice.common { try expect(directory("best_ema"), choice, is: "transformer_ema") }
    let path = try pipeline(directory)
    try files.copyItem(atPath: "\(Self.checkpoint)/transformer_ema", toPath: "\(path)/transformer_ema")
    try expect(path, .ema, is: "transformer_ema")
    #expect(try output(path) == output(path, .model))
    #expect(try output(path) == output(Self.fixture("pipeline")))
  }

  @Test("What a directory does not have is refused by name")
  func missingWeights() throws {
    let directory = try TemporaryDirectory()
    for (path, choice, found) in [
      (Self.fixture("pipeline"), WeightChoice.ema, "a diffusers directory without one"),
      ("\(Self.checkpoint)/transformer", .ema, "a diffusers directory without one"),
      ("\(Self.checkpoint)/transformer_ema", .model, "a moving average alone"),
    ] {
      let error = #expect(throws: DiTError.self) { try ModelReference(path).load(choice) }
      #expect(error?.file == path && error?.name == "weights" && error?.found?.hasPrefix(found) == true)
    }
    try FileManager.default.createDirectory(atPath: directory("empty/transformer"), withIntermediateDirectories: true)
    let error = #expect(throws: DiTError.self) { try ModelReference(directory("empty")).load() }
    #expect(error?.file == directory("empty") && error?.found == "no config.json")
  }

  @Test("An average converts to a model directory and to a pipeline that compute the same")
  func averagesAreConverted() throws {
    let directory = try TemporaryDirectory()
    let average = "\(Self.checkpoint)/transformer_ema"
    try ModelConversion(Self.checkpoint, to: .dit).write(to: directory("a"))
    try ModelConversion(average, to: .diffusers).write(to: directory("b"))
    for path in [directory("a"), directory("b")] { #expect(try output(path) == output(average)) }
    let text = try String(contentsOfFile: directory("b/transformer/config.json"), encoding: .utf8)
    #expect(!text.contains("decay"))
  }

  // MARK: Autoencoders

  /// The configuration says where the pictures are brighter, the weights stay the same.
  @Test("A conversion copies the autoencoder's files byte by byte, and says where DiTPipeline passes over its shift")
  func autoencodersAreCopied() throws {
    let directory = try TemporaryDirectory()
    for (name, key) in [("shifted", "shift_factor"), ("standardised", "latents_mean and latents_std"), ("tiny", nil)] {
      let path = try pipeline(
        directory, ("model_index.json", "null,\n    null", "\"diffusers\",\n    \"AutoencoderKL\""))
      try AutoencoderFixture(name).write(to: URL(filePath: "\(path)/vae"))
      let (model, back) = (directory("\(name)-a"), directory("\(name)-b"))
      let first = try ModelConversion(path, to: .dit)
      #expect(first.notes.isEmpty)
      try first.write(to: model)
      let second = try ModelConversion(model, to: .diffusers)
      try second.write(to: back)
      let notes = second.notes.filter { $0.hasPrefix("vae") }
      #expect(notes.count == (key == nil ? 0 : 1) && notes.allSatisfy { $0.contains(key ?? "") })
      for file in ["config.json", "diffusion_pytorch_model.safetensors"] {
        let bytes = try ["\(path)/vae", "\(model)/vae", "\(back)/vae"].map {
          try Data(contentsOf: URL(filePath: "\($0)/\(file)"))
        }
        #expect(bytes[0] == bytes[1] && bytes[1] == bytes[2])
      }
    }
  }
}
