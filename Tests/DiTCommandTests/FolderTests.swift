import DiTFiles
import DiTImaging
import DiTTensor
import Foundation
import TestSupport
import Testing

/// `dit train` on a folder of pictures, and the names that its classes leave with the model.
@Suite("dit train on a folder of pictures") struct FolderTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// Class folders of six gray pictures each, of 8×8 and larger.
  private func pictures(_ classes: [String] = ["apple tree", "Birch", "cedar"], in folder: String = "data") throws {
    for (k, name) in classes.enumerated() {
      let path = scratch.path("\(folder)/\(name)")
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
      for n in 0..<6 { try picture(6 * k + n).writePNG(to: "\(path)/\(n).png") }
    }
  }

  private func picture(_ seed: Int) -> Image {
    var random = Philox(seed: UInt64(seed))
    return Image(
      width: 8, height: 8, channels: 1, pixels: (0..<64).map { _ in UInt8(truncatingIfNeeded: random.next() >> 40) })
  }

  /// A small model; `model` and `training` hold further keys.
  private func configuration(_ model: String = "", training: String = "") throws -> String {
    try scratch.write(
      """
      { "model": { "input_size": 8, "patch_size": 4, "in_channels": 1, "hidden_size": 16, "depth": 1, "num_heads": 2\(model) },
        "training": { "steps": 6, "batch": 4, "validation_modulus": 5, "validate_every": 3, "sample_every": 0\(training) },
        "sampling": { "steps": 2 } }
      """, to: "config.json")
  }

  private func train(_ out: String, _ arguments: [String] = [], data: String = "data") async throws -> Tool.Result {
    try await succeed(["train", "--data", scratch.path(data), "--out", scratch.path(out)] + arguments)
  }

  /// The classes of a model directory.
  private func classes(_ run: String) throws -> (count: Int?, names: [String]?) {
    let json = try JSONSerialization.jsonObject(with: scratch.bytes("\(run)/config.json")) as? [String: Any]
    return (json?["num_classes"] as? Int, json?["class_names"] as? [String])
  }

  @Test(
    "Tar archives and files of MNIST's format train as a folder does; where nothing names classes, labels say how many",
    arguments: [("idx", 8), ("samples-{000..001}.tar", 8), ("emnist", 3), ("folders-pax.tar", 2)])
  func archives(_ data: String, _ count: Int) async throws {
    let path = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Fixtures/archives/\(data)").path(percentEncoded: false)
    _ = try await succeed(["train", "--data", path, "--out", scratch.path("run"), "--config", configuration()])
    #expect(try classes("run").count == count)
    if data == "idx" {  // a folder has no size of its own: it is read at the samples'
      try pictures()
      let evaluate = ["evaluate", "--samples", path, "--reference", scratch.path("data"), "--json"]
      #expect(try await succeed(evaluate + ["--measures", "frechet"]).stdout.contains("frechet"))
    }
    guard data.hasPrefix("samples") else { return }
    let result = try await succeed(["evaluate", "--samples", path, "--reference", path, "--size", "8", "--json"])
    #expect(result.stdout.contains("frechet"))
  }

  @Test("Class names come from the folder and select classes when sampling")
  func classNamesComeFromTheFolderAndAreAccepted() async throws {
    try pictures()
    let result = try await train("run", ["--config", configuration()])
    #expect(result.stderr.isEmpty)
    let found = try classes("run")
    #expect(found.count == 3 && found.names == ["Birch", "apple tree", "cedar"])
    let command = ["sample", "--model", scratch.path("run"), "--steps", "2", "--guidance", "1", "--out"]
    _ = try await succeed(command + [scratch.path("s.safetensors"), "--classes", "cedar,0,Apple Tree,1-2"])
    #expect(try scratch.tensors("s.safetensors").integers("labels").values == [2, 0, 1, 1, 2])
    // The nearest names first.
    try await expectFailure(
      command + [scratch.path("x.png"), "--classes", "0,ceder"], 64, ["--classes", "'ceder'", "are cedar, "])
    // The same pictures under the names and under the numbers.
    for (name, list) in [("names", "Birch,cedar"), ("numbers", "0,2")] {
      _ = try await succeed(command + [scratch.path("\(name).png"), "--classes", list])
    }
    #expect(try scratch.bytes("names.png") == scratch.bytes("numbers.png"))
  }

  /// A folder, in memory or read while training, trains to the bytes of a file with the same pixels, also in two parts.
  @Test("A folder trains to the same bytes as a file of the same pixels, streamed or resumed")
  func aFolderIsAFile() async throws {
    try pictures(["a", "b", "c"])
    let bytes = (0..<18).flatMap { picture($0).pixels }
    try SafetensorsWriter.write(
      [
        TensorSource("images", shape: [18, 1, 8, 8], bytes: bytes),
        TensorSource("labels", shape: [18], integers: (0..<18).map { $0 / 6 }),
      ], metadata: ["class_names": #"["a", "b", "c"]"#], to: scratch.path("data.safetensors"))
    _ = try await train("file", ["--config", configuration()], data: "data.safetensors")
    #expect(try classes("file").names == ["a", "b", "c"])
    _ = try await train("kept", ["--config", configuration(), "--threads", "1"])
    let streaming = try configuration(training: #", "cache_megabytes": 0, "loader_threads": 1"#)
    _ = try await train("streamed", ["--config", streaming])
    for run in ["kept", "streamed"] {
      for name in ["model.safetensors", "ema.safetensors", "config.json"] {
        #expect(try scratch.bytes("\(run)/\(name)") == scratch.bytes("file/\(name)"), "\(run) \(name)")
      }
    }
    // How data are read may change from one part of a run to the next.
    try FileManager.default.removeItem(atPath: scratch.path("streamed/checkpoints/step-00000006"))
    _ = try await train("streamed", ["--resume", "--config", configuration()])
    #expect(try scratch.bytes("streamed/model.safetensors") == scratch.bytes("file/model.safetensors"))
    try picture(99).writePNG(to: scratch.path("data/a/0.png"))
    let resume = ["train", "--data", scratch.path("data"), "--out", scratch.path("streamed"), "--resume"]
    try await expectFailure(resume, 64, ["data.digest"])
  }

  @Test("A broken picture is refused by path, or skipped with a note by option or key")
  func brokenPicturesAreRefusedOrSkipped() async throws {
    try pictures()
    try Data([1, 2, 3]).write(to: scratch.url.appending(path: "data/cedar/3.png"))
    let command = ["train", "--data", scratch.path("data"), "--out", scratch.path("run"), "--config"]
    try await expectFailure(command + [configuration()], 65, ["data/cedar/3.png: "])
    #expect(!scratch.exists("run"))
    let skipped = try await train("flag", ["--config", configuration(), "--broken-images", "skip"])
    #expect(skipped.stderr.contains("Note: ") && skipped.stderr.contains("1 broken picture skipped: cedar/3.png ("))
    _ = try await train("key", ["--config", configuration(training: #", "broken_images": "skip""#)])
    #expect(try scratch.bytes("key/model.safetensors") == scratch.bytes("flag/model.safetensors"))
    try await expectFailure(
      command + [configuration(training: #", "broken_images": "skip""#), "--broken-images", "refuse"], 65, ["3.png"])
  }

  @Test("A configuration that contradicts the folder's classes is refused; other names are taken")
  func classesThatContradictTheFolder() async throws {
    try pictures()
    let command = ["train", "--data", scratch.path("data"), "--out", scratch.path("run"), "--config"]
    try await expectFailure(
      command + [configuration(#", "num_classes": 10"#)], 65, ["model.num_classes: expected 3", "found 10"])
    try await expectFailure(
      command + [configuration(#", "class_names": ["apple tree", "Birch", "cedar"]"#)], 65,
      ["model.class_names", "order"])
    let latent = try String(contentsOfFile: configuration(), encoding: .utf8).replacing(
      "\"in_channels\": 1", with: "\"in_channels\": 4")
    try await expectFailure(command + [scratch.write(latent, to: "latent.json")], 65, ["in_channels 4"])
    try await expectFailure(
      ["train", "--data", scratch.path("data"), "--out", scratch.path("run")], 64, ["--config"])
    // Other words for the same classes, and none at all.
    _ = try await train("words", ["--config", configuration(#", "class_names": ["x", "y", "z"]"#)])
    #expect(try classes("words").names == ["x", "y", "z"])
    _ = try await train("without", ["--config", configuration(#", "num_classes": 0"#)])
    let without = try classes("without")
    #expect(without.count == 0 && without.names == nil)
  }

  @Test("A folder without class folders trains an unconditional model")
  func picturesWithoutClasses() async throws {
    try pictures([""])
    _ = try await train("run", ["--config", configuration()])
    let found = try classes("run")
    #expect(found.count == 0 && found.names == nil)
    try await expectFailure(
      [
        "train", "--data", scratch.path("data"), "--out", scratch.path("x"), "--config",
        configuration(#", "num_classes": 3"#),
      ],
      65, ["model.num_classes: expected 0", "found 3"])
    _ = try await train("finer", ["--from", Model.digits, "--steps", "1", "--batch", "2"])
    #expect(try classes("finer").count == 0)
  }

  /// Fine-tuning to a folder's classes: the label table is made anew where their number differs.
  @Test("Fine-tuning to a folder replaces class names, and the label table where the number differs")
  func fromAnotherModel() async throws {
    try pictures()
    _ = try await train("run", ["--config", configuration()])
    try pictures(["x", "y"], in: "two")
    try pictures(["p", "q", "r"], in: "three")
    for (folder, names, note) in [
      ("two", ["x", "y"], "made anew for 2 classes"), ("three", ["p", "q", "r"], "take the place of the model's"),
    ] {
      let result = try await train(
        "from-\(folder)", ["--from", scratch.path("run"), "--steps", "1", "--batch", "2"], data: folder)
      #expect(result.stderr.contains(note), "\(result.stderr)")
      let found = try classes("from-\(folder)")
      #expect(found.count == names.count && found.names == names)
    }
  }

  /// A picture that goes away while the network trains ends the run, which has saved.
  @Test("A picture deleted during training ends the run with 65, after it has saved")
  func aPictureDeletedDuringTraining() async throws {
    try pictures()
    let config = try configuration(training: #", "cache_megabytes": 0, "steps": 100000, "log_every": 1"#)
    let text = try String(contentsOfFile: config, encoding: .utf8).replacing(#""steps": 6, "#, with: "")
    _ = try scratch.write(text, to: "config.json")
    let run = try Tool.start(
      ["train", "--data", scratch.path("data"), "--out", scratch.path("run"), "--config", config], in: scratch)
    let scratch = scratch
    await run.send(SIGCONT) { scratch.text("run/log.jsonl").split(separator: "\n").count >= 3 }
    try FileManager.default.removeItem(atPath: scratch.path("data/cedar/3.png"))
    let result = try await run.result()
    #expect(
      result.status == 65 && result.error.contains("data/cedar/3.png: is no longer there; training stopped after"))
    #expect(scratch.exists("run/ema.safetensors"))
  }
}
