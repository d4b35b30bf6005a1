// A network that is told guidance, through the command line: sample, forward, schedule, loss.

import DiTEngine
import DiTFiles
import DiTImaging
import DiTTensor
import Foundation
import TestSupport
import Testing

@Suite("A network that is told guidance through the command line") struct MeanFlowCommandTests {
  private let scratch: Scratch
  private let model: String

  init() throws {
    scratch = try Scratch()
    model = scratch.path("pmf")
    var network = DiTConfiguration(
      inputHeight: 4, inputWidth: 4, patchSize: 2, inChannels: 1, hiddenSize: 16, depth: 1, numHeads: 2, mlpRatio: 2,
      numClasses: 3, learnSigma: false)
    (network.conditioning, network.norm) = (.tokens, .rms)
    network.tokenGroups = TokenGroups(classes: 2, omega: 1, tMin: 1, tMax: 1, time: 1)
    let table = ParameterTable(network)
    let weights = Weights(
      table,
      slices: table.parameters.map { FloatSlice(drawnWeights($0.name, $0.shape, seed: 4)) })
    let diffusion = DiffusionConfiguration(
      path: .linear, prediction: .x0, variance: .fixedLarge, networkTime: .s, noiseScale: 2)
    let sampling = SamplingConfiguration(
      sampler: Sampler(.meanflow, steps: 1, schedule: .linspace), guidance: Guidance(scale: 7.5, interval: 0.1...0.8))
    try ModelDirectory.write(
      ModelConfiguration(network: network, diffusion: diffusion, sampling: sampling), model: weights, ema: nil,
      to: model)
  }

  private func sample(_ arguments: String...) async throws -> SafetensorsFile {
    _ = try await succeed(["sample", "--model", model, "--out", scratch.path("s.safetensors")] + arguments)
    return try scratch.tensors("s.safetensors")
  }

  private func forward(_ change: (inout [String: [Float]]) -> Void = { _ in }) throws -> [String] {
    var told: [String: [Float]] = [
      "t": [1, 0.02], "h": [1, 0.5], "w": [7.5, 7.5], "t_min": [0.1, 0.1], "t_max": [0.8, 0.8],
    ]
    change(&told)
    var tensors = [
      TensorSource("x", Tensor(shape: [2, 1, 4, 4], elements: (0..<32).map { Float($0) / 8 - 2 })),
      TensorSource("y", Tensor(shape: [2], elements: [1, 3])),
    ]
    for (name, values) in told { tensors.append(TensorSource(name, Tensor(shape: [values.count], elements: values))) }
    let input = try scratch.write(tensors, to: "f.safetensors")
    return ["forward", "--model", model, "--input", input, "--out", scratch.path("o.safetensors")]
  }

