// Ancestral sampling (Ho et al. 2020, algorithm 2) on respaced steps.
//
// - x_{i−1} = a x_i − b ε̂ + σ_i z, coefficients of the respaced β' in Double, each element rounded once
// - x̂_* is not clipped
// - no noise at the last kept step (index 0), whatever its training index

import Foundation

/// DDPM: the respaced ancestral sampler.
public struct DDPMSampler: ReverseProcess, Equatable {
  public let schedule: RespacedSchedule

  public init(_ schedule: RespacedSchedule) { self.schedule = schedule }

  public var timesteps: [Int] { schedule.timesteps }
  public var variance: Variance { schedule.variance }

  public func needsNoise(at index: Int) -> Bool { index > 0 }

  public func step(
    _ index: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>
  ) {
    check(index, x.count, shape, output.count, noise.count)
    let (ofNoised, ofEpsilon) = schedule.tables.meanCoefficients(index)
    let deviation = exp(0.5 * fixedLogVariance(index))
    let (low, high) = schedule.tables.logVarianceRange(index)
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    let learned = variance == .learnedRange
    for n in 0..<shape.samples {
      for i in 0..<size {
        let at = n * size + i
        var value = ofNoised * Double(x[at]) - ofEpsilon * Double(output[n * stride + i])
        if index > 0 {
          var sigma = deviation
          if learned {
            let fraction = (Double(output[n * stride + size + i]) + 1) / 2
            sigma = exp(0.5 * (fraction * high + (1 - fraction) * low))
          }
          value += sigma * Double(noise[at])
        }
        x[at] = Float(value)
      }
    }
  }

  /// log σ² where it is the same for all elements; `learned_range` replaces it.
  private func fixedLogVariance(_ index: Int) -> Double {
    let tables = schedule.tables
    return variance == .fixedLarge ? tables.fixedLargeLogVariance[index] : tables.posteriorLogVariance[index]
  }
}
