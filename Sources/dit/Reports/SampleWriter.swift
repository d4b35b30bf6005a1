import DiTImaging
import DiffusionTransformers

/// Writes samples as the output's ending asks.
struct SampleWriter {
  let model: ModelConfiguration
  let settings: SampleSettings
  /// So many successive images are of one class.
  let countPerClass: Int
  /// Makes pictures of samples that are latents; nil where there is none.
  var autoencoder: Autoencoder?

  /// Whether samples of this model are pixels: one or three channels.
  static func isPicture(_ model: ModelConfiguration) -> Bool { [1, 3].contains(model.network.inChannels) }

  /// Writes `samples` (N, C, H, W) and their labels, none for an unconditional model. Latents are decoded where that can be
  /// done; Ctrl-C meanwhile leaves out those that are not done then.
  ///
  /// - `.safetensors`: `samples` as they are, `images` clipped to [−1, 1] where samples are pixels or can be decoded,
  ///   `labels`.
  /// - `.npz`: `arr_0`, (N, H, W, C) uint8.
  /// - `.png`: a labelled grid.
  ///
  /// - Returns: how many images the file has.
  func write(_ samples: Tensor, labels: [Int], to file: OutputFile) throws(Failure) -> Int {
    let images = try images(samples, for: file.format)
    let count = images?.count ?? samples.shape[0]
    let labels = Array(labels.prefix(count))
    switch file.format {
    case .safetensors:
      var tensors = [TensorSource("samples", samples.prefix(count))]
      if let images { tensors.append(images.tensor) }
      if !labels.isEmpty { tensors.append(TensorSource("labels", labels)) }
      try file.write(tensors, metadata: settings.metadata)
    case .npz:
      guard let images else { preconditionFailure("samples that are no pictures") }
      try images.writeNPZ(to: file)
    case .png:
      guard let images else { preconditionFailure("samples that are no pictures") }
      let picture = grid(images.pictures, labels).rendered()
      try file.saving { try picture.writePNG(to: file.path, text: settings.text) }
    case .json: preconditionFailure("samples are not written as JSON")
    }
    return count
  }

  /// The labelled grid of images that are pixels.
  func picture(_ images: Tensor, labels: [Int]) -> Image {
    grid(ImageCollection(images, for: .png).pictures, labels).rendered()
  }

  /// What stands beside each image: its class's name or number.
  func names(_ labels: some Collection<Int>) -> [String] {
    labels.map { $0 == model.network.numClasses ? "null" : model.className($0) ?? "\($0)" }
  }

  /// The images that samples are or stand for; nil for latents that cannot be decoded.
  private func images(_ samples: Tensor, for format: OutputFile.Format) throws(Failure) -> ImageCollection? {
    guard let autoencoder else { return Self.isPicture(model) ? ImageCollection(samples, for: format) : nil }
    var images = ImageCollection(for: format)
    do {
      try autoencoder.decode(samples, into: &images)
    } catch {
      throw Failure(.failure, "\(error)")
    }
    return images
  }

  private func grid(_ pictures: [Image], _ labels: [Int]) -> ImageGrid {
    if labels.isEmpty { return ImageGrid(pictures, columns: ImageGrid.compactColumns(for: pictures.count)) }
    let firsts = stride(from: 0, to: labels.count, by: countPerClass).map { labels[$0] }
    if labels.count % countPerClass == 0 { return ImageGrid(pictures, classNames: names(firsts)) }
    // An interrupted run: the last class has fewer.
    return ImageGrid(
      pictures, columns: min(countPerClass, 20), group: countPerClass, rowLabels: names(firsts))
  }
}
