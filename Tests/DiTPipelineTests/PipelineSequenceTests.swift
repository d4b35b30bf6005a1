import DiTDiffusion
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Testing

/// Prompts, context images and a program's own embeddings, from a loaded model.
@Suite("Prompts, context images and embeddings") struct SequenceTests {
  private static func network(_ sequence: SequenceSource, classes: Int = 0) -> DiTConfiguration {
    var network = smallNetwork
    (network.numClasses, network.sequence) = (classes, sequence)
    return network
  }

  private static let text = network(.text(length: 6))
  private static let options = SamplingOptions(
    sampler: Sampler(.ddpm, steps: 4), guidance: Guidance(scale: 3), seed: 2)

  private func image(_ samples: Samples, _ index: Int) -> Tensor {
    let shape = Array(samples.images.shape.dropFirst())
    let size = shape.reduce(1, *)
    return Tensor(shape: shape, elements: Array(samples.images.elements[index * size..<(index + 1) * size]))
  }

  /// An image depends on its own prompt, whatever the others are and however many run at once.
  @Test("An image depends on its own prompt alone")
  func promptsDoNotMix() throws {
    let model = try randomModel(Self.text)
    var options = Self.options
    let prompts = ["seven", "", "7", "ö"]
    let whole = try model.sample(.prompts(prompts), options: options)
    #expect(whole.labels.isEmpty && whole.isComplete)
    options.batch = 3
    let parts = try model.sample(.prompts(prompts), options: options)
    #expect(Difference(parts.images, whole.images).relative < 1e-4)
    let others = try model.sample(.prompts(["seven", "8", "8", "8"]), options: options)
    #expect(Difference(image(others, 0), image(whole, 0)).relative < 1e-4)
    #expect(Difference(image(others, 2), image(whole, 2)).relative > 1e-3, "the prompt must matter")
  }

