import DiTFiles
import DiTModel
import DiTTensor
import DiTTraining
import Testing

@Suite("Training data: reading, splitting and order") struct DatasetTests {
  private let folder: TemporaryDirectory

  init() throws { folder = try TemporaryDirectory() }

  private func write(_ tensors: [TensorSource]) throws -> String {
    let path = folder("data.safetensors")
    try SafetensorsWriter.write(tensors, to: path)
    return path
  }

  private func images(_ elements: [Float], as dtype: Dtype = .f32, name: String = "images") -> TensorSource {
    TensorSource(name, Tensor(shape: [elements.count / 2, 1, 1, 2], elements: elements), as: dtype)
  }

  /// What a network of these data is shown: the first step's clean images, read back from a trained sample.
  private func network(classes: Int = 0) -> DiTConfiguration {
    DiTConfiguration(
      inputHeight: 1, inputWidth: 2, patchSize: 1, inChannels: 1, hiddenSize: 8, depth: 1, numHeads: 1,
      numClasses: classes, learnSigma: false)
  }

  @Test("Float images of each dtype are read, and mirrored on request", arguments: [Dtype.f32, .f16, .bf16])
  func floats(_ dtype: Dtype) throws {
    let data = try Dataset(contentsOf: write([images([-1, 1, 0.5, -0.25], as: dtype)]))
    #expect(data.count == 2 && data.channels == 1 && data.height == 1 && data.width == 2)
    #expect(data.kind == .images && data.labels == nil)
    #expect(try data.sample(1) == [0.5, -0.25] && data.sample(1, flipped: true) == [-0.25, 0.5])
  }

  @Test("Bytes 0 to 255 become -1 to 1")
  func bytesBecomeMinusOneToOne() throws {
    let path = try write([TensorSource("images", shape: [2, 1, 1, 2], bytes: [0, 255, 51, 128])])
    let data = try Dataset(contentsOf: path)
    #expect(try data.sample(0) == [-1, 1])
    #expect(try data.sample(1, flipped: true) == [Float(128) / 127.5 - 1, Float(51) / 127.5 - 1])
  }

  @Test("Latents may lie outside [-1, 1]")
  func latentsMayBeLarge() throws {
    let data = try Dataset(contentsOf: write([images([-7, 12], name: "latents")]))
    let sample = try data.sample(0)
    #expect(data.kind == .latents && sample == [-7, 12])
  }

  @Test("Labels of each integer dtype are read", arguments: [Dtype.i64, .i32, .u8])
  func labels(_ dtype: Dtype) throws {
    let labels = TensorSource("labels", shape: [2], integers: [3, 0], as: dtype)
    #expect(try Dataset(contentsOf: write([images([0, 0, 0, 0]), labels])).labels == [3, 0])
  }

  @Test("Float labels are read when they are whole and refused otherwise")
  func wholeFloatLabels() throws {
    let labels = TensorSource("labels", Tensor(shape: [2], elements: [3, 0]))
    #expect(try Dataset(contentsOf: write([images([0, 0, 0, 0]), labels])).labels == [3, 0])
    let half = TensorSource("labels", Tensor(shape: [2], elements: [3, 0.5]))
    let path = try write([images([0, 0, 0, 0]), half])
    let error = #expect(throws: DiTError.self) { try Dataset(contentsOf: path) }
    #expect(error?.kind == .content && error?.tensor == "labels" && error?.file == path)
  }

  @Test("Wrong data are refused with file, tensor and value")
  func badDataAreNamed() throws {
    let four = images([0, 0, 0, 0])
    let cases: [(tensors: [TensorSource], message: String)] = [
      ([TensorSource("labels", shape: [1], integers: [0])], "expected a tensor images or latents, found neither"),
      ([four, images([0, 0], name: "latents")], "found both"),
      ([TensorSource("images", Tensor(zeros: [2, 4]))], "images: expected the shape (N, C, H, W)"),
      ([TensorSource("images", Tensor(zeros: [0, 1, 2, 2]))], "images: expected the shape (N, C, H, W)"),
      ([images([0, 1.0001])], "images: expected values in [-1, 1], found 1.0001 at element 1, in sample 0"),
      ([images([.nan, 0])], "images: expected values in [-1, 1], found nan at element 0, in sample 0"),
      (
        [images([0, -.infinity], name: "latents")],
        "latents: expected finite values, found -inf at element 1, in sample 0"
      ),
      ([four, TensorSource("labels", shape: [3], integers: [0, 1, 2])], "labels: expected the shape (2)"),
      ([four, TensorSource("labels", shape: [2], integers: [0, -1])], "labels: expected 0 or more, found -1"),
    ]
    for (tensors, message) in cases {
      let path = try write(tensors)
      let error = #expect(throws: DiTError.self) { try Dataset(contentsOf: path) }
      #expect(description(error).hasPrefix(path) && description(error).contains(message), "\(description(error))")
    }
    let missing = folder("nothing.safetensors")
    #expect(throws: DiTError(file: missing, .missing)) { try Dataset(contentsOf: missing) }
  }

