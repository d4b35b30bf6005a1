import CAllocationCounter
import DiTDiffusion
import DiTKernels
import DiTTensor
import Foundation
import TestSupport
import Testing

/// A case of diffusion/sequence.safetensors: see Scripts/fixtures/sequence.py.
struct SequenceCase: Sendable {
  let name: String
  let grid: PatchGrid
  let variance: Variance

  static let all = [
    SequenceCase("oblong", 2, 6, 10, 2, .learnedRange), SequenceCase("smallest", 1, 4, 6, 2, .fixedSmall),
    SequenceCase("tall", 1, 5, 3, 1, .fixedLarge), SequenceCase("degenerate", 1, 6, 8, 2, .fixedLarge),
  ]

  private init(_ name: String, _ channels: Int, _ height: Int, _ width: Int, _ patch: Int, _ variance: Variance) {
    self.name = name
    grid = PatchGrid(channels: channels, height: height, width: width, patchSize: patch)
    self.variance = variance
  }

  func values(_ key: String) throws -> [Double] { try Fixture("sequence").values("\(name).\(key)") }
  func floats(_ key: String) throws -> [Float] { try Fixture("sequence").floats("\(name).\(key)") }

  func prior() throws -> SequencePrior {
    try SequencePrior(grid: grid, mean: values("mean"), covariance: values("covariance"))
  }
}

/// A batch of a case and what the loss makes of it.
private struct Batch {
  let context: ComputeContext
  var loss: SequenceLoss
  let shape: BatchShape
  let clean, noise, posterior: [Float]
  var output: [Float]
  let timesteps: [Int]
  let levels: [NoiseLevel]

  init(
    _ sequence: SequenceCase, prior: SequencePrior? = nil, prediction: Prediction = .epsilon, threads: Int = 2,
    capacity: Int? = nil
  ) throws {
    context = try ComputeContext(threads: threads, workers: threads)
    timesteps = try Fixture("sequence").integers("\(sequence.name).timesteps")
    let grid = sequence.grid
    shape = BatchShape(
      samples: timesteps.count, channels: grid.channels, height: grid.height, width: grid.width)
    let schedule = try NoiseSchedule(DiffusionConfiguration(prediction: prediction, variance: sequence.variance))
    levels = timesteps.map { schedule.level(at: $0) }
    loss = SequenceLoss(
      try SequenceConditionals(try prior ?? sequence.prior(), context: context), schedule: schedule,
      samples: capacity ?? timesteps.count, context: context)
    clean = try sequence.floats("clean")
    noise = try sequence.floats("noise")
    posterior = try sequence.floats("posterior")
    output = try sequence.floats("output")
  }

  mutating func losses() -> [Double] {
    let (output, clean, noise, posterior) = (output, clean, noise, posterior)
    loss.evaluate(
      output: output.span, clean: clean.span, noise: noise.span, posteriorNoise: posterior.span, levels: levels,
      shape: shape)
    return Array(loss.losses.prefix(shape.samples))
  }

  var patches: [Double] { Array(loss.patches.prefix(shape.samples * loss.conditionals.grid.tokens)) }

  /// What is added to a gradient of `initial` everywhere.
  mutating func gradient(weight: Double = 1, initial: Float = 0) -> [Float] {
    var values = [Float](repeating: initial, count: output.count)
    let (output, clean, noise, posterior) = (output, clean, noise, posterior)
    var gradient = values.mutableSpan
    loss.evaluate(
      output: output.span, clean: clean.span, noise: noise.span, posteriorNoise: posterior.span, levels: levels,
      shape: shape, gradient: &gradient, weight: weight)
    return values
  }
}

@Suite("The Gaussian prior of the sequence loss") struct SequencePriorTests {
  /// Mean and covariance of the fixture's images, by numpy from gathered rows.
  @Test("Fitted mean and covariance are NumPy's, at any number of threads", arguments: SequenceCase.all.map(\.name))
  func fitIsTheOracles(_ name: String) throws {
    let sequence = try #require(SequenceCase.all.first { $0.name == name })
    let images = try sequence.floats("images")
    let prior = try Self.fit(images, sequence.grid, threads: 2)
    let meanError = relativeError(prior.mean, try sequence.values("mean"))
    let error = relativeError(prior.covariance, try sequence.values("covariance"))
    #expect(meanError < 1e-14, "\(name) mean: relative error \(meanError)")
    #expect(error < 1e-13, "\(name) covariance: relative error \(error)")
    #expect(try prior == Self.fit(images, sequence.grid, threads: 1), "the fit depends on the number of threads")
  }

