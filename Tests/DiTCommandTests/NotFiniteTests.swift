import DiTFiles
import DiTNumpy
import DiTTensor
import Foundation
import TestSupport
import Testing

/// A picture is never made of numbers that are not finite.
@Suite("Inputs and results that are not finite, at the command line") struct NotFiniteTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// A copy of a model directory in which an element of a tensor is `value`.
  private func poisoned(_ model: String, _ name: String, _ value: Float, to copy: String) throws -> String {
    try FileManager.default.createDirectory(atPath: scratch.path(copy), withIntermediateDirectories: true)
    try FileManager.default.copyItem(atPath: "\(model)/config.json", toPath: scratch.path("\(copy)/config.json"))
    let file = try SafetensorsFile(contentsOf: "\(model)/model.safetensors")
    let tensors = try file.names.map { other in
      var tensor = try file.tensor(other)
      if other == name { tensor.elements[3] = value }
      return TensorSource(other, tensor)
    }
    try SafetensorsWriter.write(tensors, to: scratch.path("\(copy)/model.safetensors"))
    return scratch.path(copy)
  }

  private func images(_ shape: [Int], _ value: Float, at index: Int) -> Tensor {
    var tensor = Tensor(zeros: shape)
    tensor.elements[index] = value
    return tensor
  }

  /// Of the first the result is finite all the same: softmax makes a number of it.
  @Test(
    "Weights that are not finite are refused by every command that computes with them, by file and tensor",
    arguments: ["blocks.0.attn.qkv.bias", "final_layer.linear.weight"])
  func weights(tensor: String) async throws {
    let model = try poisoned(Model.digits, tensor, .nan, to: "model")
    let words = ["model.safetensors", "tensor \(tensor)", "expected finite numbers", "nan at element 3"]
    let x = TensorSource("x", Tensor(zeros: [1, 1, 8, 8]))
    let input = try scratch.write(
      [
        x, TensorSource("x0", Tensor(zeros: [1, 1, 8, 8])), TensorSource("noise", Tensor(zeros: [1, 1, 8, 8])),
        TensorSource("images", Tensor(zeros: [1, 1, 8, 8])), TensorSource("t", labels: [3]),
        TensorSource("y", labels: [3]),
      ], to: "in.safetensors")
    let names = scratch.names
    for out in ["x.png", "x.npz", "x.safetensors"] {
      try await expectFailure(
        ["sample", "--model", model, "--classes", "1", "--steps", "2", "--out", scratch.path(out)], 65, words)
    }
    for command in ["forward", "loss", "invert"] {
      try await expectFailure(
        [command, "--model", model, "--input", input, "--out", scratch.path("o.safetensors")], 65, words)
    }
    try await expectFailure(["convert", model, scratch.path("converted")], 65, words)
    try await expectFailure(
      ["train", "--data", "digits", "--from", model, "--steps", "1", "--batch", "2", "--out", scratch.path("run")], 65,
      words)
    #expect(scratch.names == names, "\(scratch.names)")
  }

  @Test("Noise, images, latents and x that are not finite are refused by file, tensor and image")
  func inputs() async throws {
    let shape = [2, 1, 8, 8]
    let whole = TensorSource("noise", Tensor(zeros: shape))
    func file(_ name: String, _ bad: Float, _ others: [TensorSource] = []) throws -> String {
      let path = "\(name)-\(bad).safetensors"
      return try scratch.write([TensorSource(name, images(shape, bad, at: 64))] + others, to: path)
    }
    let (t, y) = (TensorSource("t", labels: [3, 4]), TensorSource("y", labels: [3, 4]))
    for bad in [Float.nan, .infinity, -.infinity] {
      let cases: [(arguments: [String], tensor: String)] = [
        (["sample", "--noise", try file("noise", bad), "--classes", "1,2"], "noise"),
        (["invert", "--input", try file("images", bad)], "images"),
        (["invert", "--input", try file("samples", bad)], "samples"),
        (["forward", "--input", try file("x", bad, [t, y])], "x"),
        (["loss", "--input", try file("x0", bad, [t, y, whole])], "x0"),
      ]
      let names = scratch.names
      for (arguments, tensor) in cases {
        try await expectFailure(
          arguments + ["--model", Model.digits, "--out", scratch.path("out.safetensors")], 65,
          [".safetensors: tensor \(tensor): expected finite numbers, found \(bad) in image 1"])
      }
      #expect(scratch.names == names)
    }
    let noise = try scratch.write(
      [TensorSource("noise", images(shape, .nan, at: 5)), TensorSource("x0", Tensor(zeros: shape)), t, y],
      to: "n.safetensors")
    try await expectFailure(
      ["loss", "--model", Model.digits, "--input", noise], 65, ["tensor noise: expected finite numbers", "image 0"])
  }

  @Test("Data, latents and samples that are not finite are refused by dit train, encode, decode and evaluate")
  func data() async throws {
    try AutoencoderFixture("tiny").write(to: scratch.url.appending(path: "vae"))
    let vae = ["--model", scratch.path("vae")]
    for bad in [Float.nan, .infinity] {
      let latents = try scratch.write(
        [TensorSource("latents", images([2, 4, 4, 4], bad, at: 70))], to: "latents.safetensors")
      for out in ["o.png", "o.npz", "o.safetensors"] {
        try await expectFailure(
          ["decode"] + vae + [latents, scratch.path(out)], 65,
          ["latents.safetensors: tensor latents: expected finite numbers, found \(bad) in image 1"])
      }
      let pixels = try scratch.write(
        [TensorSource("images", images([2, 3, 8, 8], bad, at: 200))], to: "images.safetensors")
      try await expectFailure(["encode"] + vae + [pixels, scratch.path("o.safetensors")], 65, ["images", "\(bad)"])
      for data in [latents, pixels] {
        try await expectFailure(
          ["train", "--data", data, "--from", "DiT-S/2", "--out", scratch.path("run")], 65, ["\(bad)", "sample 1"])
        try await expectFailure(
          ["evaluate", "--samples", data, "--reference", data], 65, ["\(bad)", "sample 1"])
      }
    }
    #expect(scratch.names == ["images.safetensors", "latents.safetensors", "vae"])
  }

  @Test("An autoencoder's weights that are not finite are refused by file and tensor")
  func autoencoder() async throws {
    let fixture = try AutoencoderFixture("tiny")
    try fixture.write(to: scratch.url.appending(path: "vae"))
    let path = scratch.path("vae/diffusion_pytorch_model.safetensors")
    let file = try SafetensorsFile(contentsOf: path)
    let name = try #require(file.names.first { $0.hasSuffix("mid_block.resnets.0.conv1.bias") && $0.hasPrefix("dec") })
    let tensors = try file.names.map { other in
      var tensor = try file.tensor(other)
      if other == name { tensor.elements[1] = .nan }
      return TensorSource(other, tensor)
    }
    try SafetensorsWriter.write(tensors, to: path)
    let latents = try scratch.write(
      [TensorSource("latents", try fixture.file.tensor("0.latents"))], to: "l.safetensors")
    try await expectFailure(
      ["decode", "--model", scratch.path("vae"), latents, scratch.path("x.png")], 65,
      ["diffusion_pytorch_model.safetensors: tensor \(name): expected finite numbers, found nan at element 1"])
    #expect(scratch.names == ["l.safetensors", "vae"])
  }

  @Test("Arithmetic that overflows exits with 1, says where, and leaves no picture, trajectory or preview")
  func overflow() async throws {
    for sampler in ["ddim", "ddpm", "dpmpp", "unipc"] {
      for out in ["x.png", "x.npz", "x.safetensors"] {
        try await expectFailure(
          [
            "sample", "--model", Model.digits, "--classes", "1", "--steps", "3", "--sampler", sampler, "--guidance",
            "1e38", "--trajectory", scratch.path("t.png"), "--preview", scratch.path("p.png"), "--out",
            scratch.path(out),
          ], 1, ["in image 0", " of 3", "overflow"])
      }
    }
    // The preview of a step before may be there: its numbers were finite.
    #expect(Set(scratch.names).isSubset(of: ["p.png"]), "\(scratch.names)")
    let large = try scratch.write(
      [
        TensorSource("x", images([1, 1, 8, 8], 3e38, at: 9)), TensorSource("t", labels: [1]),
        TensorSource("y", labels: [1]),
      ], to: "x.safetensors")
    try await expectFailure(
      ["forward", "--model", Model.digits, "--input", large, "--out", scratch.path("o.safetensors")], 1, ["overflow"])
    try AutoencoderFixture("tiny").write(to: scratch.url.appending(path: "vae"))
    let latents = try scratch.write(
      [TensorSource("latents", images([1, 4, 4, 4], 3e38, at: 9))], to: "l.safetensors")
    for out in ["o.png", "o.npz", "o.safetensors"] {
      try await expectFailure(
        ["decode", "--model", scratch.path("vae"), latents, scratch.path(out)], 1, ["images", "image 0", "overflow"])
    }
    #expect(scratch.names.filter { $0 != "p.png" } == ["l.safetensors", "vae", "x.safetensors"])
  }

  // MARK: Hints

  @Test("Images in [0, 1] are taken with a note that [-1, 1] is expected; those in [-1, 1] without one")
  func unscaledImages() async throws {
    let values = (0..<8 * 64).map { Float($0 % 64) / 63 }
    let labels = TensorSource("labels", labels: [0, 1, 2, 3, 4, 5, 6, 7])
    for (name, isNoted) in [("half", true), ("whole", false)] {
      let elements = isNoted ? values : values.map { 2 * $0 - 1 }
      let data = try scratch.write(
        [TensorSource("images", Tensor(shape: [8, 1, 8, 8], elements: elements)), labels], to: "\(name).safetensors")
      let train = try await succeed([
        "train", "--data", data, "--from", Model.digits, "--steps", "1", "--batch", "2", "--out", scratch.path(name),
      ])
      let evaluate = try await succeed(["evaluate", "--samples", data, "--reference", "digits:test", "--json"])
      for result in [train, evaluate] {
        let hint = "\(name).safetensors: images: the images lie in [0, 1]; expected is [-1, 1]"
        #expect(
          result.stderr.replacing("tensor images", with: "images").contains(hint) == isNoted,
          "\(name): \(result.stderr)")
      }
    }
  }

  @Test("Of an .npz with images and statistics the images are used, and a note says so")
  func bothInOneArchive() async throws {
    let both = scratch.path("both.npz")
    _ = try await succeed(["sample", "--model", Model.digits, "--steps", "1", "--out", scratch.path("a.npz")])
    _ = try await succeed(["evaluate", "--reference", "digits:test", "--save-statistics", scratch.path("s.npz")])
    let (pictures, statistics) = (
      try NPZFile(contentsOf: scratch.path("a.npz")), try NPZFile(contentsOf: scratch.path("s.npz"))
    )
    let arrays = try [("arr_0", pictures), ("mu", statistics), ("sigma", statistics)].map { name, file in
      (name: name, array: try #require(try file.array(name)))
    }
    try NPZFile.write(arrays, to: both)
    let found = try await succeed(["evaluate", "--samples", both, "--reference", "digits:test", "--json"])
    #expect(found.stderr.contains("both.npz: has images and statistics: in pixels the images count"), "\(found.stderr)")
    let images = try await succeed(
      ["evaluate", "--samples", scratch.path("a.npz"), "--reference", "digits:test", "--json"])
    #expect(!images.stderr.contains("statistics:"))
    #expect(found.stdout.replacing("both.npz", with: "a.npz") == images.stdout)
  }
}
