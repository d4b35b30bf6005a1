import DiTAutoencoder
import DiTDiffusers
import DiTFiles
import DiTTensor

// diffusers' vae/config.json. Keys of what is not done here are accepted with the one value that is, and refused by name with
// any other; keys that diffusers' AutoencoderKL does not know are passed over.

extension AutoencoderConfiguration {
  /// The file at `path`.
  ///
  /// - Throws: `DiTError`.
  public init(contentsOf path: String) throws {
    var notes: [String] = []
    try self.init(contentsOf: path, notes: &notes)
  }

  /// The file at `path`.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - notes: gets what was passed over, one line each.
  /// - Throws: `DiTError`.
  public init(contentsOf path: String, notes: inout [String]) throws {
    try self.init(reading: JSONObjectReader(contentsOf: path), notes: &notes)
  }

  /// - Throws: `DiTError`.
  package init(reading reader: JSONObjectReader, notes: inout [String]) throws(DiTError) {
    var reader = reader
    self.init()
    try reader.require("_class_name", is: Self.className)
    _ = try reader.bool("force_upcast")  // of fp16, which is not computed here
    _ = reader.value("sample_size")  // of its training
    imageChannels = try reader.integer("in_channels") ?? imageChannels
    let outChannels = try reader.integer("out_channels") ?? 3
    guard outChannels == imageChannels else {
      throw reader.failure("out_channels", expected: "\(imageChannels), as in_channels", found: "\(outChannels)")
    }
    latentChannels = try reader.integer("latent_channels") ?? latentChannels
    blockChannels = try reader.integers("block_out_channels") ?? [64]  // diffusers' defaults
    layersPerBlock = try reader.integer("layers_per_block") ?? 1
    groups = try reader.integer("norm_num_groups") ?? groups
    try readBlocks(&reader)
    let activation = try reader.string("act_fn") ?? "silu"
    guard ["silu", "swish"].contains(activation) else {
      throw reader.failure("act_fn", expected: "silu", found: activation)
    }
    hasMiddleAttention = try reader.bool("mid_block_add_attention") ?? true
    hasQuantConvolution = try reader.bool("use_quant_conv") ?? true
    hasPostQuantConvolution = try reader.bool("use_post_quant_conv") ?? true
    try readScaling(&reader, notes: &notes)
    if let note = try reader.passOver(forClass: Self.className) { notes.append(note) }
    if let (key, expected, found) = problem { throw reader.failure(key, expected: expected, found: found) }
  }

  /// Which resolutions have attention.
  private mutating func readBlocks(_ reader: inout JSONObjectReader) throws(DiTError) {
    func attention(_ key: String, _ plain: String, _ attending: String) throws(DiTError) -> [Bool] {
      let types = try reader.strings(key) ?? [plain]
      for type in types where ![plain, attending].contains(type) {
        throw reader.failure(key, expected: "\(plain) or \(attending)", found: type)
      }
      guard types.count == blockChannels.count else {
        throw reader.failure(
          key, expected: "\(blockChannels.count) blocks, as block_out_channels has", found: "\(types.count)")
      }
      return types.contains(attending) ? types.map { $0 == attending } : []
    }
    encoderAttention = try attention("down_block_types", "DownEncoderBlock2D", "AttnDownEncoderBlock2D")
    decoderAttention = try attention("up_block_types", "UpDecoderBlock2D", "AttnUpDecoderBlock2D").reversed()
  }

  static let className = "AutoencoderKL"

  /// The keys of its scaling that diffusers' DiTPipeline, other than its other pipelines, does not heed; nil where there
  /// are none.
  package var keysOutsideDiTPipeline: String? {
    statistics != nil ? "latents_mean and latents_std" : shiftFactor != 0 ? "shift_factor" : nil
  }

  /// diffusers' pipelines use the means and deviations where there are both, and neither where one is missing.
  private mutating func readScaling(
    _ reader: inout JSONObjectReader, notes: inout [String]
  ) throws(DiTError) {
    for key in ["shift_factor", "latents_mean", "latents_std"] { reader.remove(key, if: .null) }
    scalingFactor = try reader.number("scaling_factor") ?? scalingFactor
    shiftFactor = try reader.number("shift_factor") ?? 0
    let (mean, std) = (try reader.numbers("latents_mean"), try reader.numbers("latents_std"))
    if let mean, let std {
      statistics = LatentStatistics(mean: mean, std: std)
    } else if mean != nil || std != nil {
      let (found, missing) = mean != nil ? ("latents_mean", "latents_std") : ("latents_std", "latents_mean")
      notes.append("\(reader.file): \(found) is ignored without \(missing), as diffusers' pipelines do")
    }
  }
}
