import DiTDiffusion
import DiTFiles
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation
import TestSupport
import Testing

/// Tests/Fixtures/families' small JiT, written for JiT's own code again, as if its size were a published one.
@Suite("JiT checkpoints") struct JiTCheckpointTests {
  private static let folder = URL(filePath: networkFixture("")).deletingLastPathComponent()
    .appending(path: "families/jit").path(percentEncoded: false)
  private static let size = PublishedSize(
    name: "JiT-B/16", family: .jit, depth: 2, hiddenSize: 24, numHeads: 2, patch: 2, side: 8, start: 1, noiseScale: 1,
    guidance: 3, interval: nil)
  private static let choices: [WeightChoice] = [.named("model"), .named("model_ema1"), .named("model_ema2")]

  /// What the small JiT's shapes do not tell; a published size has the wider of the two maps 128 wide.
  private func hints(_ text: String = #"{"in_context_start": 1}"#) throws -> StateDictHints {
    let temporary = try TemporaryDirectory()
    try AtomicFile.write(text, to: temporary("config.json"))
    return StateDictHints(keys: try ModelKeys(contentsOf: temporary("config.json")))
  }

  /// The model with what JiT's code fixes and the fixture has smaller, so that only what a test changes is refused.
  private func configuration(_ change: (inout ModelConfiguration) -> Void = { _ in }) throws -> ModelConfiguration {
    var model = try ModelReference(Self.folder).configuration(hints: hints())
    model.network.patchBottleneck = 128
    model.network.inContextTokens = 32
    change(&model)
    return model
  }

  @Test("All three sets are written and read again bit by bit, the trained weights and each average by itself")
  func threeSets() throws {
    let temporary = try TemporaryDirectory()
    let reference = try ModelReference(Self.folder)
    let sets = try WeightSets(reference, hints: hints())
    #expect(sets.further.map(\.decay) == [0.9996])
    let checkpoint = try JiTCheckpoint(configuration(), sets, name: "m", sizes: [Self.size])
    #expect(checkpoint.notes.isEmpty)
    try checkpoint.write(to: temporary.path, as: .f32)
    let written = try ModelReference(temporary.path)
    for choice in Self.choices {
      let (old, new) = try (reference.load(choice, hints: hints()), written.load(choice, hints: hints()))
      #expect(try #require(new.weights).slices.map(\.array) == #require(old.weights).slices.map(\.array), "\(choice)")
    }
    let (one, two) = try (written.load(Self.choices[0], hints: hints()), written.load(Self.choices[2], hints: hints()))
    #expect(one.weights?.slices.map(\.array) != two.weights?.slices.map(\.array), "the sets are one")
  }

  @Test("One set stands for all three, stored once, and a note says so; a lone average stands for both")
  func oneSet() throws {
    let temporary = try TemporaryDirectory()
    let one = try #require(ModelReference(Self.folder).load(.named("model_ema2"), hints: hints()).weights)
    try ModelDirectory.write(configurationOfFixture(), model: one, ema: nil, to: temporary("dit"))
    let sets = try WeightSets(ModelReference(temporary("dit")), hints: StateDictHints())
    let checkpoint = try JiTCheckpoint(configuration(), sets, name: "m", sizes: [Self.size])
    #expect(
      checkpoint.notes == [
        "checkpoint-last.pth: model, model_ema1 and model_ema2 are the same weights, as the model has one set"
      ])
    try checkpoint.write(to: temporary.path, as: .f32)
    let file = temporary("checkpoint-last.pth")
    let places = try Self.choices.map { choice in
      try TorchFile(contentsOf: file, tree: .named([choice.rawValue])).entries.map(\.storage)
    }
    #expect(places[0] == places[1] && places[1] == places[2])
    try ModelDirectory.write(configurationOfFixture(), model: one, ema: one, to: temporary("dit"))
    let two = try WeightSets(ModelReference(temporary("dit")), hints: StateDictHints())
    let average = try JiTCheckpoint(configuration(), two, name: "m", sizes: [Self.size])
    #expect(average.notes == ["checkpoint-last.pth: model_ema2 is model_ema1, as the model has one moving average"])
  }

  private func configurationOfFixture() throws -> ModelConfiguration {
    try ModelReference(Self.folder).configuration(hints: hints())
  }

  @Test("The arguments say what the model's keys do, and come back as these")
  func arguments() throws {
    let temporary = try TemporaryDirectory()
    let model = try configuration { model in
      model.diffusion.noiseScale = 2
      model.diffusion.timeFloor = 0.02
      model.diffusion.timeDistribution = .logitNormal(mean: -0.5, deviation: 1.25)
      model.network.classDropoutProb = 0.2
      model.sampling.sampler = Sampler(.euler, steps: 7, schedule: .linspace)
      model.sampling.guidance = Guidance(scale: 2.5, interval: 0.25...0.75, ends: .jit)
    }
    let sets = try WeightSets(ModelReference(Self.folder), hints: hints())
    try JiTCheckpoint(model, sets, name: "m", sizes: [Self.size]).write(to: temporary.path, as: .f32)
    let read = try ModelReference(temporary.path).configuration(hints: hints())
    #expect(read.diffusion == model.diffusion && read.sampling == model.sampling)
    #expect(read.network.classDropoutProb == 0.2 && read.network.numClasses == 4)
    let stored = try TorchFile(contentsOf: temporary("checkpoint-last.pth")).arguments
    #expect(
      stored.text("model") == "JiT-B/16" && stored.integer("img_size") == 8 && stored.real("ema_decay2") == 0.9996)
    // What a user states counts more.
    let stated = try ModelReference(temporary.path).configuration(
      hints: hints(#"{"in_context_start": 1, "diffusion": {"noise_scale": 3}, "sampling": {"steps": 9}}"#))
    #expect(
      stated.diffusion.noiseScale == 3 && stated.diffusion.timeFloor == 0.02 && stated.sampling.sampler.steps == 9)
    #expect(stated.sampling.sampler.name == .euler)
  }

  private static let refused: [(String, @Sendable (inout ModelConfiguration) -> Void)] = [
    ("family", { ($0.family, $0.network.depth) = (.pmf, 3) }),
    ("depth, hidden_size, patch_size", { $0.network.depth = 3 }),
    ("norm", { $0.network.norm = .layer }),
    ("in_context_start", { $0.network.inContextStart = 0 }),
    ("class_dropout_prob", { $0.network.classDropoutProb = 0 }),
    ("input_size", { $0.network.inputHeight = 16 }),
    ("diffusion.prediction", { $0.diffusion.prediction = .velocity }),
    ("diffusion.network_time", { $0.diffusion.networkTime = .s }),
    ("sampling.sampler", { $0.sampling.sampler = Sampler(.meanflow, steps: 1, schedule: .linspace) }),
  ]

  @Test("A key that JiT's code cannot express is refused by name", arguments: refused.indices)
  func refusals(_ index: Int) throws {
    let (key, change) = Self.refused[index]
    let sets = try WeightSets(ModelReference(Self.folder), hints: hints())
    let model = try configuration { change(&$0) }
    let error = #expect(throws: DiTError.self) { try JiTCheckpoint(model, sets, name: "m", sizes: [Self.size]) }
    #expect(error?.name == key, "\(error.map { "\($0)" } ?? "")")
  }
}
