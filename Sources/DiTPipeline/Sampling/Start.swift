import DiTDiffusion
import DiTModel
import DiTTensor

/// What sampling starts from.
public enum Start: Equatable, Sendable {
  /// Noise that is drawn from the seed.
  case noise
  /// Given N(0, 1) noise, (N, C, H, W). Later noise is the same as after noise that is drawn.
  case given(Tensor)
  /// Image to image (SDEdit, Meng et al. 2022): images, noised as far as the last ⌊S · strength⌋ of S steps ask for, which are
  /// then taken, as diffusers counts them.
  ///
  /// - images: (N, C, H, W), or (1, C, H, W) for all; as the sampler leaves them, so latents where samples are latents.
  /// - strength: 0…1. At 1 nothing of the images is left: the samples are those of ``noise``. Where no step is taken they are the
  ///   images as they are given.
  /// - noise: N(0, 1), (N, C, H, W); nil draws it from the seed.
  case image(Tensor, strength: Double, noise: Tensor? = nil)

  /// Given noise, or noise that is drawn.
  package init(noise: Tensor?) { self = noise.map { .given($0) } ?? .noise }

  /// How many of the last of S steps are taken.
  func taken(of steps: Int) -> Int {
    guard case .image(_, let strength, _) = self else { return steps }
    guard strength > 0 else { return 0 }  // NaN too
    return min(Int(Double(steps) * min(strength, 1)), steps)
  }

  /// The noise that is not drawn.
  var givenNoise: Tensor? {
    switch self {
    case .noise: nil
    case .given(let noise): noise
    case .image(_, _, let noise): noise
    }
  }

  /// - Throws: `DiTError` (`noise`, `image`, `strength`).
  func check(_ network: DiTConfiguration, count: Int) throws(DiTError) {
    if let noise = givenNoise {
      guard noise.shape == network.imageShape(count) else {
        throw DiTError(argument: "noise", expected: "shape \(network.imageShape(count))", found: "\(noise.shape)")
      }
      try noise.checkFinite("noise")
    }
    guard case .image(let images, let strength, _) = self else { return }
    try network.checkEach(images, "image", count: count)
    guard 0...1 ~= strength else { throw DiTError(option: "strength", expected: "0…1", found: "\(strength)") }
  }
}

/// Inpainting: a part of each image is given, and the rest is painted to it.
///
/// After each step the given part is what it is at that level of noise, with the noise that the image started from; at the end it
/// is exactly as it was given.
public struct Inpainting: Equatable, Sendable {
  /// (N, C, H, W), or (1, C, H, W) for all; as the sampler leaves them, so latents where samples are latents.
  public var image: Tensor
  /// (N, 1, H, W), or (1, 1, H, W) for all: 1 is painted, 0 is kept, and between them both are mixed.
  public var mask: Tensor

  public init(image: Tensor, mask: Tensor) { (self.image, self.mask) = (image, mask) }

  /// - Throws: `DiTError` (`image`, `mask`).
  func check(_ network: DiTConfiguration, count: Int) throws(DiTError) {
    try network.checkEach(image, "image", count: count)
    let size = [1, network.inputHeight, network.inputWidth]
    guard mask.shape.count == 4, [1, count].contains(mask.shape[0]), Array(mask.shape.dropFirst()) == size else {
      throw DiTError(
        argument: "mask", expected: "shape \([count] + size)" + (count > 1 ? " or \([1] + size)" : ""),
        found: "\(mask.shape)")
    }
    for value in mask.elements where !(0...1 ~= value) {
      throw DiTError(argument: "mask", expected: "numbers in 0…1", found: "\(value)")
    }
  }
}

extension Tensor {
  /// (N, …) of N copies of (1, …).
  func repeated(_ count: Int) -> Tensor {
    Tensor(
      shape: [count] + shape.dropFirst(), elements: Array(repeatElement(elements, count: count).joined()))
  }
}

extension DiTConfiguration {
  /// Throws unless there is a finite image for each of `count`, or one for all.
  fileprivate func checkEach(_ images: Tensor, _ name: String, count: Int) throws(DiTError) {
    guard [imageShape(count), imageShape(1)].contains(images.shape) else {
      throw DiTError(
        argument: name, expected: "shape \(imageShape(count))" + (count > 1 ? " or \(imageShape(1))" : ""),
        found: "\(images.shape)")
    }
    try images.checkFinite(name)
  }
}

/// The part of a run's images that is given, at every level of noise.
struct KnownPart {
  private let image, mask: Tensor
  /// ε of all images, (N, C, H, W).
  private let noise: MutableFloatSlice
  /// Of x after each step.
  private let levels: [(signal: Double, spread: Double)]
  private let channels, area: Int

  /// - Parameters:
  ///   - count: N.
  ///   - process: the steps that are taken.
  init(_ inpainting: Inpainting, count: Int, process: any SamplingProcess) {
    (image, mask) = (inpainting.image, inpainting.mask)
    noise = MutableFloatSlice(zeros: count * image.shape.dropFirst().reduce(1, *))
    levels = (1..<process.stepCount).map { process.level(beforeStep: $0) } + [(1, 0)]
    (channels, area) = (image.shape[1], image.shape[2] * image.shape[3])
  }

  /// Keeps what the images from one on start from, N(0, 1).
  func keep(noise drawn: FloatSlice, of image: Int) {
    let first = image * channels * area
    noise[first..<first + drawn.count].copy(from: drawn.span)
  }

  /// Puts the given part of images into samples of which no step is taken.
  static func restore(_ samples: inout Tensor, _ inpainting: Inpainting) {
    let (size, area) = (samples.count / samples.shape[0], inpainting.mask.count / inpainting.mask.shape[0])
    for i in samples.elements.indices {
      let (n, at) = (i / size, i % size)
      let painted = Double(inpainting.mask.elements[(inpainting.mask.shape[0] == 1 ? 0 : n * area) + at % area])
      let kept = inpainting.image.elements[(inpainting.image.shape[0] == 1 ? 0 : n * size) + at]
      if painted == 1 { continue }
      samples.elements[i] =
        painted == 0 ? kept : Float(painted * Double(samples.elements[i]) + (1 - painted) * Double(kept))
    }
  }

  /// Puts the given part of these images into x, (n, C, H, W), after a step, 1…S.
  func restore(_ x: inout MutableSpan<Float>, _ images: Range<Int>, step: Int) {
    let (signal, spread) = levels[step - 1]
    let size = channels * area
    let (known, masks, noise) = (image.elements.span, mask.elements.span, noise.span)
    for (place, n) in images.enumerated() {
      let (from, over) = (image.shape[0] == 1 ? 0 : n * size, mask.shape[0] == 1 ? 0 : n * area)
      for i in 0..<size {
        let painted = Double(masks[over + i % area])
        if painted == 1 { continue }
        let at = place * size + i
        let kept = signal * Double(known[from + i]) + spread * Double(noise[n * size + i])
        x[at] = Float(painted == 0 ? kept : painted * Double(x[at]) + (1 - painted) * kept)
      }
    }
  }
}