  /// More rows than are added up at a time, of more columns than a tile has.
  @Test("A fit over more rows than one block follows the definition of covariance")
  func fitOfManyRows() throws {
    let grid = PatchGrid(channels: 3, height: 40, width: 44, patchSize: 4)
    let (count, size) = (20, 3 * 40 * 44)
    var random = Random(seed: 4)
    let images = random.normals(count * size)
    let prior = try Self.fit(images, grid, threads: 2)
    // The covariance of (upper-left, element e) and (target, element f), by its definition.
    let (n, order) = (48, 240)
    for (e, f) in [(0, 0), (5, 47), (33, 20)] {
      var sum = 0.0
      for image in 0..<count {
        for row in 1..<10 {
          for column in 1..<10 {
            let value = { (patchRow: Int, patchColumn: Int, element: Int) -> Double in
              let (channel, inside) = (element / 16, element % 16)
              let i = (channel * 40 + patchRow * 4 + inside / 4) * 44 + patchColumn * 4 + inside % 4
              return Double(images[image * size + i]) - prior.mean[i]
            }
            sum += value(row - 1, column - 1, e) * value(row, column, f)
          }
        }
      }
      let (expected, found) = (sum / Double(count * 81), prior.covariance[(n + e) * order + 4 * n + f])
      #expect(abs(found - expected) < 1e-14, "(\(e), \(f)): \(found), expected \(expected)")
    }
  }

  private static func fit(_ images: [Float], _ grid: PatchGrid, threads: Int) throws -> SequencePrior {
    let size = grid.channels * grid.height * grid.width
    return try SequencePrior(
      fitting: images.count / size, of: grid, context: ComputeContext(threads: threads, workers: threads)
    ) { index, image in
      for i in 0..<size { image[i] = images[index * size + i] }
    }
  }

  @Test("Grids of fewer than 2 rows or 3 columns of patches are refused", arguments: [(1, 8), (8, 2), (2, 2)])
  func smallGridsAreRefused(rows: Int, columns: Int) throws {
    let grid = PatchGrid(channels: 1, height: rows * 2, width: columns * 2, patchSize: 2)
    let error = #expect(throws: DiTError.self) { try grid.checkSequence() }
    #expect(
      error?.description == "lambda_seq: expected 0 on a grid of fewer than 2 rows or 3 columns of patches, "
        + "found a grid of \(rows)×\(columns)")
  }

  @Test("Patches of too many elements are refused")
  func largePatchesAreRefused() throws {
    try PatchGrid(channels: 3, height: 64, width: 64, patchSize: 16).checkSequence()
    let error = #expect(throws: DiTError.self) {
      try PatchGrid(channels: 3, height: 128, width: 128, patchSize: 32).checkSequence()
    }
    #expect(error?.found == "patches of 3072")
  }

  @Test("Priors that are not finite, symmetric and positive semi-definite are refused")
  func badNumbersAreRefused() throws {
    let sequence = SequenceCase.all[2]
    let (mean, covariance) = (try sequence.values("mean"), try sequence.values("covariance"))
    func found(_ edit: (inout [Double], inout [Double]) -> Void) throws -> String {
      var (mean, covariance) = (mean, covariance)
      edit(&mean, &covariance)
      let error = #expect(throws: DiTError.self) {
        let prior = try SequencePrior(grid: sequence.grid, mean: mean, covariance: covariance)
        _ = try SequenceConditionals(prior, context: ComputeContext(threads: 1))
      }
      return error?.description ?? ""
    }
    #expect(try found { mean, _ in mean[3] = .nan } == "mean: expected finite numbers, found nan at element 3")
    #expect(try found { $1[7] = .infinity }.hasPrefix("covariance: expected finite numbers"))
    #expect(try found { $1[1] += 1 }.hasPrefix("covariance: expected a symmetric matrix"))
    #expect(try found { $1[0] = -1 }.hasPrefix("covariance: expected a positive semi-definite matrix"))
  }
}

