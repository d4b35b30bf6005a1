/// The sizes of an AutoencoderKL: diffusers' vae/config.json.
///
/// The defaults are those of sd-vae-ft-ema and -mse.
public struct AutoencoderConfiguration: Equatable, Sendable {
  /// Channels of the images.
  public var imageChannels = 3
  /// Channels of the latents.
  public var latentChannels = 4
  /// Channels at each resolution, finest first. There are as many blocks down and up; all but one halve or double.
  public var blockChannels = [128, 256, 512, 512]
  /// Resnets of a block down; a block up has one more.
  public var layersPerBlock = 2
  /// Groups of the group normalisations.
  public var groups = 32
  /// What latents are multiplied with for the diffusion model.
  public var scalingFactor = 0.18215

  public init() {}

  /// Group normalisation's ε.
  static let epsilon: Float = 1e-6

  /// Rows and columns of pixels to one of a latent.
  public var factor: Int { 1 << (blockChannels.count - 1) }

  /// The first value that does not work, or nil: its name and what is expected. Values are bounded so that nothing
  /// computed from them overflows.
  public var problem: (key: String, expected: String, found: String)? {
    let sizes = [
      ("in_channels", imageChannels, 1...64), ("latent_channels", latentChannels, 1...1024),
      ("block_out_channels", blockChannels.count, 1...8), ("layers_per_block", layersPerBlock, 1...16),
      ("norm_num_groups", groups, 1...65_536),
    ]
    for (key, value, range) in sizes where !range.contains(value) {
      let what = key == "block_out_channels" ? " blocks" : ""
      return (key, "\(range.lowerBound) to \(range.upperBound)\(what)", "\(value)")
    }
    for channels in blockChannels where !(1...65_536).contains(channels) || channels % groups != 0 {
      return ("block_out_channels", "multiples of norm_num_groups, \(groups), up to 65536", "\(channels)")
    }
    guard scalingFactor.isFinite, scalingFactor > 0 else {
      return ("scaling_factor", "a number above 0", "\(scalingFactor)")
    }
    return nil
  }
}
