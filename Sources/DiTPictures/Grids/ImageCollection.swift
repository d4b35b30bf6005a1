import DiTAutoencoder
import DiTImaging
import DiTTensor

/// Images gathered for a file: as numbers, or in 8 bits, which take a quarter of the memory.
public struct ImageCollection: Sendable {
  /// How the images are kept.
  public enum Form: Sendable {
    /// Floats clipped to [−1, 1]: ``ImageCollection/tensor``.
    case floats
    /// Bytes, [−1, 1] as 0…255: ``ImageCollection/pictures``.
    case pictures
  }

  /// (C, H, W); empty before the first image.
  public private(set) var shape: [Int] = []
  /// (N, C, H, W), of ``Form/floats``.
  private var elements: [Float] = []
  /// One per image, of ``Form/pictures``.
  public private(set) var pictures: [Image] = []
  /// N.
  public private(set) var count = 0
  private let form: Form
  private let edit: PictureEdit?

  /// No images yet.
  ///
  /// - Parameters:
  ///   - form: what is kept of an image.
  ///   - edit: what a mask keeps is put back into every image.
  public init(as form: Form, keeping edit: PictureEdit? = nil) { (self.form, self.edit) = (form, edit) }

  /// Images (N, C, H, W), as ``append(_:)`` takes them.
  public init(_ images: Tensor, as form: Form, keeping edit: PictureEdit? = nil) {
    self.init(as: form, keeping: edit)
    append(images)
  }

  /// Appends images (N, C, H, W), pixels in [−1, 1], clipped beyond.
  ///
  /// - Precondition: all images are of one shape and of finite numbers; of 1 or 3 channels for ``Form/pictures``.
  public mutating func append(_ images: Tensor) {
    let shape = Array(images.shape.dropFirst())
    precondition(count == 0 || shape == self.shape, "images of shape \(shape) to images of shape \(self.shape)")
    self.shape = shape
    count += images.shape[0]
    var images = images
    edit?.restore(&images)
    switch form {
    case .floats:
      precondition(images.elements.span.firstNotFinite == nil, "images: \(images.notFinite ?? "")")
      elements += images.elements.lazy.map { min(1, max(-1, $0)) }
    case .pictures: pictures += Image.pictures(of: images)
    }
  }

  /// The images as numbers, (N, C, H, W).
  ///
  /// - Precondition: they are kept as ``Form/floats``.
  public var tensor: Tensor { Tensor(shape: [count] + shape, elements: elements) }

  /// Decodes latents (N, C, h, w) a few at a time and appends their images.
  ///
  /// - Parameters:
  ///   - latents: (N, C, h, w).
  ///   - autoencoder: the model's.
  ///   - progress: called after each image with how many of these latents are decoded; false stops there, with the
  ///     images that are done appended.
  /// - Throws: `DiTError`.
  public mutating func decode(
    _ latents: Tensor, with autoencoder: Autoencoder, progress: (Int) -> Bool = { _ in true }
  ) throws {
    let total = latents.shape.first ?? 0
    var (done, goesOn) = (0, true)
    repeat {  // also without a latent, which the autoencoder refuses
      let part = total == 0 ? latents : latents.range(done..<min(done + Self.batch, total))
      let images: Tensor
      do {
        images = try autoencoder.decode(part) { finished in
          goesOn = progress(done + finished)
          return goesOn
        }
      } catch let error as DiTError {
        throw error.moved(by: done)
      }
      append(images)
      done += images.shape[0]
    } while done < total && goesOn
  }

  /// Latents decoded in one call: their images take little memory beside the decoder's.
  private static let batch = 8
}

extension Image {
  /// The images of a tensor (N, C, H, W), pixels in [−1, 1], clipped beyond.
  ///
  /// - Precondition: C is 1 or 3, and all elements are finite.
  public static func pictures(of images: Tensor) -> [Image] {
    let (channels, height, width) = (images.shape[1], images.shape[2], images.shape[3])
    let size = channels * height * width
    let elements = images.elements.span
    var pictures: [Image] = []
    for n in 0..<images.shape[0] {
      let planes = elements.extracting(n * size..<(n + 1) * size)
      pictures.append(Image(planes: planes, channels: channels, height: height, width: width))
    }
    return pictures
  }
}
