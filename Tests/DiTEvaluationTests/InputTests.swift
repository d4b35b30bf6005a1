import DiTEvaluation
import DiTFiles
import DiTKernels
import DiTTensor
import Foundation
import Testing

/// What comes in, and what is refused with a name.
@Suite("Inputs of an evaluation, and what is refused") struct InputTests {
  private let folder: URL

  init() throws {
    folder = FileManager.default.temporaryDirectory.appending(path: "dit-evaluation-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  private func file(_ tensors: [TensorSource]) throws -> String {
    let path = folder.appending(path: "x.safetensors").path(percentEncoded: false)
    try SafetensorsWriter.write(tensors, to: path)
    return path
  }

  private func expect(_ words: String..., from body: () throws -> Void) {
    let error = #expect(throws: DiTError.self, performing: body)
    let text = error.map { "\($0)" } ?? ""
    #expect(words.allSatisfy(text.contains), "\(text)")
  }

  private let images = TensorSource(
    "images", Tensor(shape: [3, 1, 1, 2], elements: [-1, 0.5, 0.25, 0, 1, -0.5]))

  @Test("Images, latents, samples and features are read from the tensor of that name, bytes scaled to [-1, 1]")
  func tensorsByKind() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let bytes = TensorSource("images", shape: [2, 1, 1, 2], integers: [0, 255, 51, 102], as: .u8)
    let scaled = try SampleSet.open(try file([bytes]))
    #expect(try scaled.kind == .images && scaled.set.elements(0..<2) == [-1, 1, 51 / 127.5 - 1, 102 / 127.5 - 1])
    let latents = TensorSource("latents", Tensor(shape: [1, 1, 1, 2], elements: [7, -9]))
    let samples = TensorSource("samples", Tensor(shape: [1, 1, 1, 2], elements: [3, 4]))
    let path = try file([images, latents, samples])
    #expect(try SampleSet.open(path).kind == .images)
    #expect(try SampleSet.open(path, preferring: [.samples]).set.elements(0..<1) == [3, 4])
    #expect(try SampleSet.open(path, preferring: [.latents]).set.elements(0..<1) == [7, -9])
    let features = try SampleSet.open(
      try file([TensorSource("features", Tensor(shape: [2, 2], elements: [1, 2, 300, 4]))]))
    #expect(try features.set.shape == [2] && features.set.elements(1..<2) == [300, 4])
  }

