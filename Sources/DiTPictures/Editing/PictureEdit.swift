import DiTAutoencoder
import DiTImaging
import DiTPipeline
import DiTTensor

/// A picture that is edited: image to image, and inpainting where it has a mask.
///
///     let edit = try PictureEdit("room.jpg", mask: "sofa.png", for: model, autoencoder: autoencoder)
///     let samples = try model.sample(.classes([831]), start: edit.start(strength: 0.8), inpainting: edit.inpainting)
///     let pictures = try edit.pictures(of: samples)
///
/// PNG, JPEG and WebP are fitted to the size of the model's pictures as training data are: the middle is cut out, and made
/// smaller or larger.
public struct PictureEdit: Sendable {
  /// (1, C, H, W), pixels in [−1, 1].
  public let pixels: Tensor
  /// (1, 1, H, W) of them: 1 is painted, 0 is kept; nil where all is painted.
  public let mask: Tensor?
  /// What the sampler starts from, (1, C, h, w): the pixels, or the mean of their latents.
  public let image: Tensor
  /// (1, 1, h, w): the most of the mask that a latent's pixels have.
  private let samplerMask: Tensor?
  private let autoencoder: Autoencoder?

  /// Reads a picture, and a mask in which white is painted, black is kept and gray is mixed.
  ///
  /// - Parameters:
  ///   - path: the picture's file.
  ///   - maskPath: the mask's file; nil: all is painted.
  ///   - feather: the width in pixels of the model of a soft edge inside the mask, at least 0.
  ///   - limits: what a file may claim before it is decoded.
  ///   - model: whose input the picture is fitted to.
  ///   - autoencoder: the model's, where samples are latents.
  /// - Throws: `DiTError` that names the file, or `image`, `mask`, `feather`, also for a mask of another size
  ///   than the picture's and one that has nothing to paint; what encoding throws.
  public init(
    _ path: String, mask maskPath: String? = nil, feather: Int = 0, limits: ImageLimits = ImageLimits(), for model: DiT,
    autoencoder: Autoencoder? = nil
  ) throws {
    let network = model.configuration.network
    let channels = autoencoder?.configuration.imageChannels ?? network.inChannels
    guard channels == 1 || channels == 3 else {
      throw DiTError(
        argument: "image", expected: "a model of pictures, or an autoencoder for its latents",
        found: "samples of \(network.inChannels) channels")
    }
    guard 0...1024 ~= feather else {
      throw DiTError(option: "feather", expected: "0…1024 pixels", found: "\(feather)")
    }
    let factor = autoencoder?.configuration.factor ?? 1
    let size = (width: network.inputWidth * factor, height: network.inputHeight * factor)
    let picture = try Image(contentsOf: path, limits: limits, fittedTo: size)
    var mask: Tensor?
    if let maskPath {
      let (own, other) = (
        try ImageHeader(ofFile: path, limits: limits), try ImageHeader(ofFile: maskPath, limits: limits)
      )
      guard own.width == other.width, own.height == other.height else {
        throw DiTError(
          argument: "mask", expected: "\(own.width)×\(own.height) pixels, as the image has",
          found: "\(other.width)×\(other.height) in \(maskPath)")
      }
      let gray = try Image(contentsOf: maskPath, limits: limits, fittedTo: size).converted(toChannels: 1)
      guard gray.pixels.contains(where: { $0 > 0 }) else {
        throw DiTError(
          argument: "mask", expected: "a part of the fitted picture that is not black, to be painted",
          found: "none in \(maskPath)")
      }
      mask = Tensor(shape: [1, 1, size.height, size.width], elements: gray.pixels.map { Float($0) / 255 })
    }
    let converted = picture.converted(toChannels: channels)
    let area = size.width * size.height
    let planes = (0..<channels * area).map { i in
      Float(converted.pixels[i % area * channels + i / area]) / 127.5 - 1
    }
    try self.init(
      pixels: Tensor(shape: [1, channels, size.height, size.width], elements: planes),
      mask: mask?.feathered(by: feather), autoencoder: autoencoder)
  }

