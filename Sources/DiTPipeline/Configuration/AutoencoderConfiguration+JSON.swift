import DiTAutoencoder
import DiTFiles

// diffusers' vae/config.json. Keys of what this version does not do are accepted with the one value that it does, and
// refused by name with any other.

extension AutoencoderConfiguration {
  /// The file at `path`.
  ///
  /// - Throws: `FileError`, ``ConfigurationFileError``.
  public init(contentsOf path: String) throws {
    try self.init(reading: JSONObjectReader(contentsOf: path))
  }

  /// Finishes the reader.
  init(reading reader: JSONObjectReader) throws(ConfigurationFileError) {
    var reader = reader
    self.init()
    try reader.require("_class_name", is: "AutoencoderKL")
    for note in ["_diffusers_version", "_name_or_path"] { _ = try reader.string(note) }
    _ = try reader.bool("force_upcast")  // of fp16, which is not computed here
    _ = reader.value("sample_size")  // of its training
    imageChannels = try reader.integer("in_channels") ?? imageChannels
    let outChannels = try reader.integer("out_channels") ?? imageChannels
    guard outChannels == imageChannels else {
      throw reader.failure("out_channels", expected: "\(imageChannels), as in_channels", found: "\(outChannels)")
    }
    latentChannels = try reader.integer("latent_channels") ?? latentChannels
    blockChannels = try reader.integers("block_out_channels") ?? [64]  // diffusers' defaults
    layersPerBlock = try reader.integer("layers_per_block") ?? 1
    groups = try reader.integer("norm_num_groups") ?? groups
    scalingFactor = try reader.number("scaling_factor") ?? scalingFactor
    for (key, only) in [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")] {
      let types = try reader.strings(key) ?? [only]
      for type in types where type != only { throw reader.failure(key, expected: "only \(only)", found: type) }
      guard types.count == blockChannels.count else {
        throw reader.failure(
          key, expected: "\(blockChannels.count) blocks, as block_out_channels has", found: "\(types.count)")
      }
    }
    let activation = try reader.string("act_fn") ?? "silu"
    guard ["silu", "swish"].contains(activation) else {
      throw reader.failure("act_fn", expected: "silu", found: activation)
    }
    for key in ["mid_block_add_attention", "use_quant_conv", "use_post_quant_conv"] {
      guard try reader.bool(key) ?? true else { throw reader.failure(key, expected: "true", found: "false") }
    }
    for key in ["shift_factor", "latents_mean", "latents_std"] {
      if let value = reader.value(key), value != .null {
        throw reader.failure(key, expected: "null: latents are only scaled", found: value.summary)
      }
    }
    try reader.finish()
    if let (key, expected, found) = problem { throw reader.failure(key, expected: expected, found: found) }
  }
}
