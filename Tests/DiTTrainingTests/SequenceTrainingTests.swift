import CAllocationCounter
import DiTDiffusion
import DiTFiles
import DiTKernels
import DiTPipeline
import DiTTensor
import DiTTraining
import Foundation
import Testing

/// λ_seq in training. The tiny network cuts 4×6 images into 2×3 patches, the smallest grid there is.
@Suite("The sequence loss in training") struct SequenceTrainingTests {
  private let folder: TemporaryDirectory
  private static let priorFile = SequencePrior.fileName

  init() throws { folder = try TemporaryDirectory() }

  private func bytes(_ path: String) -> Data? { FileManager.default.contents(atPath: folder(path)) }

  private static func trainer(threads: Int = 1, prior: SequencePrior? = nil, weight: Double = 0.5) throws -> Trainer {
    try Trainer(
      model: tinyModel(), training: tinyTraining { $0.lambdaSeq = weight }, data: tinyData(), prior: prior,
      context: ComputeContext(threads: threads, workers: threads))
  }

  /// The first step sees the same batch with and without the term.
  @Test("The term is part of loss and gradient, linear in its weight")
  func theTermIsPartOfTheLossAndOfTheGradient() throws {
    let (plain, half, whole) = (try Self.trainer(weight: 0), try Self.trainer(), try Self.trainer(weight: 1))
    let reports = try [plain, half, whole].map { try $0.step() }
    #expect(reports[0].seq == nil)
    let seq = try #require(reports[1].seq)
    #expect(seq > 0 && reports[2].seq == seq)
    for (report, weight) in zip(reports, [0, 0.5, 1]) {
      let expected = report.mse + (report.vb ?? 0) + weight * seq
      #expect(report.mse == reports[0].mse && report.vb == reports[0].vb)
      #expect(abs(report.loss - expected) < 1e-12 * expected, "weight \(weight): \(report.loss), not \(expected)")
    }
    // Linear in the weight.
    let (none, once, twice) = (plain.gradients.array, half.gradients.array, whole.gradients.array)
    let error = relativeError(zip(twice, none).map { $0 - $1 }, zip(once, none).map { 2 * ($0 - $1) })
    #expect(error < 1e-4, "relative error \(error)")
    #expect(once != none)
  }

  /// One number of a stream: see `StreamPurpose`.
  private static func stream(_ purpose: UInt64, _ index: Int, seed: UInt64) -> Philox {
    Philox(seed: seed, stream: purpose << 56 | UInt64(index))
  }

  /// The mean of seq over samples whose t, ε and x_{t−1} are drawn from the streams of `seed` and their index.
  private static func expected(
    _ model: DiT, _ trainer: Trainer, _ data: Dataset, samples: [(index: Int, number: Int)], seed: UInt64
  ) throws -> Double {
    var (clean, noise, posterior, times): ([Float], [Float], [Float], [Float]) = ([], [], [], [])
    for (index, number) in samples {
      var choices = stream(2, number, seed: seed)
      var (first, second) = (stream(3, number, seed: seed), stream(6, number, seed: seed))
      clean += try data.sample(index)
      times.append(Float(choices.next().multipliedFullWidth(by: 1000).high))
      noise += first.normal(count: 24)
      posterior += second.normal(count: 24)
    }
    let shape = [samples.count, 1, 4, 6]
    let prior = try #require(trainer.sequencePrior)
    let input = SequenceLossInput(
      try SequenceConditionals(prior, context: trainer.context), weight: 0.5,
      posteriorNoise: Tensor(shape: shape, elements: posterior))
    let report = try model.loss(
      clean: Tensor(shape: shape, elements: clean), times: times,
      labels: samples.map { data.labels?[$0.index] ?? 0 }, noise: Tensor(shape: shape, elements: noise),
      consistency: input)
    return report.losses.reduce(0) { $0 + ($1.seq ?? 0) } / Double(samples.count)
  }

  /// x_{t−1} is drawn for every sample from a stream of its own, in training and in validation.
  @Test("The term's draws come from a stream of their own per sample")
  func theDrawsAreTheStreams() throws {
    let prior = try SequencePrior(  // pixels that are all the same, so that neighbors tell everything
      grid: tinyNetwork().inputGrid, mean: [Double](repeating: 0, count: 24),
      covariance: [Double](repeating: 1, count: 400))
    var all = try tinyData()
    all = try Dataset(
      Tensor(shape: [5, 1, 4, 6], elements: (0..<5).flatMap { _ in try all.sample(0) }), labels: [0, 0, 0, 0, 1],
      name: "one")
    let trainer = try Trainer(
      model: tinyModel(dropout: 0), training: tinyTraining { ($0.lambdaSeq, $0.flip) = (0.5, false) }, data: all,
      prior: prior, context: ComputeContext(threads: 1))
    let model = try trainer.averagedModel()
    let held = try Self.expected(
      model, trainer, all, samples: [(4, 4)], seed: 0x7661_6C69_6461_7465)
    let validation = try #require(trainer.validate()?.seq)
    #expect(abs(validation / held - 1) < 1e-5, "\(validation), expected \(held)")
    let drawn = try Self.expected(model, trainer, all, samples: (0..<6).map { (0, $0) }, seed: 0)
    let seq = try #require(try trainer.step().seq)
    #expect(abs(seq / drawn - 1) < 1e-5, "\(seq), expected \(drawn)")
  }

