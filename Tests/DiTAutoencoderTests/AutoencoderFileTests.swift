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
      (#""shift_factor": null"#, #""shift_factor": "0.1""#, #"shift_factor: expected a number, found "0.1""#),
      (#""shift_factor": null"#, #""shift_factor": 1e200"#, "shift_factor: expected -1e30 to 1e30, found 1e+200"),
      (#""scaling_factor": 0.18215"#, #""scaling_factor": 1e-200"#, "scaling_factor: expected 1e-30 to 1e30"),
      (#""scaling_factor": 0.18215"#, #""scaling_factor": null"#, "scaling_factor: expected a number, found null"),
      (
        #""latents_mean": null"#, #""latents_mean": [0, 0, 0], "latents_std": [1, 1, 1, 1]"#,
        "latents_mean: expected 4 numbers, as latent_channels says, found 3"
      ),
      (
        #""latents_mean": null"#, #""latents_mean": [0, 0, 0, 0], "latents_std": [1, 1, 1]"#,
        "latents_std: expected 4 numbers, as latent_channels says, found 3"
      ),
      (
        #""latents_mean": null"#, #""latents_mean": [0, 0, 0, 0], "latents_std": [1, 1, 0, 1]"#,
        "latents_std: expected numbers above 0"
      ),
      (
        #""latents_mean": null"#, #""latents_mean": "zero""#,
        #"latents_mean: expected an array of numbers, found "zero"#
      ),
      (
        #""shift_factor": null"#, #""shift_factor": 0.1, "latents_mean": [0, 0, 0, 0], "latents_std": [1, 1, 1, 1]"#,
        "shift_factor: expected null or 0 beside latents_mean and latents_std"
      ),
      (#""use_quant_conv": true"#, #""use_quant_conv": false"#, "unexpected: quant_conv.bias"),
      (#""use_post_quant_conv": true"#, #""use_post_quant_conv": false"#, "unexpected: post_quant_conv.bias"),
      (#""mid_block_add_attention": true"#, #""mid_block_add_attention": false"#, "decoder.mid_block.attentions.0"),
      (#""mid_block_add_attention": true"#, #""mid_block_add_attention": 0"#, "expected true or false, found 0"),
      (
        #""latent_channels": 4"#, #""latent_channels": 4, "quantization_config": {"load_in_8bit": true}"#,
        "quantization_config: expected none, as quantized weights are not read, found an object"
      ),
      (#""UpDecoderBlock2D""#, #""AttnUpDecoderBlock2D""#, "decoder.up_blocks.0.attentions.0"),
      (
        #""UpDecoderBlock2D""#, #""UpBlock2D""#,
        "up_block_types: expected UpDecoderBlock2D or AttnUpDecoderBlock2D, found UpBlock2D"
      ),
      (
        #""norm_num_groups": 32"#, #""norm_num_groups": 7"#,
        "block_out_channels: expected multiples of norm_num_groups, 7"
      ),
      (#""out_channels": 3"#, #""out_channels": 4"#, "out_channels: expected 3, as in_channels, found 4"),
      (#""AutoencoderKL""#, #""AutoencoderTiny""#, #"_class_name: expected "AutoencoderKL""#),
      (#""latent_channels": 4"#, #""latent_channels": 5"#, "of another shape"),
      (#""layers_per_block": 1"#, #""layers_per_block": 2"#, "missing"),
      (#""layers_per_block": 1"#, #""layers_per_block": 1000000"#, "layers_per_block: expected 1 to 16, found 1000000"),
    ])
  func refused(_ old: String, _ new: String, _ message: String) throws {
    let fixture = try Case("tiny")
    try withDirectory { folder in
      try fixture.write(to: folder)
      #expect(fixture.config.contains(old))
      var text = fixture.config.replacing(old, with: new)
      for key in ["latents_mean", "latents_std"] where new.contains("\"\(key)\": [") {
        text = text.replacing("\n  \"\(key)\": null,", with: "")
      }
      try text.write(to: folder.appending(path: "config.json"), atomically: true, encoding: .utf8)
      let error = #expect(throws: (any Error).self) { try Autoencoder(contentsOf: folder.path()) }
      let line = error.map { "\($0)" } ?? ""
      #expect(line.contains(message) && line.contains(folder.path()) && !line.contains("\n"), "\(line)")
    }
  }

  /// diffusers: "The config attributes … were passed to AutoencoderKL, but are not expected and will be ignored."
  @Test("Keys that diffusers' AutoencoderKL ignores are ignored with one note; an average's keys without")
  func ignoredKeys() throws {
    let fixture = try Case("tiny")
    try withDirectory { folder in
      try fixture.write(to: folder)
      let plain = try Autoencoder(contentsOf: folder.path())
      #expect(plain.notes.isEmpty)
      let file = folder.appending(path: "config.json")
      func notes(_ change: (String) -> String) throws -> [String] {
        try change(fixture.config).write(to: file, atomically: true, encoding: .utf8)
        let read = try Autoencoder(contentsOf: folder.path())
        #expect(read.configuration == plain.configuration)
        return read.notes
      }
      let ema =
        #"{"decay": 0.9999, "inv_gamma": 1.0, "min_decay": 0.0, "optimization_step": 7, "power": 0.75, "#
        + #""update_after_step": 0, "use_ema_warmup": true, "_commit_hash": "x","#
      #expect(try notes { $0.replacing(#"{"#, with: ema) }.isEmpty)
      let others = try notes { $0.replacing("{", with: #"{"tiling": true, "a b": [1], "#) }
      #expect(
        others == ["\(file.path()): tiling, \"a b\" are no keys of diffusers' AutoencoderKL, which ignores them"])
      for (key, other) in [("latents_mean", "latents_std"), ("latents_std", "latents_mean")] {
        let alone = try notes { $0.replacing("\"\(key)\": null", with: "\"\(key)\": [1, 2, 3, 4]") }
        #expect(alone == ["\(file.path()): \(key) is ignored without \(other), as diffusers' pipelines do"])
      }
    }
  }

  @Test("Half-precision, sharded and bare files of one autoencoder decode to the same, by the config.json beside them")
  func formsOfFiles() throws {
    for name in ["shifted", "standardised"] {
      let fixture = try Case(name)
      let latents = try fixture.file.tensor("0.latents")
      try withDirectory { folder in
        try fixture.write(to: folder.appending(path: "a"))
        let expected = try Autoencoder(contentsOf: folder.path() + "/a").decode(latents)
        let half = fixture.shapes.map { name, shape in
          TensorSource(name, Tensor(shape: shape, elements: madeWeight(name, shape)), as: .f16)
        }
        for variant in ["fp16", "bf16"] {
          let path = folder.path() + "/\(variant)"
          try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
          try fixture.config.write(toFile: path + "/config.json", atomically: true, encoding: .utf8)
          let file = path + "/diffusion_pytorch_model.\(variant).safetensors"
          try SafetensorsWriter.write(half, to: file)
          let found = try Autoencoder(contentsOf: path).decode(latents)
          let error = relative(found, expected)
          #expect(error > 0 && error <= 5e-3)
          // The file itself, by the config.json beside it.
          #expect(try Autoencoder(contentsOf: file).decode(latents) == found)
        }
        // CompVis's names beside diffusers' config.json.
        let bare = folder.path() + "/a/ae.safetensors"
        try SafetensorsWriter.write(fixture.weights { fixture.compVis[$0] ?? "" }, to: bare)
        let read = try Autoencoder(contentsOf: bare)
        #expect(try read.decode(latents) == expected && read.notes.isEmpty)
        // Alone, its shapes tell its parts.
        let alone = folder.path() + "/alone.safetensors"
        try FileManager.default.copyItem(atPath: bare, toPath: alone)
        let store = try SafetensorsFile(contentsOf: alone)
        let error = #expect(throws: DiTError.self) { try AutoencoderConfiguration(stateDict: store) }
        #expect(error?.name == "block_out_channels")  // of 32 groups
      }
    }
  }

  /// 32 groups, as no shape tells them: names and shapes of a larger one.
  @Test("Shapes tell quant convolutions, attention and channels, but not the scaling factor, which is asked for")
  func shapesTellTheParts() throws {
    struct Shapes: TensorStore {
      var path: String { "ae.safetensors" }
      var shapes: [String: [Int]]
      var keys: [StateDict.Key] { shapes.keys.sorted().map { ($0, shapes[$0] ?? []) } }
      func shape(of name: String) -> [Int]? { shapes[name] }
      func slice(_ name: String) throws -> FloatSlice { .empty }
    }
    let fixture = try Case("tiny")
    var store = Shapes(shapes: Dictionary(uniqueKeysWithValues: fixture.shapes.map { ($0.name, $0.shape) }))
    let plain = try AutoencoderConfiguration(stateDict: store)
    #expect(plain.hasQuantConvolution && plain.hasPostQuantConvolution && plain.hasMiddleAttention)
    #expect(plain.latentChannels == 4 && plain.scalingFactor == 0.18215 && plain.shiftFactor == 0)
    #expect(plain.encoderAttention.isEmpty && plain.decoderAttention.isEmpty)
    var attending = store
    attending.shapes["encoder.down_blocks.1.attentions.0.group_norm.weight"] = [64]
    let oneSided = try AutoencoderConfiguration(stateDict: attending)
    #expect(oneSided.encoderAttention == [false, true] && oneSided.decoderAttention.isEmpty)
    attending.shapes["decoder.up_blocks.0.attentions.0.group_norm.weight"] = [64]
    #expect(try AutoencoderConfiguration(stateDict: attending).decoderAttention == [false, true])
    let statistics = LatentStatistics(mean: [0, 1, 2, 3], std: [1, 2, 3, 4])
    let scaled = try AutoencoderConfiguration(stateDict: store, statistics: statistics)
    #expect(scaled.statistics == statistics && scaled.scalingFactor == 1)
    store.shapes = store.shapes.filter { !$0.key.hasPrefix("post_quant_conv") }
    #expect(!(try AutoencoderConfiguration(stateDict: store)).hasPostQuantConvolution)
    store.shapes = store.shapes.filter { !$0.key.contains("attentions") && !$0.key.hasPrefix("quant_conv") }
    let bare = try AutoencoderConfiguration(stateDict: store)
    #expect(!bare.hasQuantConvolution && !bare.hasPostQuantConvolution && !bare.hasMiddleAttention)
    store.shapes["decoder.conv_in.weight"]?[1] = 16
    let error = #expect(throws: DiTError.self) { try AutoencoderConfiguration(stateDict: store) }
    let line = error.map { "\($0)" } ?? ""
    #expect(
      ["ae.safetensors: scaling_factor: expected", "config.json", "1.5305", "0.3611", "16 latent channels"]
        .allSatisfy(line.contains), "\(line)")
  }

  @Test("A bare state dict of 4 channels has sd-vae's factor, and a note says that it is assumed")
  func assumedFactor() throws {
    try withDirectory { folder in
      let path = folder.path() + "/vae.safetensors"
      try SafetensorsWriter.write(try Case("tiny").weights(), to: path)
      // Another model's configuration beside it is none of its business.
      try #"{"_class_name": "DiTTransformer2DModel"}"#.write(
        to: folder.appending(path: "config.json"), atomically: true, encoding: .utf8)
      let read = try Autoencoder(contentsOf: path)
      #expect(read.configuration.scalingFactor == 0.18215)
      let note = read.notes.joined(separator: "\n")
      #expect(note.hasPrefix("\(path): scaling_factor 0.18215") && !note.contains("\n"))
    }
  }

  @Test("A file of other tensors, an empty folder and a missing path are each refused with their own error")
  func otherFiles() throws {
    try withDirectory { folder in
      let path = folder.path() + "/other.safetensors"
      try SafetensorsWriter.write([TensorSource("x", Tensor(zeros: [2]))], to: path)
      let other = #expect(throws: DiTError.self) { try Autoencoder(contentsOf: path) }
      #expect(other?.name == "tensors")
      let empty = #expect(throws: DiTError.self) { try Autoencoder(contentsOf: folder.path()) }
      #expect(empty?.name == "autoencoder")
      #expect(throws: DiTError.self) { try Autoencoder(contentsOf: folder.path() + "/nothing") }
    }
  }

  @Test("Inputs of a wrong shape are refused by name, and decoding stops after the image it is told to")
  func inputShapesAndStopping() throws {
    try withDirectory { folder in
      try Case("tiny").write(to: folder)
      let autoencoder = try Autoencoder(contentsOf: folder.path())
      for shape in [[1, 3, 4, 4], [0, 4, 4, 4], [4, 4, 4], [1, 4, 0, 4]] {
        let error = #expect(throws: DiTError.self) { try autoencoder.decode(Tensor(zeros: shape)) }
        #expect(error?.name == "latents")
      }
      for shape in [[1, 3, 5, 4], [1, 1, 4, 4]] {
        let error = #expect(throws: DiTError.self) { try autoencoder.encode(Tensor(zeros: shape)) }
        #expect(error?.name == "images")
      }
      let two = try autoencoder.decode(Tensor(zeros: [3, 4, 2, 2])) { $0 < 2 }
      #expect(two.shape == [2, 3, 4, 4])
    }
  }
}
