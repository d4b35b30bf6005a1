import DiTDiffusion
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Testing

/// Against PyTorch: Tests/Fixtures/network. Float32's own error is 3e-7 (outputs) and 1.4e-6 (gradients); the bounds are
/// what the project promises.
@Suite("A loaded model against PyTorch") struct NetworkTests {
  @Test(
    "Predictions are PyTorch's to 1e-5", arguments: networkCases, InstructionSet.allCases.filter { $0 <= .supported })
  func predictionAgrees(name: String, level: InstructionSet) throws {
    let model = try DiT(contentsOf: networkFixture(name), context: ComputeContext(instructionSet: level))
    let file = try open("\(name)/forward.safetensors")
    let output = try model.predict(
      images: file.tensor("x"), times: file.integers("t").values.map { Float($0) }, labels: file.labels())
    let difference = try Difference(output, file.tensor("output"))
    #expect(difference.relative <= 1e-5, "\(name): \(difference)")
    let exact = try Difference(output, file.tensor("output64"))
    #expect(exact.relative <= 1e-5, "\(name) against Double: \(exact)")
  }

  @Test(
    "Losses are PyTorch's to 1e-5 and every gradient to 1e-4", arguments: networkCases,
    InstructionSet.allCases.filter { $0 <= .supported })
  func lossAndGradientsAgree(name: String, level: InstructionSet) throws {
    let model = try DiT(contentsOf: networkFixture(name), context: ComputeContext(instructionSet: level))
    let file = try open("\(name)/loss.safetensors")
    let (clean, noise) = try (file.tensor("x0"), file.tensor("noise"))
    let (times, labels) = try (file.integers("t").values.map { Float($0) }, file.labels())
    let report = try model.lossAndGradients(clean: clean, times: times, labels: labels, noise: noise)

    let isLearned = file.entry(named: "loss.vb") != nil
    for (key, found) in [
      ("loss.loss", report.report.losses.map(\.loss)), ("loss.mse", report.report.losses.map(\.mse)),
      ("loss.vb", report.report.losses.compactMap(\.vb)),
    ] where key != "loss.vb" || isLearned {
      let difference = try Difference(found, file.tensor(key).elements.map { Double($0) })
      #expect(difference.relative <= 1e-5, "\(name) \(key): \(difference)")
    }
    let named = report.named
    #expect(named.map { "grad.\($0.name)" }.sorted() == file.names.filter { $0.hasPrefix("grad.") }.sorted())
    for (parameter, gradient) in named {
      let difference = try Difference(gradient, file.tensor("grad.\(parameter)"))
      #expect(difference.relative <= 1e-4, "\(name) \(parameter): \(difference)")
    }
    let alone = try model.loss(clean: clean, times: times, labels: labels, noise: noise)
    #expect(Difference(alone.losses.map(\.loss), report.report.losses.map(\.loss)).relative <= 1e-5)
    #expect(Difference(alone.patchErrors, report.report.patchErrors).relative <= 1e-5)
  }

