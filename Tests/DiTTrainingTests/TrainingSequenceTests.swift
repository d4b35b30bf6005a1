import CAllocationCounter
import DiTDiffusion
import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import DiTTraining
import Testing

/// Captions and context images: read, checked, learned, dropped.
@Suite("Training on captions and context images") struct SequenceTests {
  private let folder: TemporaryDirectory

  init() throws { folder = try TemporaryDirectory() }

  private static let text = model { $0.sequence = .text(length: 4) }
  private static let image = model { $0.sequence = .image(height: 2, width: 4) }

  private static func model(_ edit: (inout DiTConfiguration) -> Void) -> ModelConfiguration {
    var network = tinyNetwork(classes: 0)
    edit(&network)
    return ModelConfiguration(network: network)
  }

  /// Images that are all bright or all dark, as their captions and their context say.
  private static func data(count: Int = 20, captions: Bool = true) throws -> Dataset {
    let signs = (0..<count).map { Float($0 % 2) * 2 - 1 }
    return try Dataset(
      Tensor(shape: [count, 1, 4, 6], elements: signs.flatMap { [Float](repeating: 0.8 * $0, count: 24) }),
      captions: captions ? signs.map { $0 > 0 ? "é" : "dark" } : nil,
      context: Tensor(shape: [count, 1, 2, 4], elements: signs.flatMap { [Float](repeating: 0.5 * $0, count: 8) }),
      name: "signs")
  }

  // MARK: Data

  private func write(_ captions: TensorSource) throws -> String {
    let path = folder("data.safetensors")
    try SafetensorsWriter.write([TensorSource("images", Tensor(zeros: [2, 1, 4, 6])), captions], to: path)
    return path
  }

  @Test("Captions are read as UTF-8 padded with zeros, and are part of the digest")
  func captionsAreRead() throws {
    let bytes: [UInt8] = Array("zwölf".utf8) + [0] + Array("7".utf8) + [0, 0, 0, 0, 0, 0]
    let data = try Dataset(contentsOf: write(TensorSource("captions", shape: [2, 7], bytes: bytes)))
    let captions = try #require(data.captions)
    #expect(captions.count == 2 && captions[0] == "zwölf" && captions[1] == "7")
    #expect(captions == Captions(["zwölf", "7"]))
    let other = try Dataset(
      Tensor(zeros: [2, 1, 4, 6]), captions: ["zwölf", "8"], name: "other")
    #expect(data.digest != other.digest, "captions are part of the data")
  }

  @Test("Wrong captions are refused by file and reason")
  func badCaptionsAreNamed() throws {
    let cases: [(TensorSource, String)] = [
      (TensorSource("captions", shape: [3, 1], bytes: [65, 66, 67]), "captions: expected the shape (2, M) of U8"),
      (TensorSource("captions", shape: [2], integers: [1, 2]), "captions: expected the shape (2, M) of U8"),
      (TensorSource("captions", shape: [2, 2], bytes: [65, 0, 0, 66]), "captions: expected UTF-8 padded with zeros"),
      (TensorSource("captions", shape: [2, 2], bytes: [0xC3, 0, 65, 0]), "found something else at sample 0"),
    ]
    for (captions, message) in cases {
      let path = try write(captions)
      let error = #expect(throws: DiTError.self) { try Dataset(contentsOf: path) }
      #expect(description(error).hasPrefix(path) && description(error).contains(message), "\(description(error))")
    }
  }

  @Test("Data without the captions or context that the model needs are refused")
  func dataMustFitTheSequence() throws {
    let data = try Self.data()
    try data.check(for: Self.text.network)
    try data.check(for: Self.image.network)
    try data.check(for: tinyNetwork(classes: 0))
    var short = Self.text.network
    short.sequence = .text(length: 3)
    var large = Self.image.network
    large.sequence = .image(height: 4, width: 4)
    let cases: [(Dataset, DiTConfiguration, String)] = [
      (data, short, "signs: captions: expected at most 3 bytes, the model's text.length, found 4 at sample 0"),
      (try Self.data(captions: false), short, "signs: captions: missing; the model has text"),
      (try tinyData(), Self.image.network, "tiny: context: missing; the model has context_image"),
      (data, large, "signs: context: expected the shape (N, 1, 4, 4)"),
    ]
    for (data, network, message) in cases {
      let error = #expect(throws: DiTError.self) { try data.check(for: network) }
      #expect(description(error).hasPrefix(message), "\(description(error))")
    }
  }

  // MARK: Training

