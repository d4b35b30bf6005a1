import DiTDistributed
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import DiTTraining
import Foundation
import Synchronization
import TestSupport
import Testing

/// Ranks are threads here; `Scripts/cluster-test` runs the same as processes under MPI.
@Suite("Training on several processes")
struct DistributedTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  /// 4×6 patches of 2, more than one block of parameters on each of four ranks.
  private static let network = {
    var network = tinyNetwork()
    (network.hiddenSize, network.depth) = (96, 2)
    return network
  }()

  private static func training(_ edit: (inout TrainingConfiguration) -> Void = { _ in }) -> TrainingConfiguration {
    tinyTraining {
      ($0.steps, $0.batch, $0.microBatch, $0.virtualRanks) = (6, 12, 1, 4)
      ($0.gradientClip, $0.emaDecays, $0.validationModulus) = (0.5, [0.9, 0.5], 5)
      ($0.validateEvery, $0.checkpointEvery, $0.logEvery, $0.sampleEvery) = (3, 3, 1, 0)
      edit(&$0)
    }
  }

  private static func trainer(
    _ group: any Communicator, _ training: TrainingConfiguration, data: Dataset? = nil
  ) throws -> Trainer {
    try Trainer(
      model: ModelConfiguration(network: network), training: training, data: data ?? tinyData(),
      context: ComputeContext(threads: 1, workers: 1), group: group)
  }

  /// Trains in a folder with so many ranks; how each rank's run ended.
  private func train(
    _ name: String, ranks: Int, _ training: TrainingConfiguration, stopAfter: Int = .max, resuming: Bool = false
  ) throws -> [TrainingOutcome] {
    let folder = directory(name)
    return try LocalGroup(ranks).run { group in
      let trainer = try Self.trainer(group, training)
      let run =
        resuming
        ? try TrainingRun(resuming: trainer, in: folder) : try TrainingRun(starting: trainer, in: folder)
      // One rank alone is told to stop.
      return try run.run(shouldStop: { group.rank == ranks - 1 && trainer.completedSteps >= stopAfter }) { _ in }
    }
  }

  private func files(_ name: String, step: Int) throws -> [String: Data] {
    var files: [String: Data] = [:]
    for file in ["model.safetensors", "ema.safetensors", "ema-0.5.safetensors", "config.json"] {
      files[file] = try Data(contentsOf: URL(filePath: directory("\(name)/\(file)")))
    }
    let checkpoint = String(format: "step-%08d", step)
    for file in ["state.safetensors", "ema.safetensors", "training.json"] {
      files["checkpoint \(file)"] = try Data(
        contentsOf: URL(filePath: directory("\(name)/checkpoints/\(checkpoint)/\(file)")))
    }
    let log = try String(contentsOfFile: directory("\(name)/log.jsonl"), encoding: .utf8)
    files["log"] = Data(log.replacing(/"seconds[^,}]*/, with: "").utf8)
    return files
  }

  private func expectEqual(_ a: [String: Data], _ b: [String: Data], _ comment: String) {
    for (name, data) in a { #expect(b[name] == data, "\(comment): \(name)") }
  }

  @Test("Model, averages, moments and log have the same bytes at 1, 2 and 4 ranks")
  func sameBytes() throws {
    for ranks in [1, 2, 4] {
      let outcomes = try train("p\(ranks)", ranks: ranks, Self.training())
      #expect(outcomes.allSatisfy { $0 == .finished(step: 6) })
    }
    let one = try files("p1", step: 6)
    expectEqual(one, try files("p2", step: 6), "2 ranks")
    expectEqual(one, try files("p4", step: 6), "4 ranks")
  }

  @Test("Virtual ranks need not be a power of two, nor ranks; in mixed precision")
  func otherNumbers() throws {
    let training = Self.training { ($0.virtualRanks, $0.precision) = (6, .bf16) }
    for ranks in [1, 2, 3, 6] { _ = try train("v\(ranks)", ranks: ranks, training) }
    let one = try files("v1", step: 6)
    for ranks in [2, 3, 6] { expectEqual(one, try files("v\(ranks)", step: 6), "\(ranks) ranks") }
  }

  @Test("Gradients go in bf16 at half the bytes, and still the number of ranks changes nothing")
  func halfTheBytes() throws {
    let training = Self.training { ($0.virtualRanks, $0.exchange) = (6, .bf16) }
    for ranks in [1, 2, 3] { _ = try train("h\(ranks)", ranks: ranks, training) }
    let one = try files("h1", step: 6)
    for ranks in [2, 3] { expectEqual(one, try files("h\(ranks)", step: 6), "\(ranks) ranks") }
    _ = try train("f1", ranks: 1, Self.training { $0.virtualRanks = 6 })
    #expect(try files("f1", step: 6)["model.safetensors"] != one["model.safetensors"])
    let sent = try GradientExchange.allCases.map { exchange in
      try LocalGroup(2).run { group in
        let trainer = try Self.trainer(group, Self.training { $0.exchange = exchange })
        _ = try trainer.step()
        return trainer.sentBytes
      }[0]
    }
    // Odd slices have a half that is not used.
    #expect((0...64).contains(2 * sent[1] - sent[0]), "\(sent)")
  }

  @Test("Whether gradients are sent while others are made changes no bit")
  func overlapped() throws {
    // Enough for several buckets, of which some hold blocks alone.
    var network = Self.network
    (network.hiddenSize, network.depth) = (384, 6)
    let large = network
    let runs = try [false, true].map { overlaps in
      try LocalGroup(2).run { group in
        let trainer = try Trainer(
          model: ModelConfiguration(network: large), training: Self.training(), data: tinyData(),
          context: ComputeContext(threads: 1, workers: 1), group: group, overlapsExchange: overlaps)
        let reports = try (0..<3).map { _ in try trainer.step() }
        #expect(trainer.sharding.buckets.count > 3)
        return (reports, trainer.weights.array)
      }[0]
    }
    #expect(runs[0].0 == runs[1].0 && runs[0].1 == runs[1].1)
  }

  @Test("A run that one rank stops at 4 ranks, and that 2 and then 1 resume, is the run that never stopped")
  func resumedWithOtherRanks() throws {
    _ = try train("straight", ranks: 2, Self.training())
    let stopped = try train("broken", ranks: 4, Self.training(), stopAfter: 2)
    #expect(stopped.allSatisfy { $0 == .interrupted(step: 2) })
    let again = try train("broken", ranks: 2, Self.training(), stopAfter: 4, resuming: true)
    #expect(again.allSatisfy { $0 == .interrupted(step: 4) })
    _ = try train("broken", ranks: 1, Self.training(), resuming: true)
    expectEqual(try files("straight", step: 6), try files("broken", step: 6), "resumed")
  }

  @Test("One virtual rank is the run that there was before there were any")
  func oneVirtualRank() throws {
    let plain = try tinyTrainer { $0.virtualRanks = 1 }
    let alone = try tinyTrainer()
    for _ in 0..<3 { #expect(try plain.step() == alone.step()) }
    #expect(firstDifference(plain.weights, alone.weights) == nil)
  }

  @Test("Ranks that do not divide the virtual ranks, and those that do not divide the batch, are refused by key")
  func refusals() throws {
    let ranks = #expect(throws: DiTError.self) {
      try LocalGroup(3).run { group in _ = try Self.trainer(group, Self.training()) }
    }
    #expect(ranks?.key == "training.virtual_ranks" && ranks?.found == "4")
    var training = Self.training()
    training.virtualRanks = 5
    let batch = #expect(throws: DiTError.self) { try training.validate() }
    #expect(batch?.key == "virtual_ranks" && batch?.expected == "a divisor of batch 12")
    (training.virtualRanks, training.microBatch) = (4, 2)
    let micro = #expect(throws: DiTError.self) { try training.validate() }
    (training.virtualRanks, training.microBatch, training.exchange) = (1, 0, .bf16)
    let exchange = #expect(throws: DiTError.self) { try Self.trainer(SingleProcess(), training) }
    #expect(exchange?.key == "training.exchange" && exchange?.found == "bf16")
    #expect(micro?.key == "micro_batch" && micro?.expected == "a divisor of 3, the samples of each of 4 virtual_ranks")
  }

  @Test("What one rank cannot do, all hear, and say so of that rank")
  func failuresAreShared() throws {
    let errors = Mutex<[Int: DiTError]>([:])
    try Data("x".utf8).write(to: URL(filePath: directory("file")))
    let folder = directory("file")
    _ = try LocalGroup(2).run { group in
      let trainer = try Self.trainer(group, Self.training())
      do {
        _ = try TrainingRun(starting: trainer, in: folder)
      } catch let error as DiTError {
        errors.withLock { $0[group.rank] = error }
      }
    }
    let found = errors.withLock { $0 }
    #expect(found[0]?.fileProblem != nil && found[0]?.cause is FileProblem)
    #expect(found[1]?.cause as? FailureElsewhere == FailureElsewhere(rank: 0) && found[1]?.kind == found[0]?.kind)
    #expect(found[1]?.problem.contains(folder) == true)
  }

  @Test("Ranks send as many bytes of gradients as a ring would: 4 N (P − 1) in all, a step", arguments: [1, 2, 4])
  func bytesOnTheWire(ranks: Int) throws {
    let found = try LocalGroup(ranks).run { group in
      let trainer = try Self.trainer(group, Self.training())
      for _ in 0..<3 { _ = try trainer.step() }
      return (trainer.sentBytes, trainer.table.trainable.reduce(0) { $0 + $1.count })
    }
    #expect(found.reduce(0) { $0 + $1.0 } == 3 * 4 * found[0].1 * (ranks - 1))
  }

  @Test("Averages, gathered, are those of one process; a model of them samples the same")
  func averagesAreWhole() throws {
    let alone = try Self.trainer(SingleProcess(), Self.training())
    for _ in 0..<2 { _ = try alone.step() }
    let expected = try alone.averagedModel().network.weights.slices.map(\.array)
    let found = try LocalGroup(4).run { group in
      let trainer = try Self.trainer(group, Self.training())
      for _ in 0..<2 { _ = try trainer.step() }
      return (try trainer.averagedModel().network.weights.slices.map(\.array), trainer.firstMoment.count)
    }
    for (weights, _) in found { #expect(weights == expected) }
    let trained = alone.table.trainable.reduce(0) { $0 + $1.count }
    #expect(found.reduce(0) { $0 + $1.1 } == trained, "moments are kept once")
  }
}
