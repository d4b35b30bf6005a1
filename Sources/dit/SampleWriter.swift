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

  /// Writes `samples` (N, C, H, W) and their labels, none for an unconditional model.
  ///
  /// - `.safetensors`: `samples` as they are, `images` clipped to [−1, 1] where samples are pixels or can be decoded,
  ///   `labels`.
  /// - `.npz`: `arr_0`, (N, H, W, C) uint8.
  /// - `.png`: a labelled grid.
  func write(_ samples: Tensor, labels: [Int], to file: OutputFile) throws(Failure) {
    let images = try pixels(samples)
    switch file.format {
    case .safetensors: try file.write(tensors(samples, images, labels), metadata: settings.metadata)
    case .npz:
      guard let images else { preconditionFailure("samples that are no pictures") }
      let shape = [images.shape[0], images.shape[2], images.shape[3], images.shape[1]]
      let pixels = pictures(images).flatMap(\.pixels)
      try file.saving { try NPZFile.write([NPZFile.Array("arr_0", shape: shape, bytes: pixels)], to: file.path) }
    case .png:
      guard let images else { preconditionFailure("samples that are no pictures") }
      let picture = picture(images, labels: labels)
      try file.saving { try picture.writePNG(to: file.path, text: settings.text) }
    case .json: preconditionFailure("samples are not written as JSON")
    }
  }

  /// The labelled grid of images that are pixels.
  func picture(_ images: Tensor, labels: [Int]) -> Image { grid(pictures(images), labels).rendered() }

  /// What stands beside each image: its class's name or number.
  func names(_ labels: some Collection<Int>) -> [String] {
    labels.map { $0 == model.network.numClasses ? "null" : model.className($0) ?? "\($0)" }
  }

  /// The pixels of samples, not clipped; nil for latents that cannot be decoded.
  private func pixels(_ samples: Tensor) throws(Failure) -> Tensor? {
    guard let autoencoder else { return Self.isPicture(model) ? samples : nil }
    var bar = ProgressBar("decoding", unit: "images", total: samples.shape[0])
    defer { bar.clear() }
    do throws(AutoencoderInputError) {
      return try autoencoder.decode(samples) { done in
        bar.update(done)
        return true
      }
    } catch {
      throw Failure(.failure, "\(error)")
    }
  }

  private func tensors(_ samples: Tensor, _ images: Tensor?, _ labels: [Int]) -> [TensorSource] {
    var tensors = [TensorSource("samples", samples)]
    if let images { tensors.append(TensorSource("images", DecodedImages(images).clipped)) }
    if !labels.isEmpty { tensors.append(TensorSource("labels", labels)) }
    return tensors
  }

  private func pictures(_ images: Tensor) -> [Image] {
    let size = images.shape.dropFirst().reduce(1, *)
    let elements = images.elements.span
    return (0..<images.shape[0]).map {
      Image(
        planes: elements.extracting($0 * size..<($0 + 1) * size), channels: images.shape[1], height: images.shape[2],
        width: images.shape[3])
    }
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
