import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor

/// A model as a checkpoint of SiT's trainer: `model`, `ema` and `args` in one torch file, which its `sample.py --ckpt` loads. It
/// builds networks without a second half of outputs, so that such a half is left out: nothing reads it.
package struct SiTCheckpoint {
  private let configuration: ModelConfiguration
  private let sets: WeightSets
  private let size: PublishedSize

  /// - Parameters:
  ///   - name: what errors call the model.
  ///   - sizes: those that the code can build.
  /// - Throws: `DiTError` naming the key of config.json that SiT's code cannot express.
  package init(
    _ configuration: ModelConfiguration, _ sets: WeightSets, name: String, sizes: [PublishedSize] = PublishedSize.all
  ) throws(DiTError) {
    self.configuration = configuration
    self.sets = sets
    let (network, diffusion) = (configuration.network, configuration.diffusion)
    guard [.sit, .dit].contains(configuration.family), diffusion.path == .linear else {
      throw DiTError(
        file: name, .key("family"), expected: "sit, as only its models can be written for its code",
        found: "\(configuration.family.rawValue) on path \(diffusion.path.rawValue)")
    }
    guard let size = sizes.first(where: { $0.family == .sit && $0.has(network) }) else {
      throw DiTError(
        file: name, .entry("depth, hidden_size, patch_size"),
        expected: "those of SiT-S/2 to SiT-XL/8, which its code can build",
        found: "\(network.depth), \(network.hiddenSize), \(network.patchSize)")
    }
    self.size = size
    var stated = try configuration.sized(as: size, code: "SiT's", file: name)
    stated.network.learnSigma = network.learnSigma
    stated.diffusion.variance = diffusion.variance
    // What a network was trained with does not change what it computes.
    stated.diffusion.timeDistribution = diffusion.timeDistribution
    stated.diffusion.loss = diffusion.loss
    try configuration.checkKeys(against: stated, code: "SiT's", file: name)
  }

  /// Writes the file at `path`.
  ///
  /// - Parameter dtype: F32, BF16 or F16.
  /// - Throws: `DiTError`.
  package func write(to path: String, as dtype: Dtype) throws {
    guard let model = sets.trained ?? sets.average, let ema = sets.average ?? sets.trained else {
      preconditionFailure("a model without weights")
    }
    var tensors = TorchTensors(dtype)
    let trained = tensors.stateDict(model, change: withoutVariance)
    let average = sets.average == nil || sets.trained == nil ? trained : tensors.stateDict(ema, change: withoutVariance)
    let network = configuration.network
    let arguments: [(key: String, value: TorchWriter.Value)] = [
      ("model", .text(size.name)), ("image_size", .integer(8 * network.inputHeight)),
      ("num_classes", .integer(network.numClasses)), ("path_type", .text("Linear")), ("prediction", .text("velocity")),
      ("cfg_scale", .real(configuration.sampling.guidance.scale)), ("vae", .text("ema")),
    ]
    try TorchWriter.write(
      .dictionary([("model", trained), ("ema", average), ("args", .dictionary(arguments))]), tensors: tensors.sources,
      to: path)
  }

  /// The final layer's rows of the first C channels; nil for tensors that go as they are.
  private func withoutVariance(_ name: String, _ values: FloatSlice) -> (FloatSlice, shape: [Int])? {
    let network = configuration.network
    guard network.learnSigma, name.hasPrefix("final_layer.linear.") else { return nil }
    let (all, kept) = (network.outChannels, network.inChannels)
    let pixels = network.patchSize * network.patchSize
    let width = values.count / (pixels * all)
    let first = MutableFloatSlice(zeros: pixels * kept * width)
    for pixel in 0..<pixels {
      first[pixel * kept * width..<(pixel + 1) * kept * width].copy(
        from: values[pixel * all * width..<(pixel * all + kept) * width])
    }
    return (first.reading, name.hasSuffix(".bias") ? [pixels * kept] : [pixels * kept, width])
  }

  /// What stands for what the model does not have, and what is left out, one line each.
  package var notes: [String] {
    var notes: [String] = []
    if sets.average == nil || sets.trained == nil {
      notes.append("model and ema are the same weights, as the model has one set")
    }
    if !sets.further.isEmpty { notes.append("averages beside ema are left out, as SiT's code has one") }
    if configuration.network.learnSigma {
      notes.append("the outputs' second half is left out, as sample.py --ckpt builds networks without it")
    }
    return notes
  }
}