  /// ε̂ = ε_u + s(ε_c − ε_u), ε_u of the empty text: seen in one step of DDIM from known noise.
  @Test("Guidance is relative to the empty text")
  func guidanceIsAgainstTheEmptyText() throws {
    let model = try randomModel(Self.text)
    let noise = normal([2, 3, 6, 10], seed: 3)
    let sampler = Sampler(.ddim, steps: 1, schedule: .trailing)
    func sample(_ prompts: [String]?, guidance: Double) throws -> [Float] {
      let options = SamplingOptions(sampler: sampler, guidance: Guidance(scale: guidance))
      return try model.sample(
        Condition(prompts.map { .texts($0) }, classes: nil, count: 2), options: options, start: Start(noise: noise)
      ).images.elements
    }
    let (prompted, empty) = try (sample(["one", "two"], guidance: 1), sample(nil, guidance: 1))
    let guided = try sample(["one", "two"], guidance: 2.5)
    // One step to x₀ is affine in ε̂.
    let expected = zip(prompted, empty).map { $1 + 2.5 * ($0 - $1) }
    let shape = [2, 3, 6, 10]
    #expect(
      Difference(Tensor(shape: shape, elements: guided), Tensor(shape: shape, elements: expected)).relative < 1e-4)
    #expect(
      Difference(
        Tensor(shape: shape, elements: try sample(["", ""], guidance: 4)), Tensor(shape: shape, elements: empty)
      ).relative < 1e-4)
  }

  /// A program's own embeddings that are the text's rows are that text.
  @Test("Embeddings that equal a text's rows give the output of that text")
  func ownEmbeddings() throws {
    let model = try randomModel(Self.text)
    let x = normal([2, 3, 6, 10], seed: 4)
    let table = try #require(model.network.weights["text_embedder.table"]).array
    let texts = ["ab", "xyz"]
    let rows = texts.map { text in
      Tensor(shape: [text.utf8.count, 24], elements: text.utf8.flatMap { table[Int($0) * 24..<(Int($0) + 1) * 24] })
    }
    let expected = try model.predict(images: x, times: [10, 900], labels: [], sequence: .texts(texts))
    let found = try model.predict(images: x, times: [10, 900], labels: [], sequence: .embeddings(rows))
    #expect(found == expected)
    let empty = try model.predict(images: x, times: [10, 900], labels: [])
    #expect(Difference(empty, expected).relative > 1e-3)
  }

  @Test("Context images and classes condition together, per image")
  func contextImagesAndClasses() throws {
    let model = try randomModel(Self.network(.image(height: 4, width: 2), classes: 4))
    let context = normal([3, 3, 4, 2], seed: 5)
    let with = try model.sample(.context(context, classes: [0, 1, 2]), options: Self.options)
    let without = try model.sample(.classes([0, 1, 2]), options: Self.options)
    #expect(with.labels == [0, 1, 2] && Difference(with.images, without.images).relative > 1e-3)
    let one = try model.sample(.context(context.prefix(1), classes: [0]), options: Self.options)
    #expect(Difference(image(one, 0), image(with, 0)).relative < 1e-4)
    let error = #expect(throws: DiTError.self) { try model.sample(.context(context, classes: [0, 1])) }
    #expect(error?.description == "classes: expected 3 values, one per image, found 2")
  }

  /// Sub-batches with their own sequences: the gradient of seventy images is that of each alone, averaged.
  @Test("Losses and gradients use each sample's own sequence")
  func lossesTakeSequences() throws {
    let model = try randomModel(Self.text)
    let (clean, noise) = (normal([2, 3, 6, 10], seed: 6), normal([2, 3, 6, 10], seed: 7))
    let texts = ["a", "bcd"]
    let both = try model.lossAndGradients(
      clean: clean, times: [5, 700], labels: [], noise: noise, sequence: .texts(texts))
    let plain = try model.loss(clean: clean, times: [5, 700], labels: [], noise: noise, sequence: .texts(texts))
    let empty = try model.loss(clean: clean, times: [5, 700], labels: [], noise: noise)
    for n in 0..<2 {
      #expect(
        abs(both.report.losses[n].loss / plain.losses[n].loss - 1) < 1e-5
          && abs(empty.losses[n].loss / plain.losses[n].loss - 1) > 1e-5)
    }
    #expect(both.named.contains { $0.name == "text_embedder.table" && $0.tensor.elements.contains { $0 != 0 } })
  }

  @Test("Sequences that do not fit the model are refused by name")
  func whatDoesNotFitIsRefused() throws {
    let (text, plain) = (try randomModel(Self.text), try randomModel(smallNetwork))
    let image = try randomModel(Self.network(.image(height: 4, width: 2)))
    let cases: [(DiT, [Int]?, ConditioningSequence, String)] = [
      (text, nil, .texts(["sevens!"]), "prompt: expected at most 6 bytes, the model's text.length, found 7 bytes"),
      (text, nil, .images(Tensor(zeros: [1, 3, 4, 2])), "sequence: expected texts, found images"),
      (
        text, nil, .embeddings([Tensor(zeros: [7, 24])]), "embeddings: expected shape [tokens, 24] of at most 6 tokens"
      ),
      (text, nil, .embeddings([Tensor(zeros: [2, 23])]), "embeddings: expected shape [tokens, 24]"),
      (image, nil, .texts(["a"]), "sequence: expected images, found texts"),
      (image, nil, .images(Tensor(zeros: [1, 3, 2, 4])), "context: expected shape [1, 3, 4, 2], found [1, 3, 2, 4]"),
      (plain, [1], .texts(["a"]), "sequence: expected none, as the model has neither text nor context_image"),
    ]
    for (model, classes, sequence, message) in cases {
      let error = #expect(throws: DiTError.self) {
        try model.sample(Condition(sequence, classes: classes, count: 1), options: Self.options)
      }
      #expect(error?.description.hasPrefix(message) == true, "\(error?.description ?? "")")
    }
    #expect(throws: DiTError.self) { try text.sample(.none(count: 1), options: Self.options) }
  }
}
