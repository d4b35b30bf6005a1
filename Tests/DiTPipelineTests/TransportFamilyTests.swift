import DiTAutoencoder
import DiTDiffusion
import DiTFiles
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation
import TestSupport
import Testing

/// Tests/Fixtures/families: checkpoints of SiT, REPA, REPA-E and LightningDiT as their trainers write them, and what their
/// networks answer.
@Suite("SiT, REPA and LightningDiT files") struct TransportFamilyTests {
  private func path(_ name: String) -> String { Fixture.path(name, folder: "families") }

  private func keys(_ text: String) throws -> ModelKeys {
    let temporary = try TemporaryDirectory()
    try AtomicFile.write(text, to: temporary("config.json"))
    return try ModelKeys(contentsOf: temporary("config.json"))
  }

  private func difference(_ model: DiT, _ family: String) throws -> Difference {
    let file = try SafetensorsFile(contentsOf: path("transport-answers.safetensors"))
    let output = try model.predict(
      images: file.tensor("\(family).x"), times: file.tensor("\(family).t").elements,
      labels: file.integers("\(family).y").values)
    return Difference(output, try file.tensor("\(family).output"))
  }

  @Test(
    "A checkpoint is told apart and its average answers what its network does",
    arguments: [
      ("sit.pt", ModelFamily.sit, "its trainer's model is SiT-B/2"), ("repa.pt", .repa, "it has projectors"),
      ("repa-e.pt", .repa, "it has projectors"), ("lightningdit.pt", .lightningdit, "it has feat_rope.freqs_cos"),
      ("lightningdit-plain.pt", .lightningdit, "it has feat_rope.freqs_cos"),
    ])
  func answers(_ name: String, _ family: ModelFamily, _ sign: String) throws {
    let model = try DiT(contentsOf: path(name), heads: name.hasPrefix("lightning") ? nil : 2)
    #expect(model.configuration.family == family)
    #expect(model.notes.contains { $0.contains("read as \(family.summary), as \(sign)") }, "\(model.notes)")
    let found = try difference(model, family.rawValue)
    #expect(found.relative <= 1e-5, "\(found)")
    if ["sit.pt", "repa.pt", "lightningdit.pt"].contains(name) {
      let trained = try DiT(contentsOf: path(name), weights: .model, heads: 2)
      #expect(try difference(trained, family.rawValue).relative > 1e-2, "the trees are alike")
    }
    let c = model.configuration.network
    #expect((c.hiddenSize, c.depth, c.numHeads) == (24, 2, 2) && c.numClasses == 4 && c.hasNullClass)
    #expect(c.learnSigma == (family == .sit))
    if family == .lightningdit {
      #expect(c.norm == .rms && c.mlp == .swiglu && c.position == .sincosRope && !c.qkNorm && c.inputHeight == 4)
    }
  }