  @Test("Tensors of a wrong name, shape, range or type are refused with tensor and element")
  func filesThatCannotBeJudged() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    func open(_ tensors: TensorSource...) throws { _ = try SampleSet.open(try file(tensors)) }
    expect("x.safetensors", "images, latents, samples or features", "found others") {
      try open(TensorSource("others", Tensor(zeros: [2, 2])))
    }
    expect("tensor images", "(N, C, H, W)", "[2, 2]") { try open(TensorSource("images", Tensor(zeros: [2, 2]))) }
    expect("tensor features", "(N, d)") { try open(TensorSource("features", Tensor(zeros: [2, 2, 1, 1]))) }
    expect("tensor images", "[-1, 1]", "1.5 at element 1") {
      try open(TensorSource("images", Tensor(shape: [2, 1, 1, 1], elements: [0, 1.5])))
    }
    expect("tensor samples", "finite", "nan at element 1") {
      try open(TensorSource("samples", Tensor(shape: [2, 1, 1, 1], elements: [0, .nan])))
    }
    expect("tensor latents", "finite", "inf") {
      try open(TensorSource("latents", Tensor(shape: [2, 1, 1, 1], elements: [0, .infinity])))
    }
    expect("tensor images", "F32", "I64") {
      try open(TensorSource("images", shape: [1, 1, 1, 2], integers: [0, 1], as: .i64))
    }
    expect("tensor labels", "(3)", "[2]") { try open(images, TensorSource("labels", shape: [2], integers: [0, 1])) }
  }

  @Test("Sets of other shapes, too few samples and invalid statistics are refused by name")
  func setsThatCannotBeCompared() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    func set(_ name: String, _ count: Int, _ depth: Int) -> SampleSet {
      SampleSet(name, depth: depth, (0..<count * depth).map { Float($0 % 7) })
    }
    expect("a", "[2]", "b", "found [3]") { _ = try evaluate(set("a", 9, 3), set("b", 9, 2)) }
    expect("t", "[2]", "found [3]") { _ = try evaluate(set("a", 9, 2), set("b", 9, 2), training: set("t", 9, 3)) }
    expect("a", "at least 6 samples for 5 neighbors", "found 5") { _ = try evaluate(set("a", 5, 2), set("b", 9, 2)) }
    expect("b", "at least 6") { _ = try evaluate(set("a", 9, 2), set("b", 5, 2)) }
    expect("a", "at least 2 samples", "found 1") {
      _ = try evaluate(set("a", 1, 2), set("b", 9, 2)) { ($0.precisionNeighbors, $0.densityNeighbors) = (nil, nil) }
    }
    expect("b", "at least 4 numbers", "found 2") {
      _ = try evaluate(set("a", 9, 2), set("b", 9, 2)) { $0.features = .principal(4) }
    }
    expect("s", "sigma", "symmetric") { _ = try Statistics(name: "s", mean: [0, 0], covariance: [1, 0.5, 0.2, 1]) }
    expect("s", "sigma_s", "symmetric") {
      _ = try Statistics(name: "s", mean: [0, 0], covariance: [1, 0.5, 0.2, 1], keys: ("mu_s", "sigma_s"))
    }
    expect("s", "mu", "finite") { _ = try Statistics(name: "s", mean: [.nan], covariance: [1]) }
    expect("s", "sigma", "1e30") { _ = try Statistics(name: "s", mean: [0], covariance: [1e300]) }
    expect("s", "no negative eigenvalue") {
      let bad = try EvaluationInput.statistics(Statistics(name: "s", mean: [0, 0], covariance: [1, 2, 2, 1]))
      _ = try Evaluation(of: .samples(set("a", 9, 2)), against: bad, on: ComputeContext(threads: 1))
    }
  }

  /// A class that one set lacks, or has too few of, has fewer figures and stops nothing.
  @Test("A class that one set lacks or has too few of gets fewer figures and stops nothing")
  func unequalClasses() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let a = SampleSet("a", depth: 1, [0, 1, 2, 3, 4, 5, 6, 7], labels: [0, 0, 0, 0, 0, 0, 0, 1])
    let b = SampleSet("b", depth: 1, [0, 1, 2, 3, 4, 5, 6, 9], labels: [0, 0, 0, 0, 0, 0, 1, 2])
    let classes = try #require(try evaluate(a, b).classes)
    #expect(classes.map(\.label) == [0, 1, 2] && classes.map(\.samples) == [7, 1, 0])
    #expect(classes[0].precisionRecall != nil && classes[1].precisionRecall == nil)
    #expect(classes[1].frechet == nil && classes[1].meanDistance == 1 && classes[2].meanDistance == nil)
  }

  /// Statistics stand for the set that they were taken of, in pixels and in components.
  @Test("Statistics of a set give the set's Fréchet distance, in pixels and in principal components")
  func statisticsInsteadOfSamples() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let (samples, reference) = try Oracle.pair("regular")
    let context = try ComputeContext(threads: 2)
    let statistics = EvaluationInput.statistics(try Statistics(of: reference, on: context))
    for features in [EvaluationOptions.Features.pixels, .principal(5)] {
      var options = EvaluationOptions()
      options.features = features
      let found = try Evaluation(of: .samples(samples), against: statistics, options: options, on: context)
      let expected = try evaluate(samples, reference) { $0.features = features }
      #expect(agrees(found.frechet?.value, expected.frechet?.value ?? .nan, 1e-7))
      #expect(found.precisionRecall == nil && found.copies == nil && found.classes == nil)
    }
  }
}