  /// - Parameters:
  ///   - pixels: (1, C, H, W) in [−1, 1].
  ///   - mask: (1, 1, H, W), 0…1.
  ///   - autoencoder: where samples are latents.
  /// - Precondition: both are of one size.
  /// - Throws: what encoding throws.
  public init(pixels: Tensor, mask: Tensor?, autoencoder: Autoencoder? = nil) throws {
    precondition(
      mask.map { $0.shape == [1, 1] + pixels.shape.dropFirst(2) } ?? true,
      "a mask \(mask?.shape ?? []) for an image \(pixels.shape)")
    self.pixels = pixels
    self.mask = mask
    self.autoencoder = autoencoder
    let factor = autoencoder?.configuration.factor ?? 1
    image = try autoencoder.map { try $0.encode(pixels).latents } ?? pixels
    samplerMask = autoencoder == nil ? mask : mask?.painted(inSquares: factor)
  }

  /// What sampling starts from; the more strength, 0…1, the less of the picture is left.
  public func start(strength: Double, noise: Tensor? = nil) -> Start { .image(image, strength: strength, noise: noise) }

  /// Nil without a mask.
  public var inpainting: Inpainting? { samplerMask.map { Inpainting(image: image, mask: $0) } }

  /// The pictures of samples: latents are decoded, and what the mask keeps is put back to the pixel.
  ///
  /// - Throws: what decoding throws.
  public func pictures(of samples: Samples) throws -> [Image] {
    var images = ImageCollection(as: .pictures, keeping: self)
    if let autoencoder {
      try images.decode(samples.images, with: autoencoder)
    } else {
      images.append(samples.images)
    }
    return images.pictures
  }

  /// Puts back what the mask keeps, into pixels (N, C, H, W) in [−1, 1]: to the bit where it is 0; where samples are latents it also
  /// mixes, which the sampler of pixels has done.
  ///
  /// - Precondition: they have the picture's size.
  public func restore(_ pictures: inout Tensor) {
    guard let mask else { return }
    precondition(pictures.shape.dropFirst() == pixels.shape.dropFirst(), "\(pictures.shape) for \(pixels.shape)")
    let (size, area) = (pixels.count, mask.count)
    for i in pictures.elements.indices {
      let painted = mask.elements[i % size % area]
      if painted == 1 || (painted > 0 && autoencoder == nil) { continue }
      let kept = pixels.elements[i % size]
      let made = min(1, max(-1, pictures.elements[i]))
      pictures.elements[i] = painted == 0 ? kept : painted * made + (1 - painted) * kept
    }
  }
}

extension Tensor {
  /// A mask (1, 1, H, W) that falls to 0 over so many pixels inside its edge, by the distance to the nearest pixel that is 0.
  fileprivate func feathered(by width: Int) -> Tensor {
    guard width > 0 else { return self }
    let (rows, columns) = (shape[2], shape[3])
    // Per column the rows to the nearest 0, and then over the columns nearby.
    let far = width + 1
    var vertical = [Int](repeating: far, count: count)
    for x in 0..<columns {
      for order in [Array(0..<rows), (0..<rows).reversed()] {
        var distance = far
        for y in order {
          distance = elements[y * columns + x] == 0 ? 0 : min(far, distance + 1)
          vertical[y * columns + x] = min(vertical[y * columns + x], distance)
        }
      }
    }
    var result = self
    for y in 0..<rows {
      for x in 0..<columns where elements[y * columns + x] > 0 {
        var nearest = far * far
        for other in max(0, x - width)...min(columns - 1, x + width) {
          let (across, along) = (other - x, vertical[y * columns + other])
          nearest = min(nearest, across * across + along * along)
        }
        result.elements[y * columns + x] *= min(1, Float(nearest).squareRoot() / Float(far))
      }
    }
    return result
  }

  /// For each square of (1, 1, H, W) whether an element is above 0.
  fileprivate func painted(inSquares side: Int) -> Tensor {
    let (rows, columns) = (shape[2] / side, shape[3] / side)
    var result = Tensor(zeros: [1, 1, rows, columns])
    for y in 0..<rows * side {
      for x in 0..<columns * side {
        if elements[y * shape[3] + x] > 0 { result.elements[y / side * columns + x / side] = 1 }
      }
    }
    return result
  }
}
