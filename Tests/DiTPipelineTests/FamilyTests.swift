import DiTDiffusion
import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation
import TestSupport
import Testing

/// Tests/Fixtures/families: files of JiT and pMF as their programs write them, and what their networks answer.
@Suite("Families") struct FamilyTests {
  private static let folder = URL(filePath: networkFixture("")).deletingLastPathComponent().appending(path: "families")
    .path(percentEncoded: false)

  private func path(_ name: String) -> String { "\(Self.folder)/\(name)" }

  /// What the small JiT's shapes do not tell.
  private func keys(_ text: String = #"{"in_context_start": 1}"#) throws -> ModelKeys {
    let temporary = try TemporaryDirectory()
    try AtomicFile.write(text, to: temporary("config.json"))
    return try ModelKeys(contentsOf: temporary("config.json"))
  }

  private func jit(_ name: String, _ weights: WeightChoice = .emaPreferred) throws -> DiT {
    try DiT(contentsOf: path(name), weights: weights, keys: keys())
  }

  private func difference(_ model: DiT, _ expected: String) throws -> Difference {
    let file = try SafetensorsFile(contentsOf: path("jit-answers.safetensors"))
    let output = try model.predict(
      images: file.tensor("x"), times: file.numbers("t").elements, labels: file.integers("y").values)
    return Difference(output, try file.tensor("output.\(expected)"))
  }

  // MARK: Files

