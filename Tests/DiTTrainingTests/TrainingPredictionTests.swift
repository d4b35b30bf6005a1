// Training with every prediction: a network that has seen one image only makes that image.

import DiTDiffusion
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import DiTTraining
import Testing

@Suite("Training with every prediction") struct PredictionTests {
  private static let image: [Float] = (0..<24).map { Float($0 * 7 % 12) / 6 - 0.9 }

  private func trainer(_ prediction: Prediction, _ edit: (inout TrainingConfiguration) -> Void = { _ in }) throws
    -> Trainer
  {
    var network = tinyNetwork(classes: 0, dropout: 0)
    network.hiddenSize = 32
    network.learnSigma = prediction == .v
    let model = ModelConfiguration(
      network: network,
      diffusion: DiffusionConfiguration(
        prediction: prediction, variance: prediction == .v ? .learnedRange : .fixedSmall))
    let data = try Dataset(
      Tensor(shape: [8, 1, 4, 6], elements: (0..<8).flatMap { _ in Self.image }), labels: nil, name: "one")
    var training = tinyTraining()
    training.steps = 500
    training.batch = 16
    training.microBatch = 16
    training.warmupSteps = 20
    training.weightDecay = 0
    training.flip = false
    training.validationModulus = 0
    training.emaDecay = 0.95
    edit(&training)
    return try Trainer(model: model, training: training, data: data, context: ComputeContext(threads: 2))
  }

  @Test(
    "Trained on one image, every prediction and sampler samples that image",
    arguments: [
      (Prediction.epsilon, [SamplerName.ddim, .ddpm, .dpmpp, .unipc], 0.25),
      (.x0, [.ddim, .ddpm, .dpmpp, .unipc], 0.1),
      (.v, [.ddim, .ddpm, .dpmpp, .unipc], 0.15), (.flow, [.euler, .heun], 0.15),
    ])
  func samplesAreTheImage(_ prediction: Prediction, _ samplers: [SamplerName], _ tolerance: Double) throws {
    let trainer = try trainer(prediction)
    let first = try trainer.step().mse
    var last = 0.0
    for _ in 1..<500 { last = try trainer.step().mse }
    #expect(last < first / 4, "mse \(first) to \(last)")
    let model = try trainer.averagedModel()
    for sampler in samplers {
      let options = SamplingOptions(sampler: Sampler(sampler, steps: 40), guidance: Guidance(scale: 1))
      let found = try model.sample(.none(count: 4), options: options).images.elements
      // Root mean square, of an image whose own is about 0.6.
      let sum = found.indices.reduce(0.0) {
        $0 + Double(found[$1] - Self.image[$1 % 24]) * Double(found[$1] - Self.image[$1 % 24])
      }
      let error = (sum / Double(found.count)).squareRoot()
      #expect(error < tolerance, "\(prediction), \(sampler): \(error)")
    }
  }

  /// μ_θ has to be right to a hundredth of what changes from x_t to x_{t−1}; its loss, that of ε̂, falls all the same.
  @Test("The loss of predicting the mean falls by a factor of 30")
  func theMeanIsLearned() throws {
    let trainer = try trainer(.mean)
    let losses = try (0..<500).map { _ in try trainer.step().loss }
    let (first, last) = (losses[0], losses[450...].reduce(0, +) / 50)
    #expect(first > 1000 && last < first / 30, "loss \(first) to \(last)")
  }

  @Test("Loss weighting changes loss and gradient and not the MSE")
  func theWeightingReachesTheGradient() throws {
    let (plain, weighted, narrow) = try (
      trainer(.v).step(), trainer(.v) { $0.lossWeighting = .minSNR }.step(),
      trainer(.v) { ($0.lossWeighting, $0.minSNRGamma) = (.minSNR, 0.5) }.step()
    )
    #expect(plain.mse == weighted.mse && plain.mse == narrow.mse)
    #expect(abs(plain.loss - plain.mse - (plain.vb ?? 0)) < 1e-12)
    #expect(plain.loss > weighted.loss && weighted.loss > narrow.loss)
    #expect(plain.gradientNorm != weighted.gradientNorm && weighted.gradientNorm != narrow.gradientNorm)
  }

  /// Times of a flow are drawn from (0, 1]: the batch's losses are finite and differ from those at training indices.
  @Test("Validation of a flow is repeatable")
  func validationOfAFlowIsRepeatable() throws {
    let trainers = try (0..<2).map { _ in try trainer(.flow) { $0.validationModulus = 4 } }
    let reports = try trainers.map { try #require(try $0.validate()) }
    #expect(reports[0] == reports[1] && reports[0].samples == 2 && reports[0].loss.isFinite)
  }
}
