import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import DiTTraining
import Testing

@Suite("The trainer") struct TrainerTests {
  // MARK: Against torch

  /// Five steps with clipping against torch in Double. Float32 torch is off by 5e-6 relative in m (fixture's README); we
  /// allow about three times that. v is off by the 1.3e-5 that 1 − β₂ loses in Float32; the bias correction has the same
  /// factor, so the weights do not see it.
  ///
  /// A weight whose gradient is near AdamW's ε = 1e-8 moves by rate · g / (|g| + ε), so that g's rounding becomes a share
  /// of a whole step. Element 425 of blocks.0.attn.proj.weight has a gradient below 1e-9 at step 1, where 1.3e-3 is usual;
  /// a rounding of 4e-10, 3e-7 of what is usual, moves it by 1e-3 · 4e-10 / 1e-8 = 4e-5. Measured: 5.6e-5 (AVX-512) to
  /// 7.7e-5 (portable) of the tensor's largest, all its other elements within 4e-7. So a single weight or average may be
  /// off by 1e-4, but a tensor's by 3e-6 in the mean square (measured: 1.8e-6).
  @Test("Five steps give PyTorch's losses, norms, weights, moments and average")
  func fiveStepsAgainstTorch() throws {
    let file = try SafetensorsFile(contentsOf: fixture("digits/training.safetensors"))
    let trainer = try fixtureTrainer()
    let labels = try file.integers("y").values
    let (times, clean, noise) = try (
      file.integers("t").values.map { Float($0) }, file.tensor("x0").elements, file.tensor("noise").elements
    )
    let (losses, norms) = try (file.tensor("loss").elements, file.tensor("grad_norm").elements)
    for n in 0..<5 {
      let (images, samples) = (n * 256..<(n + 1) * 256, n * 4..<(n + 1) * 4)
      let report = try trainer.step(
        clean: clean.span.extracting(images), noise: noise.span.extracting(images),
        times: times.span.extracting(samples), labels: labels.span.extracting(samples))
      #expect(abs(report.loss / Double(losses[n]) - 1) < 1e-5, "step \(n + 1): loss \(report.loss), \(losses[n])")
      #expect(abs(report.gradientNorm / Double(norms[n]) - 1) < 1e-5, "step \(n + 1): norm \(report.gradientNorm)")
    }
    for (prefix, flat, tolerance) in [
      ("weights", trainer.weights, 1e-4), ("ema", trainer.average, 1e-4), ("m", trainer.firstMoment, 2e-5),
      ("v", trainer.secondMoment, 2e-5),
    ] {
      for parameter in trainer.table.trainableParameters {
        let (found, expected) = try (
          flat[parameter.range].array, file.tensor("\(prefix).\(parameter.name)").elements
        )
        let (a, b) = (withoutKeys(found, parameter), withoutKeys(expected, parameter))
        let error = relativeError(a, b)
        #expect(error < tolerance, "\(prefix).\(parameter.name): relative error \(error)")
        let mean = meanSquareError(a, b)
        if prefix != "v" { #expect(mean < 3e-6, "\(prefix).\(parameter.name): mean square error \(mean)") }
      }
    }
  }

  /// The root of the mean square of the error, as a share of the largest number expected.
  private func meanSquareError(_ found: [Float], _ expected: [Float]) -> Double {
    let squares = zip(found, expected).reduce(0) { $0 + (Double($1.0) - Double($1.1)) * (Double($1.0) - Double($1.1)) }
    let largest = expected.reduce(0) { max($0, abs($1)) }
    return (squares / Double(expected.count)).squareRoot() / Double(largest)
  }

  private func fixtureTrainer() throws -> Trainer {
    var training = TrainingConfiguration()
    (training.batch, training.learningRate, training.warmupSteps) = (4, 1e-3, 0)
    (training.schedule, training.gradientClip, training.validationModulus) = (.constant, 1, 0)
    let directory = try ModelDirectory(contentsOf: fixture("digits"))
    let data = try Dataset(Tensor(zeros: [4, 1, 8, 8]), labels: [0, 1, 2, 3], name: "zeros")
    return try Trainer(
      model: directory.configuration, training: training, data: data,
      start: directory.weights(.model).flattened().reading,
      context: ComputeContext(threads: 2))
  }

  /// The gradient of the keys' bias is rounding noise, which AdamW divides by itself.
  private func withoutKeys(_ values: [Float], _ parameter: Parameter) -> [Float] {
    guard parameter.name.hasSuffix("attn.qkv.bias") else { return values }
    let third = values.count / 3
    return Array(values[0..<third] + values[(2 * third)...])
  }

  // MARK: Convergence

  /// One batch, t and noise: the loss falls below 5 % of its start within 300 steps.
  @Test("The loss on one batch falls below 5 % of its start within 300 steps")
  func oneBatchIsLearnt() throws {
    let network = DiTConfiguration(
      inputHeight: 4, inputWidth: 6, patchSize: 2, inChannels: 1, hiddenSize: 32, depth: 2, numHeads: 4, numClasses: 3)
    var training = TrainingConfiguration()
    (training.batch, training.learningRate, training.warmupSteps, training.steps) = (4, 3e-3, 20, 300)
    training.validationModulus = 0
    let trainer = try Trainer(
      model: ModelConfiguration(network: network), training: training, data: tinyData(),
      context: ComputeContext(threads: 2))
    var random = Philox(seed: 5)
    let (clean, noise) = (random.normal(count: 96).map { max(-1, min(1, $0)) }, random.normal(count: 96))
    var losses: [Double] = []
    for _ in 0..<300 {
      losses.append(
        try trainer.step(
          clean: clean.span, noise: noise.span, times: [3, 200, 500, 900].span, labels: [0, 1, 2, 3].span
        ).loss)
    }
    #expect(losses[299] < 0.05 * losses[0], "from \(losses[0]) to \(losses[299])")
  }

  // MARK: Numerics

  /// Sixty steps in bf16, recomputing: the losses are those of float32 to a percent (measured: 0.14 %).
  @Test("Training in bf16 has Float32's losses to a percent")
  func halfPrecisionLearnsAsMuch() throws {
    let losses = try [Precision.fp32, .bf16].map { precision in
      let trainer = try tinyTrainer(threads: 2) {
        ($0.steps, $0.precision, $0.recompute) = (60, precision, precision == .bf16)
      }
      let first = try trainer.step().loss
      for _ in 2...59 { _ = try trainer.step() }
      return try [first, trainer.step().loss, #require(try trainer.validate()).loss]
    }
    let (exact, half) = (losses[0], losses[1])
    #expect(exact[1] < 0.9 * exact[0], "nothing was learnt: \(exact)")
    #expect(half != exact, "not in bf16")
    for (a, b) in zip(half, exact) { #expect(abs(a / b - 1) < 0.01, "\(half), \(exact)") }
  }

  /// What the backward pass computes again is what it would have kept.
  @Test(
    "Recomputing activations changes no bit of the weights",
    arguments: [Numerics(gemm: .blas), Numerics(gemm: .packed), Numerics(precision: .bf16)])
  func recomputingChangesNothing(_ numerics: Numerics) throws {
    let trainers = try [false, true].map { recompute in
      try tinyTrainer { ($0.precision, $0.gemm, $0.recompute) = (numerics.precision, numerics.gemm, recompute) }
    }
    for trainer in trainers { for _ in 0..<8 { _ = try trainer.step() } }
    #expect(firstDifference(trainers[0].weights, trainers[1].weights) == nil)
  }

  // MARK: Determinism

  @Test("Weights, average and validation are the same bytes at any number of threads", arguments: Precision.training)
  func sameBytesAtAnyThreadCount(_ precision: Precision) throws {
    let trainers = try [1, 2, 3].map { try tinyTrainer(threads: $0) { $0.precision = precision } }
    for trainer in trainers { for _ in 0..<8 { _ = try trainer.step() } }
    for other in trainers.dropFirst() {
      #expect(firstDifference(trainers[0].weights, other.weights) == nil)
      #expect(firstDifference(trainers[0].average, other.average) == nil)
      #expect(try trainers[0].validate() == other.validate())
    }
  }

  @Test("The seed decides every step")
  func seedDecides() throws {
    let (a, b) = try (tinyTrainer(), tinyTrainer { $0.seed = 1 })
    let same = try tinyTrainer()
    let reports = try [a, b, same].map { try $0.step() }
    #expect(reports[0] == reports[2] && reports[0].loss != reports[1].loss)
    #expect(firstDifference(a.weights, same.weights) == nil && firstDifference(a.weights, b.weights) != nil)
  }

  /// A new network's output is 0, so the first loss depends on the samples drawn alone.
  @Test("Micro-batches of any size draw the same samples and give the same gradient")
  func microBatchesDrawTheSameSamples() throws {
    let trainers = try [1, 2, 3, 6].map { size in try tinyTrainer { $0.microBatch = size } }
    let reports = try trainers.map { try $0.step() }
    for (trainer, report) in zip(trainers, reports) {
      #expect(abs(report.loss - reports[0].loss) < 1e-12 && report.samplesSeen == 6, "\(report)")
      let error = relativeError(trainer.gradients.array, trainers[0].gradients.array)
      #expect(error < 1e-5, "micro-batch \(trainer.microBatch): relative error \(error)")
    }
  }

  @Test("Flips are horizontal")
  func flipsAreHorizontal() throws {
    let mirror = { (x: inout [Float]) in
      for i in x.indices where i % 6 > 2 { x[i] = x[i - i % 6 + 5 - i % 6] }
    }
    let gradients = { (data: Dataset, flip: Bool) throws -> FloatSlice in
      let trainer = try tinyTrainer(data: data) { $0.flip = flip }
      _ = try trainer.step()
      return trainer.gradients.reading
    }
    let (symmetric, any) = try (tinyData(edit: mirror), tinyData())
    #expect(try firstDifference(gradients(symmetric, true), gradients(symmetric, false)) == nil)
    #expect(try firstDifference(gradients(any, true), gradients(any, false)) != nil)
  }

  @Test("Label dropout trains the null class")
  func dropoutTrainsTheNullClass() throws {
    let trainer = try tinyTrainer(model: tinyModel(dropout: 0.999_999))
    for _ in 0..<5 { _ = try trainer.step() }
    let table = try values("y_embedder.embedding_table.weight", trainer.secondMoment, trainer)
    #expect(table[0..<48].allSatisfy { $0 == 0 } && table[48...].contains { $0 > 0 }, "rows 0…2 and the null row 3")
    let all = try tinyTrainer(model: tinyModel(dropout: 1e-9))
    for _ in 0..<5 { _ = try all.step() }
    let rows = try values("y_embedder.embedding_table.weight", all.secondMoment, all)
    #expect(rows[48...].allSatisfy { $0 == 0 } && rows[0..<48].contains { $0 > 0 })
  }

  @Test("Unconditional networks train and validate")
  func unconditionalNetworksTrain() throws {
    let trainer = try tinyTrainer(model: tinyModel(classes: 0))
    let reports = try (0..<12).map { _ in try trainer.step() }
    #expect(try reports.allSatisfy { $0.loss.isFinite } && trainer.validate() != nil)
  }

  @Test("With a fixed variance the loss has no variational bound")
  func fixedVarianceHasNoBound() throws {
    var network = tinyNetwork()
    network.learnSigma = false
    let trainer = try tinyTrainer(model: ModelConfiguration(network: network))
    let report = try trainer.step()
    #expect(try report.vb == nil && report.loss == report.mse && trainer.validate()?.vb == nil)
    let learned = try tinyTrainer().step()
    #expect(learned.vb != nil && learned.loss != learned.mse)
  }

  @Test("Fixed positions are not trained")
  func positionsAreNotTrained() throws {
    let trainer = try tinyTrainer()
    let before = try values("pos_embed", trainer.weights, trainer)
    for _ in 0..<3 { _ = try trainer.step() }
    #expect(try values("pos_embed", trainer.weights, trainer) == before)
    #expect(try values("pos_embed", trainer.average, trainer) == before)
  }

  // MARK: Validation

  @Test("Validation measures the averaged weights")
  func validationMeasuresTheAverage() throws {
    let trainer = try tinyTrainer()
    let first = try #require(try trainer.validate())
    // The output of a new network is 0: the loss is the mean of ε² over 4 · 24 draws, 1 ± 5 · √(2/96).
    #expect(try first.samples == 4 && abs(first.mse - 1) < 0.72 && trainer.validate() == first)
    for _ in 0..<4 { _ = try trainer.step() }
    let trained = try #require(try trainer.validate())
    #expect(trained.loss != first.loss && trained.step == 4)
    trainer.weights.fill(0.3)
    #expect(try trainer.validate() == trained, "the weights in training must not matter")
    trainer.average.fill(0.3)
    #expect(try trainer.validate()?.loss != trained.loss)
  }

  @Test("Validation does not depend on seed or micro-batch")
  func validationDoesNotDependOnSeedOrBatch() throws {
    let start = Weights.initialized(tinyNetwork(), seed: 3).flat
    let reports = try [(0, 3), (9, 3), (0, 1), (0, 6)].map { seed, size in
      try tinyTrainer(start: start.reading) { ($0.seed, $0.microBatch) = (seed, size) }.validate()
    }
    for report in reports { #expect(abs((report?.loss ?? 0) - (reports[0]?.loss ?? 1)) < 1e-12) }
  }

  /// Four samples in micro-batches of three: the mean is over samples, not over batches.
  @Test("Validation is the mean over samples, whatever the micro-batch")
  func validationIsTheMeanOverSamples() throws {
    let trainer = try tinyTrainer()
    for _ in 0..<4 { _ = try trainer.step() }
    let single = try tinyTrainer(start: trainer.average.reading) { $0.microBatch = 1 }
    let (a, b) = try (#require(try trainer.validate()), #require(try single.validate()))
    #expect(abs(a.loss / b.loss - 1) < 1e-5, "\(a.loss), \(b.loss)")
  }

  /// The map is what `dit loss` says of the held-out samples at the same t and ε, averaged in tenths of T.
  @Test("The validation map is the loss per patch in tenths of the chain")
  func validationMapIsTheLossByPatch() throws {
    let trainer = try tinyTrainer(data: tinyData(count: 200))
    for _ in 0..<3 { _ = try trainer.step() }
    let report = try #require(try trainer.validate())
    let map = try #require(report.patches)
    let held = trainer.validationSamples
    let seed: UInt64 = 0x7661_6C69_6461_7465
    let times = held.map { index in
      var random = Philox(seed: seed, stream: 2 << 56 | UInt64(index))
      return Int(random.next().multipliedFullWidth(by: 1000).high)
    }
    let noise = held.flatMap { index in
      var random = Philox(seed: seed, stream: 3 << 56 | UInt64(index))
      return random.normal(count: 24)
    }
    var random = Philox(seed: 99)
    let images = random.normal(count: 200 * 24).map { max(-1, min(1, 0.5 * $0)) }
    let clean = held.flatMap { images[$0 * 24..<($0 + 1) * 24] }
    let loss = try trainer.averagedModel().loss(
      clean: Tensor(shape: [held.count, 1, 4, 6], elements: clean), times: times.map(Float.init),
      labels: held.map { $0 % 3 }, noise: Tensor(shape: [held.count, 1, 4, 6], elements: noise))
    #expect(map.rows == 2 && map.columns == 3 && map.bins == 10 && map.counts.reduce(0, +) == 40)
    for bin in 0..<10 {
      let members = times.indices.filter { map.times(ofBin: bin).contains(times[$0]) }
      #expect(map.counts[bin] == members.count && map.times(ofBin: bin) == bin * 100...bin * 100 + 99)
      for (patch, found) in map.means(ofBin: bin).enumerated() where !members.isEmpty {
        let sum = members.reduce(0.0) { $0 + Double(loss.patchErrors.elements[$1 * 6 + patch]) }
        #expect(abs(found / (sum / Double(members.count)) - 1) < 1e-5, "bin \(bin), patch \(patch)")
      }
      if members.isEmpty { #expect(map.means(ofBin: bin).allSatisfy { $0.isNaN }) }
    }
    let total = (0..<10).reduce(0.0) { sum, bin in
      map.counts[bin] == 0 ? sum : sum + map.means(ofBin: bin).reduce(0, +) / 6 * Double(map.counts[bin])
    }
    #expect(abs(total / 40 / report.mse - 1) < 1e-6, "the mean over everything is the mse")
  }

  /// T need not be a multiple of the bins.
  @Test("The bins of the validation map cover every timestep once", arguments: [7, 10, 13, 1000])
  func validationMapCoversEachTime(_ steps: Int) throws {
    var model = tinyModel()
    model.diffusion.steps = steps
    model.diffusion.betaEnd = 0.02 * Double(steps) / 1000 * 0.5
    model.diffusion.betaStart = 0.0001 * Double(steps) / 1000
    model.sampling.sampler.steps = steps
    let map = try #require(tinyTrainer(model: model).validate()?.patches)
    #expect((0..<map.bins).flatMap { Array(map.times(ofBin: $0)) } == Array(0..<steps))
    #expect(map.bins == min(10, steps) && map.counts.reduce(0, +) == 4)
  }

  // MARK: Divergence

  @Test("Divergence is thrown before weights or average change")
  func divergenceIsThrownAndChangesNothing() throws {
    let trainer = try tinyTrainer()
    _ = try trainer.step()
    let parameter = try #require(trainer.table.parameter(named: "final_layer.linear.bias"))
    trainer.weights[parameter.range][0] = .nan
    let before = bits(trainer.average)
    let error = #expect(throws: DiTError.self) { try trainer.step() }
    #expect(error?.divergence?.step == 2 && trainer.completedSteps == 1 && trainer.samplesSeen == 6)
    #expect(bits(trainer.average) == before && description(error).contains("diverged at step 2"))
  }
}
