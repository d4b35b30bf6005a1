import DiTAutoencoder
import DiTFiles
import DiTKernels
import DiTPipeline
import DiTTensor
import Foundation
import TestSupport
import Testing

@Suite("Autoencoder files: names, configuration and errors") struct FileTests {
  /// The same autoencoder under every file's names gives the same bytes.
  @Test("An autoencoder decodes to the same bytes under diffusers', old diffusers' and CompVis' tensor names")
  func tensorNamesOfEveryScheme() throws {
    let fixture = try Case("tiny")
    let latents = try fixture.file.tensor("0.latents")
    try withDirectory { folder in
      try fixture.write(to: folder.appending(path: "vae"))
      let expected = try Autoencoder(contentsOf: folder.path()).decode(latents)  // a pipeline's vae/
      func points(_ name: String, _ shape: [Int]) -> [Int] {
        name.contains("attentions") && shape.count == 2 ? shape + [1, 1] : shape
      }
      let old = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")]
      let schemes: [(String, (String) -> String, (String, [Int]) -> [Int], [TensorSource])] = [
        ("old", { name in old.reduce(name) { $0.replacing($1.0, with: $1.1) } }, { $1 }, []),
        ("wrapped", { "module._orig_mod." + $0 }, { $1 }, []),
        ("lightning", { "vae." + (fixture.compVis[$0] ?? "") }, points, []),
        ("old4", { name in old.reduce(name) { $0.replacing($1.0, with: $1.1) } }, points, []),
        ("bare", { fixture.compVis[$0] ?? "" }, points, [TensorSource("loss.logvar", Tensor(zeros: []))]),
        (
          "whole", { "first_stage_model." + (fixture.compVis[$0] ?? "") }, points,
          [TensorSource("model.diffusion_model.out.0.weight", Tensor(zeros: [2]))]
        ),
      ]
      for (scheme, rename, shape, others) in schemes {
        let path = folder.path() + "/\(scheme).safetensors"
        try SafetensorsWriter.write(fixture.weights(rename, shape: shape) + others, to: path)
        #expect(try Autoencoder(contentsOf: path).decode(latents) == expected, "\(scheme)")
      }
    }
  }

  @Test("The key vae of a model directory's config.json names the autoencoder's folder")
  func modelDirectoryNamesItsAutoencoder() throws {
    try withDirectory { folder in
      try Case("tiny").write(to: folder.appending(path: "first-stage"))
      let text = #"{"model_type": "dit", "in_channels": 4, "vae": "first-stage"}"#
      try text.write(to: folder.appending(path: "config.json"), atomically: true, encoding: .utf8)
      #expect(try Autoencoder(contentsOf: folder.path()).configuration.blockChannels == [32, 64])
      let configuration = try ModelConfiguration(contentsOf: folder.path() + "/config.json")
      #expect(configuration.autoencoder == "first-stage")
      #expect(configuration.json.text.contains(#""vae": "first-stage""#))
    }
  }

  /// The variance's logarithm is clamped to [−30, 20], as diffusers' DiagonalGaussianDistribution does it.
  @Test("The logarithm of the variance is clamped to [-30, 20], as diffusers does")
  func logvarIsClamped() throws {
    let fixture = try Case("tiny")
    try withDirectory { folder in
      try fixture.write(to: folder)
      let bias = Tensor(shape: [8], elements: [0, 0, 0, 0, 1000, -1000, 19, -29])
      let weights = fixture.weights().filter { $0.name != "quant_conv.bias" } + [TensorSource("quant_conv.bias", bias)]
      let path = folder.path() + "/diffusion_pytorch_model.safetensors"
      try SafetensorsWriter.write(weights, to: path)
      let images = Tensor(zeros: [1, 3, 4, 4])
      let logvar = try Autoencoder(contentsOf: folder.path()).encode(images).logvar.elements
      #expect(logvar[0..<4].allSatisfy { $0 == 20 } && logvar[4..<8].allSatisfy { $0 == -30 }, "\(logvar)")
      #expect(logvar[8..<12].allSatisfy { $0 > 10 && $0 < 20 } && logvar[12...].allSatisfy { $0 < -20 && $0 > -30 })
    }
  }

