import DiTFiles
import DiTTensor
import Foundation
import TestSupport
import Testing

/// Every option of `dit sample` does what it says.
@Suite("The options of dit sample") struct SampleTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// Samples to a new safetensors file.
  private func sample(_ arguments: String..., model: String = Model.digits) async throws -> SafetensorsFile {
    let name = "\(UUID().uuidString).safetensors"
    _ = try await succeed(["sample", "--model", model, "--out", scratch.path(name)] + arguments)
    return try scratch.tensors(name)
  }

  /// The start noise and the classes of the fixture trajectories.
  private func fixtureNoise() throws -> String {
    let fixture = try Fixture("digits/trajectory")
    let start = Tensor(shape: try fixture.shape("start"), elements: try fixture.floats("start"))
    return try scratch.write(
      [TensorSource("noise", start), TensorSource("labels", labels: try fixture.integers("classes"))],
      to: "noise.safetensors")
  }

  // MARK: Against PyTorch

  @Test("DDIM gives PyTorch's samples and states, with and without guidance", arguments: [1, 4])
  func ddimAgreesWithPyTorch(guidance: Int) async throws {
    let fixture = try Fixture("digits/trajectory")
    let states = scratch.path("states.safetensors")
    let output = try await sample(
      "--noise", try fixtureNoise(), "--steps", "10", "--sampler", "ddim", "--schedule", "linspace", "--guidance",
      "\(guidance)", "--trajectory", states)
    #expect(try output.integers("labels").values == fixture.integers("classes"))
    let samples = relativeError(
      try output.floats("samples"), try fixture.doubles("ddim.guidance\(guidance).samples"))
    #expect(samples <= trajectoryTolerance, "samples: relative error \(samples)")
    let trajectory = try SafetensorsFile(contentsOf: states)
    #expect(try trajectory.integers("timesteps").values == fixture.integers("ddim.timesteps"))
    #expect(try trajectory.requireEntry(named: "states").shape == fixture.shape("ddim.guidance\(guidance).states"))
    let all = relativeError(
      try trajectory.floats("states"), try fixture.doubles("ddim.guidance\(guidance).states"))
    #expect(all <= trajectoryTolerance, "states: relative error \(all)")
  }

  // MARK: What is sampled

  @Test("--classes and --count choose the labels and their order")
  func classesAndCount() async throws {
    let all = try await sample("--steps", "2")
    #expect(try all.integers("labels").values == Array(0...9))
    let some = try await sample("--steps", "2", "--classes", "7,2-4,7", "--count", "2")
    #expect(try some.integers("labels").values == [7, 7, 2, 2, 3, 3, 4, 4, 7, 7])
    #expect(try some.requireEntry(named: "samples").shape == [10, 1, 8, 8])
    let other = try await sample("--steps", "2", "--classes", "3", "--count", "10")
    #expect(try other.floats("samples") != some.floats("samples"))
  }

  @Test("Classes are found by name, whatever the case and with commas in it")
  func classesByName() async throws {
    let names = ["zero", "one", "two", "Three, or so", "four", "five", "six", "seven", "eight", "nine"]
    let config = try String(contentsOfFile: Model.digits + "/config.json", encoding: .utf8)
    let list = names.map { "\"\($0)\"" }.joined(separator: ", ")
    _ = try scratch.write("{ \"class_names\": [\(list)]," + config.dropFirst(), to: "config.json")
    try FileManager.default.createSymbolicLink(
      atPath: scratch.path("model.safetensors"), withDestinationPath: Model.digits + "/model.safetensors")
    let model = scratch.path("")
    let byName = try await sample("--steps", "2", "--classes", "nine,0,Two", model: model)
    #expect(try byName.integers("labels").values == [9, 0, 2])
    let withComma = try await sample("--steps", "2", "--classes", "three, or so", model: model)
    #expect(try withComma.integers("labels").values == [3])
    try await expectFailure(
      ["sample", "--model", model, "--classes", "ten", "--out", scratch.path("x.png")], 64, ["--classes", "ten"])
  }

  @Test("Unconditional models are sampled by count")
  func unconditionalModels() async throws {
    let output = try await sample("--steps", "2", "--count", "3", model: Model.unconditional)
    #expect(try output.requireEntry(named: "samples").shape == [3, 2, 3, 5])
    #expect(output.names == ["samples"])  // two channels are no picture
  }

  @Test("The seed decides the samples, and image n does not depend on how many there are")
  func seedDecides() async throws {
    let first = try await sample("--steps", "3").floats("samples")
    let zero = try await sample("--steps", "3", "--seed", "0").floats("samples")
    let one = try await sample("--steps", "3", "--seed", "1").floats("samples")
    #expect(bitDifference(first, zero) == nil, "the default seed is 0")
    #expect(first != one)
    // Image n depends on the seed and n, not on how many there are.
    let alone = try await sample("--steps", "3", "--classes", "0").floats("samples")
    #expect(bitDifference(alone, Array(first.prefix(64))) == nil)
  }

  @Test("--noise is where sampling starts, with its labels")
  func noiseIsWhereItStarts() async throws {
    let draw = Tensor(shape: [2, 1, 8, 8], elements: (0..<128).map { Float($0 % 7) - 3 })
    let noise = try scratch.write([TensorSource("noise", draw)], to: "noise.safetensors")
    let one = ["--steps", "1", "--schedule", "custom:0", "--guidance", "1", "--noise", noise]
    let output = try await sample(one[0], one[1], one[2], one[3], one[4], one[5], one[6], one[7], "--classes", "3,5")
    #expect(try output.integers("labels").values == [3, 5])
    // One step from t = 0 hardly moves x.
    let moved = zip(try output.floats("samples"), draw.elements).map { abs($0 - $1) }.max() ?? .infinity
    #expect(moved < 0.2, "moved by \(moved)")
    // As many of each class as the noise has.
    let same = try await sample("--steps", "1", "--noise", noise, "--classes", "4")
    #expect(try same.integers("labels").values == [4, 4])
    // Labels that are all the null class are sampled without a class.
    let null = try scratch.write(
      [TensorSource("noise", draw), TensorSource("labels", labels: [10, 10])], to: "null.safetensors")
    let nothing = try await sample("--steps", "2", "--noise", null)
    #expect(try nothing.integers("labels").values == [10, 10])
  }

  // MARK: How it is sampled

  @Test("--steps and --schedule choose the timesteps of the trajectory")
  func stepsAndSchedule() async throws {
    let cases: [([String], [Int])] = [
      ([], [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]), (["--steps", "3"], [999, 500, 0]),
      (["--steps", "3", "--schedule", "leading"], [666, 333, 0]),
      (["--steps", "3", "--schedule", "trailing"], [999, 666, 332]),
      (["--schedule", "custom:4,70,600,990"], [990, 600, 70, 4]),
    ]
    for (options, expected) in cases {
      _ = try await succeed(
        ["sample", "--model", Model.digits, "--out", scratch.path("x.png"), "--trajectory"]
          + [scratch.path("t.safetensors"), "--classes", "1"] + options)
      let trajectory = try scratch.tensors("t.safetensors")
      #expect(try trajectory.integers("timesteps").values == expected, "\(options)")
      #expect(try trajectory.requireEntry(named: "states").shape == [expected.count, 1, 1, 8, 8], "\(options)")
    }
  }

  @Test("--sampler and --eta change the samples, and eta 0 is DDIM")
  func samplerAndEta() async throws {
    let ddim = try await sample("--steps", "4", "--sampler", "ddim").floats("samples")
    let ddpm = try await sample("--steps", "4", "--sampler", "ddpm").floats("samples")
    let noisy = try await sample("--steps", "4", "--eta", "0.5").floats("samples")
    let still = try await sample("--steps", "4", "--eta", "0").floats("samples")
    #expect(bitDifference(ddim, still) == nil)
    #expect(ddim != ddpm && ddim != noisy && ddpm != noisy)
  }

  @Test("--guidance applies inside --guidance-interval, both ends included")
  func guidanceIntervalAndScale() async throws {
    let plain = try await sample("--steps", "3", "--guidance", "1").floats("samples")
    let guided = try await sample("--steps", "3", "--guidance", "4").floats("samples")
    let early = try await sample("--steps", "3", "--guidance", "4", "--guidance-interval", "600,999").floats("samples")
    let inside = try await sample("--steps", "3", "--guidance", "4", "--guidance-interval", "0,999").floats("samples")
    let never = try await sample("--steps", "3", "--guidance", "4", "--guidance-interval", "1,499").floats("samples")
    let ends = try await sample("--steps", "3", "--guidance", "4", "--guidance-interval", "500,500").floats("samples")
    #expect(plain != guided && early != guided && early != plain)
    #expect(bitDifference(guided, inside) == nil, "the whole chain is inside")
    #expect(bitDifference(plain, never) == nil, "no kept step is inside")
    #expect(plain != ends, "both ends are inside")
  }

  @Test("--guidance-channels limits guidance to the first channels")
  func guidanceChannels() async throws {
    let all = try await sample("--steps", "2", model: Model.latent).floats("samples")
    let four = try await sample("--steps", "2", "--guidance-channels", "4", model: Model.latent).floats("samples")
    let three = try await sample("--steps", "2", "--guidance-channels", "3", model: Model.latent).floats("samples")
    #expect(bitDifference(all, four) == nil)
    #expect(all != three)
  }

  @Test("A state dict with the right heads samples as its directory does")
  func modelAndHeads() async throws {
    let directory = try await sample("--steps", "3").floats("samples")
    let file = Model.digits + "/model.safetensors"
    let stateDict = try await sample("--steps", "3", "--heads", "4", model: file).floats("samples")
    let other = try await sample("--steps", "3", "--heads", "2", model: file).floats("samples")
    #expect(bitDifference(directory, stateDict) == nil)
    #expect(directory != other)
    #expect(
      try await sample("--steps", "2", model: Model.oblong).requireEntry(named: "samples").shape[1...] == [3, 12, 20])
  }

  /// The same bytes at any number of threads, at any instruction set the number of threads that was asked for.
  @Test("--threads changes no byte, and impossible numbers are refused")
  func threadsChangeNoByte() async throws {
    var files: [Data] = []
    for threads in ["1", "2", "3"] {
      let result = try await succeed([
        "sample", "--model", Model.latent, "--steps", "3", "--sampler", "ddpm", "--threads", threads, "--out",
        scratch.path("\(threads).safetensors"),
      ])
      #expect(result.stderr.isEmpty)
      files.append(try scratch.bytes("\(threads).safetensors"))
    }
    #expect(files[0] == files[1] && files[0] == files[2])
    for threads in ["0", "1025", "-1"] {
      try await expectFailure(
        ["sample", "--model", Model.digits, "--out", scratch.path("x.png"), "--threads=\(threads)"], 64,
        ["threads", threads])
    }
  }
}
