import DiTEngine
import DiTImaging
import DiTNumpy
import DiTPictures

/// Writes samples as the output's ending asks.
struct SampleWriter {
  let model: ModelConfiguration
  let settings: SampleSettings
  /// Which images are of one class, and what the classes are called.
  let grid: SampleGrid
  /// Decodes samples that are latents; nil where there is none.
  var autoencoder: Autoencoder?
  /// The picture that is edited.
  var edit: PictureEdit?

  /// Writes `samples` (N, C, H, W) and their labels, none for an unconditional model. Latents are decoded where that can be
  /// done; Ctrl-C meanwhile leaves out the images that are not decoded yet.
  ///
  /// - `.safetensors`: `samples` as they are, `images` clipped to [−1, 1] where samples are pixels or can be decoded,
  ///   `labels`.
  /// - `.npz`: `arr_0`, (N, H, W, C) uint8.
  /// - `.png`: a labeled grid.
  ///
  /// - Returns: how many images the file has.
  func write(_ samples: Tensor, labels: [Int], to file: OutputFile) throws(Failure) -> Int {
    let images = try images(samples, for: file.format)
    let count = images?.count ?? samples.shape[0]
    let labels = Array(labels.prefix(count))
    switch file.format {
    case .safetensors:
      var tensors = [TensorSource("samples", samples.prefix(count))]
      if let images { tensors.append(TensorSource("images", images.tensor)) }
      if !labels.isEmpty { tensors.append(TensorSource("labels", labels)) }
      try file.write(tensors, metadata: settings.metadata)
    case .npz:
      guard let images else { preconditionFailure("samples that are not pictures") }
      try images.writeNPZ(to: file)
    case .png:
      guard let images else { preconditionFailure("samples that are not pictures") }
      let picture = grid.picture(images.pictures, labels: labels)
      try file.saving { try picture.writePNG(to: file.path, text: settings.text) }
    case .json: preconditionFailure("samples are not written as JSON")
    }
    return count
  }

  /// The images of samples, which are pixels or are decoded; nil for latents that cannot be decoded.
  private func images(_ samples: Tensor, for format: OutputFile.Format) throws(Failure) -> ImageCollection? {
    let form = ImageCollection.Form(for: format)
    guard let autoencoder else {
      return model.samplesArePixels ? ImageCollection(samples, as: form, keeping: edit) : nil
    }
    var images = ImageCollection(as: form, keeping: edit)
    do {
      try images.decodeWithBar(samples, with: autoencoder)
    } catch {
      throw Failure(.failure, "\(error)")
    }
    return images
  }
}

extension ImageCollection {
  /// Decodes latents (N, C, h, w) with a progress bar, until Ctrl-C: images that are done then are kept. A request to stop
  /// from before this began is ignored.
  ///
  /// - Throws: `DiTError`.
  mutating func decodeWithBar(_ latents: Tensor, with autoencoder: Autoencoder) throws {
    var bar = ProgressBar("decoding", unit: "images", total: latents.shape.first ?? 0)
    defer { bar.clear() }
    let wasStopped = Interruption.isRequested
    try decode(latents, with: autoencoder) { done in
      bar.update(done)
      return wasStopped || !Interruption.isRequested
    }
  }

  /// Writes `arr_0`, (N, H, W, C) uint8.
  func writeNPZ(to file: OutputFile) throws(Failure) {
    let pixels = pictures.flatMap(\.pixels)
    let array = NPYArray(shape: [count, shape[1], shape[2], shape[0]], bytes: pixels)
    try file.saving { try NPZFile.write([("arr_0", array)], to: file.path) }
  }
}

extension ImageCollection.Form {
  /// What a file of that format needs.
  init(for format: OutputFile.Format) { self = format == .safetensors ? .floats : .pictures }
}
