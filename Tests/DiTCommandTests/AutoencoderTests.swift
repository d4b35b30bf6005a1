import DiTFiles
import DiTImaging
import DiTTensor
import Foundation
import TestSupport
import Testing

/// `dit encode`, `dit decode`, and `dit sample` of a model with an autoencoder.
@Suite("dit encode, dit decode and dit sample with an autoencoder") struct AutoencoderTests {
  let scratch: Scratch
  let fixture: AutoencoderFixture

  init() throws {
    scratch = try Scratch()
    fixture = try AutoencoderFixture("tiny")
    try fixture.write(to: scratch.url.appending(path: "vae"))
  }

  private var vae: [String] { ["--model", scratch.path("vae")] }

  @Test("Encode and decode give diffusers' numbers, mirrored copies, labels and seeded draws")
  func encodesAndDecodes() async throws {
    let images = try fixture.file.tensor("0.images")
    let input = try scratch.write(
      [TensorSource("images", images), TensorSource("labels", labels: [3, 1])], to: "in.safetensors")
    _ = try await succeed(["encode"] + vae + [input, scratch.path("z.safetensors"), "--flips"])
    let z = try scratch.tensors("z.safetensors")
    let mean = try fixture.file.floats("0.mean")
    #expect(relativeError(Array(try z.floats("mean").prefix(mean.count)), mean) <= 2e-5)
    #expect(
      relativeError(Array(try z.floats("logvar").prefix(mean.count)), try fixture.file.floats("0.logvar")) <= 2e-5)
    #expect(try z.floats("latents") == z.floats("mean").map { $0 * 0.18215 })
    #expect(try z.integers("labels").values == [3, 1, 3, 1])

    // The second half is of the mirrored images.
    let width = images.shape[3]
    let mirrored = images.elements.indices.map { i in images.elements[i - i % width + width - 1 - i % width] }
    let other = try scratch.write(
      [TensorSource("images", Tensor(shape: images.shape, elements: mirrored))], to: "m.safetensors")
    _ = try await succeed(["encode"] + vae + [other, scratch.path("zm.safetensors")])
    #expect(try scratch.tensors("zm.safetensors").floats("latents") == Array(z.floats("latents").suffix(mean.count)))

    let latents = try fixture.file.tensor("0.latents")
    let file = try scratch.write(
      [TensorSource("latents", latents), TensorSource("labels", labels: [5, 6])], to: "l.safetensors")
    let bytes = try await decoded(file, "--threads", "1")
    #expect(bytes == (try await decoded(file, "--threads", "2")))
    let out = try scratch.tensors("x.safetensors")
    let expected = try fixture.file.floats("0.decoded").map { min(1, max(-1, $0)) }
    #expect(expected.contains(1))  // something is clipped
    #expect(relativeError(try out.floats("images"), expected) <= 2e-5)
    #expect(try out.integers("labels").values == [5, 6])
    _ = try await succeed(["decode"] + vae + [file, scratch.path("x.png")])
    #expect(try Image(contentsOf: scratch.path("x.png")).channels == 3)

