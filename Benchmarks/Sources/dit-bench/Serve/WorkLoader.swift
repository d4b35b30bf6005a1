import DiTEngine

extension WorkRequest {
  /// Reads the files and makes everything that a run needs.
  ///
  /// - Throws: ``BenchError``, and what reading the files throws.
  func load(_ context: ComputeContext) throws -> any Work {
    let (configuration, weights) = try network()
    let variant = try variant()
    switch kind {
    case "forward":
      guard let mode = ForwardWork.Mode(rawValue: mode ?? "single") else {
        throw BenchError("mode: expected single or steady, found \(mode ?? "none")")
      }
      let network = try makeNetwork(configuration, weights: weights, context: context, variant)
      return ForwardWork(network, try Inputs(contentsOf: requireInputs(), configuration, samples: batch), mode: mode)
    case "train":
      return try TrainingWork(
        configuration, start: weights, Inputs(contentsOf: requireInputs(), configuration, samples: batch),
        context: context, TrainingWork.Options(variant: variant, recompute: recompute ?? false))
    case "sample":
      let model = try makeModel(configuration, weights: weights, context: context, variant)
      return try sampling(model)
    default:
      throw BenchError("kind: expected forward, train or sample, found \(kind)")
    }
  }

  /// From x and y of the inputs, or from drawn noise and the first classes.
  private func sampling(_ model: DiT) throws -> SamplingWork {
    let c = model.configuration.network
    let (steps, guidance) = (steps ?? 50, guidance ?? 4)
    guard let inputs else {
      guard c.numClasses > 0 else { throw BenchError("classes: expected at least 1 to sample, found 0") }
      return SamplingWork(
        model, labels: (0..<batch).map { $0 % c.numClasses }, steps: steps, guidance: guidance)
    }
    let given = try Inputs(contentsOf: inputs, c, samples: batch)
    let start = Tensor(shape: [batch, c.inChannels, c.inputHeight, c.inputWidth], elements: given.images.array)
    return SamplingWork(model, labels: given.labels, start: start, steps: steps, guidance: guidance)
  }

  /// Writes `output`, where the request asks for it: (N, C', H, W) of a forward, (N, C, H, W) of sampling.
  ///
  /// - Throws: `DiTError`.
  func write(_ work: any Work) throws {
    guard let output else { return }
    let tensor: TensorSource? =
      switch work {
      case let work as ForwardWork:
        TensorSource("output", work.output.reading, shape: work.outputShape)
      case let work as SamplingWork: work.images.map { TensorSource("output", $0) }
      default: nil
      }
    if let tensor { try SafetensorsWriter.write([tensor], to: output) }
  }
}