@Suite("The sequence loss") struct SequenceLossTests {
  /// Every kind of patch (a grid has all five), against torch's divergence of dense Gaussians.
  @Test(
    "The divergence of every kind of patch is PyTorch's between dense Gaussians",
    arguments: SequenceCase.all.map(\.name))
  func patchesAndLossesAreTheOracles(_ name: String) throws {
    let sequence = try #require(SequenceCase.all.first { $0.name == name })
    var batch = try Batch(sequence)
    let losses = batch.losses()
    let weights = batch.timesteps.map { 1 - batch.loss.schedule.tables.alphasCumprodPrevious[$0] }
    let tokens = sequence.grid.tokens
    let expected = try sequence.values("patches")
    for n in batch.timesteps.indices {
      let range = n * tokens..<(n + 1) * tokens
      let error = relativeError(batch.patches[range], expected[range].map { $0 * weights[n] })
      #expect(error < 1e-9, "\(name), t = \(batch.timesteps[n]): relative error \(error)")
    }
    let error = elementwiseError(
      losses.enumerated().filter { batch.timesteps[$0.offset] > 0 }.map(\.element),
      try sequence.values("loss").filter { $0 != 0 })
    #expect(error < 1e-9, "\(name): relative error \(error)")
  }

  /// Each sample apart, as they differ by powers of ten; Float has a spacing of 1.2e-7.
  @Test("The gradient of the sequence loss is PyTorch's", arguments: SequenceCase.all.map(\.name))
  func gradientIsTheOracles(_ name: String) throws {
    let sequence = try #require(SequenceCase.all.first { $0.name == name })
    var batch = try Batch(sequence)
    let found = batch.gradient().doubles
    let expected = try sequence.values("gradient")
    let size = expected.count / batch.timesteps.count
    for n in batch.timesteps.indices {
      let range = n * size..<(n + 1) * size
      let error = relativeError(found[range], expected[range])
      #expect(error < 2e-7, "\(name), t = \(batch.timesteps[n]): relative error \(error)")
    }
  }

  @Test("The gradient is added to what is there, times the weight")
  func gradientIsAddedAndWeighted() throws {
    var batch = try Batch(SequenceCase.all[0])
    let whole = batch.gradient()
    #expect(batch.gradient(weight: 0.25) == whole.map { $0 / 4 })
    #expect(batch.gradient(initial: 0.5) == whole.map { 0.5 + $0 })
    let before = batch.loss.losses
    #expect(batch.losses() == before)
  }

  /// Whatever the output means: where it stands for the same μ_θ, the loss is the same, and the gradient that of μ_θ
  /// times what multiplies the output.
  @Test(
    "Loss and gradient depend on the predicted mean alone, whatever the network predicts",
    arguments: [Prediction.mean, .x0, .v])
  func predictionsAgree(_ prediction: Prediction) throws {
    var reference = try Batch(SequenceCase.all[0])
    var batch = try Batch(SequenceCase.all[0], prediction: prediction)
    let (schedule, size) = (batch.loss.schedule, batch.shape.elementsPerSample)
    let coefficients = PredictionCoefficients(schedule)
    let usual = PredictionCoefficients(reference.loss.schedule)
    var expected = reference.gradient().doubles
    for n in batch.timesteps.indices {
      let t = batch.timesteps[n]
      let (ours, theirs) = (coefficients.mean(at: t), usual.mean(at: t))
      let bar = schedule.alphasCumprod[t]
      for i in 0..<size {
        let (at, to) = (n * size + i, n * 2 * size + i)
        let noised = bar.squareRoot() * Double(batch.clean[at]) + (1 - bar).squareRoot() * Double(batch.noise[at])
        let mean = theirs.noised * noised + theirs.output * Double(reference.output[to])
        batch.output[to] = Float((mean - ours.noised * noised) / ours.output)
        expected[to] *= ours.output / theirs.output
      }
    }
    // The output's rounding is 6e-8 of it, which at t = 1 is more of a μ_θ that differs from m by a hundredth.
    let error = relativeError(batch.losses(), reference.losses())
    #expect(error < 1e-4, "\(prediction): relative error \(error)")
    let gradient = batch.gradient().doubles
    for n in batch.timesteps.indices where batch.timesteps[n] > 0 {
      let range = n * 2 * size..<(n * 2 + 1) * size
      let error = relativeError(gradient[range], expected[range])
      #expect(error < 1e-4, "\(prediction), t = \(batch.timesteps[n]): relative error \(error)")
    }
  }

