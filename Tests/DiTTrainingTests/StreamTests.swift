import CAllocationCounter
import DiTDistributed
import DiTFiles
import DiTKernels
import DiTPipeline
import DiTTensor
import DiTTraining
import Foundation
import Synchronization
import TestSupport
import Testing

/// The tiny images as bytes, read one at a time; a sample can be made to fail.
private final class Stored: ImageSource, Sendable {
  let name = "stored"
  let (count, channels, height, width) = (23, 1, 4, 6)
  let digest: UInt64 = 7
  let pixels: [UInt8]
  let reads = Atomic<Int>(0)
  /// Fails from here on.
  let broken = Atomic<Int>(.max)
  /// Microseconds a sample takes.
  let delay: UInt32

  init(delay: UInt32 = 0) {
    var random = Philox(seed: 5)
    pixels = (0..<23 * 24).map { _ in UInt8(truncatingIfNeeded: random.next() >> 40) }
    self.delay = delay
  }

  func read(_ index: Int, into pixels: inout MutableSpan<UInt8>) throws(DiTError) {
    reads.add(1, ordering: .relaxed)
    if delay > 0 { usleep(delay * UInt32(1 + index % 3)) }
    if index >= broken.load(ordering: .relaxed) { throw DiTError(data: "image \(index)", nil, .unusable("is gone")) }
    for i in 0..<24 { pixels[i] = self.pixels[index * 24 + i] }
  }

  static let labels = (0..<23).map { $0 % 3 }
  var streamed: Dataset { get throws { try Dataset(self, labels: Self.labels) } }
  var kept: Dataset { get throws { try Dataset(self, pixels: pixels, labels: Self.labels) } }
}