  /// Trained on captions (or context images) alone, the model denoises better with the right one than with the other.
  @Test(
    "A trained model denoises better with the right caption or context than with a wrong one",
    arguments: [text, image])
  func sequencesAreLearned(_ model: ModelConfiguration) throws {
    let trainer = try tinyTrainer(model: model, data: Self.data()) {
      ($0.steps, $0.batch, $0.microBatch, $0.learningRate, $0.flip) = (500, 16, 16, 5e-3, false)
    }
    for _ in 0..<500 { _ = try trainer.step() }
    let dit = try DiT(
      configuration: model, weights: Weights(trainer.table, flat: trainer.weights.reading), context: trainer.context)
    var random = Philox(seed: 5)
    let count = 32
    let noise = Tensor(shape: [count, 1, 4, 6], elements: random.normal(count: count * 24))
    let bright = Tensor(shape: [count, 1, 4, 6], elements: [Float](repeating: 0.8, count: count * 24))
    func loss(_ sequence: ConditioningSequence?) throws -> Double {
      let report = try dit.loss(
        clean: bright, times: (0..<count).map { Float(500 + 8 * $0) }, labels: [], noise: noise, sequence: sequence)
      return report.losses.reduce(0) { $0 + $1.mse } / Double(count)
    }
    let isText = model.network.sequence == .text(length: 4)
    func sequence(_ sign: Float) -> ConditioningSequence {
      isText
        ? .texts([String](repeating: sign > 0 ? "é" : "dark", count: count))
        : .images(Tensor(shape: [count, 1, 2, 4], elements: [Float](repeating: 0.5 * sign, count: count * 8)))
    }
    let (right, wrong, empty) = try (loss(sequence(1)), loss(sequence(-1)), loss(nil))
    #expect(right < 0.8 * wrong && right < empty, "right \(right), wrong \(wrong), empty \(empty)")
  }

  /// With nearly everything dropped, what the sequences say hardly matters; their gradients are zero when all are dropped.
  @Test("Dropped captions leave the text table without a gradient")
  func sequencesAreDropped() throws {
    func embedding(dropout: Double) throws -> [Float] {
      let model = Self.model { ($0.sequence, $0.classDropoutProb) = (.text(length: 4), dropout) }
      let trainer = try tinyTrainer(model: model, data: Self.data()) { ($0.batch, $0.microBatch) = (16, 16) }
      for _ in 0..<3 { _ = try trainer.step() }
      return try values("text_embedder.table", trainer.gradients, trainer)
    }
    #expect(try embedding(dropout: 0.999_999_9).allSatisfy { $0 == 0 })
    #expect(try embedding(dropout: 0.1).contains { $0 != 0 })
  }

  /// With classes too, class and text are dropped together: the null class never sees a caption.
  @Test("Class and caption are dropped together")
  func dropsClassAndTextTogether() throws {
    let network = Self.model { ($0.sequence, $0.numClasses, $0.classDropoutProb) = (.text(length: 4), 3, 0.999_999_9) }
    let data = try Dataset(
      Tensor(zeros: [10, 1, 4, 6]), labels: [Int](repeating: 1, count: 10),
      captions: [String](repeating: "a", count: 10), name: "both")
    let trainer = try tinyTrainer(model: network, data: data) { ($0.batch, $0.microBatch) = (8, 8) }
    for _ in 0..<3 { _ = try trainer.step() }
    let (text, labels) = try (
      values("text_embedder.table", trainer.gradients, trainer),
      values("y_embedder.embedding_table.weight", trainer.gradients, trainer)
    )
    #expect(text.allSatisfy { $0 == 0 } && labels.prefix(48).allSatisfy { $0 == 0 } && labels.contains { $0 != 0 })
  }

  /// A context image is mirrored with its image: with images that are their own mirror, it is all that a flip changes.
  @Test("A context image is mirrored with its image")
  func contextIsMirroredWithTheImage() throws {
    func weights(flip: Bool, context: [Float]) throws -> FloatSlice {
      let data = try Dataset(
        Tensor(shape: [10, 1, 4, 6], elements: [Float](repeating: 0.3, count: 240)),
        context: Tensor(shape: [10, 1, 2, 4], elements: (0..<10).flatMap { _ in context }), name: "mirrors")
      let trainer = try tinyTrainer(model: Self.image, data: data) { $0.flip = flip }
      for _ in 0..<3 { _ = try trainer.step() }
      return trainer.weights.reading
    }
    let (slope, even): ([Float], [Float]) = ([-1, -0.5, 0, 0.5, 1, 0, 1, -1], [1, 0, 0, 1, -1, 0.5, 0.5, -1])
    #expect(firstDifference(try weights(flip: true, context: slope), try weights(flip: false, context: slope)) != nil)
    #expect(firstDifference(try weights(flip: true, context: even), try weights(flip: false, context: even)) == nil)
  }

  @Test("Training on sequences has the same bytes at any number of threads", arguments: [text, image])
  func threadsAndMicroBatches(_ model: ModelConfiguration) throws {
    func weights(threads: Int) throws -> FloatSlice {
      let trainer = try tinyTrainer(threads: threads, model: model, data: Self.data())
      for _ in 0..<4 { _ = try trainer.step() }
      return trainer.weights.reading
    }
    #expect(firstDifference(try weights(threads: 1), try weights(threads: 3)) == nil)
  }

  @Test(
    "Training steps on sequences allocate nothing",
    .enabled(if: dit_allocations_supported() != 0), arguments: [text, image])
  func stepsDoNotAllocate(_ model: ModelConfiguration) throws {
    dit_allocations_watch()
    defer { dit_allocations_unwatch() }
    let trainer = try tinyTrainer(threads: 2, model: model, data: Self.data())
    _ = try trainer.step()
    let before = dit_allocations_count()
    for _ in 0..<5 { _ = try trainer.step() }
    let count = dit_allocations_count() - before
    #expect(count == 0, "\(count) allocations")
  }
}