  @Test("Data that do not fit the network are refused")
  func dataMustFitTheNetwork() throws {
    let labeled = try Dataset(Tensor(zeros: [2, 1, 1, 2]), labels: [0, 4], name: "two")
    try labeled.check(for: network(classes: 5))
    try labeled.check(for: network())
    let cases: [(data: Dataset, network: DiTConfiguration, message: String)] = [
      (labeled, network(classes: 4), "two: labels: expected 0 to 3, found 4 at sample 1"),
      (try Dataset(Tensor(zeros: [2, 1, 1, 2]), name: "two"), network(classes: 4), "two: labels: missing"),
      (labeled, tinyNetwork(), "two: images: expected the shape (N, 1, 4, 6)"),
    ]
    for (data, network, message) in cases {
      let error = #expect(throws: DiTError.self) { try data.check(for: network) }
      #expect(description(error).contains(message), "\(description(error))")
    }
  }

  @Test("The digest depends on every pixel and label and not on the name")
  func digestSeesEveryElement() throws {
    let zeros = try Dataset(Tensor(zeros: [2, 1, 1, 2]), labels: [0, 1], name: "a")
    let same = try Dataset(Tensor(zeros: [2, 1, 1, 2]), labels: [0, 1], name: "b")
    let pixel = try Dataset(Tensor(shape: [2, 1, 1, 2], elements: [0, 0, 0, 1]), labels: [0, 1], name: "a")
    let label = try Dataset(Tensor(zeros: [2, 1, 1, 2]), labels: [0, 2], name: "a")
    #expect(zeros.digest == same.digest && Set([zeros.digest, pixel.digest, label.digest]).count == 3)
  }

  // MARK: Order

  @Test("The split holds out every n-th sample for validation")
  func splitHoldsOutTheLastResidue() throws {
    let data = try tinyData(count: 12)
    let split = try Split(data, modulus: 5)
    #expect(split.validation == [4, 9] && split.training == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11])
    #expect(try Split(data, modulus: 0).validation.isEmpty)
    #expect(throws: DiTError.self) { try Split(data, modulus: 1) }
  }

  @Test("Every epoch has every sample once, in an order of its own that can be resumed")
  func everyEpochHasEverySampleOnce() {
    let samples = [3, 5, 8, 13, 21, 34, 55]
    var order = DataOrder(samples: samples, seed: 7)
    let epochs = (0..<40).map { epoch in (0..<7).map { order.sample(7 * epoch + $0) } }
    #expect(epochs.allSatisfy { $0.sorted() == samples })
    #expect(Set(epochs).count > 35, "epochs should differ")
    // Any place is reached without what came before.
    var later = DataOrder(samples: samples, seed: 7)
    #expect((0..<10).map { later.sample(100 + $0) } == (0..<10).map { order.sample(100 + $0) })
    var other = DataOrder(samples: samples, seed: 8)
    #expect((0..<70).map { other.sample($0) } != (0..<70).map { later.sample($0) })
  }

  @Test("Every sample is equally likely at every place of an epoch")
  func orderIsUniform() {
    // Place 0 of 6000 epochs: each of 6 samples 1000 ± 5 standard deviations (√(6000 · 5/36) = 29).
    var order = DataOrder(samples: Array(0..<6), seed: 1)
    var counts = [Int](repeating: 0, count: 6)
    for epoch in 0..<6000 { counts[order.sample(6 * epoch)] += 1 }
    #expect(counts.allSatisfy { abs($0 - 1000) < 145 }, "\(counts)")
  }
}
