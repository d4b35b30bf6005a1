import DiTImaging
import DiTPipeline
import DiTTensor

/// The labeled grid of a model's samples: beside each class its name or number.
///
///     let samples = try model.sample(.classes([2, 2, 7, 7]))
///     try SampleGrid(model.configuration, countPerClass: 2).picture(samples.images, labels: samples.labels)
///       .writePNG(to: "grid.png")
public struct SampleGrid: Sendable {
  private let model: ModelConfiguration
  private let countPerClass: Int

  /// Images in a row of an incomplete grid.
  private static let maximumColumns = 20

  /// - Parameters:
  ///   - model: whose classes label the rows.
  ///   - countPerClass: so many successive images are of one class.
  public init(_ model: ModelConfiguration, countPerClass: Int = 1) {
    precondition(countPerClass >= 1, "\(countPerClass) images per class")
    self.model = model
    self.countPerClass = countPerClass
  }

  /// What stands beside a class's images: its name, its number where it has none, or `null` for the null class.
  public func names(_ labels: some Collection<Int>) -> [String] {
    labels.map { $0 == model.network.numClasses ? "null" : model.className($0) ?? "\($0)" }
  }

  /// The grid of images (N, C, H, W) that are pixels in [−1, 1].
  ///
  /// - Parameters:
  ///   - images: (N, C, H, W).
  ///   - labels: one per image, in class-major order; none for an unconditional model.
  /// - Precondition: C is 1 or 3, and N ≥ 1.
  public func picture(_ images: Tensor, labels: [Int]) -> Image { picture(Image.pictures(of: images), labels: labels) }

  /// The grid of pictures, as ``picture(_:labels:)-(Tensor,_)``. The last class may have fewer.
  public func picture(_ pictures: [Image], labels: [Int]) -> Image {
    grid(pictures, labels).rendered()
  }

  private func grid(_ pictures: [Image], _ labels: [Int]) -> ImageGrid {
    if labels.isEmpty { return ImageGrid(pictures, columns: ImageGrid.compactColumns(for: pictures.count)) }
    let firsts = stride(from: 0, to: labels.count, by: countPerClass).map { labels[$0] }
    if labels.count % countPerClass == 0 { return ImageGrid(pictures, classNames: names(firsts)) }
    return ImageGrid(
      pictures, columns: min(countPerClass, Self.maximumColumns), group: countPerClass, rowLabels: names(firsts))
  }
}

extension ModelConfiguration {
  /// Whether the model's samples are pixels that a picture can show: one or three channels. Others are latents.
  public var samplesArePixels: Bool { [1, 3].contains(network.inChannels) }
}
