// Ancestral sampling (Ho et al. 2020, algorithm 2) on respaced steps.
//
// - x_{i−1} = c₁ x̂_* + c₂ x_i + σ_i z, coefficients of the respaced β' in Double, each element rounded once
// - for ε̂ that is (x_i − β' ε̂/√(1−ᾱ))/√(1−β'), their algorithm
// - matches diffusers' DDPMScheduler on the same kept steps for epsilon, sample and v_prediction
// - x̂_* is not limited, unless a diffusers configuration asks for it
// - no noise at the last kept step (index 0), whatever its training index; diffusers' fixed_large has some where that is not 0

import Foundation

/// DDPM: the respaced ancestral sampler.
public struct DDPMSampler: SamplingProcess, Equatable {
  public let schedule: RespacedSchedule
  public let evaluations: [NetworkTime]
  /// σ at each kept step; 0 draws nothing.
  private let deviations: [Double]
  /// The ends of log σ² between which the output's variance half chooses, in place of `deviations`; nil where it is not read.
  private let ranges: [LogRange]?
  /// How far from 0 x̂_* may lie; nil is anywhere.
  private let limit: CleanLimit?

  /// log σ² at f = 0 and f = 1.
  package struct LogRange: Equatable, Sendable {
    package let low: Double
    package let high: Double

    package init(low: Double, high: Double) {
      self.low = low
      self.high = high
    }
  }

  public init(_ schedule: RespacedSchedule) {
    let tables = schedule.tables
    let logs = schedule.variance == .fixedLarge ? tables.fixedLargeLogVariance : tables.posteriorLogVariance
    self.schedule = schedule
    evaluations = schedule.evaluations
    deviations = logs.indices.map { $0 > 0 ? exp(0.5 * logs[$0]) : 0 }
    ranges =
      schedule.variance == .learnedRange
      ? tables.betas.indices.map(tables.logVarianceRange).map { LogRange(low: $0.low, high: $0.high) } : nil
    limit = nil
  }

  /// With given σ.
  ///
  /// - Parameter ranges: nil where a variance half of the output is not read; else σ say only whether noise is drawn.
  package init(
    _ schedule: RespacedSchedule, deviations: [Double], ranges: [LogRange]? = nil, limit: CleanLimit?
  ) {
    self.schedule = schedule
    evaluations = schedule.evaluations
    self.deviations = deviations
    self.ranges = ranges
    self.limit = limit
  }

  public func starting(at step: Int) -> DDPMSampler {
    let kept = schedule.count - step
    return DDPMSampler(
      schedule.starting(at: step), deviations: Array(deviations.prefix(kept)),
      ranges: ranges.map { Array($0.prefix(kept)) },
      limit: limit)
  }

  public func level(beforeStep step: Int) -> (signal: Double, spread: Double) { schedule.level(beforeStep: step) }

  public var stepCount: Int { schedule.count }
  public var variance: Variance { schedule.variance }
  public var memoryArrays: Int { limit?.scratchArrays ?? 0 }

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
    let range = ranges?[index]
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    let deviation = deviations[index]
    for n in 0..<shape.samples {
      let bound = limit?.bound(&memory, n * size..<(n + 1) * size) { i in
        abs(Float(clean.noised * Double(x[n * size + i]) + clean.output * Double(output[n * stride + i])))
      }
      for i in 0..<size {
        let at = n * size + i
        let (noised, out) = (Double(x[at]), Double(output[n * stride + i]))
        var value = ofNoised * noised + ofOutput * out
        if let bound {
          let estimate = clean.noised * noised + clean.output * out
          value += ofClean * (bound.limited(estimate) - estimate)
        }
        if deviation > 0 {
          var sigma = deviation
          if let range {
            let fraction = (Double(output[n * stride + size + i]) + 1) / 2
            sigma = exp(0.5 * (fraction * range.high + (1 - fraction) * range.low))
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
