import DiTFiles
import DiTTensor
import Foundation
import TestSupport
import Testing

@Suite("dit invert") struct InvertTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// What sampling leaves, inverted and sampled again, is nearly itself; the more steps, the nearer.
  @Test("Inverted samples sample to themselves again, more exactly with more steps")
  func roundTrip() async throws {
    let first = scratch.path("first.safetensors")
    let plain = ["--model", Model.digits, "--guidance", "1"]
    _ = try await succeed(["sample", "--classes", "3,8", "--steps", "250", "--out", first] + plain)
    let expected = try scratch.tensors("first.safetensors").floats("samples").map(Double.init)
    var errors: [Double] = []
    for steps in ["20", "250"] {
      let options = plain + ["--steps", steps]
      _ = try await succeed(["invert", "--input", first, "--out", scratch.path("noise.safetensors")] + options)
      #expect(try scratch.tensors("noise.safetensors").integers("labels").values == [3, 8])
      let noise = try scratch.tensors("noise.safetensors").floats("noise")
      #expect(relativeError(noise, expected) > 0.5, "the noise is not the image")
      _ = try await succeed(
        ["sample", "--noise", scratch.path("noise.safetensors"), "--out", scratch.path("again.safetensors")] + options)
      errors.append(relativeError(try scratch.tensors("again.safetensors").floats("samples"), expected))
    }
    #expect(errors[1] < 0.05 && errors[1] < errors[0], "\(errors)")
  }

  private func invert(_ input: String, _ arguments: String..., model: String = Model.digits) async throws -> [Float] {
    let name = "\(UUID().uuidString).safetensors"
    _ = try await succeed(["invert", "--model", model, "--input", input, "--out", scratch.path(name)] + arguments)
    return try scratch.tensors(name).floats("noise")
  }

  private func image(_ name: String = "images", _ labels: [Int]? = [1, 6]) throws -> String {
    let images = Tensor(shape: [2, 1, 8, 8], elements: (0..<128).map { Float($0 * 37 % 64) / 32 - 1 })
    return try scratch.write(
      [TensorSource(name, images)] + (labels.map { [TensorSource("labels", labels: $0)] } ?? []), to: "in.safetensors")
  }

  @Test("Every option of dit invert does what it says, and wrong values are refused")
  func everyOptionCounts() async throws {
    let input = try image()
    let plain = try await invert(input, "--steps", "4", "--guidance", "1")
    #expect(try await invert(input, "--steps", "5", "--guidance", "1") != plain)
    #expect(try await invert(input, "--steps", "4", "--guidance", "1", "--schedule", "trailing") != plain)
    let guided = try await invert(input, "--steps", "4")
    #expect(guided != plain)
    #expect(bitDifference(try await invert(input, "--steps", "4", "--guidance", "4"), guided) == nil)
    let never = try await invert(input, "--steps", "4", "--guidance-interval", "1,2")
    #expect(bitDifference(never, plain) == nil)
    #expect(bitDifference(try await invert(input, "--steps", "4", "--guidance-channels", "1"), guided) == nil)
    let threads = try await invert(input, "--steps", "4", "--threads", "1")
    #expect(bitDifference(threads, guided) == nil)
    let heads = try await invert(
      input, "--steps", "4", "--heads", "4", model: Model.digits + "/model.safetensors")
    #expect(bitDifference(heads, guided) == nil)
    let out = scratch.path("x.safetensors")
    let command = ["invert", "--model", Model.digits, "--input", input, "--out", out]
    try await expectFailure(command + ["--guidance-channels", "2"], 64, ["--guidance-channels", "1…1"])
    try await expectFailure(command + ["--threads", "0"], 64, ["threads", "0"])
    try await expectFailure(command + ["--heads", "2"], 64, ["--heads", "4"])
    try await expectFailure(command + ["--sampler", "ddpm"], 64, ["--sampler"])
    #expect(!scratch.exists("x.safetensors"))
  }

  /// Steps and schedule are the model's where the command line has none.
  @Test("Without options, inversion uses the model's own steps and schedule")
  func takesTheModelsSteps() async throws {
    let directory = scratch.path("model")
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let config = try String(contentsOfFile: Model.digits + "/config.json", encoding: .utf8)
    let changed = config.replacing("\"linspace\"", with: "\"trailing\"")
    try #require(changed != config)
    _ = try scratch.write(changed, to: "model/config.json")
    try FileManager.default.copyItem(
      atPath: Model.digits + "/model.safetensors", toPath: directory + "/model.safetensors")
    let found = try await invert(try image(), model: directory)
    let named = try await invert(try image(), "--schedule", "trailing", "--steps", "10")
    #expect(bitDifference(found, named) == nil)
    #expect(try await invert(try image(), "--schedule", "linspace", "--steps", "10") != found)
  }

  @Test("Inversion reads images, latents, samples and bytes alike")
  func takesImagesLatentsSamplesAndBytes() async throws {
    let expected = try await invert(try image(), "--steps", "3")
    #expect(bitDifference(try await invert(try image("latents"), "--steps", "3"), expected) == nil)
    #expect(bitDifference(try await invert(try image("samples"), "--steps", "3"), expected) == nil)
    let bytes = (0..<128).map { $0 * 37 % 256 }
    let asFloats = Tensor(shape: [2, 1, 8, 8], elements: bytes.map { Float($0) / 127.5 - 1 })
    let labels = TensorSource("labels", labels: [1, 6])
    let floats = try scratch.write([TensorSource("images", asFloats), labels], to: "f.safetensors")
    let u8 = try scratch.write(
      [TensorSource("images", shape: [2, 1, 8, 8], bytes: bytes.map { UInt8($0) }), labels], to: "b.safetensors")
    let found = try await invert(u8, "--steps", "3")
    #expect(bitDifference(found, try await invert(floats, "--steps", "3")) == nil)
  }

  /// Without labels everything is the null class, which cannot be guided.
  @Test("Without labels the null class is used, which cannot be guided")
  func withoutLabels() async throws {
    let input = try image("images", nil)
    let null = try await invert(input, "--steps", "3")
    let labeled = try await invert(try image("images", [10, 10]), "--steps", "3", "--guidance", "1")
    #expect(bitDifference(null, labeled) == nil)
    let without = try image("images", nil)
    let out = scratch.path("x.safetensors")
    try await expectFailure(
      ["invert", "--model", Model.digits, "--input", without, "--out", out, "--guidance", "2"], 64,
      ["--guidance", "no labels"])
  }

  @Test("Inputs of dit invert that do not fit are refused by tensor")
  func refusesWhatDoesNotFit() async throws {
    let out = scratch.path("x.safetensors")
    let command = ["invert", "--model", Model.digits, "--out", out, "--input"]
    try await expectFailure(
      command + [try image("pictures")], 65, ["in.safetensors", "samples, images, latents", "none"])
    try await expectFailure(command + [try image("images", [1, 11])], 65, ["in.safetensors", "tensor labels", "11"])
    try await expectFailure(command + [try image("images", [1])], 65, ["in.safetensors", "tensor labels", "1"])
    let both = try scratch.write(
      [TensorSource("images", Tensor(zeros: [1, 1, 8, 8])), TensorSource("latents", Tensor(zeros: [1, 1, 8, 8]))],
      to: "both.safetensors")
    try await expectFailure(command + [both], 65, ["both.safetensors", "images and latents"])
    let small = try scratch.write([TensorSource("images", Tensor(zeros: [2, 1, 4, 8]))], to: "small.safetensors")
    try await expectFailure(
      command + [small], 65, ["small.safetensors", "tensor images", "[N, 1, 8, 8]", "[2, 1, 4, 8]"])
    #expect(!scratch.exists("x.safetensors"))
  }
}
