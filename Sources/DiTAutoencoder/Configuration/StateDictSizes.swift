import DiTTensor

extension AutoencoderConfiguration {
  /// The sizes of the autoencoder in a state dict, read from its shapes: CompVis or diffusers names. What shapes do not
  /// tell is sd-vae's: 32 groups, and for 4 latent channels the scaling factor 0.18215. Those of other
  /// shapes have other factors, for which there is no convention.
  ///
  /// - Parameters:
  ///   - store: the tensors.
  ///   - statistics: what the latents are standardized by, where that is known.
  /// - Throws: `DiTError`, of `scaling_factor` for such shapes where it is not.
  public init(
    stateDict store: some TensorStore, statistics: LatentStatistics? = nil
  ) throws(DiTError) {
    self.init()
    guard let scheme = NamingScheme(store) else {
      throw DiTError(
        file: store.path, .entry("tensors"),
        expected: "an autoencoder's, such as encoder.down_blocks.0.resnets.0.norm1.weight or "
          + "first_stage_model.encoder.down.0.block.0.norm1.weight",
        found: "none of these names")
    }
    func extents(_ name: String) -> [Int]? { store.shape(of: scheme.name(name, blocks: 0)) }
    func require(_ name: String, _ rank: Int) throws(DiTError) -> [Int] {
      let shape = extents(name)
      guard let shape, shape.count == rank else {
        throw DiTError(
          file: store.path, .tensor(scheme.name(name, blocks: 0)), expected: "\(rank) extents",
          found: shape.map { "shape \($0)" } ?? "no such tensor")
      }
      return shape
    }
    blockChannels = []
    while blockChannels.count <= 8,
      let shape = extents("encoder.down_blocks.\(blockChannels.count).resnets.0.conv1.weight"), shape.count == 4
    {
      blockChannels.append(shape[0])
    }
    layersPerBlock = 0
    while layersPerBlock <= 16, extents("encoder.down_blocks.0.resnets.\(layersPerBlock).conv1.weight") != nil {
      layersPerBlock += 1
    }
    let levels = blockChannels.count
    func attention(_ block: (Int) -> String) -> [Bool] {
      let found = (0..<levels).map { level in
        store.shape(of: scheme.name("\(block(level)).attentions.0.group_norm.weight", blocks: levels)) != nil
      }
      return found.contains(true) ? found : []
    }
    encoderAttention = attention { "encoder.down_blocks.\($0)" }
    decoderAttention = attention { "decoder.up_blocks.\(levels - 1 - $0)" }
    imageChannels = try require("encoder.conv_in.weight", 4)[1]
    latentChannels = try require("decoder.conv_in.weight", 4)[1]
    hasQuantConvolution = extents("quant_conv.weight") != nil
    hasPostQuantConvolution = extents("post_quant_conv.weight") != nil
    hasMiddleAttention = extents("encoder.mid_block.attentions.0.group_norm.weight") != nil
    if let (key, expected, found) = problem {
      throw DiTError(file: store.path, .key(key), expected: expected, found: found)
    }
    if let statistics {
      guard statistics.mean.count == latentChannels else {
        throw DiTError(
          file: store.path, .entry("latent channels"),
          expected: "\(statistics.mean.count), as the model's latent_statistics say",
          found: "\(latentChannels)")
      }
      self = scaled(by: statistics)
    }
    guard latentChannels == 4 || statistics != nil else {
      throw DiTError(
        file: store.path, .key("scaling_factor"),
        expected: "diffusers' config.json beside it, as shapes do not tell it (those of 16 latent channels are SD3's, "
          + "1.5305 with shift_factor 0.0609, and FLUX.1's, 0.3611 with 0.1159; VA-VAE's latents of 32 are standardized by "
          + "a model's latent_statistics)",
        found: "none, and \(latentChannels) latent channels")
    }
  }
}
