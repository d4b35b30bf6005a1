import DiTImaging
import DiTPipeline
import DiTTensor

/// The images of a sampling run as they come, in a PNG that is replaced about once a second.
///
/// It shows x̂_*, the clean images that the network predicts, and after the last step the samples. Pixels are shown as they
/// are. Latents of four channels go through ``LatentColors``, which cost next to nothing: a few colors and the
/// composition are right, nothing is sharp, and an image is as small as its latent.
public struct SamplingPreview: Sendable {
  /// The PNG file.
  public let path: String
  private let software: String
  private let interval: Duration
  private var last: ContinuousClock.Instant?
  /// Why the newest picture could not be written, one line; nil once one is. A run does not end for that.
  public private(set) var problem: String?

  /// - Parameters:
  ///   - path: the PNG file; nothing is written yet.
  ///   - model: whose samples are shown.
  ///   - software: the program's name, a text entry of the file.
  ///   - interval: the least time between two pictures, but for the first and the last.
  /// - Throws: `DiTError` (`preview`) for a model whose samples cannot be shown.
  public init(
    _ path: String, for model: ModelConfiguration, software: String, interval: Duration = .seconds(1)
  ) throws(DiTError) {
    let channels = model.network.inChannels
    guard model.samplesArePixels || channels == LatentColors.channels else {
      throw DiTError(
        argument: "preview", expected: "a model of 1, 3 or \(LatentColors.channels) channels",
        found: "one of \(channels)")
    }
    (self.path, self.software, self.interval) = (path, software, interval)
  }

  /// Writes the picture of a step when one is due: the first, the last, and those in between when the interval has passed.
  public mutating func show(_ progress: SamplingProgress, now: ContinuousClock.Instant = .now) {
    let isLast = progress.step == progress.steps
    guard isLast || last.map({ now - $0 >= interval }) ?? true else { return }
    last = now
    let images = isLast ? progress.x : progress.estimate ?? progress.x
    if let found = images.notFinite {  // of finite samples the estimate may overflow
      problem = "\(path): step \(progress.step) of \(progress.steps) not shown: \(found)"
      return
    }
    let picture = Self.picture(images)
    do throws(DiTError) {
      try picture.writePNG(
        to: path,
        text: [(key: "Software", value: software), (key: "Step", value: "\(progress.step) of \(progress.steps)")])
      problem = nil
    } catch {
      problem = error.description
    }
  }

  /// Images or latents (N, C, H, W) as a grid.
  ///
  /// - Precondition: C is 1, 3 or 4, and N ≥ 1.
  public static func picture(_ images: Tensor) -> Image {
    let pictures = images.shape[1] == LatentColors.channels ? latentPictures(images) : Image.pictures(of: images)
    return ImageGrid(pictures, columns: ImageGrid.compactColumns(for: pictures.count)).rendered()
  }

  private static func latentPictures(_ latents: Tensor) -> [Image] {
    let (height, width) = (latents.shape[2], latents.shape[3])
    let size = LatentColors.channels * height * width
    var pictures: [Image] = []
    for n in 0..<latents.shape[0] {
      let planes = latents.elements.span.extracting(n * size..<(n + 1) * size)
      pictures.append(
        Image(planes: LatentColors.planes(planes, area: height * width), channels: 3, height: height, width: width))
    }
    return pictures
  }
}
