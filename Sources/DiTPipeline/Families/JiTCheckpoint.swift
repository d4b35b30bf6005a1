import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor

/// A model as the checkpoint of JiT's trainer: a folder with `checkpoint-last.pth`, which its code resumes from and evaluates,
/// and its converter for diffusers reads. Optimizer and epoch are left out together, which its code allows: a run goes on
/// from the weights, with new moments.
package struct JiTCheckpoint {
  private let configuration: ModelConfiguration
  private let sets: WeightSets
  private let size: PublishedSize

  /// Of the averages that the trainer keeps.
  private static let decays = (0.9999, 0.9996)

  /// - Parameters:
  ///   - name: what errors call the model.
  ///   - sizes: those that the code can build.
  /// - Throws: `DiTError` naming the key of config.json that JiT's code cannot express.
  package init(
    _ configuration: ModelConfiguration, _ sets: WeightSets, name: String, sizes: [PublishedSize] = PublishedSize.all
  ) throws(DiTError) {
    self.configuration = configuration
    self.sets = sets
    let network = configuration.network
    guard let size = sizes.first(where: { $0.family == .jit && $0.has(network) }) else {
      guard configuration.family == .jit else {
        throw DiTError(
          file: name, .key("family"), expected: "jit, as only its networks can be written for its code",
          found: configuration.family.rawValue)
      }
      throw DiTError(
        file: name, .entry("depth, hidden_size, patch_size"),
        expected: "those of JiT-B/16 to JiT-H/32, which its code can build",
        found: "\(network.depth), \(network.hiddenSize), \(network.patchSize)")
    }
    self.size = size
    try Self.check(configuration, size, name)
  }

  /// Throws where the network or its process is not the published one's, but for what the trainer's arguments state.
  private static func check(
    _ configuration: ModelConfiguration, _ size: PublishedSize, _ name: String
  ) throws(DiTError) {
    let diffusion = configuration.diffusion
    var stated = try configuration.sized(as: size, code: "JiT's", file: name)
    let sampler = configuration.sampling.sampler.name
    guard [.euler, .heun].contains(sampler) else {
      throw DiTError(
        file: name, .key("sampling.sampler"), expected: "euler or heun, which JiT's code has", found: sampler.rawValue)
    }
    stated.diffusion.noiseScale = diffusion.noiseScale
    stated.diffusion.timeFloor = diffusion.timeFloor
    stated.diffusion.timeDistribution = diffusion.timeDistribution
    stated.diffusion.lossTarget = diffusion.lossTarget
    try configuration.checkKeys(against: stated, code: "JiT's", file: name)
  }

  /// Writes `checkpoint-last.pth` into a directory that is there.
  ///
  /// - Parameter dtype: F32, BF16 or F16.
  /// - Throws: `DiTError`.
  package func write(to directory: String, as dtype: Dtype) throws {
    let (model, first) = (sets.trained ?? sets.average, sets.average ?? sets.trained)
    guard let model, let first else { preconditionFailure("a model without weights") }
    let second = sets.further.first?.weights ?? first
    var tensors = TorchTensors(dtype)
    let trained = tensors.stateDict(model, prefix: "net.")
    let average = sets.average == nil || sets.trained == nil ? trained : tensors.stateDict(first, prefix: "net.")
    let further = sets.further.isEmpty ? average : tensors.stateDict(second, prefix: "net.")
    let decays = (Self.decays.0, sets.further.first?.decay ?? Self.decays.1)
    let arguments = JiTArguments.members(configuration, size: size, decays: decays)
    try TorchWriter.write(
      .dictionary([
        ("model", trained), ("model_ema1", average), ("model_ema2", further), ("args", .dictionary(arguments)),
      ]), tensors: tensors.sources, to: Paths.join(directory, ModelReference.trainersCheckpoint))
  }

  /// What stands for what the model does not have, one line each.
  package var notes: [String] {
    let name = ModelReference.trainersCheckpoint
    if sets.average == nil || sets.trained == nil {
      return ["\(name): model, model_ema1 and model_ema2 are the same weights, as the model has one set"]
    }
    return sets.further.isEmpty ? ["\(name): model_ema2 is model_ema1, as the model has one moving average"] : []
  }
}
