import DiTTensor
import Foundation

/// What an encoder says of images' latents: independent Gaussians.
public struct LatentDistribution: Equatable, Sendable {
  /// (N, C, h, w), not scaled.
  public let mean: Tensor
  /// Of the variance, natural; clamped to [−30, 20]; (N, C, h, w).
  public let logvar: Tensor
  public let scaling: LatentScaling

  /// - Parameter moments: mean ‖ logvar, (N, 2C, h, w).
  init(_ moments: Tensor, scaling: LatentScaling) {
    let s = moments.shape
    let half = s[1] / 2 * s[2] * s[3]
    var (mean, logvar): ([Float], [Float]) = ([], [])
    mean.reserveCapacity(s[0] * half)
    logvar.reserveCapacity(s[0] * half)
    for n in 0..<s[0] {
      mean += moments.elements[2 * n * half..<(2 * n + 1) * half]
      logvar += moments.elements[(2 * n + 1) * half..<(2 * n + 2) * half].map { min(20, max(-30, $0)) }
    }
    let shape = [s[0], s[1] / 2, s[2], s[3]]
    self.mean = Tensor(shape: shape, elements: mean)
    self.logvar = Tensor(shape: shape, elements: logvar)
    self.scaling = scaling
  }

  /// The mean, scaled: what the diffusion model is trained on.
  public var latents: Tensor { scaled(mean.elements) }

  private func scaled(_ elements: [Float]) -> Tensor {
    var elements = elements
    scaling.apply(to: &elements, plane: mean.shape[2] * mean.shape[3])
    return Tensor(shape: mean.shape, elements: elements)
  }

  /// Draws, mean + e^(logvar/2) ε, scaled.
  ///
  /// - Parameters:
  ///   - seed: image `first + n`'s ε is stream `first + n` of Philox under it.
  ///   - first: the number of the first image.
  public func draw(seed: UInt64, first: Int = 0) -> Tensor {
    let size = mean.shape.dropFirst().reduce(1, *)
    var elements = mean.elements
    for n in 0..<mean.shape[0] {
      var random = Philox(seed: seed, stream: UInt64(first + n))
      let noise = random.normal(count: size)
      for i in 0..<size {
        let at = n * size + i
        elements[at] += exp(0.5 * logvar.elements[at]) * noise[i]
      }
    }
    return scaled(elements)
  }
}
