import DiTFiles
import DiTImaging
import DiTNumpy
import Foundation
import TestSupport
import Testing

/// What `dit sample` writes, by the output's ending.
@Suite("What dit sample writes, by the output's ending") struct SampleOutputTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func sample(_ output: String, _ arguments: String..., model: String = Model.digits) async throws {
    _ = try await succeed(["sample", "--model", model, "--steps", "3", "--out", scratch.path(output)] + arguments)
  }

  /// The pictures that a safetensors output holds.
  private func pictures(_ name: String) throws -> [Image] {
    let file = try scratch.tensors(name)
    let shape = try file.requireEntry(named: "images").shape
    let elements = try file.floats("images")
    let size = shape[1] * shape[2] * shape[3]
    return (0..<shape[0]).map {
      Image(
        planes: Array(elements[$0 * size..<($0 + 1) * size]), channels: shape[1], height: shape[2], width: shape[3])
    }
  }

  @Test("A safetensors output holds samples, clipped images, labels and the settings")
  func safetensors() async throws {
    try await sample("s.safetensors", "--classes", "2,9", "--seed", "5")
    let file = try scratch.tensors("s.safetensors")
    #expect(Set(file.names) == ["samples", "images", "labels"])
    let (samples, images) = (try file.floats("samples"), try file.floats("images"))
    #expect(samples.contains { abs($0) > 1 }, "nothing was there to clip")
    #expect(images == samples.map { min(1, max(-1, $0)) })
    #expect(try file.requireEntry(named: "labels").dtype == .i64)
    #expect(file.metadata["Seed"] == "5" && file.metadata["Guidance"] == "4.0" && file.metadata["Steps"] == "3")
    try await sample("l.safetensors", model: Model.latent)
    #expect(try Set(scratch.tensors("l.safetensors").names) == ["samples", "labels"])
  }

  @Test("A PNG output is the labeled grid of the images")
  func grid() async throws {
    try await sample("s.safetensors")
    try await sample("s.png")
    let expected = ImageGrid(try pictures("s.safetensors"), classNames: (0...9).map(String.init))
    #expect(expected.scale == 12)  // 8 pixels to 96
    #expect(try Image(contentsOf: scratch.path("s.png")) == expected.rendered())
  }

  @Test("Several images per class in color are laid out one row per class")
  func gridOfSeveralPerClassInColor() async throws {
    let arguments = ["--classes", "4,1", "--count", "3", "--guidance", "1"]
    for name in ["s.safetensors", "s.png"] {
      try await sample(
        name, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5],
        model: Model.oblong)
    }
    let expected = ImageGrid(try pictures("s.safetensors"), classNames: ["4", "1"])
    let found = try Image(contentsOf: scratch.path("s.png"))
    #expect(found.channels == 3 && found == expected.rendered())
  }

  @Test("Class names in Chinese are drawn by a font of the machine, as boxes where it has none, and never a failure")
  func chineseNames() async throws {
    let names = ["T恤", "裤子", "套头衫", "连衣裙", "外套", "凉鞋", "衬衫", "运动鞋", "Bag", "短靴"]
    let config = try String(contentsOfFile: Model.digits + "/config.json", encoding: .utf8)
    _ = try scratch.write("{ \"class_names\": \(names)," + config.dropFirst(), to: "config.json")
    try FileManager.default.createSymbolicLink(
      atPath: scratch.path("model.safetensors"), withDestinationPath: Model.digits + "/model.safetensors")
    let model = scratch.path("")
    try await sample("s.safetensors", model: model)
    let images = try pictures("s.safetensors")
    func configuration(_ name: String, _ content: String) throws -> String {
      try scratch.write("<fontconfig>\(content)<cachedir>\(scratch.path("cache"))</cachedir></fontconfig>", to: name)
    }
    let font = Fixture.path("microhei.ttf", folder: "fonts")
    for (name, fontconfig, font) in try [
      ("one.png", configuration("one.conf", "<dir>\(font.dropLast(13))</dir>"), LabelFont(contentsOf: font)),
      ("no.png", configuration("no.conf", ""), LabelFont.boxes),
      ("gone.png", scratch.path("gone.conf"), LabelFont.boxes),
    ] {
      let result = try await Tool.run(
        ["sample", "--model", model, "--steps", "3", "--out", scratch.path(name)],
        environment: ["FONTCONFIG_FILE": fontconfig])
      #expect(result.status == 0 && !result.stderr.localizedCaseInsensitiveContains("fontconfig"), "\(result.stderr)")
      let expected = ImageGrid(images, classNames: names, font: font).rendered()
      #expect(try Image(contentsOf: scratch.path(name)) == expected, "\(name)")
    }
  }

  @Test("A PNG holds every setting of its making as text")
  func pngSaysHowItWasMade() async throws {
    try await sample(
      "s.png", "--classes", "3,1", "--seed", "77", "--eta", "0.25", "--guidance", "2", "--guidance-interval", "10,900",
      "--guidance-channels", "1", "--schedule", "trailing")
    let entries = try PNGText.entries(inPNG: Array(scratch.bytes("s.png")))
    let text = Dictionary(uniqueKeysWithValues: entries.map { ($0.key, $0.value) })
    #expect(
      text == [
        "Software": "dit", "Seed": "77", "Random numbers": "philox", "Sampler": "ddim", "Steps": "3",
        "Schedule": "trailing", "Eta": "0.25",
        "Guidance": "2.0", "Guidance interval": "10,900", "Guidance channels": "1", "Precision": "fp32",
        "Classes": "3,1",
      ])
  }

  @Test("The same command gives the same bytes in every format")
  func sameCommandSameBytes() async throws {
    for ending in ["png", "safetensors", "npz"] {
      try await sample("a.\(ending)", "--seed", "3")
      try await sample("b.\(ending)", "--seed", "3")
      #expect(try scratch.bytes("a.\(ending)") == scratch.bytes("b.\(ending)"), "\(ending)")
    }
  }

  @Test("An .npz output is one uint8 array (N, H, W, C) that NumPy reads", arguments: [Model.digits, Model.oblong])
  func npz(_ model: String) async throws {
    try await sample("s.safetensors", "--count", "2", model: model)
    try await sample("s.npz", "--count", "2", model: model)
    let images = try pictures("s.safetensors")
    let file = try NPZFile(contentsOf: scratch.path("s.npz"))
    let array = try #require(try file.array("arr_0"))
    #expect(file.names == ["arr_0"] && array.type == .uint8 && !array.isFortranOrder)
    #expect(array.shape == [images.count, images[0].height, images[0].width, images[0].channels])
    #expect(Array(array.bytes) == images.flatMap(\.pixels))
  }

  @Test("A trajectory picture has one row per image and one column per step")
  func trajectoryStrip() async throws {
    try await sample("s.png", "--classes", "6,2", "--trajectory", scratch.path("t.png"))
    try await sample("s.safetensors", "--classes", "6,2", "--trajectory", scratch.path("t.safetensors"))
    let states = try scratch.tensors("t.safetensors").floats("states")
    let images = (0..<2).flatMap { n in
      (0..<3).map { step in
        Image(planes: Array(states[(step * 2 + n) * 64..<(step * 2 + n + 1) * 64]), channels: 1, height: 8, width: 8)
      }
    }
    let expected = ImageGrid(
      images, columns: 3, rowLabels: ["6", "2"], columnLabels: ["t = 999", "t = 500", "t = 0"])
    #expect(try Image(contentsOf: scratch.path("t.png")) == expected.rendered())
    // The last state is the sample.
    #expect(try Array(states.suffix(128)) == scratch.tensors("s.safetensors").floats("samples"))
  }

  @Test("An output replaces the old file and leaves nothing else")
  func replacesAFileAndLeavesNothingElse() async throws {
    _ = try scratch.write("old", to: "s.png")
    try await sample("s.png")
    #expect(scratch.names == ["s.png"])
    #expect(scratch.text("s.png") != "old")
    #expect(
      try await succeed(["sample", "--model", Model.digits, "--out", scratch.path("S.PNG")]).stdout.contains(
        "10 images"))
  }
}
