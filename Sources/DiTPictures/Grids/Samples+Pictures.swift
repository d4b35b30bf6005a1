import DiTImaging
import DiTPipeline
import DiTTensor
import Foundation

// A run's images as pictures. Samples that are latents are decoded first: `Autoencoder.decode`, or ``PictureEdit``.

extension Sample {
  /// The picture of an image that is pixels in [−1, 1], clipped beyond.
  ///
  /// - Precondition: C is 1 or 3, and all elements are finite.
  public var picture: Image {
    Image(planes: image.elements, channels: image.shape[0], height: image.shape[1], width: image.shape[2])
  }

  /// Writes the picture.
  ///
  /// - Throws: `DiTError` that names the file.
  public func writePNG(to path: String) throws(DiTError) { try picture.writePNG(to: path) }

  /// The same, to a file's URL.
  public func writePNG(to url: URL) throws(DiTError) { try writePNG(to: url.path(percentEncoded: false)) }
}

extension Samples {
  /// One picture per image.
  ///
  /// - Precondition: as ``Sample/picture``.
  public var pictures: [Image] { Image.pictures(of: images) }

  /// Writes a grid of all images, enlarged where they are small, with the classes' names beside them.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - model: whose classes they are.
  /// - Precondition: as ``Sample/picture``; there is an image.
  /// - Throws: `DiTError` that names the file.
  public func writePNG(to path: String, for model: DiT) throws(DiTError) {
    try SampleGrid(model.configuration).picture(images, labels: labels).writePNG(to: path)
  }

  /// The same, to a file's URL.
  public func writePNG(to url: URL, for model: DiT) throws(DiTError) {
    try writePNG(to: url.path(percentEncoded: false), for: model)
  }
}