/// What is read in the background trains as what is in memory does, to the bit.
@Suite("Training on data that are read in the background") struct StreamTests {
  @Test("Streamed data train to the same bytes as data in memory", arguments: [1, 2, 5])
  func sameBytesAsInMemory(_ threads: Int) throws {
    let stored = Stored(delay: 50)
    let kept = try tinyTrainer(data: stored.kept) { $0.lambdaSeq = 0.01 }
    let streamed = try tinyTrainer(threads: 2, data: stored.streamed) {
      ($0.lambdaSeq, $0.loaderThreads) = (0.01, threads)
    }
    #expect(kept.data.digest == streamed.data.digest && !kept.data.isStreamed && streamed.data.isStreamed)
    for _ in 1...12 { #expect(try kept.step() == streamed.step()) }
    #expect(firstDifference(kept.average, streamed.average) == nil)
    #expect(try kept.validate() == streamed.validate())
    // More steps than the configuration says, and back in time, are no streams ahead but still right.
    #expect(try kept.step() == streamed.step())
    for index in [0, 9, 22] {
      #expect(try kept.data.sample(index, flipped: true) == streamed.data.sample(index, flipped: true))
    }
  }

  @Test(
    "Ranks read their own samples of each batch, once, and train to the bytes of one; a sample that one cannot read ends all"
  )
  func ranksReadTheirOwn() throws {
    let edit: @Sendable (inout TrainingConfiguration) -> Void = {
      ($0.virtualRanks, $0.microBatch, $0.seed) = (2, 1, 3)
    }
    let alone = Stored()
    let one = try tinyTrainer(data: alone.streamed, edit)
    for _ in 1...4 { _ = try one.step() }
    let expected = bits(one.weights)
    let stored = [Stored(), Stored()]
    let found = try LocalGroup(2).run { group in
      let trainer = try Trainer(
        model: tinyModel(), training: tinyTraining(edit), data: stored[group.rank].streamed,
        context: ComputeContext(threads: 1, workers: 1), group: group)
      for _ in 1...4 { _ = try trainer.step() }
      let weights = bits(trainer.weights)
      if group.rank == 1 { stored[1].broken.store(0, ordering: .relaxed) }
      let error = #expect(throws: DiTError.self) { for _ in 1...40 { _ = try trainer.step() } }
      return (weights, error, trainer.completedSteps)
    }
    for (weights, _, _) in found { #expect(weights == expected) }
    // A step that failed leaves nothing behind: the next one is what it would have been.
    for ranks in [1, 2] {
      let stored = (0..<ranks).map { _ in Stored() }
      let again = try LocalGroup(ranks).run { group in
        let trainer = try Trainer(
          model: tinyModel(), training: tinyTraining(edit), data: stored[group.rank].streamed,
          context: ComputeContext(threads: 1, workers: 1), group: group)
        for step in 1...4 {
          if group.rank == ranks - 1 { stored[ranks - 1].broken.store(0, ordering: .relaxed) }
          if step % 2 == 0 { #expect(throws: DiTError.self) { for _ in 1...40 { _ = try trainer.step() } } }
          try group.barrier()
          if group.rank == ranks - 1 { stored[ranks - 1].broken.store(.max, ordering: .relaxed) }
          try group.barrier()
          if trainer.completedSteps < step { _ = try trainer.step() }
        }
        return (bits(trainer.weights), trainer.completedSteps)
      }
      let straight = Stored()
      let plain = try tinyTrainer(data: straight.streamed, edit)
      for _ in 0..<again[0].1 { _ = try plain.step() }
      for (weights, _) in again { #expect(weights == bits(plain.weights), "\(ranks) ranks, after failures") }
    }
    #expect(found[0].2 == found[1].2, "both stop before the same step")
    #expect(found[0].1?.kind == .data && found[0].1?.cause as? FailureElsewhere == FailureElsewhere(rank: 1))
    #expect(found[1].1?.kind == .data && found[1].1?.description.contains("is gone") == true)
  }

  @Test("Every sample is read once per draw")
  func everySampleIsReadOncePerDraw() throws {
    let stored = Stored()
    let trainer = try tinyTrainer(data: stored.streamed)
    for _ in 1...12 { _ = try trainer.step() }
    // 12 steps of 6: what is read ahead ends with the run.
    #expect(stored.reads.load(ordering: .relaxed) == 72)
    _ = try trainer.validate()
    #expect(stored.reads.load(ordering: .relaxed) == 72 + 4)
  }

  @Test("Training steps on streamed data allocate nothing")
  func stepsAllocateNothing() throws {
    guard dit_allocations_supported() != 0 else { return }
    dit_allocations_watch()
    defer { dit_allocations_unwatch() }
    let stored = Stored()
    // One thread that reads ahead, which has begun once it has read, and a run so long that it does not end meanwhile: how a
    // thread begins and ends is the system's.
    let trainer = try tinyTrainer(threads: 2, data: stored.streamed) { ($0.steps, $0.loaderThreads) = (10_000, 1) }
    for _ in 1...2 { _ = try trainer.step() }
    while stored.reads.load(ordering: .sequentiallyConsistent) < 72 { usleep(1000) }
    for step in 3...9 {
      let before = dit_allocations_count()
      _ = try trainer.step()
      #expect(dit_allocations_count() == before, "step \(step)")
    }
  }

  /// A run that cannot read on saves what it has; resumed when the data are back, in memory or not, it ends as if nothing
  /// had happened.
  @Test("A sample that cannot be read stops the run, saved, and resuming ends the same")
  func aSampleThatIsGoneStopsTheRunAndSaves() throws {
    let folder = try TemporaryDirectory()
    let stored = Stored()
    let whole = try tinyTrainer(data: stored.kept)
    for _ in 1...12 { _ = try whole.step() }
    let run = try TrainingRun(starting: tinyTrainer(data: stored.streamed), in: folder("run"))
    var saved: [Int] = []
    let error = #expect(throws: DiTError.self) {
      _ = try run.run { event in
        if case .step(let report, _) = event, report.step == 6 { stored.broken.store(0, ordering: .relaxed) }
        if case .checkpoint(let step, _) = event { saved.append(step) }
      }
    }
    // What was read ahead by then may have been used.
    #expect(description(error).hasSuffix(": is gone") && saved.last! >= 6, "\(saved), \(description(error))")
    #expect(FileManager.default.fileExists(atPath: folder("run/ema.safetensors")))
    stored.broken.store(.max, ordering: .relaxed)
    let rest = try TrainingRun(
      resuming: tinyTrainer(data: stored.streamed) {
        ($0.loaderThreads, $0.cacheMegabytes, $0.brokenImages) = (1, 0, .skip)
      }, in: folder("run"))
    #expect(try rest.run { _ in } == .finished(step: 12))
    #expect(firstDifference(rest.trainer.weights, whole.weights) == nil)
    #expect(try SafetensorsFile(contentsOf: folder("run/model.safetensors")).names.count > 0)
  }

  @Test("A sample that cannot be read ends validation and the prior's fit")
  func anUnreadableSampleEndsValidationAndTheFit() throws {
    let stored = Stored()
    let trainer = try tinyTrainer(data: stored.streamed)
    stored.broken.store(9, ordering: .relaxed)
    let validation = #expect(throws: DiTError.self) { try trainer.validate() }
    let fit = #expect(throws: DiTError.self) { try tinyTrainer(data: stored.streamed) { $0.lambdaSeq = 1 } }
    let steps = #expect(throws: DiTError.self) { for _ in 1...9 { _ = try trainer.step() } }
    #expect([validation, fit, steps].allSatisfy { $0?.kind == .data }, "by which a run knows that it has to save")
    let done = trainer.completedSteps
    stored.broken.store(.max, ordering: .relaxed)
    #expect(try trainer.step().step == done + 1, "goes on where it was")
  }
}
