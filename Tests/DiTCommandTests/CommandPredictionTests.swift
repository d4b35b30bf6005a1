// Models that predict something else than noise, and their samplers, through the command line.

import DiTFiles
import DiTTensor
import Foundation
import TestSupport
import Testing

@Suite("Models with other prediction targets, and their samplers") struct PredictionTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// The unconditional fixture (2×3×5) with another prediction; the weights are what they are.
  private func model(_ prediction: String) throws -> String {
    try model(prediction, "\"prediction\": \"\(prediction)\"")
  }

  /// JiT's process.
  private func jit() throws -> String {
    try model(
      "jit",
      #""path": "linear", "prediction": "x0", "network_time": "1-s", "loss_target": "velocity", "noise_scale": 2"#)
  }

  private func model(_ prediction: String, _ keys: String) throws -> String {
    let directory = scratch.path(prediction)
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let config = try String(contentsOfFile: Model.unconditional + "/config.json", encoding: .utf8)
    let changed = config.replacing("\"variance\":", with: "\(keys), \"variance\":")
    try #require(changed != config)
    try changed.write(toFile: directory + "/config.json", atomically: true, encoding: .utf8)
    try FileManager.default.copyItem(
      atPath: Model.unconditional + "/model.safetensors", toPath: directory + "/model.safetensors")
    return directory
  }

  private func sample(_ model: String, _ arguments: String...) async throws -> SafetensorsFile {
    let name = "\(UUID().uuidString).safetensors"
    _ = try await succeed(["sample", "--model", model, "--count", "3", "--out", scratch.path(name)] + arguments)
    return try scratch.tensors(name)
  }

  @Test(
    "Every sampler of a prediction target gives its own finite samples, Euler DDIM's, Euler ancestral DDPM's",
    arguments: ["epsilon", "mean", "x0", "v"])
  func everySamplerCounts(_ prediction: String) async throws {
    let model = try model(prediction)
    var seen: [String: [Float]] = [:]
    for sampler in ["ddim", "ddpm", "dpmpp", "unipc", "euler", "euler_ancestral", "heun", "pndm", "deis"] {
      let values = try await sample(model, "--steps", "5", "--sampler", sampler).floats("samples")
      #expect(values.allSatisfy { $0.isFinite }, "\(sampler)")
      seen[sampler] = values
    }
    // On the same levels they are the same step; the model's variance is fixed_small.
    for (name, other) in [("euler", "ddim"), ("euler_ancestral", "ddpm")] {
      let (found, expected) = (try #require(seen[name]), try #require(seen[other]))
      let scale = expected.map(abs).max() ?? 0
      #expect(zip(found, expected).allSatisfy { abs($0 - $1) <= 1e-5 * scale }, "\(name)")
      seen[name] = nil
    }
    #expect(Set(seen.values.map { $0.map(\.bitPattern) }).count == 7)
  }

  @Test("Every step rule gives its own samples, and jump is jump:0.5")
  func stepRulesCount() async throws {
    let model = try model("v")
    var seen: Set<[UInt32]> = []
    for rule in ["linspace", "quadratic", "jump", "jump:1", "jump:2"] {
      seen.insert(
        try await sample(model, "--steps", "6", "--schedule", rule, "--sampler", "dpmpp").floats("samples")
          .map(\.bitPattern))
    }
    #expect(seen.count == 5)
    let (word, number) = try await (sample(model, "--schedule", "jump"), sample(model, "--schedule", "jump:0.5"))
    #expect(bitDifference(try word.floats("samples"), try number.floats("samples")) == nil)
  }

  /// Heun by default; times are real; other samplers and grids are refused.
  @Test("Flow models sample by Heun or Euler at real times and refuse diffusion samplers")
  func flowsHaveTheirOwnSamplers() async throws {
    let model = try model("flow")
    let trajectory = scratch.path("t.safetensors")
    let heun = try await sample(model, "--steps", "8", "--trajectory", trajectory)
    #expect(try scratch.tensors("t.safetensors").floats("timesteps") == [1000, 875, 750, 625, 500, 375, 250, 125])
    #expect(try scratch.tensors("t.safetensors").requireEntry(named: "states").shape == [8, 3, 2, 3, 5])
    let named = try await sample(model, "--steps", "8", "--sampler", "heun")
    let euler = try await sample(model, "--steps", "8", "--sampler", "euler")
    #expect(bitDifference(try named.floats("samples"), try heun.floats("samples")) == nil)
    #expect(try euler.floats("samples") != heun.floats("samples"))
    let command = ["sample", "--model", model, "--out", scratch.path("x.safetensors")]
    for sampler in ["ddim", "ddpm", "dpmpp", "unipc"] {
      try await expectFailure(
        command + ["--sampler", sampler], 64, ["--sampler", "euler, heun", "the model's path is linear", sampler])
    }
    try await expectFailure(command + ["--schedule", "jump:1"], 64, ["--schedule", "linspace", "jump:1"])
    try await expectFailure(command + ["--schedule", "custom:1,2"], 64, ["--schedule", "linspace", "custom:1,2"])
    try await expectFailure(command + ["--eta", "0.5"], 64, ["--eta", "heun"])
    try await expectFailure(command + ["--steps", "1001"], 64, ["--steps", "1…1000"])
  }

  /// Times go from 0, noise, to 1, data; the start is ς times the given noise; the last step of .25 lands on what
  /// `dit forward` says, as it does not begin below the floor.
  @Test("A model that counts 1−s is asked, listed, guided and refused in its own time")
  func timesAreTheNetworks() async throws {
    let model = try jit()
    let shape = [1, 2, 3, 5]
    var random = Philox(seed: 8)
    let noise = random.normal(count: 30)
    let start = try scratch.write([TensorSource("noise", Tensor(shape: shape, elements: noise))], to: "n.safetensors")
    let output = scratch.path("s.safetensors")
    let command = ["sample", "--model", model, "--noise", start, "--sampler", "euler", "--out", output]
    _ = try await succeed(command + ["--steps", "4", "--trajectory", scratch.path("t.safetensors")])
    #expect(try scratch.tensors("t.safetensors").floats("timesteps") == [0, 0.25, 0.5, 0.75])
    let states = try scratch.tensors("t.safetensors").floats("states")

    func forward(_ x: [Float], _ time: Float) async throws -> [Float] {
      let input = try scratch.write(
        [
          TensorSource("x", Tensor(shape: shape, elements: x)), TensorSource("t", Tensor(shape: [1], elements: [time])),
        ], to: "f.safetensors")
      _ = try await succeed(["forward", "--model", model, "--input", input, "--out", scratch.path("o.safetensors")])
      return try scratch.tensors("o.safetensors").floats("output")
    }
    let first = try await forward(noise.map { 2 * $0 }, 0)
    var expected: [Double] = []
    for (noise, clean) in zip(noise, first) { expected.append(1.5 * Double(noise) + 0.25 * Double(clean)) }
    #expect(relativeError(Array(states[..<30]), expected) < 1e-5)
    let last = try await forward(Array(states[60..<90]), 0.75)
    #expect(relativeError(try scratch.tensors("s.safetensors").floats("samples"), last.map { Double($0) }) < 1e-5)

    let input = try scratch.write(
      [
        TensorSource("x", Tensor(zeros: shape)), TensorSource("t", Tensor(shape: [1], elements: [1.5])),
      ], to: "f.safetensors")
    try await expectFailure(
      ["forward", "--model", model, "--input", input, "--out", output], 65, ["tensor t", "0…1", "1.5"])
    try await expectFailure(
      command + ["--guidance-interval", "100,700"], 64, ["--guidance-interval", "0…1", "100,700"])
    try await expectFailure(command + ["--sampler", "dpmpp"], 64, ["--sampler", "euler, heun", "path is linear"])
  }

  /// (v − v̂)² with v = (x_s − ·)/max(s, t_floor), from what `dit forward` says.
  @Test("With loss_target velocity, dit loss compares velocities made of the clean images")
  func lossComparesVelocities() async throws {
    let model = try jit()
    var random = Philox(seed: 9)
    let (clean, noise) = (random.normal(count: 90), random.normal(count: 90))
    let times: [Float] = [0, 0.5, 0.96875]
    var noised: [Float] = []
    for i in 0..<90 {
      let t = times[i / 30]
      noised.append(t * clean[i] + (1 - t) * 2 * noise[i])
    }
    let shape = [3, 2, 3, 5]
    let t = TensorSource("t", Tensor(shape: [3], elements: times))
    let forward = try scratch.write(
      [TensorSource("x", Tensor(shape: shape, elements: noised)), t], to: "f.safetensors")
    _ = try await succeed(["forward", "--model", model, "--input", forward, "--out", scratch.path("o.safetensors")])
    let output = try scratch.tensors("o.safetensors").floats("output")
    var expected = [0.0, 0, 0]
    for i in 0..<90 {
      let (x, divisor) = (Double(noised[i]), max(1 - Double(times[i / 30]), 0.05))
      let error = (Double(clean[i]) - x) / divisor - (Double(output[i]) - x) / divisor
      expected[i / 30] += error * error / 30
    }
    let input = try scratch.write(
      [
        TensorSource("x0", Tensor(shape: shape, elements: clean)), t,
        TensorSource("noise", Tensor(shape: shape, elements: noise)),
      ], to: "l.safetensors")
    let found = scratch.path("g.safetensors")
    _ = try await succeed(["loss", "--model", model, "--input", input, "--out", found])
    #expect(relativeError(try scratch.tensors("g.safetensors").floats("loss.loss"), expected) < 1e-4)
  }

  /// `dit loss` at given noise, from what `dit forward` says at the noised images: mean squared error to the target.
  @Test(
    "dit loss is the mean squared error of what dit forward says against the target",
    arguments: ["epsilon", "mean", "x0", "v", "flow"])
  func lossIsTheErrorOfThePrediction(_ prediction: String) async throws {
    let model = try model(prediction)
    let shape = [3, 2, 3, 5]
    var random = Philox(seed: 5)
    let (clean, noise) = (random.normal(count: 90), random.normal(count: 90))
    let times: [Float] = prediction == "flow" ? [1000, 312.5, 50] : [999, 400, 7]
    var (noised, target, scale) = ([Float](), [Double](), [Double]())
    for (n, time) in times.enumerated() {
      let level = Level(prediction, Double(time))
      scale.append(level.scale)
      for i in n * 30..<(n + 1) * 30 {
        let (x, e) = (Double(clean[i]), Double(noise[i]))
        noised.append(Float(level.signal * x + level.spread * e))
        target.append(level.target(x, e))
      }
    }
    let t = TensorSource("t", Tensor(shape: [3], elements: times))
    let forward = try scratch.write(
      [TensorSource("x", Tensor(shape: shape, elements: noised)), t], to: "f.safetensors")
    _ = try await succeed(["forward", "--model", model, "--input", forward, "--out", scratch.path("o.safetensors")])
    let output = try scratch.tensors("o.safetensors").floats("output")
    var expected = [0.0, 0, 0]
    for (i, value) in output.enumerated() {
      let error = Double(value) - target[i]
      expected[i / 30] += scale[i / 30] * error * error / 30
    }
    let input = try scratch.write(
      [
        TensorSource("x0", Tensor(shape: shape, elements: clean)), t,
        TensorSource("noise", Tensor(shape: shape, elements: noise)),
      ], to: "l.safetensors")
    let command = ["loss", "--model", model, "--input", input]
    _ = try await succeed(command + ["--out", scratch.path("g.safetensors")])
    let found = try scratch.tensors("g.safetensors")
    for name in ["loss.mse", "loss.loss"] {
      let error = relativeError(try found.floats(name), expected)
      #expect(error < 1e-4, "\(prediction) \(name): relative error \(error)")
    }
    #expect(try found.requireEntry(named: "loss.patches").shape == [3, 15])

    let weighted = command + ["--loss-weighting", "min_snr", "--out"]
    _ = try await succeed(weighted + [scratch.path("w5.safetensors")])
    _ = try await succeed(weighted + [scratch.path("w1.safetensors"), "--min-snr-gamma", "0.01"])
    let (five, low) = (try scratch.tensors("w5.safetensors"), try scratch.tensors("w1.safetensors"))
    #expect(bitDifference(try five.floats("loss.mse"), try found.floats("loss.mse")) == nil)
    #expect(try five.floats("loss.loss") != found.floats("loss.loss"))
    #expect(try five.floats("loss.loss") != low.floats("loss.loss"))
    try await expectFailure(command + ["--min-snr-gamma", "5"], 64, ["--min-snr-gamma", "--loss-weighting min_snr"])
    try await expectFailure(
      command + ["--loss-weighting", "min_snr", "--min-snr-gamma", "0"], 64, ["--min-snr-gamma", "above 0"])
    try await expectFailure(command + ["--loss-weighting", "snr"], 64, ["--loss-weighting", "snr"])
  }

  /// The published linear schedule, or the line.
  private struct Level {
    var signal, spread: Double
    var scale = 1.0
    private var ofClean, ofNoise: Double

    init(_ prediction: String, _ time: Double) {
      if prediction == "flow" {
        (signal, spread) = (1 - time / 1000, time / 1000)
        (ofClean, ofNoise) = (-1, 1)
        return
      }
      let betas = (0...Int(time)).map { 1e-4 + (0.02 - 1e-4) / 999 * Double($0) }
      let previous = betas.dropLast().reduce(1) { $0 * (1 - $1) }
      let beta = betas.last ?? 0
      let bar = previous * (1 - beta)
      (signal, spread) = (bar.squareRoot(), (1 - bar).squareRoot())
      switch prediction {
      case "mean":
        let c1 = beta * previous.squareRoot() / (1 - bar)
        let c2 = (1 - beta).squareRoot() * (1 - previous) / (1 - bar)
        (ofClean, ofNoise) = (c1 + c2 * signal, c2 * spread)
        scale = (1 - bar) * (1 - beta) / (beta * beta)
      case "x0": (ofClean, ofNoise) = (1, 0)
      case "v": (ofClean, ofNoise) = (-spread, signal)
      default: (ofClean, ofNoise) = (0, 1)
      }
    }

    func target(_ x: Double, _ e: Double) -> Double { ofClean * x + ofNoise * e }
  }

  @Test("Times outside 0...1000 are refused for flow models")
  func timesOutsideTheFlowAreRefused() async throws {
    let model = try model("flow")
    let x = TensorSource("x", Tensor(zeros: [1, 2, 3, 5]))
    for time in [Float(1000.5), -1] {
      let input = try scratch.write([x, TensorSource("t", Tensor(shape: [1], elements: [time]))], to: "f.safetensors")
      try await expectFailure(
        ["forward", "--model", model, "--input", input, "--out", scratch.path("o.safetensors")], 65,
        ["tensor t", "0…1000", "\(time)"])
    }
  }

  /// Noise found by running backwards makes the image again; the error falls with the steps. An untrained network is no
  /// clean image and no mean of anything: those run backwards in the sampler's own tests.
  @Test(
    "Inversion and sampling return to the image, the error falling with the steps", arguments: ["v", "flow", "scaled"])
  func inversionComesBack(_ prediction: String) async throws {
    let scaled = #""path": "linear", "prediction": "velocity", "network_time": "1-s", "noise_scale": 2"#
    let model = try prediction == "scaled" ? model(prediction, scaled) : model(prediction)
    let images = Tensor(shape: [2, 2, 3, 5], elements: (0..<60).map { Float($0 * 37 % 64) / 32 - 1 })
    let input = try scratch.write([TensorSource("images", images)], to: "i.safetensors")
    let sampler = prediction == "v" ? "ddim" : "euler"
    var errors: [Double] = []
    for steps in ["20", "320"] {
      let noise = scratch.path("n.safetensors")
      _ = try await succeed(["invert", "--model", model, "--input", input, "--steps", steps, "--out", noise])
      let again = try await succeed([
        "sample", "--model", model, "--noise", noise, "--steps", steps, "--sampler", sampler, "--out",
        scratch.path("a.safetensors"),
      ])
      #expect(again.status == 0)
      errors.append(
        relativeError(try scratch.tensors("a.safetensors").floats("samples"), images.elements.map { Double($0) }))
    }
    #expect(errors[1] < errors[0] / 3, "\(prediction): \(errors)")
  }
}
