/// Colors of a latent of the AutoencoderKL that DiT and Stable Diffusion 1 share, scaled by its 0.18215, without decoding
/// it: RGB in [−1, 1] as a linear map of the four channels at each place.
///
/// The coefficients are those in wide use for that autoencoder's previews (ComfyUI's `latent_formats.SD15`), a fit of
/// downscaled pictures to their latents.
public enum LatentColors {
  /// C.
  public static let channels = 4
  /// For each channel the factors of red, green and blue.
  public static let factors: [[Float]] = [
    [0.3512, 0.2297, 0.3227],
    [0.3250, 0.4974, 0.2350],
    [-0.2829, 0.1762, 0.2721],
    [-0.2120, -0.2616, -0.7177],
  ]

  /// (4, H, W) → (3, H, W), in [−1, 1] or a little beyond.
  ///
  /// - Parameters:
  ///   - latent: (4, H, W).
  ///   - area: H·W.
  public static func planes(_ latent: Span<Float>, area: Int) -> [Float] {
    var planes = [Float](repeating: 0, count: 3 * area)
    for channel in 0..<channels {
      for color in 0..<3 {
        let factor = factors[channel][color]
        for at in 0..<area { planes[color * area + at] += factor * latent[channel * area + at] }
      }
    }
    return planes
  }
}