  @Test("The prior is fitted to the training split alone")
  func thePriorIsFittedToTheTrainingSplit() throws {
    let data = try tinyData()
    let grid = PatchGrid(channels: 1, height: 4, width: 6, patchSize: 2)
    let samples = (0..<data.count).filter { $0 % 5 != 4 }
    let expected = try SequencePrior(fitting: samples.count, of: grid, context: ComputeContext(threads: 1)) {
      i, image in
      for (j, value) in try data.sample(samples[i]).enumerated() { image[j] = value }
    }
    #expect(try Self.trainer().sequencePrior == expected)
  }

  @Test("Training with the term has the same bytes at any number of threads")
  func threadsChangeNothing() throws {
    let (one, three) = (try Self.trainer(threads: 1), try Self.trainer(threads: 3))
    for _ in 0..<3 { #expect(try one.step() == three.step()) }
    #expect(firstDifference(one.weights, three.weights) == nil)
    #expect(try one.validate() == three.validate())
    #expect(try one.validate()?.seq ?? 0 > 0)
  }

  /// Killed in the middle and resumed with the prior of the file, or without it.
  @Test("A run with the term, killed and resumed, ends with the same bytes")
  func resumedRunsEndTheSame() throws {
    _ = try TrainingRun(starting: Self.trainer(), in: folder("whole")).run { _ in }
    let prior = try #require(bytes("whole/\(Self.priorFile)"))
    for name in ["read", "refitted"] {
      #expect(throws: Killed.self) {
        try TrainingRun(starting: Self.trainer(), in: folder(name)).run { event in
          if case .step(let report, _) = event, report.step == 7 { throw Killed() }
        }
      }
      #expect(bytes("\(name)/\(Self.priorFile)") == prior, "\(name)")
      if name == "refitted" { try FileManager.default.removeItem(atPath: folder("\(name)/\(Self.priorFile)")) }
      let found = try SequencePrior(directory: folder(name), for: tinyNetwork())
      #expect((found == nil) == (name == "refitted"))
      _ = try TrainingRun(resuming: Self.trainer(prior: found), in: folder(name)).run { _ in }
      for file in ["model.safetensors", "ema.safetensors", Self.priorFile] {
        #expect(bytes("\(name)/\(file)") == bytes("whole/\(file)"), "\(name): \(file)")
      }
    }
    let line = bytes("whole/log.jsonl").map { String(decoding: $0, as: UTF8.self) } ?? ""
    #expect(line.contains(#","seq":"#) && line.contains(#","validation_seq":"#), "\(line.prefix(300))")
  }

  /// A run without the term has no prior, also where another run left one.
  @Test("A run without the term has no prior and removes an old one")
  func noPriorWithoutTheTerm() throws {
    try FileManager.default.createDirectory(atPath: folder("run"), withIntermediateDirectories: false)
    try Data([1]).write(to: URL(filePath: folder("run/\(Self.priorFile)")))
    _ = try TrainingRun(starting: Self.trainer(weight: 0), in: folder("run"))
    #expect(bytes("run/\(Self.priorFile)") == nil)
  }

  @Test("Grids too small for the term are refused")
  func gridsWithoutContextAreRefused() throws {
    var model = tinyModel()
    model.network.inputWidth = 4
    let data = try Dataset(Tensor(zeros: [3, 1, 4, 4]), labels: [0, 1, 2], name: "narrow")
    let error = #expect(throws: DiTError.self) {
      _ = try Trainer(
        model: model, training: tinyTraining { $0.lambdaSeq = 1 }, data: data, context: ComputeContext(threads: 1))
    }
    #expect(error?.key == "lambda_seq" && error?.problem.contains("a grid of 2×2") == true, "\(description(error))")
  }

  @Test("Training steps with the term allocate nothing", .enabled(if: dit_allocations_supported() != 0))
  func stepsAllocateNothing() throws {
    dit_allocations_watch()
    defer { dit_allocations_unwatch() }
    let trainer = try Self.trainer(threads: 2)
    _ = try trainer.step()
    for step in 2...9 {
      let before = dit_allocations_count()
      _ = try trainer.step()
      let count = dit_allocations_count() - before
      #expect(count == 0, "step \(step): \(count) allocations")
    }
  }
}
