import DiTAutoencoder
import DiTEvaluation
import DiTFiles
import DiTImaging
import DiTKernels
import DiTPictures
import DiTPipeline
import DiTTensor
import DiTTraining
import Foundation
import TestSupport
import Testing

@Suite("Training data from a file or a folder") struct TrainingDataTests {
  private let scratch: Scratch

  init() throws {
    scratch = try Scratch()
    for seed in 0..<5 { try scratch.write(noise(seed, width: 6, height: 4), to: "data/\(seed % 2)/\(seed).png") }
  }

  @Test("A folder is read at the model's size, and says how many classes it has")
  func folder() throws {
    let data = try #require(try TrainingData(contentsOf: scratch("data")))
    #expect(
      data.classes == DataClasses(source: scratch("data"), names: ["0", "1"], statedCount: 2, count: 2))
    var model = try trainer(data: data).model
    let (dataset, notes) = try data.dataset(for: model, TrainingConfiguration())
    #expect(dataset.count == 5 && [dataset.height, dataset.width] == [4, 6] && notes.isEmpty)
    #expect(try dataset.sample(0) == floats(planes(noise(0))))
    model.network.inChannels = 4
    let error = #expect(throws: DiTError.self) { try data.dataset(for: model, TrainingConfiguration()) }
    #expect(
      description(error)
        == "\(scratch("data")): pictures: expected a model of 1 or 3 channels, found in_channels 4")
  }

  private func trainer(data: TrainingData) throws -> Trainer {
    guard case .pictures(let folder) = data else { throw CocoaError(.fileReadUnknown) }
    return try DiTPicturesTests.trainer(
      folder.dataset(channels: 1, height: 4, width: 6, options: PictureOptions()).data)
  }

  @Test("A folder without class folders states that it has none; a file need not state; other paths are no data")
  func kinds() throws {
    try scratch.write(noise(1), to: "flat/a.png")
    #expect(
      try TrainingData(contentsOf: scratch("flat"))?.classes
        == DataClasses(source: scratch("flat"), names: nil, statedCount: 0, count: nil))
    let file = scratch("x.safetensors")
    try SafetensorsWriter.write(
      [TensorSource("images", Tensor(zeros: [2, 1, 4, 6])), TensorSource("labels", shape: [2], integers: [0, 6])],
      to: file)
    let data = try #require(try TrainingData(contentsOf: file))
    #expect(data.classes == DataClasses(source: file, names: nil, statedCount: nil, count: 7))
    #expect(try TrainingData(contentsOf: scratch("none")) == nil && !ImageFolder.isFolder(file))
  }

  @Test("Training data in memory are samples to be judged by, with their labels")
  func sampleSet() throws {
    let data = try ImageFolder(scratch("data")).dataset(
      channels: 1, height: 4, width: 6, options: PictureOptions(cacheBytes: .max)
    ).data
    let set = SampleSet(data, name: "set")
    #expect(set.name == "set" && set.shape == [1, 4, 6] && set.labels == data.labels && set.count == 5)
    #expect(try set.elements(1..<3) == data.sample(1) + data.sample(2))
  }

  @Test("Latents decoded a few at a time are those decoded at once; stopping keeps the images that are done")
  func decoding() throws {
    try AutoencoderFixture("tiny").write(to: URL(filePath: scratch("vae")))
    let autoencoder = try Autoencoder(contentsOf: scratch("vae"), context: ComputeContext(threads: 1))
    let channels = autoencoder.configuration.latentChannels
    var random = Philox(seed: 2)
    let latents = Tensor(shape: [11, channels, 2, 3], elements: random.normal(count: 11 * channels * 6))
    var (images, seen) = (ImageCollection(as: .floats), [Int]())
    try images.decode(latents, with: autoencoder) {
      seen.append($0)
      return true
    }
    #expect(seen == Array(1...11))
    #expect(images.tensor == ImageCollection(try autoencoder.decode(latents), as: .floats).tensor)
    var cut = ImageCollection(as: .floats)
    try cut.decode(latents, with: autoencoder) { $0 < 9 }
    #expect(cut.tensor == images.tensor.prefix(9))
    #expect(throws: DiTError.self) {
      try cut.decode(Tensor(zeros: [0, channels, 2, 3]), with: autoencoder)
    }
  }
}
