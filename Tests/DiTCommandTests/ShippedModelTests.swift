import DiTFiles
import DiTImaging
import DiTTensor
import Foundation
import Testing

/// Without MODEL it is the digits model that ships with the tool.
@Suite("The digits model that ships with the tool") struct ShippedModelTests {
  @Test("Without --model, the shipped model samples a grid of ten digits")
  func samplesTenDigits() async throws {
    let scratch = try Scratch()
    _ = try await succeed(["sample", "--classes", "0-9", "--out", scratch.path("digits.png")])
    let grid = try Image(contentsOf: scratch.path("digits.png"))
    #expect(grid.width >= 5 * 96 && grid.height >= 2 * 96, "\(grid.width)×\(grid.height)")
  }

  /// More ink than none, less than a sheet of it, and nothing far outside [−1, 1]: pictures, not noise.
  @Test("Samples of the shipped model have the ink and the range of pictures")
  func samplesLookLikeStrokes() async throws {
    let scratch = try Scratch()
    _ = try await succeed(["sample", "--count", "4", "--out", scratch.path("x.safetensors")])
    let samples = try scratch.tensors("x.safetensors").floats("samples")
    let mean = samples.reduce(0, +) / Float(samples.count)
    #expect((-0.7...(-0.1)).contains(mean), "mean \(mean)")  // the data's is −0.39
    #expect(samples.allSatisfy { abs($0) < 1.6 }, "\(samples.map(abs).max() ?? 0)")
  }

  @Test("Every command that takes a model uses the shipped one by default")
  func everyCommandTakesIt() async throws {
    let json = try await JSON(["schedule", "--json"])
    #expect(json["training_steps"] == .integer(1000))
    let scratch = try Scratch()
    let input = ["--input", Model.digits + "/forward.safetensors"]
    _ = try await succeed(["forward", "--out", scratch.path("o.safetensors")] + input)
    #expect(try scratch.tensors("o.safetensors").requireEntry(named: "output").shape == [3, 2, 8, 8])
    #expect(try await succeed(["loss", "--input", Model.digits + "/loss.safetensors"]).stdout.hasPrefix("loss "))
    let images = try scratch.write([TensorSource("images", Tensor(zeros: [1, 1, 8, 8]))], to: "i.safetensors")
    _ = try await succeed(["invert", "--input", images, "--out", scratch.path("n.safetensors")])
  }
}
