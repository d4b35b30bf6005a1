// The likelihood of 8-bit data under a Gaussian, for the last step of the chain (Ho et al. 2020, eq. 13, with the tanh
// approximation of the normal's distribution function that the published training code uses).

import Foundation

/// −log of the probability that N(μ, σ²) gives the bin x ± 1/255, and its derivative by log σ².
///
/// Bins of x < −0.999 reach to −∞, those of x > 0.999 to +∞. Probabilities are floored at 1e-12, where the slope is 0.
/// - Parameters:
///   - value: x, 8-bit data scaled to [−1, 1].
///   - deviation: x − μ.
///   - logVariance: log σ².
/// - Returns: nats.
func discretizedGaussian(
  value: Float, deviation: Double, logVariance: Double
) -> (negativeLogLikelihood: Double, slope: Double) {
  let inverse = exp(-0.5 * logVariance)
  let upper = value > 0.999 ? Double.infinity : inverse * (deviation + 1 / 255)
  let lower = value < -0.999 ? -Double.infinity : inverse * (deviation - 1 / 255)

  // Both ends on the same side of 0 are taken on the left, where small probabilities keep their digits.
  let mirrored = lower > 0
  let probability =
    mirrored ? cumulative(-lower) - cumulative(-upper) : cumulative(upper) - cumulative(lower)
  guard probability >= 1e-12 else { return (-log(1e-12), 0) }

  // d bound/d log σ² = −bound/2, hence d probability = −½ (upper·φ(upper) − lower·φ(lower)).
  let change = -0.5 * (weightedDensity(upper) - weightedDensity(lower))
  return (-log(probability), -change / probability)
}

/// ½(1 + tanh u), u = √(2/π)(z + 0.044715 z³), written as 1/(1 + e^{−2u}).
private func cumulative(_ z: Double) -> Double {
  1 / (1 + exp(-2 * tanhArgument(z)))
}

/// z times the derivative of `cumulative`; 0 at ±∞.
private func weightedDensity(_ z: Double) -> Double {
  let tail = 1 / (1 + exp(2 * abs(tanhArgument(z))))
  guard tail > 0 else { return 0 }
  return z * 2 * tail * (1 - tail) * (2 / .pi).squareRoot() * (1 + 3 * 0.044715 * z * z)
}

private func tanhArgument(_ z: Double) -> Double {
  (2 / .pi).squareRoot() * (z + 0.044715 * z * z * z)
}