    // Draws differ from means, and by seed.
    var draws: Set<[Float]> = [try z.floats("latents")]
    for seed in ["0", "1"] {
      _ = try await succeed(["encode"] + vae + [input, scratch.path("d.safetensors"), "--draw", "--seed", seed])
      draws.insert(try scratch.tensors("d.safetensors").floats("latents"))
    }
    #expect(draws.count == 3)
  }

  private func decoded(_ file: String, _ arguments: String...) async throws -> Data {
    _ = try await succeed(["decode"] + vae + [file, scratch.path("x.safetensors")] + arguments)
    return try scratch.bytes("x.safetensors")
  }

  /// Class folders to latents that `dit train` takes.
  @Test("A folder of pictures is encoded to latents that train a model whose samples are decoded")
  func foldersBecomeTrainingData() async throws {
    for (k, name) in ["ant", "bee"].enumerated() {
      let folder = scratch.path("data/\(name)")
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      for n in 0..<5 {
        var random = Philox(seed: UInt64(5 * k + n))
        let pixels = (0..<20 * 16 * 3).map { _ in UInt8(truncatingIfNeeded: random.next() >> 40) }
        try Image(width: 20, height: 16, channels: 3, pixels: pixels).writePNG(to: "\(folder)/\(n).png")
      }
    }
    let z = scratch.path("z.safetensors")
    _ = try await succeed(["encode"] + vae + [scratch.path("data"), z, "--size", "16", "--flips"])
    let file = try scratch.tensors("z.safetensors")
    #expect(try file.requireEntry(named: "latents").shape == [20, 4, 8, 8])
    #expect(try file.integers("labels").values == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    let config = try scratch.write(
      """
      { "model": { "input_size": 8, "patch_size": 4, "in_channels": 4, "hidden_size": 16, "depth": 1, "num_heads": 2,
                   "vae": "../vae" },
        "training": { "steps": 2, "batch": 4, "sample_every": 0 }, "sampling": { "steps": 2 } }
      """, to: "config.json")
    _ = try await succeed(["train", "--data", z, "--out", scratch.path("run"), "--config", config])
    #expect(scratch.text("run/config.json").contains("bee"))
    // And its samples are pictures.
    _ = try await succeed(["sample", "--model", scratch.path("run"), "--out", scratch.path("s.png")])
    _ = try await succeed(["sample", "--model", scratch.path("run"), "--out", scratch.path("s.safetensors")])
    let samples = try scratch.tensors("s.safetensors")
    #expect(try samples.requireEntry(named: "images").shape == [2, 3, 16, 16])
    let latents = try scratch.write([TensorSource("samples", samples.tensor("samples"))], to: "again.safetensors")
    _ = try await succeed(["decode"] + vae + [latents, scratch.path("again-out.safetensors")])
    #expect(try scratch.tensors("again-out.safetensors").floats("images") == samples.floats("images"))
  }

  @Test("Inputs, models and options that do not fit are refused and leave no output")
  func badInput() async throws {
    let out = scratch.path("o.safetensors")
    let wrong = try scratch.write([TensorSource("latents", Tensor(zeros: [1, 3, 4, 4]))], to: "wrong.safetensors")
    try await expectFailure(["decode"] + vae + [wrong, out], 65, ["wrong.safetensors", "latents", "[N, 4, H, W]"])
    let odd = try scratch.write([TensorSource("images", Tensor(zeros: [1, 3, 5, 4]))], to: "odd.safetensors")
    try await expectFailure(["encode"] + vae + [odd, out], 65, ["odd.safetensors", "images", "multiples of 2"])
    try await expectFailure(["encode"] + vae + [wrong, out], 65, ["wrong.safetensors", "expected images"])
    try await expectFailure(["decode", "--model", scratch.path("no"), wrong, out], 65, ["no such file"])
    try await expectFailure(["decode", "--model", Model.digits, wrong, out], 65, ["autoencoder", "found none"])
    try await expectFailure(["decode"] + vae + [wrong, scratch.path("o.jpg")], 64, ["OUT", ".safetensors"])
    try await expectFailure(
      ["encode"] + vae + [scratch.path(""), out, "--size", "15"], 64, ["--size", "multiples of 2"])
    try await expectFailure(
      ["decode"] + vae + [wrong, out, "--precision", "bf16", "--gemm", "blas"], 64, ["--gemm"])
    #expect(!scratch.exists("o.safetensors"))
  }

  @Test("An interrupted decode saves the images that are finished")
  func interrupted() async throws {
    var random = Philox(seed: 1)
    let count = 400
    let latents = Tensor(shape: [count, 4, 32, 32], elements: random.normal(count: count * 4096))
    let file = try scratch.write([TensorSource("latents", latents)], to: "many.safetensors")
    let terminal = try Terminal()
    let run = try Tool.start(
      ["decode"] + vae + [file, scratch.path("x.safetensors")], in: scratch, terminal: terminal.end)
    await run.send(SIGINT) { terminal.counts { $0 > 1 } }
    let result = try await run.result()
    #expect(result.status == 130, "\(result.status) \(terminal.rest())")
    let shape = try scratch.tensors("x.safetensors").requireEntry(named: "images").shape
    #expect((2..<count).contains(shape[0]) && shape.dropFirst() == [3, 64, 64])
  }
}