  /// A batch larger than one pass holds: the parts must add up to the mean over all.
  @Test("The gradient over several passes is the mean over all samples")
  func gradientsOfManySamplesAreTheMean() throws {
    let model = try randomModel(smallNetwork)
    let (count, half) = (70, 35)  // 64 fit one pass
    let (clean, noise) = (normal([count, 3, 6, 10], seed: 1), normal([count, 3, 6, 10], seed: 2))
    let times = (0..<count).map { Float($0 * 14) }
    let labels = (0..<count).map { $0 % 5 }
    func part(_ tensor: Tensor, _ range: Range<Int>) -> Tensor {
      Tensor(
        shape: [range.count, 3, 6, 10],
        elements: Array(tensor.elements[range.lowerBound * 180..<range.upperBound * 180]))
    }
    let whole = try model.lossAndGradients(clean: clean, times: times, labels: labels, noise: noise)
    let halves = try [0..<half, half..<count].map { range in
      try model.lossAndGradients(
        clean: part(clean, range), times: Array(times[range]), labels: Array(labels[range]), noise: part(noise, range))
    }
    #expect(
      Difference(whole.report.losses.map(\.loss), halves.flatMap { $0.report.losses.map(\.loss) }).relative <= 1e-5)
    // 3×5 patches an image; their mean is the image's mse.
    let map = whole.report.patchErrors
    #expect(map.shape == [70, 15])
    let means = (0..<count).map { n in map.elements[n * 15..<(n + 1) * 15].reduce(0) { $0 + Double($1) } / 15 }
    #expect(Difference(means, whole.report.losses.map(\.mse)).relative <= 1e-5)
    let mean = zip(halves[0].flat.array, halves[1].flat.array).map { ($0 + $1) / 2 }
    let shape = [mean.count]
    let difference = Difference(
      Tensor(shape: shape, elements: whole.flat.array), Tensor(shape: shape, elements: mean))
    #expect(difference.relative <= 1e-5, "\(difference)")
  }

  /// What attention makes of a time is the sampler's training index, also of a linear path's real times.
  @Test(
    "Attention maps every time of a linear path to the sampler's training index", arguments: [250, 1000],
    LinearTime.allCases)
  func attentionFindsTheTrainingIndex(steps: Int, time: LinearTime) throws {
    let flow = try NoiseSchedule(
      DiffusionConfiguration(
        steps: steps, path: .linear, prediction: .velocity, variance: .fixedSmall, networkTime: time))
    var wrong: [Float] = []
    for count in 1...steps {
      for time in FlowEulerSampler(flow.process, steps: count).evaluations
      where flow.attention.index(ofTime: time.value) != time.index { wrong.append(time.value) }
    }
    #expect(wrong.isEmpty, "\(wrong.prefix(5))")
    let chain = try NoiseSchedule(DiffusionConfiguration(steps: steps))
    #expect((0..<steps).allSatisfy { chain.attention.index(ofTime: Float($0)) == $0 })
  }

  @Test("Inputs of wrong shapes, times and labels are refused by name")
  func wrongInputsAreNamed() throws {
    let model = try randomModel(smallNetwork)
    let x = normal([2, 3, 6, 10], seed: 1)
    func message(_ body: () throws -> Void) -> String? {
      #expect(throws: DiTError.self, performing: body)?.description
    }
    func predict(_ x: Tensor, _ t: [Float], _ y: [Int]) -> String? {
      message { _ = try model.predict(images: x, times: t, labels: y) }
    }
    #expect(
      predict(normal([2, 3, 10, 6], seed: 1), [1, 2], [0, 1])?.hasPrefix("x: expected shape [N, 3, 6, 10]") == true)
    #expect(predict(Tensor(zeros: [0, 3, 6, 10]), [], [])?.hasPrefix("x: expected shape [N, 3, 6, 10]") == true)
    #expect(predict(x, [1], [0, 1]) == "t: expected 2 values, one per image, found 1")
    #expect(predict(x, [1, .nan], [0, 1]) == "t: expected times in 0…999, found nan")
    #expect(predict(x, [1, 1000], [0, 1]) == "t: expected times in 0…999, found 1000.0")
    #expect(predict(x, [-1, 1], [0, 1]) == "t: expected times in 0…999, found -1.0")
    #expect(predict(x, [1, 2], [0]) == "y: expected 2 values, one per image, found 1")
    #expect(predict(x, [1, 2], [0, 5]) == "y: expected labels in 0…4, found 5")
    #expect(predict(x, [1, 2], [-1, 0]) == "y: expected labels in 0…4, found -1")

    func loss(_ x: Tensor, _ t: [Float], _ y: [Int], _ noise: Tensor) -> String? {
      message { _ = try model.lossAndGradients(clean: x, times: t, labels: y, noise: noise) }
    }
    #expect(loss(Tensor(zeros: [6, 10]), [1], [0], x)?.hasPrefix("x0: expected shape [N, 3, 6, 10]") == true)
    #expect(
      loss(x, [1, 2], [0, 1], normal([1, 3, 6, 10], seed: 2))
        == "noise: expected the shape [2, 3, 6, 10] of x0, found [1, 3, 6, 10]")
    #expect(loss(x, [1, 1000], [0, 1], x) == "t: expected whole times in 0…999, found 1000.0")
    #expect(loss(x, [1, 2.5], [0, 1], x) == "t: expected whole times in 0…999, found 2.5")
    #expect(loss(x, [1, 2], [0, 9], x) == "y: expected labels in 0…4, found 9")

    var without = smallNetwork
    without.classDropoutProb = 0
    let noNull = try randomModel(without)
    #expect(
      message { _ = try noNull.predict(images: x, times: [1, 2], labels: [0, 4]) }
        == "y: expected labels in 0…3, found 4")
    without.numClasses = 0
    let unconditional = try randomModel(without)
    #expect(
      message { _ = try unconditional.predict(images: x, times: [1, 2], labels: [0, 0]) }
        == "y: expected no labels, as the model is unconditional, found 2")
  }
}

extension InstructionSet {
  static func <= (a: InstructionSet, b: InstructionSet) -> Bool {
    (allCases.firstIndex(of: a) ?? 0) <= (allCases.firstIndex(of: b) ?? 0)
  }
}
