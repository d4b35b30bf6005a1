// Ancestral sampling (Ho et al. 2020, algorithm 2) on respaced steps.
//
// - x_{i−1} = c₁ x̂_* + c₂ x_i + σ_i z, coefficients of the respaced β' in Double, each element rounded once
// - for ε̂ that is (x_i − β' ε̂/√(1−ᾱ))/√(1−β'), their algorithm
// - matches diffusers' DDPMScheduler on the same kept steps for epsilon, sample and v_prediction
// - x̂_* is not clipped
// - no noise at the last kept step (index 0), whatever its training index

import Foundation

/// DDPM: the respaced ancestral sampler.
public struct DDPMSampler: ReverseProcess, Equatable {
  public let schedule: RespacedSchedule
  public let evaluations: [NetworkTime]

  public init(_ schedule: RespacedSchedule) {
    self.schedule = schedule
    evaluations = schedule.evaluations
  }

  public var stepCount: Int { schedule.count }
  public var variance: Variance { schedule.variance }

  public func needsNoise(at evaluation: Int) -> Bool { evaluation < schedule.count - 1 }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let index = schedule.count - 1 - evaluation
    let (ofNoised, ofOutput) = mean(index)
    let deviation = exp(0.5 * fixedLogVariance(index))
    let (low, high) = schedule.tables.logVarianceRange(index)
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    let learned = variance == .learnedRange
    for n in 0..<shape.samples {
      for i in 0..<size {
        let at = n * size + i
        var value = ofNoised * Double(x[at]) + ofOutput * Double(output[n * stride + i])
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

  /// c₁ x̂_* + c₂ x as a function of x and the output.
  private func mean(_ index: Int) -> (noised: Double, output: Double) {
    let tables = schedule.tables
    let (noised, output) = schedule.coefficients.clean(at: schedule.timesteps[index])
    let ofClean = tables.posteriorCleanCoefficient[index]
    return (tables.posteriorNoisedCoefficient[index] + ofClean * noised, ofClean * output)
  }

  /// log σ² where it is the same for all elements; `learned_range` replaces it.
  private func fixedLogVariance(_ index: Int) -> Double {
    let tables = schedule.tables
    return variance == .fixedLarge ? tables.fixedLargeLogVariance[index] : tables.posteriorLogVariance[index]
  }
}