  @Test("A configuration without scaling_factor gets 0.18215")
  func missingScalingFactor() throws {
    try withDirectory { folder in
      let text = #"{"_class_name": "AutoencoderKL", "block_out_channels": [32], "layers_per_block": 1}"#
      let path = folder.path() + "/config.json"
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      #expect(try AutoencoderConfiguration(contentsOf: path).scalingFactor == 0.18215)
    }
  }

  /// Each error is one line with the file, the key or tensor, what was expected and what was found.
  @Test(
    "A changed configuration is refused in one line that names the file, the key and what was expected",
    arguments: [
      (#""act_fn": "silu""#, #""act_fn": "relu""#, "act_fn: expected silu, found relu"),
      (#""scaling_factor": 0.18215"#, #""scaling_factor": 0"#, "scaling_factor: expected a number above 0, found 0.0"),
      (#""shift_factor": null"#, #""shift_factor": 0.1"#, "shift_factor: expected null"),
      (#""use_quant_conv": true"#, #""use_quant_conv": false"#, "use_quant_conv: expected true, found false"),
      (
        #""norm_num_groups": 32"#, #""norm_num_groups": 7"#,
        "block_out_channels: expected multiples of norm_num_groups, 7"
      ),
      (#""out_channels": 3"#, #""out_channels": 4"#, "out_channels: expected 3, as in_channels, found 4"),
      (#""AutoencoderKL""#, #""AutoencoderTiny""#, #"_class_name: expected "AutoencoderKL""#),
      (#""latent_channels": 4"#, #""latent_channels": 4, "tiling": true"#, "tiling: expected one of the keys"),
      (#""latent_channels": 4"#, #""latent_channels": 5"#, "of another shape"),
      (#""layers_per_block": 1"#, #""layers_per_block": 2"#, "missing"),
      (#""layers_per_block": 1"#, #""layers_per_block": 1000000"#, "layers_per_block: expected 1 to 16, found 1000000"),
    ])
  func refused(_ old: String, _ new: String, _ message: String) throws {
    let fixture = try Case("tiny")
    try withDirectory { folder in
      try fixture.write(to: folder)
      #expect(fixture.config.contains(old))
      let text = fixture.config.replacing(old, with: new)
      try text.write(to: folder.appending(path: "config.json"), atomically: true, encoding: .utf8)
      let error = #expect(throws: (any Error).self) { try Autoencoder(contentsOf: folder.path()) }
      let line = error.map { "\($0)" } ?? ""
      #expect(line.contains(message) && line.contains(folder.path()) && !line.contains("\n"), "\(line)")
    }
  }

  @Test("A file of other tensors, an empty folder and a missing path are each refused with their own error")
  func otherFiles() throws {
    try withDirectory { folder in
      let path = folder.path() + "/other.safetensors"
      try SafetensorsWriter.write([TensorSource("x", Tensor(zeros: [2]))], to: path)
      let other = #expect(throws: AutoencoderFileError.self) { try Autoencoder(contentsOf: path) }
      #expect(other?.item == "tensors")
      let empty = #expect(throws: AutoencoderFileError.self) { try Autoencoder(contentsOf: folder.path()) }
      #expect(empty?.item == "autoencoder")
      #expect(throws: FileError.self) { try Autoencoder(contentsOf: folder.path() + "/nothing") }
    }
  }

  @Test("Inputs of a wrong shape are refused by name, and decoding stops after the image it is told to")
  func inputShapesAndStopping() throws {
    try withDirectory { folder in
      try Case("tiny").write(to: folder)
      let autoencoder = try Autoencoder(contentsOf: folder.path())
      for shape in [[1, 3, 4, 4], [0, 4, 4, 4], [4, 4, 4], [1, 4, 0, 4]] {
        let error = #expect(throws: AutoencoderInputError.self) { try autoencoder.decode(Tensor(zeros: shape)) }
        #expect(error?.name == "latents")
      }
      for shape in [[1, 3, 5, 4], [1, 1, 4, 4]] {
        let error = #expect(throws: AutoencoderInputError.self) { try autoencoder.encode(Tensor(zeros: shape)) }
        #expect(error?.name == "images")
      }
      let two = try autoencoder.decode(Tensor(zeros: [3, 4, 2, 2])) { $0 < 2 }
      #expect(two.shape == [2, 3, 4, 4])
    }
  }
}
