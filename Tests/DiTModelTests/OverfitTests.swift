import DiTKernels
import DiTModel
import DiTTensor
import TestSupport
import Testing

/// The fourth oracle: training converges.
@Suite("Training converges") struct OverfitTests {
  /// On one fixed batch, t and noise, the mean squared error falls below 5 % of its start within 300 steps.
  @Test("The loss on one batch falls below 5 % of its start within 300 steps", arguments: Engine.all)
  func fixedBatch(_ engine: Engine) throws {
    let configuration = DiTConfiguration(
      inputHeight: 8, inputWidth: 8, patchSize: 2, inChannels: 1, hiddenSize: 32, depth: 2, numHeads: 4, numClasses: 3,
      learnSigma: false)
    let (weights, flat) = Weights.initialized(configuration, seed: 5)
    var draw = Draw(seed: 96)
    let size = 5 * configuration.imageElements
    let (images, noise) = (draw.normal(size), draw.normal(size))
    let batch = Case(
      configuration: configuration, weights: weights, images: images, times: [10, 250, 500, 750, 990],
      labels: [0, 1, 2, 3, 0])
    let network = try batch.network(engine)
    let context = network.context
    let ws = TrainingWorkspace(network, samples: batch.samples, recomputes: engine.numerics.precision == .bf16)
    let (output, slope) = (MutableFloatSlice(zeros: size), MutableFloatSlice(zeros: size))
    let gradients = MutableFloatSlice(zeros: flat.count)
    let (m, v) = (MutableFloatSlice(zeros: flat.count), MutableFloatSlice(zeros: flat.count))
    let range = try #require(weights.table.trainable.first)
    var losses: [Double] = []
    for step in 1...300 {
      gradients.fill(0)
      network.differentiate(
        images: images.span, times: batch.times.span, labels: batch.labels.span, output: output,
        outputGradient: slope, into: gradients, workspace: ws
      ) { slope in
        let difference = zip(output.array, noise).map { $0 - $1 }
        losses.append(dot(difference.doubles, difference.doubles) / Double(size))
        for i in 0..<size { slope[i] = 2 * difference[i] / Float(size) }
      }
      context.adamW(
        weights: flat[range], firstMoment: m[range], secondMoment: v[range], gradient: gradients[range].reading,
        gradientScale: 1, learningRate: 2e-3, step: step,
        constants: AdamW(weightDecay: 0))
    }
    #expect(abs(losses[0] - dot(noise.doubles, noise.doubles) / Double(size)) < 1e-6, "the first output is not 0")
    #expect((losses.last ?? .nan) < 0.05 * losses[0], "from \(losses[0]) to \(losses.last ?? .nan)")
  }
}
