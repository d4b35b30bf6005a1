// Ancestral sampling (Ho et al. 2020, algorithm 2) on respaced steps.
//
// - x_{i−1} = c₁ x̂_* + c₂ x_i + σ_i z, coefficients of the respaced β' in Double, each element rounded once
// - for ε̂ that is (x_i − β' ε̂/√(1−ᾱ))/√(1−β'), their algorithm
// - matches diffusers' DDPMScheduler on the same kept steps for epsilon, sample and v_prediction
// - x̂_* is not clipped, unless a diffusers configuration asks for it
// - no noise at the last kept step (index 0), whatever its training index; diffusers' fixed_large has some where that is not 0

import Foundation

/// DDPM: the respaced ancestral sampler.
public struct DDPMSampler: ReverseProcess, Equatable {
  public let schedule: RespacedSchedule
  public let evaluations: [NetworkTime]
  /// σ at each kept step; 0 draws nothing.
  private let deviations: [Double]
  /// Whether the output's variance half takes the place of `deviations`.
  private let readsVariance: Bool
  /// How far from 0 x̂_* may lie; nil is anywhere.
  private let clip: Double?

  public init(_ schedule: RespacedSchedule) {
    let tables = schedule.tables
    let logs = schedule.variance == .fixedLarge ? tables.fixedLargeLogVariance : tables.posteriorLogVariance
    self.schedule = schedule
    evaluations = schedule.evaluations
    deviations = logs.indices.map { $0 > 0 ? exp(0.5 * logs[$0]) : 0 }
    readsVariance = schedule.variance == .learnedRange
    clip = nil
  }

  /// With given σ: a variance half of the output is not read.
  package init(_ schedule: RespacedSchedule, deviations: [Double], clip: Double?) {
    self.schedule = schedule
    evaluations = schedule.evaluations
    self.deviations = deviations
    readsVariance = false
    self.clip = clip
  }

  public var stepCount: Int { schedule.count }
  public var variance: Variance { schedule.variance }

  public func needsNoise(at evaluation: Int) -> Bool { deviations[schedule.count - 1 - evaluation] > 0 }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let index = schedule.count - 1 - evaluation
    let (ofNoised, ofOutput) = mean(index)
    let clean = schedule.coefficients.clean(at: schedule.timesteps[index])
    let ofClean = schedule.tables.posteriorCleanCoefficient[index]
    let (low, high) = schedule.tables.logVarianceRange(index)
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    let deviation = deviations[index]
    for n in 0..<shape.samples {
      for i in 0..<size {
        let at = n * size + i
        let (noised, out) = (Double(x[at]), Double(output[n * stride + i]))
        var value = ofNoised * noised + ofOutput * out
        if let clip {
          let estimate = clean.noised * noised + clean.output * out
          value += ofClean * (min(clip, max(-clip, estimate)) - estimate)
        }
        if deviation > 0 {
          var sigma = deviation
          if readsVariance {
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
}
