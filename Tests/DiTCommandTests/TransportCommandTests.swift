// SiT's, REPA's and LightningDiT's files through the command line: describe, sample, decode, convert.

import DiTFiles
import DiTTensor
import Foundation
import TestSupport
import Testing

@Suite("SiT's, REPA's and LightningDiT's files through the command line") struct TransportCommandTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func file(_ name: String) -> String { Fixture.path(name, folder: "families") }

  @Test("info says family, process and sampling, how the family was told, and what is passed over")
  func info() async throws {
    let sit = try await succeed(["info", file("sit.pt"), "--heads", "2"])
    for words in [
      "SiT, DiT's network as a flow",
      "linear path, the network says the velocity, its time runs from noise at 0 to data at 1",
      "sde, 250 steps, guidance 1.5",
    ] { #expect(sit.stdout.contains(words), "\(words)") }
    #expect(sit.stdout.contains("SiT, DiT's network as a flow; as its trainer's model is SiT-B/2"), "\(sit.stdout)")
    let repa = try await succeed(["info", file("repa-e.pt"), "--heads", "2"])
    #expect(repa.stdout.contains("sde, 250 steps, guidance 1.8 where 0 ≤ t ≤ 0.7"), "\(repa.stdout)")
    #expect(repa.stdout.contains("\"latent_statistics\"") && repa.stderr.contains("passed over: bn, projectors"))
    let lightning = try await succeed(["info", file("lightningdit.pt")])
    #expect(lightning.stdout.contains("euler, 249 steps, shift 0.3, guidance 6.7 on 3 channels where 0.125 ≤ t ≤ 1"))
    #expect(lightning.stdout.contains("the loss has the cosine over channels"))
    let plain = try await succeed(["info", "SiT-XL/2"])
    #expect(plain.stdout.contains("675,129,632"))
  }

  private func samples(_ name: String, _ options: [String]) async throws -> [Float] {
    _ = try await succeed(
      ["sample", "--model", file("sit.pt"), "--heads", "2", "--out", scratch.path(name)] + options)
    return try scratch.tensors(name).floats("samples")
  }

  @Test("sde draws new noise in each step from image n's own stream; dopri5 and shift are settings that the file names")
  func samplers() async throws {
    let sde = ["--sampler", "sde", "--steps", "4"]
    let one = try await samples("one.safetensors", sde + ["--classes", "1,2"])
    #expect(try await samples("again.safetensors", sde + ["--classes", "1,2", "--threads", "1"]) == one)
    let other = try await samples("other.safetensors", sde + ["--classes", "1,2", "--seed", "1"])
    #expect(other != one)
    #expect(try await samples("alone.safetensors", sde + ["--classes", "1"]) == Array(one.prefix(256)))
    let adaptive = try await samples(
      "dopri5.safetensors", ["--sampler", "dopri5", "--tolerance", "1e-2,1e-3", "--steps", "5", "--classes", "1"])
    let metadata = try scratch.tensors("dopri5.safetensors").metadata
    #expect(metadata["Tolerance"] == "0.01,0.001" && metadata["Sampler"] == "dopri5")
    let tighter = try await samples("tight.safetensors", ["--sampler", "dopri5", "--steps", "5", "--classes", "1"])
    #expect(try scratch.tensors("tight.safetensors").metadata["Tolerance"] == "0.001,1e-06" && tighter != adaptive)
    let shifted = try await samples(
      "shift.safetensors", ["--sampler", "euler", "--steps", "4", "--shift", "0.3", "--classes", "1"])
    let even = try await samples("even.safetensors", ["--sampler", "euler", "--steps", "4", "--classes", "1"])
    #expect(try scratch.tensors("shift.safetensors").metadata["Shift"] == "0.3" && shifted != even)
    #expect(try scratch.tensors("even.safetensors").metadata["Shift"] == nil)
  }

  @Test("A trajectory of dopri5 has a state for each part of the way, the last of them the sample")
  func adaptiveTrajectory() async throws {
    let sample = try await samples(
      "sample.safetensors",
      ["--sampler", "dopri5", "--steps", "6", "--classes", "1,2", "--trajectory", scratch.path("t.safetensors")])
    let file = try scratch.tensors("t.safetensors")
    #expect(try file.floats("timesteps").count == 6 && file.floats("timesteps").last == 1)
    let states = try file.floats("states")
    #expect(states.count == 6 * 512 && Array(states.suffix(512)) == sample)
    for step in 0..<6 { #expect(states[step * 512..<(step + 1) * 512].contains { $0 != 0 }, "state \(step)") }
  }

  @Test("Latent statistics are undone before decoding, by sample and by decode alike")
  func statistics() async throws {
    try AutoencoderFixture("tiny").write(to: scratch.url.appending(path: "vae"))
    let keys = try scratch.write(
      #"{"vae": "\#(scratch.path("vae"))", "latent_statistics": {"mean": [0.5, -1, 0, 2], "std": [2, 3, 0.5, 1]}}"#,
      to: "keys.json")
    _ = try await succeed([
      "convert", file("sit.pt"), scratch.path("model"), "--heads", "2", "--config", keys,
    ])
    _ = try await succeed([
      "sample", "--model", scratch.path("model"), "--sampler", "euler", "--steps", "2", "--classes", "1", "--out",
      scratch.path("s.safetensors"),
    ])
    let made = try scratch.tensors("s.safetensors")
    let (latents, images) = (try made.floats("samples"), try made.floats("images"))
    // The same latents as the autoencoder has them, by the autoencoder alone: its factor is 0.18215.
    let (mean, std): ([Float], [Float]) = ([0.5, -1, 0, 2], [2, 3, 0.5, 1])
    let raw = latents.indices.map { (latents[$0] * std[$0 / 64] + mean[$0 / 64]) * 0.18215 }
    _ = try scratch.write(
      [TensorSource("latents", Tensor(shape: [1, 4, 8, 8], elements: raw))], to: "raw.safetensors")
    _ = try await succeed([
      "decode", "--model", scratch.path("vae"), scratch.path("raw.safetensors"), scratch.path("i.safetensors"),
    ])
    let plain = try scratch.tensors("i.safetensors").floats("images")
    #expect(relativeError(images, plain.map(Double.init)) <= 1e-5)
    _ = try scratch.write(
      [TensorSource("latents", Tensor(shape: [1, 4, 8, 8], elements: latents))], to: "l.safetensors")
    _ = try await succeed([
      "decode", "--model", scratch.path("model"), scratch.path("l.safetensors"), scratch.path("j.safetensors"),
    ])
    #expect(try scratch.tensors("j.safetensors").floats("images") == images)
    // The autoencoder as a file, which goes along with the model too.
    let bare = try scratch.write(
      #"{"vae": "\#(scratch.path("vae/diffusion_pytorch_model.safetensors"))", "latent_statistics": {"mean": [0.5, -1, 0, 2], "std": [2, 3, 0.5, 1]}}"#,
      to: "bare.json")
    _ = try await succeed(["convert", file("sit.pt"), scratch.path("bare"), "--heads", "2", "--config", bare])
    _ = try await succeed([
      "decode", "--model", scratch.path("bare"), scratch.path("l.safetensors"), scratch.path("k.safetensors"),
    ])
    #expect(try scratch.tensors("k.safetensors").floats("images") == images)
  }

  @Test("LightningDiT without statistics makes no pictures, but samples; other refusals name what they are about")
  func refusals() async throws {
    try AutoencoderFixture("tiny").write(to: scratch.url.appending(path: "vae"))
    let keys = try scratch.write(#"{"vae": "\#(scratch.path("vae"))"}"#, to: "keys.json")
    _ = try await succeed(["convert", file("lightningdit.pt"), scratch.path("model"), "--config", keys])
    let sample = ["sample", "--model", scratch.path("model"), "--steps", "1", "--classes", "1", "--out"]
    try await expectFailure(sample + [scratch.path("x.png")], 65, ["latent_statistics: expected means and deviations"])
    _ = try await succeed(sample + [scratch.path("x.safetensors")])
    #expect(!(try scratch.tensors("x.safetensors").names.contains("images")))
    try await expectFailure(
      ["decode", "--model", scratch.path("model"), scratch.path("x.safetensors"), scratch.path("y.safetensors")], 65,
      ["latent_statistics: expected means and deviations"])
    let sit = ["--heads", "2"]
    try await expectFailure(
      ["convert", file("sit.pt"), scratch.path("out.pt"), "--to", "sit"] + sit, 65,
      ["depth, hidden_size, patch_size: expected those of SiT-S/2 to SiT-XL/8"])
    try await expectFailure(
      ["convert", file("repa.pt"), scratch.path("out.pt"), "--to", "sit"] + sit, 65, ["family: expected sit"])
    try await expectFailure(
      ["convert", file("sit.pt"), scratch.path("vae"), "--to", "sit"] + sit, 64, ["expected no file of that name"])
    try await expectFailure(
      ["convert", file("repa-e.pt"), scratch.path("out.pt"), "--to", "sit"] + sit, 65,
      ["latent_statistics: expected none, as SiT's code decodes"])
    #expect(!scratch.exists("out.pt"))
    try await expectFailure(
      [
        "sample", "--model", file("sit.pt"), "--sampler", "dopri5", "--tolerance", "1e-3", "--out",
        scratch.path("x.safetensors"),
      ]
        + sit, 64, ["tolerance"])
    try await expectFailure(
      ["schedule", "--sampler", "dopri5", file("sit.pt")] + sit, 64, ["steps are known beforehand"])
  }
}