  @Test("forward reads t, h, w, t_min and t_max and writes the mean velocity; sample goes along it")
  func forwardWritesTheMeanVelocity() async throws {
    _ = try await succeed(try forward())
    let u = try scratch.tensors("o.safetensors").floats("output")
    #expect(u.count == 32 && u.allSatisfy { $0.isFinite })
    // Of one noise ε = x/2, one step from t = 1 is x − u.
    let noise = try scratch.write(
      [
        TensorSource("noise", Tensor(shape: [1, 1, 4, 4], elements: (0..<16).map { Float($0) / 16 - 1 })),
        TensorSource("labels", Tensor(shape: [1], elements: [1])),
      ], to: "n.safetensors")
    let image = try await sample("--noise", noise).floats("samples")
    for i in 0..<16 { #expect(abs(image[i] - (Float(i) / 8 - 2 - u[i])) < 1e-5) }

    // Each number counts, but t only as the divisor.
    for name in ["h", "w", "t_min", "t_max"] {
      _ = try await succeed(try forward { $0[name]?[0] *= 0.7 })
      let changed = try scratch.tensors("o.safetensors").floats("output")
      #expect(changed.prefix(16) != u.prefix(16) && changed.suffix(16) == u.suffix(16), "\(name)")
    }
    _ = try await succeed(try forward { $0["t"] = [0.5, 0.05] })
    let scaled = try scratch.tensors("o.safetensors").floats("output")
    for i in 0..<16 { #expect(abs(scaled[i] - 2 * u[i]) < 1e-4) }
    #expect(scaled.suffix(16) == u.suffix(16), "the floor is 0.05")
  }

  @Test("forward refuses what is missing or out of range, by tensor")
  func forwardRefuses() async throws {
    for name in ["t", "h", "w", "t_min", "t_max"] {
      try await expectFailure(try forward { $0[name] = nil }, 65, ["tensor \(name)"])
    }
    for (name, value) in [("h", 1.5), ("w", 0.5), ("t_min", -0.1), ("t_max", 1.1)] as [(String, Float)] {
      try await expectFailure(try forward { $0[name]?[1] = value }, 65, ["tensor \(name)", "\(value)"])
    }
  }

  @Test("sample takes ω and the interval from the model or the options, and refuses other samplers by name")
  func options() async throws {
    let standard = try await sample("--classes", "0,2").floats("samples")
    let named = try await sample(
      "--classes", "0,2", "--sampler", "meanflow", "--steps", "1", "--guidance", "7.5", "--guidance-interval", "0.1,0.8"
    )
    #expect(try named.floats("samples") == standard)
    for change in [["--guidance", "3"], ["--guidance-interval", "0.2,0.8"], ["--steps", "3"]] {
      let other = ["sample", "--model", model, "--classes", "0,2", "--out", scratch.path("c.safetensors")]
      _ = try await succeed(other + change)
      #expect(try scratch.tensors("c.safetensors").floats("samples") != standard, "\(change)")
    }
    let command = ["sample", "--model", model, "--out", scratch.path("x.safetensors")]
    try await expectFailure(command + ["--sampler", "heun"], 64, ["--sampler", "meanflow", "heun"])
    try await expectFailure(command + ["--guidance", "0.5"], 64, ["--guidance", "at least 1", "0.5"])
    try await expectFailure(command + ["--guidance-interval", "0.5,2"], 64, ["--guidance-interval", "0…1", "0.5,2"])
    try await expectFailure(command + ["--guidance-channels", "1"], 64, ["--guidance-channels", "none"])
    try await expectFailure(
      ["sample", "--sampler", "meanflow", "--out", scratch.path("x.safetensors")], 64, ["--sampler", "meanflow"])
    #expect(!FileManager.default.fileExists(atPath: scratch.path("x.safetensors")))
  }

  @Test("A picture's text entries have meanflow, ω and the interval")
  func pictureText() async throws {
    _ = try await succeed(["sample", "--model", model, "--out", scratch.path("p.png"), "--steps", "2"])
    let entries = try PNGText.entries(inPNG: Array(scratch.bytes("p.png")))
    let text = Dictionary(uniqueKeysWithValues: entries.map { ($0.key, $0.value) })
    #expect(text["Sampler"] == "meanflow" && text["Steps"] == "2" && text["Guidance"] == "7.5")
    #expect(text["Guidance interval"] == "0.1,0.8" && text["Guidance channels"] == nil)
  }

  @Test("schedule shows the times and the lengths that the network is told")
  func schedule() async throws {
    let table = try await succeed(["schedule", "--steps", "4", model]).stdout
    let lines = table.split(separator: "\n").map { $0.split(separator: " ").map { String($0) } }
    let head = try #require(lines.first { $0.first == "step" })
    #expect(head.suffix(3) == ["s", "time", "h"])
    #expect(lines.last?.suffix(3) == ["1", "1", "0.25"])
    let json = try await succeed(["schedule", "--steps", "4", "--json", model]).stdout
    #expect(json.contains(#""h":0.25"#) || json.contains(#""h": 0.25"#))
    try await expectFailure(["schedule", "--sampler", "euler", model], 64, ["--sampler", "meanflow"])
    #expect(try await !succeed(["schedule", "--steps", "4", "--json"]).stdout.contains("\"h\""))
  }

  @Test("loss, invert and train refuse it by token_groups")
  func refusals() async throws {
    let x = TensorSource("x0", Tensor(zeros: [1, 1, 4, 4]))
    let input = try scratch.write(
      [
        x, TensorSource("noise", Tensor(zeros: [1, 1, 4, 4])), TensorSource("t", Tensor(shape: [1], elements: [0.5])),
        TensorSource("y", Tensor(shape: [1], elements: [0])),
      ], to: "l.safetensors")
    try await expectFailure(
      ["loss", "--model", model, "--input", input], 65, ["token_groups", "class and time alone"])
  }
}
