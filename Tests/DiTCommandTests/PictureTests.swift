import DiTImaging
import DiTTensor
import Foundation
import TestSupport
import Testing

extension Image {
  /// Pixels of exactly this color.
  fileprivate func count(_ color: PlotColor) -> Int {
    stride(from: 0, to: pixels.count, by: 3).count {
      pixels[$0] == color.red && pixels[$0 + 1] == color.green && pixels[$0 + 2] == color.blue
    }
  }
}

/// The pictures of a run and of a schedule, and TensorBoard's files.
@Suite("Pictures of runs and schedules, and TensorBoard's files") struct PictureTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func train(_ arguments: [String] = []) async throws {
    let config = try scratch.write(
      """
      { "model": { "input_size": 8, "patch_size": 4, "in_channels": 1, "hidden_size": 16, "depth": 1, "num_heads": 2,
                   "num_classes": 10 },
        "training": { "steps": 30, "batch": 8, "warmup_steps": 10, "learning_rate": 0.003, "flip": false,
                      "validation_modulus": 5, "validate_every": 10, "checkpoint_every": 10, "sample_every": 15,
                      "log_every": 2 },
        "sampling": { "steps": 3, "guidance": 1.5 } }
      """, to: "config.json")
    let run = ["train", "--data", "digits", "--config", config, "--out", scratch.path("run")]
    _ = try await succeed(run + arguments)
  }

  private func picture(_ name: String) throws -> Image { try Image(contentsOf: scratch.path(name)) }

  private func lines() -> [[String: Any]] {
    scratch.text("run/log.jsonl").split(separator: "\n").compactMap {
      try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
    }
  }

  @Test("Training draws its loss curves and a loss map whose mean is the logged validation error")
  func trainingDrawsItsLoss() async throws {
    try await train()
    #expect(!scratch.exists("run/tensorboard"))
    let curves = try picture("run/loss.png")
    #expect(curves.width == 800 && curves.height > 500)
    // The smoothed loss; three dots of validation; below, the learning rate.
    #expect(curves.count(.blue) > 500 && curves.count(.orange) > 60 && curves.count(.green) > 300)
    let map = try scratch.tensors("run/loss_map.safetensors")
    let (errors, counts) = try (map.tensor("mse"), map.integers("samples").values)
    #expect(errors.shape == [10, 2, 2] && counts.count == 10 && counts.allSatisfy { $0 > 0 })
    #expect(try map.integers("t").values == (0...10).map { $0 * 100 })
    let means = (0..<10).map { bin in errors.elements[bin * 4..<bin * 4 + 4].reduce(0) { $0 + Double($1) / 4 } }
    let mean = zip(means, counts).reduce(0) { $0 + $1.0 * Double($1.1) } / Double(counts.reduce(0, +))
    let logged = lines().compactMap { $0["validation_mse"] as? Double }
    #expect(logged.count == 3 && abs(mean / (logged.last ?? 0) - 1) < 1e-5, "\(mean), \(logged)")
    // Its cells are the numbers' colors.
    let panels = (0..<10).map { bin in
      HeatMapPlot.Panel(
        caption: "t \(bin * 100)-\(bin * 100 + 99)", values: errors.elements[bin * 4..<bin * 4 + 4].map(Double.init))
    }
    let expected = HeatMapPlot(
      title: "mse by patch and t after step 30", panels: panels, rows: 2, columns: 2, scale: .logarithmic)
    let (found, again) = (try picture("run/loss_map.png"), expected.rendered())
    #expect(found.width == again.width && found.height == again.height)
    let difference = zip(found.pixels, again.pixels).map { abs(Int($0) - Int($1)) }.max()
    #expect((difference ?? 255) <= 1)
  }

  @Test("The schedule's picture adds window and temperature of diffusion-aware attention")
  func attentionIsPartOfTheSchedule() async throws {
    try FileManager.default.createDirectory(atPath: scratch.path("aware"), withIntermediateDirectories: true)
    _ = try scratch.write(
      #"{"attention": {"temperature": "sqrt_beta", "mask": "soft", "window": "signal"}}"#, to: "aware/config.json")
    for (model, name) in [("DiT-S/2", "plain.png"), (scratch.path("aware"), "aware.png")] {
      _ = try await succeed(["schedule", model, "--steps", "5", "--out", scratch.path(name)])
    }
    let (plain, aware) = (try picture("plain.png"), try picture("aware.png"))
    #expect(aware.height == 2 * plain.height && aware.width == plain.width)
    for (color, isShared) in [(PlotColor.blue, true), (.orange, true), (.green, false), (.purple, false)] {
      #expect((plain.count(color) > 300) == isShared && aware.count(color) > 300, "\(color)")
    }
    // ᾱ and β look as before.
    #expect(Array(aware.pixels.prefix(plain.pixels.count)) == plain.pixels)
    // Of 256 tokens the window is all at t = 0 and 2 at t = 999: the curve falls through the panel's height.
    let panel = plain.height / 2
    let rows = (3 * panel..<4 * panel).filter { row in
      (0..<aware.width).contains { column in
        (0..<3).map { aware[row: row, column: column, channel: $0] } == [138, 79, 176]
      }
    }
    #expect(Double(rows.count) > 0.5 * Double(panel), "\(rows.count) of \(panel) rows")
  }

  /// More steps than columns: the last is always there.
  @Test("A trajectory picture of many steps keeps twelve columns, the last step among them")
  func trajectoriesOfManySteps() async throws {
    _ = try await succeed([
      "sample", "--model", Model.digits, "--classes", "1-3", "--steps", "25", "--out", scratch.path("s.png"),
      "--trajectory", scratch.path("t.png"),
    ])
    let blank = Image(width: 8, height: 8, channels: 1, shade: 0)
    let expected = ImageGrid(
      [Image](repeating: blank, count: 36), columns: 12, rowLabels: ["1", "2", "3"],
      columnLabels: (0..<12).map { _ in "t = 999" })
    let strip = try picture("t.png")
    #expect(strip.width == expected.width && strip.height == expected.height)
  }

  // MARK: TensorBoard

  private var eventFiles: [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: scratch.path("run/tensorboard"))) ?? []).sorted()
  }

  @Test("TensorBoard files hold scalars and pictures, only when asked for")
  func eventFilesOnRequest() async throws {
    try await train(["--tensorboard"])
    #expect(eventFiles.count == 1 && eventFiles[0].hasPrefix("events.out.tfevents."), "\(eventFiles)")
    let bytes = try scratch.bytes("run/tensorboard/\(eventFiles[0])")
    for tag in ["training/loss", "training/images_per_second", "validation/mse", "samples", "loss_map"] {
      #expect(bytes.firstRange(of: Data(tag.utf8)) != nil, "\(tag)")
    }
    // The pictures are the files'.
    for name in ["samples/step-00000030.png", "loss_map.png"] {
      let image = try picture("run/\(name)")
      #expect(try bytes.firstRange(of: Data(image.pngData())) != nil, "\(name)")
    }
    try await train(["--tensorboard", "--resume"])
    #expect(eventFiles.count == 2)
    try await train(["--resume"])
    #expect(eventFiles.count == 2)
  }

  /// What TensorBoard itself reads, of a run that was killed after its second checkpoint and resumed.
  @Test(
    "TensorBoard reads every scalar and picture of a run that was killed and resumed",
    .enabled(if: Python.hasTensorBoard, "python3 with tensorboard and Pillow"))
  func tensorBoardReadsThem()
    async throws
  {
    try await train(["--tensorboard"])
    // The last checkpoint goes, and with it the steps after 20: they are trained again.
    try FileManager.default.removeItem(atPath: scratch.path("run/checkpoints/step-00000030"))
    try await train(["--tensorboard", "--resume"])
    #expect(eventFiles.count == 2)
    let script = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "Scripts/check_tensorboard.py").path(percentEncoded: false)
    let output = try #require(Python.output([script, scratch.path("run/tensorboard")]))
    let found = try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any]
    let scalars = try #require(found?["scalars"] as? [String: [[Double]]])
    let images = try #require(found?["images"] as? [String: [[Int]]])
    for (tag, key) in [
      ("training/loss", "loss"), ("training/gradient_norm", "gradient_norm"), ("training/vb", "vb"),
      ("training/learning_rate", "learning_rate"), ("validation/loss", "validation_loss"),
    ] {
      let logged = lines().compactMap { line -> [Float]? in
        guard let step = line["step"] as? Double, let value = line[key] as? Double else { return nil }
        return [Float(step), Float(value)]
      }
      #expect(
        !logged.isEmpty && scalars[tag]?.map { $0.map(Float.init) } == logged,
        "\(tag): \(scalars[tag] ?? []), \(logged)")
    }
    #expect(scalars["training/images_per_second"]?.count == 15)
    #expect(images["samples"]?.map { $0[0] } == [15, 30] && images["loss_map"]?.map { $0[0] } == [10, 20, 30])
  }
}

/// The Python of the path.
private enum Python {
  static let hasTensorBoard = output(["-c", "import tensorboard, PIL; print('yes')"])?.hasPrefix("yes") ?? false

  /// What it prints; nil when there is none or it fails.
  static func output(_ arguments: [String]) -> String? {
    let (process, pipe) = (Process(), Pipe())
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = ["python3"] + arguments
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return nil }
    let data = (try? pipe.fileHandleForReading.readToEnd()) ?? Data()
    process.waitUntilExit()
    return process.terminationStatus == 0 ? String(decoding: data, as: UTF8.self) : nil
  }
}