  @Test("How a family samples and trains is its own, and any key can be set otherwise")
  func presets() throws {
    let sit = try ModelReference(path("sit.pt")).configuration(hints: StateDictHints(heads: 2))
    #expect(
      sit.diffusion.networkTime == .oneMinusS && sit.diffusion.prediction == .velocity && sit.diffusion.loss == .mse)
    #expect(
      sit.sampling.sampler.name == .sde && sit.sampling.sampler.steps == 250 && sit.sampling.guidance.scale == 1.5)
    #expect(sit.sampling.sampler.correctsLastStep && sit.sampling.guidance.channels == nil)
    let repa = try ModelReference(path("repa.pt")).configuration(hints: StateDictHints(heads: 2))
    #expect(repa.diffusion.networkTime == .s && repa.sampling.guidance.interval == 0...0.7)
    #expect(repa.sampling.guidance.ends == .closedByStep && repa.latentStatistics == nil)
    let lightning = try ModelReference(path("lightningdit.pt")).configuration()
    #expect(lightning.diffusion.loss == .mseAndCosine)
    #expect(lightning.diffusion.timeDistribution == .logitNormal(mean: 0, deviation: 1))
    #expect(lightning.sampling.sampler.shift == 0.3 && lightning.sampling.sampler.steps == 249)
    #expect(lightning.sampling.guidance.channels == 3 && lightning.sampling.guidance.interval == 0.125...1)
    let stated = try ModelReference(path("lightningdit.pt")).configuration(
      hints: StateDictHints(
        keys: keys(
          #"{"sampling": {"guidance": 10, "guidance_channels": null, "guidance_interval": null, "shift": 1}, "diffusion": {"loss": "mse"}}"#
        )))
    #expect(stated.sampling.guidance == Guidance(scale: 10) && stated.sampling.sampler.shift == 1)
    #expect(stated.diffusion.loss == .mse && stated.family == .lightningdit && stated.network == lightning.network)
    let other = try ModelReference(path("lightningdit.pt")).configuration(
      hints: StateDictHints(keys: keys(#"{"sampling": {"sampler": "heun", "steps": 20}}"#)))
    #expect(other.sampling.sampler.shift == 0.3 && other.sampling.sampler.correctsLastStep)
    // The grid that is stated is the one whose rotation is looked at.
    let sized = try ModelReference(path("lightningdit.pt")).configuration(
      hints: StateDictHints(keys: keys(#"{"input_size": 4}"#)))
    #expect(sized.network == lightning.network)
    // Another path, or the earlier spelling, under a family's name.
    var (onBeta, flow) = (sit, sit)
    onBeta.diffusion = DiffusionConfiguration(prediction: .v, variance: .learnedRange)
    onBeta.sampling.sampler.use(.ddim)
    flow.diffusion = DiffusionConfiguration(prediction: .flow, variance: .learnedRange)
    for model in [sit, repa, lightning, stated, other, onBeta, flow] {
      let temporary = try TemporaryDirectory()
      try model.write(to: temporary("config.json"))
      #expect(try ModelConfiguration(contentsOf: temporary("config.json")) == model)
    }
  }

  @Test("REPA-E's batch normalization becomes the latents' statistics, as its sampling undoes it")
  func latentStatistics() throws {
    let described = try ModelReference(path("repa-e.pt")).described(hints: StateDictHints(heads: 2))
    #expect(
      described.configuration.latentStatistics == LatentStatistics(mean: [0.5, -1, 0.25, 2], std: [2, 3, 0.5, 1]))
    #expect(
      described.notes.contains { $0.contains("9 tensors, which are passed over: bn, projectors") }, "\(described.notes)"
    )
    let temporary = try TemporaryDirectory()
    try AtomicFile.write(
      #"{"in_channels": 4, "latent_statistics": {"mean": [0, 1, 2, 3], "std": [1, 2, 3, 4]}}"#,
      to: temporary("config.json"))
    let stated = try ModelConfiguration(contentsOf: temporary("config.json"))
    #expect(stated.latentStatistics?.std == [1, 2, 3, 4])
    // Of a file that stands beside config.json.
    let tensors = [
      TensorSource("mean", FloatSlice([0, 1, 2, 3]), shape: [1, 4, 1, 1], as: .f32),
      TensorSource("std", FloatSlice([1, 2, 3, 4]), shape: [1, 4, 1, 1], as: .f32),
    ]
    try SafetensorsWriter.write(tensors, to: temporary("stats.safetensors"))
    try AtomicFile.write(#"{"latent_statistics": "stats.safetensors"}"#, to: temporary("config.json"))
    #expect(try ModelConfiguration(contentsOf: temporary("config.json")).latentStatistics == stated.latentStatistics)
    for (text, key) in [
      (#"{"latent_statistics": {"mean": [0, 1, 2], "std": [1, 2, 3]}}"#, "latent_statistics"),
      (#"{"latent_statistics": {"mean": [0, 1, 2, 3], "std": [1, 2, 3]}}"#, "latent_statistics"),
      (#"{"latent_statistics": {"mean": [0, 1, 2, 3], "std": [1, 2, 3, 0]}}"#, "latent_statistics.std"),
      (#"{"latent_statistics": {"mean": [0, 1, 2, 3]}}"#, "latent_statistics"),
      (#"{"latent_statistics": "nothing.pt"}"#, "latent_statistics"),
      (#"{"latent_statistics": {"mean": [0, 1, 2, 3], "std": [1, 2, 3, 4], "var": [1]}}"#, "latent_statistics.var"),
    ] {
      try AtomicFile.write(text, to: temporary("config.json"))
      let error = #expect(throws: DiTError.self) {
        try ModelConfiguration(contentsOf: temporary("config.json"))
      }
      #expect(error?.key == key, "\(text): \(error.map { "\($0)" } ?? "")")
    }
  }

  @Test("What the user states counts: SiT's names are DiT's, and REPA's with projectors SiT's")
  func statedFamilies() throws {
    let temporary = try TemporaryDirectory()
    let store = try StateDictFile(contentsOf: path("sit.pt")).store
    try SafetensorsWriter.write(
      store.keys.map { TensorSource($0.name, try store.slice($0.name), shape: $0.shape, as: .f32) },
      to: temporary("plain.safetensors"))
    func family(_ name: String, _ stated: ModelFamily?) throws -> ModelFamily {
      try ModelReference(name).configuration(hints: StateDictHints(heads: 2, family: stated)).family
    }
    #expect(try family(temporary("plain.safetensors"), nil) == .dit)
    #expect(try family(temporary("plain.safetensors"), .sit) == .sit)
    #expect(try family(temporary("plain.safetensors"), .repa) == .repa)
    #expect(try family(path("sit.pt"), .dit) == .dit)
    #expect(try family(path("repa.pt"), .sit) == .sit)
    // In a configuration too: of the model itself, or of one that is to be trained from it.
    let stated = try keys(#"{"family": "sit"}"#)
    for mayNotFit in [false, true] {
      let hints = StateDictHints(heads: 2, keys: stated, keysMayNotFit: mayNotFit)
      #expect(try ModelReference(temporary("plain.safetensors")).configuration(hints: hints).family == .sit)
    }
    let trained = StateDictHints(keys: stated, keysMayNotFit: true)
    #expect(try ModelReference(path("lightningdit.pt")).configuration(hints: trained).family == .lightningdit)
    let error = #expect(throws: DiTError.self) { try family(path("lightningdit.pt"), .sit) }
    #expect(error?.name == "family")
  }

  private static let published: [(String, Int, Int)] = [
    ("SiT-S/2", 32_963_360, 32), ("SiT-XL/2", 675_129_632, 32), ("LightningDiT-XL/1", 675_256_736, 16),
  ]

  @Test("Published sizes have their programs' parameters", arguments: published)
  func publishedSizes(_ name: String, _ parameters: Int, _ side: Int) throws {
    let model = try ModelReference(name).configuration()
    #expect(ParameterTable(model.network).parameterCount == parameters)
    #expect(model.network.inputHeight == side && model.network.tokens == 256)
  }

  // MARK: Refusals

  /// The fixture's tensors with some of them changed.
  private func changed(
    _ name: String, _ change: (String, [Int]) -> (name: String, shape: [Int], fill: Float)?
  ) throws -> TemporaryDirectory {
    let temporary = try TemporaryDirectory()
    let store = try StateDictFile(contentsOf: path(name)).store
    try SafetensorsWriter.write(
      store.keys.filter { $0.name != "bn.num_batches_tracked" }.map { key in
        guard let (name, shape, fill) = change(key.name, key.shape) else {
          return TensorSource(key.name, try store.slice(key.name), shape: key.shape, as: .f32)
        }
        let count = shape.reduce(1, *)
        return TensorSource(name, FloatSlice([Float](repeating: fill, count: count)), shape: shape, as: .f32)
      }, to: temporary("changed.safetensors"))
    return temporary
  }

  @Test(
    "Another rotation, a block without shifts, a layer norm of q, and a process that is not here are refused by name")
  func refusals() throws {
    func item(_ directory: TemporaryDirectory) throws -> String? {
      #expect(throws: DiTError.self) {
        try ModelReference(directory("changed.safetensors")).load(hints: StateDictHints(heads: 2))
      }?.subject.part?.description
    }
    let turned = try changed("lightningdit-plain.pt") { name, shape in
      name == "feat_rope.freqs_sin" ? (name, shape, 0.5) : nil
    }
    #expect(try item(turned) == "tensor feat_rope.freqs_sin")
    let short = try changed("lightningdit-plain.pt") { name, shape in
      name == "feat_rope.freqs_cos" ? (name, [9, shape[1]], 1) : nil
    }
    #expect(try item(short) == "tensor feat_rope.freqs_cos")
    let shiftless = try changed("lightningdit-plain.pt") { name, shape in
      name == "blocks.0.adaLN_modulation.1.weight" ? (name, [96, 24], 0) : nil
    }
    #expect(try item(shiftless) == "tensor blocks.0.adaLN_modulation.1.weight")
    let normed = try changed("repa-e.pt") { name, _ in
      switch name {
      case "projectors.0.0.weight": ("blocks.0.attn.q_norm.weight", [12], 1)
      case "projectors.0.0.bias": ("blocks.0.attn.q_norm.bias", [12], 0)
      default: nil
      }
    }
    #expect(try item(normed) == "tensor blocks.0.attn.q_norm.bias")
    let statistics = try changed("repa-e.pt") { name, shape in name == "bn.running_var" ? (name, shape, 0) : nil }
    #expect(try item(statistics) == "tensor bn.running_var")
  }

  @Test(
    "A checkpoint of another path or target is refused by its trainer's argument",
    arguments: ["path_type", "prediction"])
  func otherProcesses(_ key: String) throws {
    let temporary = try TemporaryDirectory()
    let weights = try #require(ModelReference(path("sit.pt")).load(hints: StateDictHints(heads: 2)).weights)
    var tensors = TorchTensors(.f32)
    let ema = tensors.stateDict(weights)
    func write(_ arguments: [(key: String, value: TorchWriter.Value)]) throws {
      try TorchWriter.write(
        .dictionary([("ema", ema), ("args", .dictionary(arguments))]), tensors: tensors.sources,
        to: temporary("other.pt"))
    }
    func family() throws -> ModelFamily {
      try ModelReference(temporary("other.pt")).configuration(hints: StateDictHints(heads: 2)).family
    }
    try write([("path_type", .text("Linear")), ("prediction", .text("velocity"))])
    #expect(try family() == .sit)
    try write([
      ("path_type", .text(key == "path_type" ? "GVP" : "Linear")),
      ("prediction", .text(key == "prediction" ? "noise" : "velocity")),
    ])
    let error = #expect(throws: DiTError.self) { try family() }
    #expect(error?.name == key)
    try write([("path_type", .text("linear")), ("prediction", .text("v")), ("encoder_depth", .integer(8))])
    #expect(try family() == .repa)
  }

  // MARK: Writing

  private static let size = PublishedSize(
    name: "SiT-B/2", family: .sit, depth: 2, hiddenSize: 24, numHeads: 2, patch: 2, side: 8, start: 0, noiseScale: 1,
    guidance: 1.5, interval: nil)

  @Test("A SiT checkpoint is written for its own code and read again bit by bit, without the half that nothing reads")
  func sitCheckpoint() throws {
    let temporary = try TemporaryDirectory()
    let reference = try ModelReference(path("sit.pt"))
    let hints = StateDictHints(heads: 2)
    let sets = try WeightSets(reference, hints: hints)
    let model = try reference.configuration(hints: hints)
    let checkpoint = try SiTCheckpoint(model, sets, name: "m", sizes: [Self.size])
    #expect(
      checkpoint.notes == ["the outputs' second half is left out, as sample.py --ckpt builds networks without it"])
    try checkpoint.write(to: temporary("mine.pt"), as: .f32)
    let written = try ModelReference(temporary("mine.pt"))
    let stored = try TorchFile(contentsOf: temporary("mine.pt")).arguments
    #expect(
      stored.text("model") == "SiT-B/2" && stored.integer("image_size") == 64 && stored.integer("num_classes") == 4)
    let read = try written.configuration(hints: hints)
    #expect(read.family == .sit && !read.network.learnSigma)
    for choice in [WeightChoice.ema, .model] {
      let (old, new) = try (reference.load(choice, hints: hints), written.load(choice, hints: hints))
      let (before, after) = (try #require(old.weights), try #require(new.weights))
      for (parameter, slice) in zip(after.table.parameters, after.slices) {
        let index = try #require(before.table.parameters.firstIndex { $0.name == parameter.name })
        let values = before.slices[index].array
        guard parameter.name.hasPrefix("final_layer.linear.") else {
          #expect(values == slice.array, "\(parameter.name)")
          continue
        }
        // (pixel, channel) rows of which the first four channels of eight are kept.
        let width = values.count / 32
        let kept: [Float] = (0..<16).flatMap { row -> ArraySlice<Float> in
          let first = row / 4 * 8 + row % 4
          return values[first * width..<(first + 1) * width]
        }
        #expect(kept == slice.array, "\(parameter.name)")
      }
    }
    #expect(try difference(DiT(contentsOf: temporary("mine.pt"), heads: 2), "sit").relative <= 1e-5)
    // What has no second half comes back byte for byte.
    let again = try WeightSets(written, hints: hints)
    try SiTCheckpoint(read, again, name: "m", sizes: [Self.size]).write(to: temporary("again.pt"), as: .f32)
    #expect(
      try Data(contentsOf: URL(filePath: temporary("mine.pt")))
        == Data(contentsOf: URL(filePath: temporary("again.pt"))))
  }

  private static let refused: [(String, @Sendable (inout ModelConfiguration) -> Void)] = [
    ("family", { $0.family = .repa }),
    ("family", { $0.diffusion = DiffusionConfiguration() }),
    ("depth, hidden_size, patch_size", { $0.network.depth = 3 }),
    ("norm", { $0.network.norm = .rms }),
    ("class_dropout_prob", { $0.network.classDropoutProb = 0 }),
    ("input_size", { $0.network.inputHeight = 16 }),
    ("diffusion.network_time", { $0.diffusion.networkTime = .s }),
    ("diffusion.noise_scale", { $0.diffusion.noiseScale = 2 }),
    ("in_channels", { $0.network.inChannels = 3 }),
  ]

  @Test("A key that SiT's code cannot express is refused by name", arguments: refused.indices)
  func refusedKeys(_ index: Int) throws {
    let (key, change) = Self.refused[index]
    let reference = try ModelReference(path("sit.pt"))
    var model = try reference.configuration(hints: StateDictHints(heads: 2))
    let sets = try WeightSets(reference, hints: StateDictHints(heads: 2))
    change(&model)
    let error = #expect(throws: DiTError.self) { try SiTCheckpoint(model, sets, name: "m", sizes: [Self.size]) }
    #expect(error?.name == key, "\(error.map { "\($0)" } ?? "")")
  }
}
