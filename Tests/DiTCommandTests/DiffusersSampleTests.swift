import DiTFiles
import DiTImaging
import DiTTensor
import Foundation
import TestSupport
import Testing

/// `dit sample` on a model with a saved diffusers scheduler, `--rng` and `--preview`.
@Suite("Sampling with a saved diffusers scheduler, torch's random numbers, and previews") struct DiffusersSampleTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// The fixture `latent` as a directory that came from diffusers.
  private func model(_ scheduler: String = #"{"clip_sample": false}"#) throws -> String {
    let path = scratch.path("model")
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    let source = URL(filePath: Model.latent)
    var configuration = try String(contentsOf: source.appending(path: "config.json"), encoding: .utf8)
    let end = try #require(configuration.lastIndex(of: "}"))
    configuration = configuration[..<end] + ", \"diffusers_scheduler\": \(scheduler)}"
    try configuration.write(toFile: "\(path)/config.json", atomically: true, encoding: .utf8)
    try? FileManager.default.copyItem(
      at: source.appending(path: "model.safetensors"), to: URL(filePath: "\(path)/model.safetensors"))
    return path
  }

  private func relative(_ name: String, _ expected: String) throws -> Double {
    let found = try scratch.tensors(name).floats("samples").doubles
    let expected = try Fixture("latent/pipeline").doubles(expected)
    guard found.count == expected.count else { return .infinity }
    let worst = zip(found, expected).map { abs($0 - $1) }.reduce(0) { $1 <= $0 ? $0 : $1 }
    return worst / expected.map(abs).reduce(0, max)
  }

  @Test("Samples are diffusers' for every sampler, and no longer are when any setting changes")
  func theCommandGivesThePipelinesSamples() async throws {
    let model = try model()
    let out = scratch.path("s.safetensors")
    for (sampler, steps) in [("ddim", 10), ("dpmpp", 20), ("unipc", 10), ("ddpm", 10)] {
      let settings = ["--guidance": "4", "--seed": "33", "--rng": "torch"]
      func run(_ change: (String, String)?) async throws -> Double {
        var settings = settings
        if let change { settings[change.0] = change.1 }
        let words = settings.sorted { $0.key < $1.key }.flatMap { [$0.key, $0.value] }
        _ = try await succeed(
          ["sample", "--model", model, "--classes", "3,0,6", "--sampler", sampler, "--steps", "\(steps)", "--out", out]
            + words)
        return try relative("s.safetensors", "\(sampler):\(steps):4:33")
      }
      let error = try await run(nil)
      #expect(error <= 2e-4, "\(sampler): \(error)")
      for change in [("--guidance", "3.9"), ("--seed", "34"), ("--rng", "philox"), ("--schedule", "quadratic")] {
        let error = try await run(change)
        #expect(error > 2e-3, "\(sampler), \(change): \(error)")
      }
    }
    let text = try scratch.tensors("s.safetensors").metadata
    #expect(text["Random numbers"] == "torch" && text["Schedule"] == "quadratic", "\(text)")
  }

  @Test("The output names the step rule used, also when it is the scheduler's own")
  func theSpacingIsNamedAlsoWhereItIsTheSchedulersOwn() async throws {
    let model = try model()
    for (sampler, rule) in [("ddim", "leading"), ("unipc", "linspace")] {
      let out = scratch.path("\(sampler).safetensors")
      _ = try await succeed([
        "sample", "--model", model, "--classes", "1", "--steps", "2", "--sampler", sampler, "--out", out,
      ])
      #expect(try scratch.tensors("\(sampler).safetensors").metadata["Schedule"] == rule)
    }
    let table = try await succeed(["schedule", "--steps", "4", model]).stdout
    #expect(table.hasPrefix("leading: 4 of 1000 steps") && table.contains("   750"), "\(table)")
    let back = scratch.path("noise.safetensors")
    _ = try await succeed([
      "invert", "--model", model, "--input", scratch.path("ddim.safetensors"), "--steps", "4", "--out", back,
    ])
  }

  @Test("A scheduler whose class is not here forbids its own sampler alone, by name")
  func aClassThatIsNotHereForbidsItsSamplerAlone() async throws {
    let model = try model(#"{"_class_name": "LMSDiscreteScheduler", "clip_sample": false, "shift": 3.0, "gamma": 0.3}"#)
    let out = scratch.path("s.safetensors")
    let command = ["sample", "--model", model, "--classes", "1", "--steps", "5", "--out", out]
    try await expectFailure(command, 64, ["sampler", "LMSDiscreteScheduler", "euler_ancestral"])
    for sampler in ["ddim", "euler", "euler_ancestral", "heun", "pndm", "deis", "dpmpp", "unipc", "ddpm"] {
      let trajectory = ["--trajectory", scratch.path("t.safetensors"), "--preview", scratch.path("p.png")]
      let run = try await succeed(command + ["--sampler", sampler] + trajectory)
      // One note in all, for what nobody reads.
      let notes = run.stderr.split(separator: "\n").filter { $0.hasPrefix("Note:") }
      #expect(notes == ["Note: the saved scheduler's shift, gamma are ignored, as by diffusers"], "\(run.stderr)")
      let states = try scratch.tensors("t.safetensors")
      #expect(try states.tensor("states").shape[0] == 5 && states.integers("timesteps").values.count == 5)
      #expect(try scratch.tensors("s.safetensors").tensor("samples").elements.allSatisfy(\.isFinite))
      let table = try await succeed(["schedule", "--steps", "5", "--sampler", sampler, model]).stdout
      #expect(table.contains("5 of 1000 steps"), "\(table)")
    }
    try await expectFailure(["schedule", model], 64, ["LMSDiscreteScheduler"])
    #expect(try await succeed(["info", model]).stdout.contains("LMSDiscreteScheduler"))
    _ = try await succeed([
      "invert", "--model", model, "--input", out, "--steps", "3", "--out", scratch.path("n.safetensors"),
    ])
    for format in ["dit", "diffusers"] {
      let copy = scratch.path(format)
      _ = try await succeed(["convert", model, copy, "--to", format])
      let file = format == "dit" ? "config.json" : "scheduler/scheduler_config.json"
      let text = try String(contentsOfFile: "\(copy)/\(file)", encoding: .utf8)
      #expect(text.contains("\"LMSDiscreteScheduler\"") && text.contains("\"gamma\""), "\(text)")
      try await expectFailure(
        ["sample", "--model", copy, "--classes", "1", "--out", out], 64, ["sampler", "LMSDiscreteScheduler"])
    }
  }

  @Test("A scheduler setting that is not supported is refused by key, where the sampler reads it")
  func unsupportedSchedulerKeysAreNamed() async throws {
    let model = try model(#"{"use_flow_sigmas": true, "clip_sample": false}"#)
    let command = [
      "sample", "--model", model, "--classes", "1", "--steps", "2", "--out", scratch.path("s.safetensors"),
    ]
    try await expectFailure(
      command + ["--sampler", "unipc"], 65, ["scheduler_config.use_flow_sigmas", "expected false", "found true"])
    _ = try await succeed(command)  // DDIM does not read it
    try await expectFailure(command + ["--rng", "numpy"], 64, ["--rng", "numpy"])
  }

  // MARK: Previews

  @Test("The last preview is the picture of the samples")
  func aPreviewEndsAsTheSamples() async throws {
    for (model, name) in [(Model.latent, "latent"), (Model.digits, "digits"), (Model.oblong, "oblong")] {
      _ = try await succeed([
        "sample", "--model", model, "--classes", "0-2", "--steps", "3", "--preview", scratch.path("\(name).png"),
        "--out",
        scratch.path("\(name).safetensors"),
      ])
      let found = try Image(contentsOf: scratch.path("\(name).png"))
      let samples = try scratch.tensors("\(name).safetensors").tensor("samples")
      #expect(found == Self.picture(samples), "\(name)")
      #expect(found.channels == (name == "digits" ? 1 : 3))
      let entries = try PNGText.entries(inPNG: Array(scratch.bytes("\(name).png")))
      #expect(entries.contains { $0.key == "Step" && $0.value == "3 of 3" })
    }
  }

  @Test("Previews of a wrong ending, path or number of channels are refused")
  func aPreviewIsRefusedWhereThereIsNone() async throws {
    let out = scratch.path("s.safetensors")
    let digits = ["sample", "--classes", "1", "--steps", "2", "--out", out]
    try await expectFailure(digits + ["--preview", scratch.path("p.jpg")], 64, ["--preview", ".png"])
    try await expectFailure(digits + ["--preview", scratch.path("none/p.png")], 1, ["no such directory"])
    try await expectFailure(
      ["sample", "--classes", "1", "--out", scratch.path("a.png"), "--preview", scratch.path("a.png")], 64,
      ["--preview"])
    try await expectFailure(
      ["sample", "--model", Model.unconditional, "--out", out, "--preview", scratch.path("p.png")], 64,
      ["--preview", "channels", "2"])
  }

  /// The grid of pixels, or of latents through the map as DiffusionTransformers.docc/Sampling.md has it.
  private static func picture(_ samples: Tensor) -> Image {
    let (channels, height, width) = (samples.shape[1], samples.shape[2], samples.shape[3])
    let area = height * width
    let images = (0..<samples.shape[0]).map { n -> Image in
      let planes = Array(samples.elements[n * channels * area..<(n + 1) * channels * area])
      guard channels == 4 else { return Image(planes: planes, channels: channels, height: height, width: width) }
      let factors: [[Float]] = [
        [0.3512, 0.3250, -0.2829, -0.2120], [0.2297, 0.4974, 0.1762, -0.2616], [0.3227, 0.2350, 0.2721, -0.7177],
      ]
      let colors = factors.flatMap { factors in
        (0..<area).map { at in (0..<4).reduce(Float(0)) { $0 + factors[$1] * planes[$1 * area + at] } }
      }
      return Image(planes: colors, channels: 3, height: height, width: width)
    }
    return ImageGrid(images, columns: ImageGrid.compactColumns(for: images.count)).rendered()
  }
}
