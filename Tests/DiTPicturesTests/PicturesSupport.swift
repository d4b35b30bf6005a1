import DiTEvaluation
import DiTFiles
import DiTImaging
import DiTKernels
import DiTModel
import DiTPictures
import DiTPipeline
import DiTTensor
import DiTTraining
import Foundation
import Testing

/// A folder that lasts as long as the object.
final class Scratch: Sendable {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appending(path: "dit-folders-\(UUID())").path(percentEncoded: false)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
  }

  deinit { try? Directory.remove(path) }

  func callAsFunction(_ name: String) -> String { "\(path)/\(name)" }

  /// Writes a file, with the folders above it.
  func write(_ bytes: [UInt8], to name: String) throws {
    let folder = (self(name) as NSString).deletingLastPathComponent
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try Data(bytes).write(to: URL(filePath: self(name)))
  }

  /// Writes a PNG.
  func write(_ image: Image, to name: String) throws { try write(image.pngData(), to: name) }

  func bytes(_ name: String) throws -> [UInt8] { try [UInt8](Data(contentsOf: URL(filePath: self(name)))) }

  func remove(_ name: String) throws { try FileManager.default.removeItem(atPath: self(name)) }
}

/// A picture of seeded noise.
func noise(_ seed: Int, width: Int = 6, height: Int = 4, channels: Int = 1) -> Image {
  var random = Philox(seed: UInt64(seed))
  let pixels = (0..<width * height * channels).map { _ in UInt8(truncatingIfNeeded: random.next() >> 40) }
  return Image(width: width, height: height, channels: channels, pixels: pixels)
}

/// The picture as training data hold it, (C, H, W).
func planes(_ image: Image) -> [UInt8] {
  (0..<image.channels).flatMap { channel in
    (0..<image.width * image.height).map { image.pixels[$0 * image.channels + channel] }
  }
}

func floats(_ bytes: [UInt8]) -> [Float] { bytes.map { Float($0) / 127.5 - 1 } }

/// Twelve steps of a network that takes 1×4×6, of three classes.
func trainer(
  _ data: Dataset, threads: Int = 1, _ edit: (inout TrainingConfiguration) -> Void = { _ in }
) throws -> Trainer {
  let network = DiTConfiguration(
    inputHeight: 4, inputWidth: 6, patchSize: 2, inChannels: 1, hiddenSize: 16, depth: 1, numHeads: 2, numClasses: 3,
    classDropoutProb: 0.1)
  var training = TrainingConfiguration()
  (training.steps, training.batch, training.microBatch) = (12, 6, 3)
  (training.learningRate, training.warmupSteps, training.validationModulus) = (3e-3, 2, 5)
  (training.checkpointEvery, training.validateEvery, training.sampleEvery, training.logEvery) = (4, 4, 0, 1)
  edit(&training)
  return try Trainer(
    model: ModelConfiguration(network: network), training: training, data: data,
    context: ComputeContext(threads: threads, workers: threads))
}

func bits(_ slice: MutableFloatSlice) -> [UInt32] { slice.array.map(\.bitPattern) }

func description(_ error: (any Error)?) -> String { error.map { "\($0)" } ?? "no error" }

/// A file of Tests/Fixtures/archives, which others' programs wrote: see its make.py.
func archiveFixture(_ name: String) -> String {
  URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures/archives/\(name)").path(percentEncoded: false)
}

/// The pixels of the fixtures' picture `k`.
func archivePixels(_ k: Int, width: Int = 6, height: Int = 4) -> [UInt8] {
  (0..<height).flatMap { y in (0..<width).map { x in UInt8((31 * k + 7 * y + 3 * x) % 256) } }
}

/// Which of the fixtures' pictures each sample is.
func archiveOrder(_ set: any PictureSet, cacheBytes: Int = 1 << 20) throws -> [Int?] {
  let data = try set.dataset(
    channels: 1, height: 4, width: 6, options: PictureOptions(cacheBytes: cacheBytes)
  ).data
  #expect(data.isStreamed == (cacheBytes == 0) && data.labels == set.labels)
  return try (0..<data.count).map { index in
    let sample = try data.sample(index)
    return (0..<10).first { floats(archivePixels($0)) == sample }
  }
}

func openedPictures(_ path: String, part: SampleSet.Part? = nil) throws -> any PictureSet {
  try #require(try PictureSets.open(path, part: part)).pictures
}

/// - Parameter make: makes the error.
func errorText(_ make: () throws -> Void) -> String { description(#expect(throws: DiTError.self) { try make() }) }
