import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import DiTTraining
import Foundation

/// A directory that lasts as long as the object.
final class TemporaryDirectory {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appending(path: "dit-training-\(UUID())").path(percentEncoded: false)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// The path of a file in the directory.
  func callAsFunction(_ name: String) -> String { "\(path)/\(name)" }
}

/// The path under Tests/Fixtures/network.
func fixture(_ name: String) -> String {
  URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures/network/\(name)").path(percentEncoded: false)
}

/// A network small enough for hundreds of steps a second, neither square nor without classes.
func tinyNetwork(classes: Int = 3, dropout: Double = 0.1) -> DiTConfiguration {
  DiTConfiguration(
    inputHeight: 4, inputWidth: 6, patchSize: 2, inChannels: 1, hiddenSize: 16, depth: 2, numHeads: 2,
    numClasses: classes, classDropoutProb: dropout)
}

func tinyModel(classes: Int = 3, dropout: Double = 0.1) -> ModelConfiguration {
  ModelConfiguration(network: tinyNetwork(classes: classes, dropout: dropout))
}

/// Seeded images in [−1, 1]; sample i has label i mod classes.
func tinyData(count: Int = 23, classes: Int = 3, edit: (inout [Float]) -> Void = { _ in }) throws -> Dataset {
  var random = Philox(seed: 99)
  var elements = random.normal(count: count * 24).map { max(-1, min(1, 0.5 * $0)) }
  edit(&elements)
  return try Dataset(
    Tensor(shape: [count, 1, 4, 6], elements: elements), labels: (0..<count).map { $0 % classes }, name: "tiny")
}

/// Twelve steps of two micro-batches over 19 training samples, so that batches cross the ends of epochs.
func tinyTraining(_ edit: (inout TrainingConfiguration) -> Void = { _ in }) -> TrainingConfiguration {
  var training = TrainingConfiguration()
  training.steps = 12
  training.batch = 6
  training.microBatch = 3
  training.learningRate = 3e-3
  training.warmupSteps = 3
  training.gradientClip = 1
  training.validationModulus = 5
  training.checkpointEvery = 4
  training.validateEvery = 4
  training.sampleEvery = 6
  training.logEvery = 1
  edit(&training)
  return training
}

/// A trainer of the tiny network on the tiny data.
func tinyTrainer(
  threads: Int = 1, model: ModelConfiguration = tinyModel(), data: Dataset? = nil, start: FloatSlice? = nil,
  _ edit: (inout TrainingConfiguration) -> Void = { _ in }
) throws -> Trainer {
  try Trainer(
    model: model, training: tinyTraining(edit), data: data ?? tinyData(), start: start,
    context: ComputeContext(threads: threads, workers: threads))
}

/// max |a − b| / max |b|.
func relativeError(_ found: [Float], _ expected: [Float]) -> Double {
  guard found.count == expected.count else { return .infinity }
  var (difference, size) = (0.0, 0.0)
  for (a, b) in zip(found, expected) {
    guard a.isFinite else { return .infinity }
    difference = max(difference, abs(Double(a) - Double(b)))
    size = max(size, abs(Double(b)))
  }
  return size > 0 ? difference / size : difference
}

/// What tests look at of a flat buffer, to read or to write.
protocol FlatValues {
  var array: [Float] { get }
  subscript(range: Range<Int>) -> Self { get }
}

extension FloatSlice: FlatValues {}
extension MutableFloatSlice: FlatValues {}

/// The bits of a flat buffer.
func bits(_ slice: some FlatValues) -> [UInt32] { slice.array.map(\.bitPattern) }

/// The first index at which two buffers differ, as a message; nil when they are the same bytes.
func firstDifference(_ a: some FlatValues, _ b: some FlatValues) -> String? {
  let (a, b) = (bits(a), bits(b))
  guard a.count == b.count else { return "\(a.count) and \(b.count) elements" }
  guard let i = a.indices.first(where: { a[$0] != b[$0] }) else { return nil }
  return "at \(i): \(Float(bitPattern: a[i])) and \(Float(bitPattern: b[i]))"
}

/// The weights' values of one tensor.
func values(_ name: String, _ flat: some FlatValues, _ trainer: Trainer) throws -> [Float] {
  guard let parameter = trainer.table.parameter(named: name) else { throw Missing(name: name) }
  return flat[parameter.range].array
}

struct Missing: Error { let name: String }

/// Thrown to end a run as a kill would: nothing is saved.
struct Killed: Error {}

func description(_ error: (any Error)?) -> String { error.map { "\($0)" } ?? "no error" }
