import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import DiTTraining
import Foundation
import Testing

/// Tests/Fixtures/wrapped/adam.pt: a checkpoint of the published training script with torch's optimizer in it.
@Suite("Adam goes on from torch's state") struct AdamStateTests {
  private static let folder = URL(filePath: fixture("")).deletingLastPathComponent().appending(path: "wrapped")
    .path(percentEncoded: false)
  private let path = "\(folder)/adam.pt"

  private static let training: TrainingConfiguration = {
    var training = TrainingConfiguration()
    (training.batch, training.learningRate, training.warmupSteps) = (4, 1e-3, 0)
    (training.schedule, training.validationModulus, training.weightDecay) = (.constant, 0, 0)
    return training
  }()

  private func start(
    _ path: String, _ change: (inout DiTConfiguration) -> Void = { _ in }
  ) throws -> (StartingWeights, ModelConfiguration) {
    let source = try ModelReference(path).load(.model, hints: StateDictHints(heads: 2))
    var model = source.configuration
    change(&model.network)
    var start = try StartingWeights(
      from: #require(source.weights), of: source.configuration.network, for: model.network, seed: 1, name: path)
    try start.takeUpAdam(of: path)
    return (start, model)
  }

  private func trainer(_ start: StartingWeights, _ model: ModelConfiguration) throws -> Trainer {
    let data = try Dataset(Tensor(zeros: [4, 3, 4, 4]), labels: [0, 1, 2, 0], name: "zeros")
    return try Trainer(
      model: model, training: Self.training, data: data, start: start, context: ComputeContext(threads: 1))
  }

  /// The largest difference from torch's weights after two further steps.
  private func error(_ trainer: Trainer) throws -> Float {
    let file = try SafetensorsFile(contentsOf: "\(Self.folder)/adam.safetensors")
    let labels = try file.integers("y").values
    let (times, clean, noise) = try (
      file.integers("t").values.map { Float($0) }, file.tensor("x0").elements, file.tensor("noise").elements
    )
    for n in 0..<2 {
      let (images, samples) = (n * 192..<(n + 1) * 192, n * 4..<(n + 1) * 4)
      _ = try trainer.step(
        clean: clean.span.extracting(images), noise: noise.span.extracting(images),
        times: times.span.extracting(samples), labels: labels.span.extracting(samples))
    }
    var largest: Float = 0
    for parameter in trainer.table.trainableParameters where !parameter.name.hasSuffix("qkv.bias") {
      let expected = try file.tensor("weights.\(parameter.name)").elements
      let found = trainer.weights[parameter.range].array
      let differences = zip(found, expected).map { abs($0 - $1) }
      try #require(found.count == expected.count && differences.allSatisfy(\.isFinite), "\(parameter.name)")
      largest = differences.reduce(largest, max)
    }
    return largest
  }

  /// A step moves a weight by up to 1e-3.
  @Test("Two more steps from a torch checkpoint are torch's own")
  func goesOnAsTorchDoes() throws {
    let (start, model) = try start(path)
    #expect(start.moments?.steps == 3)
    #expect(start.notes == ["Adam goes on from the optimizer's state in \(path), after 3 steps"])
    let found = try error(trainer(start, model))
    #expect(found < 5e-6, "\(found)")
    let anew = try ModelReference(path).load(.model, hints: StateDictHints(heads: 2))
    let fresh = try StartingWeights(
      from: #require(anew.weights), of: model.network, for: model.network, seed: 1, name: path)
    #expect(try error(trainer(fresh, model)) > 5e-4, "without the moments it goes another way")
  }

  @Test("Where the order of the parameters is not known, or tensors are made anew, Adam starts anew and a note says so")
  func startsAnew() throws {
    let (groups, _) = try start("\(Self.folder)/adam-groups.pt")
    #expect(groups.moments == nil && groups.notes.count == 1)
    #expect(
      groups.notes.first?.contains("Adam starts anew") == true && groups.notes.first?.contains("one group") == true)
    let (classes, _) = try start(path) { $0.numClasses = 7 }
    #expect(classes.moments == nil && classes.notes.count == 2)
    #expect(classes.notes.last?.contains("Adam starts anew") == true)
    let (learned, _) = try start(path) { $0.position = .learned }
    #expect(learned.moments == nil && learned.notes.last?.contains("no moments of pos_embed") == true)
    let (plain, _) = try start("\(Self.folder)/trained-plain.pt")
    #expect(plain.moments == nil && plain.notes.isEmpty)
    let (without, _) = try start("\(Self.folder)/average-ema.pt")
    #expect(without.moments == nil && without.notes.isEmpty, "an optimizer that has taken no step")
  }

  @Test("A checkpoint of the run keeps the steps that were taken before it")
  func checkpointsKeepTheSteps() throws {
    let directory = try TemporaryDirectory()
    var training = Self.training
    (training.steps, training.checkpointEvery) = (2, 1)
    let (start, model) = try start(path)
    let data = try Dataset(Tensor(zeros: [4, 3, 4, 4]), labels: [0, 1, 2, 0], name: "zeros")
    let context = try ComputeContext(threads: 1)
    let whole = try Trainer(model: model, training: training, data: data, start: start, context: context)
    _ = try TrainingRun(starting: whole, in: directory("whole")).run { _ in }
    let state = try SafetensorsFile(contentsOf: directory("whole/checkpoints/step-00000002/state.safetensors"))
    #expect(try state.integers("earlier_steps").values == [3])

    let resumed = try Trainer(model: model, training: training, data: data, context: context)
    try FileManager.default.copyItem(atPath: directory("whole"), toPath: directory("half"))
    try FileManager.default.removeItem(atPath: directory("half/checkpoints/step-00000002"))
    _ = try TrainingRun(resuming: resumed, in: directory("half")).run { _ in }
    #expect(resumed.earlierSteps == 3 && resumed.weights.array == whole.weights.array)
  }
}
