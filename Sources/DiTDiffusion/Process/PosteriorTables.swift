// The Gaussian chain x_0 → x_1 → … in numbers, for all T training steps or for the S kept ones.
//
// Letters: i the index of a step, 0 the least noisy; ᾱ_{−1} = 1; β_i = 1 − ᾱ_i/ᾱ_{i−1}. Everything in Double.

import Foundation

/// Tables of q(x_{i−1} | x_i, x_*) = N(c₁ x_* + c₂ x_i, β̃_i), one entry a step (Ho et al. 2020, eqs. 6 and 7).
public struct PosteriorTables: Equatable, Sendable {
  public let betas: [Double]
  /// ᾱ_i = Π_{s≤i} (1−β_s), decreasing.
  public let alphasCumprod: [Double]
  /// ᾱ_{i−1}, starting with 1, or the level that a step goes to where that is another.
  public let alphasCumprodPrevious: [Double]
  /// β̃_i = β_i (1−ᾱ_{i−1})/(1−ᾱ_i); 0 at i = 0.
  public let posteriorVariance: [Double]
  /// log β̃_i, with β̃_1 in place of the vanishing β̃_0 (β_0 where there is only one step).
  public let posteriorLogVariance: [Double]
  /// The `fixed_large` log variance: log β_i, with β̃_1 at i = 0 as the reference does.
  public let fixedLargeLogVariance: [Double]
  /// c₁ = β_i √ᾱ_{i−1}/(1−ᾱ_i), what multiplies x_*.
  public let posteriorCleanCoefficient: [Double]
  /// c₂ = √(1−β_i) (1−ᾱ_{i−1})/(1−ᾱ_i), what multiplies x_i.
  public let posteriorNoisedCoefficient: [Double]

  /// The tables of a chain with these ᾱ, decreasing inside (0, 1).
  ///
  /// - Parameters:
  ///   - previous: the ᾱ that each step goes to, where that is not the step below.
  ///   - betas: the β_i where they are known more exactly than 1 − ᾱ_i/ᾱ_{i−1}.
  init(alphasCumprod: [Double], previous: [Double]? = nil, betas: [Double]? = nil) {
    let count = alphasCumprod.count
    precondition(count > 0, "a chain has at least one step")
    let previous: [Double] = previous ?? [1] + Array(alphasCumprod.dropLast())
    precondition(previous.count == count, "\(previous.count) levels to go to from \(count) steps")
    let betas = betas ?? (0..<count).map { 1 - alphasCumprod[$0] / previous[$0] }
    precondition(betas.count == count, "\(betas.count) betas for \(count) steps")

    let variance = (0..<count).map { i in betas[i] * (1 - previous[i]) / (1 - alphasCumprod[i]) }
    let first = log(count > 1 ? variance[1] : betas[0])

    self.betas = betas
    self.alphasCumprod = alphasCumprod
    alphasCumprodPrevious = previous
    posteriorVariance = variance
    posteriorLogVariance = [first] + variance.dropFirst().map { log($0) }
    fixedLargeLogVariance = [first] + betas.dropFirst().map { log($0) }
    posteriorCleanCoefficient = (0..<count).map { i in
      betas[i] * previous[i].squareRoot() / (1 - alphasCumprod[i])
    }
    posteriorNoisedCoefficient = (0..<count).map { i in
      let ratio: Double = alphasCumprod[i] / previous[i]
      return ratio.squareRoot() * (1 - previous[i]) / (1 - alphasCumprod[i])
    }
  }

  /// The number of steps.
  public var count: Int { betas.count }

  /// The mean of p_θ(x_{i−1} | x_i) as a·x_i − b·ε̂: a = 1/√(1−β_i), b = β_i/(√(1−ᾱ_i) √(1−β_i)) (Ho et al., eq. 11).
  ///
  /// Equal to c₁ x̂_* + c₂ x_i with x̂_* = (x_i − √(1−ᾱ_i) ε̂)/√ᾱ_i, not clipped.
  func meanCoefficients(_ index: Int) -> (noised: Double, epsilon: Double) {
    let noised = (alphasCumprodPrevious[index] / alphasCumprod[index]).squareRoot()
    return (noised, noised * betas[index] / (1 - alphasCumprod[index]).squareRoot())
  }

  /// The ends of the `learned_range` interpolation: log β̃_i (f = 0) and log β_i (f = 1).
  func logVarianceRange(_ index: Int) -> (low: Double, high: Double) {
    (posteriorLogVariance[index], log(betas[index]))
  }
}