  /// Pixels that never change: Σ is zero, S is (1 − ᾱ_{t−1}) I and m the mean image.
  @Test("With a covariance of zero the loss has its closed form")
  func aPriorWithoutVariance() throws {
    let sequence = SequenceCase.all[2]
    let order = SequencePrior.blocks * sequence.grid.patchElements
    let prior = try SequencePrior(
      grid: sequence.grid, mean: [Double](repeating: 0.5, count: 15),
      covariance: [Double](repeating: 0, count: order * order))
    var batch = try Batch(sequence, prior: prior)
    let found = batch.losses()
    let tables = batch.loss.schedule.tables
    let expected = batch.timesteps.indices.map { n in
      let t = batch.timesteps[n]
      let (previous, bar) = (tables.alphasCumprodPrevious[t], tables.alphasCumprod[t])
      let (noise, ratio) = (1 - previous, tables.betas[t] / (1 - previous))
      let coefficients = PredictionCoefficients(batch.loss.schedule).mean(at: t)
      var sum = 0.0
      for i in n * 15..<(n + 1) * 15 {
        let noised = bar.squareRoot() * Double(batch.clean[i]) + (1 - bar).squareRoot() * Double(batch.noise[i])
        let mean = coefficients.noised * noised + coefficients.output * Double(batch.output[i])
        let square = (mean - previous.squareRoot() * 0.5) * (mean - previous.squareRoot() * 0.5)
        sum += 0.5 * (ratio + square / noise - 1 - log(ratio))
      }
      return noise * sum / 15
    }
    let error = elementwiseError(found, expected)
    #expect(error < 1e-10, "relative error \(error)")
  }

  @Test("The loss and its gradient are zero at t = 0")
  func nothingAtTimeZero() throws {
    var batch = try Batch(SequenceCase.all[0])
    let zero = try #require(batch.timesteps.firstIndex(of: 0))
    let (losses, size) = (batch.losses(), batch.output.count / batch.timesteps.count)
    #expect(losses[zero] == 0)
    #expect(batch.gradient()[zero * size..<(zero + 1) * size].allSatisfy { $0 == 0 })
  }

  /// Bytes do not depend on the threads; values not on how many samples there is room for.
  @Test("Neither threads nor spare capacity change a bit")
  func threadsAndRoomChangeNothing() throws {
    var (one, four) = (try Batch(SequenceCase.all[0], threads: 1), try Batch(SequenceCase.all[0], threads: 4))
    var roomy = try Batch(SequenceCase.all[0], capacity: 9)
    #expect(one.gradient() == four.gradient())
    #expect(one.patches == four.patches)
    #expect(roomy.gradient() == one.gradient())
    #expect(roomy.patches == one.patches)
  }

  /// Sizes at which OpenBLAS takes other paths: n = 1 to 48, and more rows than are conditioned at a time.
  @Test(
    "Evaluating the loss allocates no memory after the first call",
    .enabled(if: dit_allocations_supported() != 0),
    arguments: [(1, 1, 40, 44), (1, 2, 12, 10), (4, 2, 64, 48), (3, 4, 24, 20)])
  func evaluatingAllocatesNothing(channels: Int, patch: Int, height: Int, width: Int) throws {
    let grid = PatchGrid(channels: channels, height: height, width: width, patchSize: patch)
    let shape = BatchShape(samples: 3, channels: channels, height: height, width: width)
    var random = Random(seed: 8)
    let context = try ComputeContext(threads: 2)
    let images = random.normals(shape.count)
    let prior = try SequencePrior(fitting: 3, of: grid, context: context) { index, image in
      for i in 0..<shape.elementsPerSample { image[i] = images[index * shape.elementsPerSample + i] }
    }
    let schedule = try noiseSchedule(.linear, .fixedLarge)
    var loss = SequenceLoss(
      try SequenceConditionals(prior, context: context), schedule: schedule, samples: 3, context: context)
    var slopes = [Float](repeating: 0, count: shape.count)
    dit_allocations_watch()
    defer { dit_allocations_unwatch() }
    for step in 0..<3 {
      let levels = [step, 400 + step, 999].map { schedule.level(at: $0) }
      let before = dit_allocations_count()
      var gradient = slopes.mutableSpan
      loss.evaluate(
        output: images.span, clean: images.span, noise: images.span, posteriorNoise: images.span, levels: levels,
        shape: shape, gradient: &gradient, weight: 1)
      let count = dit_allocations_count() - before
      #expect(step == 0 || count == 0, "step \(step): \(count) allocations")
    }
  }
}
