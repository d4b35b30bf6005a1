import DiTFiles
import DiTImaging
import Foundation
import TestSupport
import Testing

/// `dit sample --image … --strength … --mask …` on the model that ships with the tool, whose pictures are 8×8.
@Suite("dit sample from an image") struct EditCommandTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func pictures() throws -> (image: String, mask: String, pixels: [UInt8]) {
    let pixels = (0..<64).map { UInt8(($0 * 37) % 256) }
    let (image, mask) = (scratch.path("image.png"), scratch.path("mask.png"))
    try Image(width: 8, height: 8, channels: 1, pixels: pixels).writePNG(to: image)
    try Image(width: 8, height: 8, channels: 1, pixels: (0..<64).map { $0 < 32 ? 0 : 255 }).writePNG(to: mask)
    return (image, mask, pixels)
  }

  private func bytes(_ path: String) throws -> [[UInt8]] {
    let images = try SafetensorsFile(contentsOf: path).tensor("images")
    return (0..<images.shape[0]).map { n in
      Image(planes: images[n].elements, channels: 1, height: 8, width: 8).pixels
    }
  }

  @Test("What a mask keeps has the picture's bytes, for every class, and the rest is painted")
  func masks() async throws {
    let (image, mask, pixels) = try pictures()
    let out = scratch.path("out.safetensors")
    _ = try await succeed([
      "sample", "--image", image, "--mask", mask, "--classes", "1,8", "--steps", "8", "--out", out,
    ])
    let painted = try bytes(out)
    #expect(painted.allSatisfy { $0.prefix(32) == pixels.prefix(32) && $0.suffix(32) != pixels.suffix(32) })
    #expect(painted[0] != painted[1])
    _ = try await succeed([
      "sample", "--image", image, "--mask", mask, "--feather", "2", "--classes", "1", "--steps", "8", "--out", out,
    ])
    #expect(try bytes(out)[0].prefix(32) == pixels.prefix(32) && bytes(out)[0] != painted[0])
  }

  @Test("Strength 0 gives the picture back, strength 1 is plain sampling, and a picture's text says the strength")
  func strengths() async throws {
    let (image, _, pixels) = try pictures()
    let (out, plain) = (scratch.path("out.safetensors"), scratch.path("plain.safetensors"))
    let common = ["--classes", "3", "--steps", "8"]
    _ = try await succeed(["sample", "--image", image, "--strength", "0", "--out", out] + common)
    #expect(try bytes(out) == [pixels])
    _ = try await succeed(["sample", "--image", image, "--strength", "1", "--out", out] + common)
    _ = try await succeed(["sample", "--out", plain] + common)
    let samples = try [out, plain].map { try SafetensorsFile(contentsOf: $0).tensor("samples") }
    #expect(samples[0] == samples[1])
    let states = scratch.path("states.safetensors")
    _ = try await succeed(
      ["sample", "--image", image, "--strength", "0.5", "--trajectory", states, "--out", out] + common)
    #expect(try SafetensorsFile(contentsOf: states).tensor("states").shape[0] == 4)
    #expect(try SafetensorsFile(contentsOf: out).metadata["Image strength"] == "0.5")
  }

  @Test("What contradicts is refused with the option's name, and what cannot be read with the file's")
  func refusals() async throws {
    let (image, mask, _) = try pictures()
    let small = scratch.path("small.png")
    try Image(width: 4, height: 8, channels: 1, shade: 255).writePNG(to: small)
    let black = scratch.path("black.png")
    try Image(width: 8, height: 8, channels: 1, shade: 0).writePNG(to: black)
    let out = scratch.path("out.png")
    let cases: [([String], Int32, [String])] = [
      (["--strength", "0.5"], 64, ["--strength: expected none without --image"]),
      (["--mask", mask], 64, ["--mask: expected none without --image"]),
      (["--image", image, "--feather", "2"], 64, ["--feather: expected none without --mask"]),
      (["--image", image, "--strength", "1.5"], 64, ["--strength: expected 0…1, found 1.5"]),
      (["--image", image, "--mask", small], 64, ["--mask: expected 8×8 pixels, as the image has, found 4×8"]),
      (["--image", image, "--mask", black], 64, ["--mask: expected a part of the fitted picture that is not black"]),
      (["--image", scratch.path("none.png")], 65, ["none.png"]),
      (
        ["--image", image, "--strength", "0", "--trajectory", scratch.path("t.png")], 64,
        ["--trajectory: expected none, as strength 0.0 takes no step"]
      ),
    ]
    for (options, status, words) in cases {
      try await expectFailure(["sample", "--out", out] + options, status, words)
    }
    #expect(!FileManager.default.fileExists(atPath: out))
  }
}
