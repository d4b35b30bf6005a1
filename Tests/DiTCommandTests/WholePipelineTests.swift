import DiTFiles
import DiTImaging
import DiTTensor
import Foundation
import TestSupport
import Testing

/// A pipeline of diffusers with everything in it, to pictures (`Scripts/fixtures/whole_pipeline.py`).
@Suite("A whole diffusers pipeline, from noise to pictures") struct WholePipelineTests {
  private static let pipeline = Fixture.path("whole", folder: "diffusers")
  let scratch: Scratch
  let diffusers: SafetensorsFile

  init() throws {
    scratch = try Scratch()
    diffusers = try SafetensorsFile(contentsOf: Fixture.path("whole.safetensors", folder: "diffusers"))
  }

  /// How far `dit sample` is from diffusers' samples, relative to the largest, and from its pictures, of 255.
  private func distance(
    _ sampler: String, guidance: String = "4", of model: String = pipeline, from other: String? = nil
  ) async throws -> (samples: Double, pixels: Float) {
    _ = try await succeed([
      "sample", "--model", model, "--rng", "torch", "--seed", "33", "--classes", "207,3", "--steps", "8", "--sampler",
      sampler, "--guidance", guidance, "--out", scratch.path("s.safetensors"),
    ])
    let ours = try scratch.tensors("s.safetensors")
    let images = zip(try ours.floats("images"), try diffusers.floats("\(other ?? sampler).images"))
    return (
      relativeError(
        try ours.floats("samples"), try diffusers.floats("\(other ?? sampler).samples").map(Double.init)),
      images.map { abs($0 / 2 + 0.5 - $1) * 255 }.max() ?? .infinity
    )
  }

  @Test("Samples and pictures are diffusers' to 1e-5 and 0.01 of 255", arguments: ["ddim", "dpmpp", "unipc"])
  func samplesAndPicturesAreThoseOfDiffusers(_ sampler: String) async throws {
    let found = try await distance(sampler)
    #expect(found.samples <= 1e-5 && found.pixels <= 0.01, "\(found)")
  }

  /// The goal, 2e-4 and half a step of 255, tells these from what they are not.
  @Test("Another guidance, sampler or time embedding misses diffusers by more than the tolerance")
  func otherSettingsMissTheTolerance() async throws {
    let model = scratch.path("model")
    _ = try await succeed(["convert", Self.pipeline, model])
    let config = scratch.text("model/config.json")
    #expect(config.contains(#""time_frequencies": "diffusers""#))
    try config.replacing(#""time_frequencies": "diffusers""#, with: #""time_frequencies": "dit""#)
      .write(toFile: "\(model)/config.json", atomically: true, encoding: .utf8)
    for found in [
      try await distance("dpmpp", guidance: "3.9"), try await distance("unipc", from: "dpmpp"),
      try await distance("dpmpp", of: model),
    ] {
      #expect(found.samples > 2e-4 && found.pixels > 0.5, "\(found)")
    }
  }

  /// The autoencoder goes along, byte by byte, whatever its files are called.
  @Test("Conversion copies the autoencoder byte by byte")
  func conversionTakesTheAutoencoderAlong() async throws {
    let (model, back) = (scratch.path("model"), scratch.path("back"))
    _ = try await succeed(["convert", Self.pipeline, model])
    let run = try await succeed(["convert", model, back, "--to", "diffusers"])
    #expect(!run.stderr.contains("vae"))
    let names = try FileManager.default.contentsOfDirectory(atPath: "\(Self.pipeline)/vae").sorted()
    #expect(names.count == 6)
    for target in ["model", "back"] {
      #expect(scratch.text("\(target)/config.json").contains(#""vae": "vae""#) == (target == "model"))
      #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path("\(target)/vae")).sorted() == names)
      for name in names {
        let original = try Data(contentsOf: URL(filePath: "\(Self.pipeline)/vae/\(name)"))
        #expect(try scratch.bytes("\(target)/vae/\(name)") == original)
      }
      let found = try await distance("dpmpp", of: scratch.path(target))
      #expect(found.samples <= 1e-5 && found.pixels <= 0.01, "\(found)")
    }
  }

  /// A run that starts from it has a copy, so that its folder can be moved, and names no path.
  @Test("A run copies the autoencoder, can be moved and names no absolute path")
  func trainingTakesTheAutoencoderAlong() async throws {
    let data = try scratch.write(
      [
        TensorSource("latents", shape: [4, 4, 4, 4]) { _, chunk in
          for i in chunk.indices { chunk[i] = Float(i % 7) / 7 }
        },
        TensorSource("labels", labels: [0, 1, 2, 3]),
      ], to: "data.safetensors")
    let train = ["train", "--data", data, "--out", scratch.path("run"), "--batch", "2", "--steps", "2"]
    _ = try await succeed(train + ["--from", Self.pipeline])
    try FileManager.default.removeItem(atPath: scratch.path("run/checkpoints/step-00000002"))
    _ = try await succeed(train + ["--resume"])
    #expect(scratch.text("run/config.json").contains(#""vae": "vae""#))
    let config = scratch.text("run/checkpoints/step-00000002/config.json")
    #expect(config.contains(#""vae": "../../vae""#))
    for name in ["config.json", "checkpoints/step-00000002/config.json", "checkpoints/step-00000002/training.json"] {
      #expect(!scratch.text("run/\(name)").contains(scratch.path("")))
    }
    // Somewhere else, the run and its checkpoint still make pictures; so does another that starts from it.
    try FileManager.default.moveItem(atPath: scratch.path("run"), toPath: scratch.path("moved"))
    _ = try await succeed([
      "train", "--data", data, "--out", scratch.path("next"), "--batch", "2", "--steps", "1", "--from",
      scratch.path("moved"),
    ])
    for model in ["moved", "moved/checkpoints/step-00000002", "next"] {
      let out = scratch.path("x.png")
      _ = try await succeed([
        "sample", "--model", scratch.path(model), "--classes", "1", "--steps", "2", "--out", out,
      ])
      #expect(try Image(contentsOf: out).channels == 3)
      try FileManager.default.removeItem(atPath: out)
    }
  }

  /// An autoencoder that is not there is found missing before anything is written.
  @Test("A missing autoencoder is reported before anything is written")
  func missingAutoencoder() async throws {
    let copy = scratch.path("copy")
    try FileManager.default.copyItem(atPath: Self.pipeline, toPath: copy)
    try FileManager.default.removeItem(atPath: "\(copy)/vae/config.json")
    for command in [
      ["train", "--data", "digits", "--from", copy, "--out", scratch.path("out")],
      ["sample", "--model", copy, "--out", scratch.path("out.png")], ["convert", copy, scratch.path("out")],
    ] {
      try await expectFailure(command, 65, ["copy/vae/config.json", "no such file"])
    }
    #expect(scratch.names == ["copy"])
  }
}
