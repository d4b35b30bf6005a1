/// The sizes of an AutoencoderKL and how its latents are scaled: diffusers' vae/config.json.
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
  /// Groups of the group normalizations.
  public var groups = 32
  /// Between the encoder's output and the moments; false as in SD3's and FLUX.1's.
  public var hasQuantConvolution = true
  /// Between the latents and the decoder.
  public var hasPostQuantConvolution = true
  /// In the middle of encoder and decoder.
  public var hasMiddleAttention = true
  /// Whether the resnets of a resolution, finest first, are followed by attention each, in the encoder and in the decoder:
  /// CompVis' `attn_resolutions`, diffusers' AttnDownEncoderBlock2D and AttnUpDecoderBlock2D. Empty is nowhere.
  public var encoderAttention: [Bool] = []
  public var decoderAttention: [Bool] = []
  /// What latents are multiplied with for the diffusion model.
  public var scalingFactor = 0.18215
  /// What is taken from latents before that, in every channel.
  public var shiftFactor = 0.0
  /// What is taken from each channel, and what it is divided by; not together with ``shiftFactor``.
  public var statistics: LatentStatistics?

  public init() {}

  /// The same autoencoder with latents that are standardized by these numbers alone.
  public func scaled(by statistics: LatentStatistics) -> AutoencoderConfiguration {
    var scaled = self
    (scaled.scalingFactor, scaled.shiftFactor, scaled.statistics) = (1, 0, statistics)
    return scaled
  }

  /// How the encoder's latents become the diffusion model's, and back.
  var scaling: LatentScaling {
    LatentScaling(
      offsets: statistics?.mean ?? Array(repeating: shiftFactor, count: latentChannels),
      factors: statistics.map { $0.std.map { scalingFactor / $0 } }
        ?? Array(repeating: scalingFactor, count: latentChannels))
  }

  /// Group normalization's ε.
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
    for (key, attention) in [("down_block_types", encoderAttention), ("up_block_types", decoderAttention)]
    where !attention.isEmpty && attention.count != blockChannels.count {
      return (key, "\(blockChannels.count) blocks", "\(attention.count)")
    }
    guard scalingFactor.isFinite, scalingFactor > 0 else {
      return ("scaling_factor", "a number above 0", "\(scalingFactor)")
    }
    guard Self.floats.contains(scalingFactor) else {
      return ("scaling_factor", "1e-30 to 1e30", "\(scalingFactor)")
    }
    guard abs(shiftFactor) <= Self.floats.upperBound else {
      return ("shift_factor", "-1e30 to 1e30", "\(shiftFactor)")
    }
    return statistics.flatMap(problem)
  }

  /// Numbers whose inverse is a Float too.
  private static let floats = 1e-30...1e30

  private func problem(_ statistics: LatentStatistics) -> (key: String, expected: String, found: String)? {
    for (key, values) in [("latents_mean", statistics.mean), ("latents_std", statistics.std)]
    where values.count != latentChannels {
      return (key, "\(latentChannels) numbers, as latent_channels says", "\(values.count)")
    }
    for value in statistics.mean where !(abs(value) <= Self.floats.upperBound) {
      return ("latents_mean", "numbers from -1e30 to 1e30", "\(value)")
    }
    for value in statistics.std where !Self.floats.contains(value) || !Self.floats.contains(scalingFactor / value) {
      return ("latents_std", "numbers above 0, from 1e-30 to 1e30, scaling_factor over them too", "\(value)")
    }
    guard shiftFactor == 0 else {
      return (
        "shift_factor", "null or 0 beside latents_mean and latents_std, as no convention says which comes first",
        "\(shiftFactor)"
      )
    }
    return nil
  }
}

/// What the latents of each channel are like, by which some autoencoders' are standardized.
public struct LatentStatistics: Equatable, Sendable {
  /// One number per latent channel.
  public var mean, std: [Double]

  public init(mean: [Double], std: [Double]) { (self.mean, self.std) = (mean, std) }
}

/// Latents of the diffusion model, z, and of the autoencoder, m: z = (m − offset) · factor in each channel, as diffusers'
/// pipelines of SD, SD3, FLUX.1 and SDXL do it:
///
///     scaling_factor alone           z = m · scaling_factor
///     shift_factor                   z = (m − shift_factor) · scaling_factor
///     latents_mean and latents_std   z = (m − mean_c) · scaling_factor / std_c
public struct LatentScaling: Equatable, Sendable {
  /// One number per latent channel.
  public let offsets, factors: [Double]

  /// Of an autoencoder's latents (N, C, h, w), in place.
  func apply(to elements: inout [Float], plane: Int) {
    for start in stride(from: 0, to: elements.count, by: plane) {
      let channel = start / plane % factors.count
      let (offset, factor) = (Float(offsets[channel]), Float(factors[channel]))
      for i in start..<start + plane { elements[i] = (elements[i] - offset) * factor }
    }
  }
}
