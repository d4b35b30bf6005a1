import DiTImaging
import DiffusionTransformers

/// `--preview`: the images at hand as they come, in a PNG that is written anew about once a second.
///
/// It shows x̂_*, what the network thinks the finished images are, and after the last step the samples. Pixels are shown as
/// they are. Latents of four channels go through a linear map to RGB that costs next to nothing: a few colours and the
/// composition are right, nothing is sharp, and an image is as small as its latent.
struct Preview {
  private let file: OutputFile
  private var last: ContinuousClock.Instant?
  /// Why the last picture could not be written: a run does not end for that.
  private(set) var problem: String?

  /// How long a picture stands at least.
  private static let interval = Duration.seconds(1)

  /// - Throws: ``Failure`` for another ending than .png, and channels that have no map.
  init(_ path: String, for model: ModelConfiguration) throws(Failure) {
    file = try OutputFile(path, .png, option: "--preview")
    guard [1, 3, LatentColours.channels].contains(model.network.inChannels) else {
      throw .usage(
        "--preview", expected: "a model of 1, 3 or \(LatentColours.channels) channels",
        found: "one of \(model.network.inChannels)")
    }
    try file.checkWritable()
  }

  /// Whether a step is shown: the first, the last, and those in between when a second has passed.
  private func isDue(_ progress: SamplingProgress, _ now: ContinuousClock.Instant) -> Bool {
    progress.step == progress.steps || last.map { now - $0 >= Self.interval } ?? true
  }

  /// Takes note of a step.
  mutating func show(_ progress: SamplingProgress, now: ContinuousClock.Instant = .now) {
    guard isDue(progress, now) else { return }
    last = now
    let images = progress.step == progress.steps ? progress.x : progress.estimate ?? progress.x
    let picture = Self.picture(images)
    do throws(Failure) {
      try file.saving {
        try picture.writePNG(
          to: file.path,
          text: [(key: "Software", value: "dit"), (key: "Step", value: "\(progress.step) of \(progress.steps)")])
      }
    } catch {
      problem = error.description
    }
  }

  /// (N, C, H, W) as a grid.
  private static func picture(_ images: Tensor) -> Image {
    let (count, channels) = (images.shape[0], images.shape[1])
    let (height, width) = (images.shape[2], images.shape[3])
    let size = channels * height * width
    let pictures = (0..<count).map { n in
      let planes = images.elements.span.extracting(n * size..<(n + 1) * size)
      guard channels == LatentColours.channels else {
        return Image(planes: planes, channels: channels, height: height, width: width)
      }
      return Image(
        planes: LatentColours.planes(planes, area: height * width), channels: 3, height: height, width: width)
    }
    return ImageGrid(pictures, columns: ImageGrid.compactColumns(for: count)).rendered()
  }
}

/// Colours of a latent of the AutoencoderKL that DiT and Stable Diffusion 1 share, scaled by its 0.18215, without decoding
/// it: RGB in [−1, 1] as a linear map of the four channels at each place.
///
/// The coefficients are those in wide use for that autoencoder's previews (ComfyUI's `latent_formats.SD15`), a fit of
/// downscaled pictures to their latents.
enum LatentColours {
  static let channels = 4
  /// For each channel what it adds to red, green and blue.
  static let factors: [[Float]] = [
    [0.3512, 0.2297, 0.3227],
    [0.3250, 0.4974, 0.2350],
    [-0.2829, 0.1762, 0.2721],
    [-0.2120, -0.2616, -0.7177],
  ]

  /// (4, H, W) → (3, H, W).
  static func planes(_ latent: Span<Float>, area: Int) -> [Float] {
    var planes = [Float](repeating: 0, count: 3 * area)
    for channel in 0..<channels {
      for colour in 0..<3 {
        let factor = factors[channel][colour]
        for at in 0..<area { planes[colour * area + at] += factor * latent[channel * area + at] }
      }
    }
    return planes
  }
}
