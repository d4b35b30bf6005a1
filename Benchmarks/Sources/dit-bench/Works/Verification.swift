import DiTEngine

/// Two ways to the same numbers: the inference pass of a variant, and the reference's training pass.
struct Verification: Encodable {
  let work: String
  /// The largest difference over the largest value.
  let difference: Float

  /// Compares two images. Beyond 256 tokens it does so over the first two blocks: a training pass keeps every block's
  /// activations.
  ///
  /// - Throws: ``BenchError`` when they differ by more than the variant's tolerance.
  init(
    _ work: String, _ configuration: DiTConfiguration, weights: Weights, context: ComputeContext, _ variant: Variant
  ) throws {
    var c = configuration
    if c.tokens > 256 { c.depth = min(c.depth, 2) }
    let inputs = Inputs(c, samples: 2)
    let fitted = weights.fitted(to: c)
    let forward = ForwardWork(
      try makeNetwork(c, weights: fitted, context: context, variant), inputs, mode: .single)
    forward.run()
    let expected = try Self.reference(c, fitted, inputs, context)
    let largest = expected.map { abs($0) }.max() ?? 0
    // A NaN stays: it is not agreement.
    let difference = zip(expected, forward.output.array).map { abs($0 - $1) }
      .reduce(0) { $1 > $0 || $1.isNaN ? $1 : $0 }
    self.work = work
    self.difference = difference / largest
    guard self.difference <= variant.tolerance else {
      throw BenchError(
        "\(work): two forward passes differ by \(self.difference); expected \(variant.tolerance) at most")
    }
  }

  private static func reference(
    _ configuration: DiTConfiguration, _ weights: Weights, _ inputs: Inputs, _ context: ComputeContext
  ) throws -> [Float] {
    let network = try makeNetwork(configuration, weights: weights, context: context, .reference)
    let workspace = TrainingWorkspace(network, samples: inputs.samples)
    let output = MutableFloatSlice(zeros: inputs.samples * configuration.outputElements)
    network.trainingForward(
      output: output.mutableSpan, images: inputs.images.span, times: inputs.times.span, labels: inputs.labels.span,
      workspace: workspace)
    return output.array
  }
}