  @Test(
    "JiT's trainer's folder, its bare state dict and its conversion for diffusers answer what JiT's network does",
    arguments: [
      ("jit", WeightChoice.emaPreferred, "model_ema1"), ("jit", .ema, "model_ema1"), ("jit", .model, "model"),
      ("jit", .named("model_ema2"), "model_ema2"), ("jit/checkpoint-last.pth", .named("model_ema1"), "model_ema1"),
      ("jit-net.pt", .emaPreferred, "model_ema1"), ("jit-diffusers.safetensors", .emaPreferred, "model_ema1"),
    ] as [(String, WeightChoice, String)])
  func jitAnswers(_ name: String, _ weights: WeightChoice, _ expected: String) throws {
    let model = try jit(name, weights)
    #expect(model.configuration.family == .jit)
    let found = try difference(model, expected)
    #expect(found.relative <= 1e-5, "\(name), \(weights): \(found)")
    if expected != "model" { #expect(try difference(model, "model").relative > 1e-2, "the trees are alike") }
  }

  @Test("JiT's loss and all its gradients are its program's, at both ends of time and for a dropped label")
  func jitLoss() throws {
    let file = try SafetensorsFile(contentsOf: path("jit-loss.safetensors"))
    func gradients(_ keys: ModelKeys) throws -> LossGradients {
      try DiT(contentsOf: path("jit"), weights: .model, keys: keys).lossAndGradients(
        clean: file.tensor("x0"), times: file.tensor("t").elements, labels: file.integers("y").values,
        noise: file.tensor("noise"))
    }
    let expected = try file.tensor("loss")
    func found(_ result: LossGradients) -> Difference {
      Difference(Tensor(shape: [4], elements: result.report.losses.map { Float($0.loss) }), expected)
    }
    let own = try gradients(keys())
    #expect(found(own).relative <= 1e-5, "\(found(own))")
    let names = Set(file.keys.map(\.name).filter { $0.hasPrefix("grad.") })
    #expect(Set(own.named.map { "grad.\($0.name)" }) == names)
    for (name, tensor) in own.named {
      let difference = Difference(tensor, try file.tensor("grad.\(name)"))
      #expect(difference.relative <= 1e-4, "\(name): \(difference)")
    }
    // Another floor, or a loss of the picture itself, is far from it.
    for section in [#""t_floor": 0.06"#, #""loss_target": "x0""#] {
      let other = try gradients(keys(#"{"in_context_start": 1, "diffusion": {\#(section)}}"#))
      #expect(found(other).relative > 1e-3, "\(section)")
    }
  }

  @Test("Tokens that join at another block, or plain noise in place of the file, are seen in JiT's answer")
  func jitSensitivity() throws {
    let other = try DiT(contentsOf: path("jit-net.pt"), keys: keys(#"{"in_context_start": 0}"#))
    #expect(try difference(other, "model_ema1").relative > 1e-3)
    let turned = try DiT(contentsOf: path("jit-net.pt"), keys: keys(#"{"in_context_start": 1, "position": "sincos"}"#))
    #expect(try difference(turned, "model_ema1").relative > 1e-3)
  }

  @Test("pMF's own names are put together, and what only training uses is passed over by name")
  func pmfAnswers() throws {
    let loaded = try ModelReference(path("pmf.pt")).load()
    #expect(loaded.configuration.family == .pmf)
    #expect(loaded.notes.contains { $0.contains("passed over: rope_freqs, v_final_layer, v_heads") }, "\(loaded.notes)")
    let (network, weights) = (loaded.configuration.network, try #require(loaded.weights))
    #expect(network.tokenGroups == TokenGroups(classes: 3, omega: 2, tMin: 1, tMax: 1, time: 2))
    let file = try SafetensorsFile(contentsOf: path("pmf-answers.safetensors"))
    let dit = try DiT(
      configuration: loaded.configuration, weights: weights, context: ComputeContext(threads: 2))
    let (samples, c) = (3, network)
    let values = MutableFloatSlice(zeros: Modulation.elements(c, rows: samples))
    let modulation = Modulation(c, rows: samples, values: values)
    let output = MutableFloatSlice(zeros: samples * c.outputElements)
    let images = try file.tensor("x")
    dit.network.modulate(times: try file.numbers("t").elements, labels: try file.integers("y").values, into: modulation)
    dit.network.forward(
      output: output.mutableSpan, images: images.elements.span, modulation: modulation, samples: samples,
      workspace: InferenceWorkspace(dit.network, samples: samples))
    let found = Difference(Tensor(shape: images.shape, elements: output.array), try file.tensor("output.model"))
    #expect(found.relative <= 1e-5, "\(found)")
  }

  @Test("What nothing tells is asked for by its key, and a family that the names contradict is refused")
  func refusals() throws {
    func error(_ name: String, _ hints: StateDictHints) throws -> String {
      "\(try #require(#expect(throws: (any Error).self) { try ModelReference(path(name)).load(hints: hints) }))"
    }
    #expect(try error("jit-net.pt", StateDictHints()).contains("in_context_start: expected --config FILE"))
    let pmf = try error("jit-net.pt", StateDictHints(family: .pmf, keys: keys()))
    #expect(pmf.contains("family: expected tensors of pmf, found those of jit"), "\(pmf)")
    let heads = try error("jit-net.pt", StateDictHints(heads: 3, keys: keys()))
    #expect(heads.contains("heads: expected 2, as blocks.0.attn.q_norm.weight says, found 3"), "\(heads)")
    let published = try #require(
      #expect(throws: DiTError.self) {
        try ModelReference("DiT-S/2").configuration(hints: StateDictHints(family: .jit))
      })
    #expect("\(published)".contains("family: expected dit, as the model says, found jit"), "\(published)")
  }

  @Test("A name that is nothing but a wrapper's word is named as unexpected")
  func strangeName() throws {
    let temporary = try TemporaryDirectory()
    let source = try StateDictFile(contentsOf: path("pmf.pt")).store
    var tensors = try source.keys.filter { $0.name != "rope_freqs" }.map { key in
      TensorSource(key.name, try source.slice(key.name), shape: key.shape, as: .f32)
    }
    tensors.append(TensorSource("_flax_linear", FloatSlice([1]), shape: [1], as: .f32))
    try SafetensorsWriter.write(tensors, to: temporary("strange.safetensors"))
    let error = #expect(throws: (any Error).self) { try ModelReference(temporary("strange.safetensors")).load() }
    #expect("\(try #require(error))".contains("_flax_linear"), "\(error.map { "\($0)" } ?? "")")
  }

  // MARK: Configurations

  /// Parameters as the programs' own networks have them without memory; multiply-adds counted by hand.
  @Test(
    "Published sizes have their programs' parameters",
    arguments: [
      ("JiT-B/16", 131_320_320, 25_222_840_320), ("JiT-B/32", nil, nil), ("JiT-L/16", nil, nil),
      ("JiT-H/16", 952_842_048, nil), ("pMF-B/16", 118_234_240, 33_332_527_104), ("pMF-H/32", nil, nil),
    ] as [(String, Int?, Int?)])
  func publishedSizes(_ name: String, _ parameters: Int?, _ multiplyAdds: Int?) throws {
    let model = try ModelReference(name).configuration()
    if let parameters { #expect(ParameterTable(model.network).parameterCount == parameters) }
    if let multiplyAdds { #expect(model.network.multiplyAdds == multiplyAdds) }
    #expect(model.network.tokens == 256 && model.network.inputWidth == 16 * model.network.patchSize)
    #expect(model.sampling.guidance.ends == (model.family == .jit ? .jit : .closed))
  }

  @Test("A family's configuration is written and read back equal, its keys set otherwise too")
  func configurationsComeBack() throws {
    var models = PublishedSize.all.compactMap { ModelConfiguration(published: $0.name) }
    #expect(models.count == 33)
    var plain = try #require(models.first { $0.family == .jit })
    plain.network.patchBottleneck = nil
    plain.network.inContextTokens = 0
    plain.network.inContextStart = 0
    plain.network.bias = Biases()
    plain.network.qkNorm = false
    (plain.network.norm, plain.network.mlp) = (.layer, .gelu)
    plain.sampling.guidance.interval = nil
    plain.diffusion.noiseScale = 3
    models.append(plain)
    for model in models {
      let temporary = try TemporaryDirectory()
      try model.write(to: temporary("config.json"))
      #expect(try ModelConfiguration(contentsOf: temporary("config.json")) == model)
    }
    let temporary = try TemporaryDirectory()
    try AtomicFile.write(#"{"family": "jit", "input_size": 64, "patch_size": 8}"#, to: temporary("short.json"))
    let short = try ModelConfiguration(contentsOf: temporary("short.json"))
    #expect(short.network.norm == .rms && short.network.inContextTokens == 32 && short.network.inChannels == 3)
    #expect(short.diffusion.prediction == .x0 && short.sampling.sampler.name == .heun)
    #expect(short.sampling.guidance.ends == .jit)
  }
}
