import DiTFiles
import DiTImaging
import DiTPictures
import DiTTensor
import DiTTraining
import Foundation
import Testing

/// A folder trains to the bytes that the same pixels in a file train to.
@Suite("Training from a folder of pictures") struct FolderTrainingTests {
  let scratch: Scratch
  static let count = 23

  init() throws {
    scratch = try Scratch()
    for seed in 0..<Self.count { try scratch.write(noise(seed), to: Self.file(seed)) }
  }

  /// The k-th sample's; class k mod 3 would not be in order, so blocks of 8.
  private static func file(_ seed: Int) -> String {
    "data/\(["a", "b", "c"][seed / 8])/\(String(format: "%02d", seed)).png"
  }

  private func folder(cacheBytes: Int) throws -> Dataset {
    try ImageFolder(scratch("data")).dataset(
      channels: 1, height: 4, width: 6, options: PictureOptions(cacheBytes: cacheBytes)
    ).data
  }

  private var file: Dataset {
    get throws {
      let path = scratch("data.safetensors")
      let bytes = (0..<Self.count).flatMap { planes(noise($0)) }
      try SafetensorsWriter.write(
        [
          TensorSource("images", shape: [Self.count, 1, 4, 6], bytes: bytes),
          TensorSource("labels", shape: [Self.count], integers: (0..<Self.count).map { $0 / 8 }),
        ], metadata: ["class_names": #"["a", "b", "c"]"#], to: path)
      return try Dataset(contentsOf: path)
    }
  }

  @Test("A folder trains to the same weights, bit for bit, as the same pixels in a safetensors file")
  func trainsToTheSameBytes() throws {
    let expected = try trainer(file) { $0.lambdaSeq = 0.01 }
    for _ in 1...12 { _ = try expected.step() }
    for (cacheBytes, threads) in [(0, 1), (0, 2), (1 << 20, 1)] {
      let data = try folder(cacheBytes: cacheBytes)
      #expect(try data.classNames == file.classNames && data.labels == file.labels)
      let trainer = try trainer(data, threads: threads) { ($0.lambdaSeq, $0.loaderThreads) = (0.01, 3) }
      for _ in 1...12 { _ = try trainer.step() }
      #expect(bits(trainer.weights) == bits(expected.weights), "cache of \(cacheBytes) bytes")
      #expect(try trainer.validate() == expected.validate())
    }
  }

  /// A run whose file goes away or changes stops, saved; the file restored, it goes on in memory or not, from a copy of the
  /// folder or not, to the bytes of a run that was never stopped.
  @Test(
    "A picture deleted or changed during training stops the run saved; restored, it resumes exactly",
    arguments: ["deleted", "changed"])
  func aFileThatGoesAwayStopsTheRun(_ how: String) throws {
    let whole = try trainer(file)
    for _ in 1...12 { _ = try whole.step() }
    let name = Self.file(7)
    let bytes = try scratch.bytes(name)
    // So few places that the run does not read far ahead: enough steps remain.
    let run = try TrainingRun(
      starting: trainer(folder(cacheBytes: 0)) { $0.steps = 400 }, in: scratch("run"))
    let error = #expect(throws: DiTError.self) {
      _ = try run.run { event in
        guard case .step(let report, _) = event, report.step == 5 else { return }
        if how == "deleted" {
          try scratch.remove(name)
        } else {
          // At once: the run may read the file at any moment.
          try Data(bytes + [0]).write(to: URL(filePath: scratch(name)), options: .atomic)
        }
      }
    }
    #expect(description(error).hasPrefix("\(scratch(name)): "), "\(description(error))")
    #expect(description(error).hasSuffix(how == "deleted" ? "no longer there" : "changed since training began"))
    let saved = try #require(try Checkpoint.latest(in: scratch("run")))
    #expect(saved.step == run.trainer.completedSteps && saved.step >= 5)
    // Another folder is refused, the same elsewhere and with other times is not.
    if how == "changed" {
      #expect(throws: DiTError.self) {
        _ = try TrainingRun(
          resuming: trainer(folder(cacheBytes: 0)) { $0.steps = 400 }, in: scratch("run"))
      }
    }
    try scratch.write(bytes, to: name)
    let rest = try TrainingRun(
      resuming: trainer(folder(cacheBytes: how == "deleted" ? 0 : 1 << 20)) { $0.steps = 400 }, in: scratch("run"))
    #expect(try rest.run { _ in } == .finished(step: 400))
    let straight = try trainer(file) { $0.steps = 400 }
    for _ in 1...400 { _ = try straight.step() }
    #expect(bits(rest.trainer.average) == bits(straight.average))
  }

  /// The digest depends on names and contents, not on when files were written, nor on the cache.
  @Test("The digest depends on file names and contents, not on file times or the cache")
  func theDigestTellsFoldersApart() throws {
    let digest = try folder(cacheBytes: 0).digest
    #expect(try folder(cacheBytes: 1 << 20).digest == digest)
    try FileManager.default.copyItem(atPath: scratch("data"), toPath: scratch("copy"))
    try FileManager.default.setAttributes(
      [.modificationDate: Date(timeIntervalSince1970: 7)], ofItemAtPath: scratch("copy/a/00.png"))
    func copied() throws -> UInt64 {
      try ImageFolder(scratch("copy")).dataset(channels: 1, height: 4, width: 6).data.digest
    }
    #expect(try copied() == digest)
    try scratch.write(noise(99), to: "copy/a/00.png")
    #expect(try copied() != digest)
    try scratch.write(noise(0), to: "copy/a/00.png")
    #expect(try copied() == digest)
    try FileManager.default.moveItem(atPath: scratch("copy/a/00.png"), toPath: scratch("copy/a/00b.png"))
    #expect(try copied() != digest)
  }
}
