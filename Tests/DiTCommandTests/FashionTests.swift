import DiTNumpy
import DiTPictures
import Foundation
import TestSupport
import Testing

/// The model of clothes draws what it is asked for and does not copy, judged by the nearest of five hundred real test pictures, which
/// name about four of five of the others rightly. `Scripts/judge_fashion.py` judges more sharply.
@Suite("The model of clothes that ships with the tool") struct FashionTests {
  /// Fifty of each class.
  private static let pictures = Fixture.path("t10k-images-idx3-ubyte.gz", folder: "fashion")
  private static let installed = "/usr/share/datasets/fashion-mnist"

  @Test("At least 30 of 40 samples are nearest to a garment of their class, and none is one of those test pictures")
  func drawsWhatIsAskedFor() async throws {
    let scratch = try Scratch()
    let samples = scratch.path("clothes.npz")
    _ = try await succeed(["sample", "--model", "fashion", "--classes", "0-9", "--count", "4", "--out", samples])
    let archive = try NPZFile(contentsOf: samples)
    let drawn = Array(try #require(try archive.array("arr_0")).bytes)
    try #require(drawn.count == 40 * 784)
    let asked = (0..<40).map { $0 / 4 }
    let set = try #require(try IDXPictures(at: Self.pictures))
    let labels = try #require(set.labels)
    let data = try set.dataset(channels: 1, height: 28, width: 28, options: PictureOptions()).data
    let real = try (0..<set.count).map { try data.sample($0) }
    var agreement = 0
    for index in asked.indices {
      let picture = drawn[index * 784..<(index + 1) * 784].map { Float($0) / 127.5 - 1 }
      let distances = real.map { zip($0, picture).reduce(Float(0)) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } }
      let nearest = try #require(distances.indices.min { distances[$0] < distances[$1] })
      if labels[nearest] == asked[index] { agreement += 1 }
      #expect(distances[nearest] > 1, "sample \(index) is test picture \(nearest)")
    }
    #expect(agreement >= 30, "\(agreement) of 40")
  }

  @Test("Commands find the models that ship by name, and garments by theirs; a file or folder of that name comes first")
  func byName() async throws {
    let scratch = try Scratch()
    #expect(try await JSON(["info", "fashion", "--json"])["model", "parameters"] == .integer(3_514_256))
    #expect(try await JSON(["info", "digits", "--json"])["model", "family"] == .string("dit"))
    #expect(try await JSON(["schedule", "fashion", "--json"])["steps"] == .integer(25))
    let grid = scratch.path("clothes.png")
    let steps = ["--steps", "1", "--model", "fashion", "--out", grid, "--classes"]
    _ = try await succeed(["sample"] + steps + ["sneaker,coat"])
    let named = try scratch.bytes("clothes.png")
    _ = try await succeed(["sample"] + steps + ["7,4"])
    #expect(try scratch.bytes("clothes.png") == named)
    try await expectFailure(["sample"] + steps + ["hat"], 64, ["--classes", "'hat'", "bag, coat, boot"])
    _ = try await succeed(["convert", "fashion", scratch.path("copy"), "--dtype", "bf16"])
    _ = try await succeed([
      "sample", "--steps", "1", "--model", scratch.path("copy"), "--out", grid, "--classes", "7,4",
    ])
    #expect(try scratch.bytes("clothes.png") == named)
    let config = try scratch.write(Scratch.training(["steps": "1"]), to: "c.json")
    let train = ["train", "--data", "digits", "--config", config, "--from", "fashion", "--out", scratch.path("run")]
    try await expectFailure(train, 65, ["fashion-model", "tensors missing"])
    let result = try await Tool.script(
      "cd \"$DIR\" && mkdir fashion && \"$DIT\" info fashion", in: scratch)
    #expect(result.status == 65 && result.error.contains("fashion"), "\(result)")
  }

  @Test("fashion is Fashion-MNIST as Debian installs it, and the package is named where it is missing")
  func data() async throws {
    let scratch = try Scratch()
    let config = try scratch.write(
      Scratch.training(["steps": "2", "validate_every": "0", "validation_modulus": "0"]).replacing(
        "\"input_size\": 8", with: "\"input_size\": 28"), to: "c.json")
    let train = ["train", "--data", "fashion", "--config", config, "--out", scratch.path("run")]
    let evaluate = [
      "evaluate", "--samples", Self.pictures, "--reference", "fashion:test", "--measures", "copies", "--json",
    ]
    guard FileManager.default.fileExists(atPath: Self.installed) else {
      for arguments in [train, evaluate] {
        try await expectFailure(arguments, 65, [Self.installed, "dataset-fashion-mnist"])
      }
      return
    }
    _ = try await succeed(train)
    #expect(try await JSON(evaluate)["copies", "exact"] == .integer(500))
  }
}
