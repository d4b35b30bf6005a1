// The published training loss (Nichol & Dhariwal 2021, section 3.1, as DiT trains with it):
//
//   loss = mse + vb
//   mse  = mean (ε̂ − ε)²
//   vb   = mean KL( q(x_{t−1} | x_t, x_*) ‖ p_θ(x_{t−1} | x_t) ) in bits, and at t = 0 −log₂ p_θ(x_*) discretised
//
// Means are over C·H·W of each sample; vb belongs to `learned_range` only, and its ε̂ is detached: it trains v, not ε̂.
//
// x_t is not needed. With b = β/(√(1−ᾱ) √(1−β)) the means differ by μ̃ − μ = b(ε̂ − ε), and at t = 0 μ̃ is x_* itself,
// so that both terms follow from ε̂ − ε without the cancellation of two means.

import Foundation

/// The loss of one sample.
public struct SampleLoss: Equatable, Sendable {
  /// mse + vb.
  public var loss: Double
  /// mean (ε̂ − ε)².
  public var mse: Double
  /// The variational bound's term in bits per element; nil unless the variance is learned.
  public var vb: Double?

  public static let zero = SampleLoss(loss: 0, mse: 0, vb: nil)
}

/// mean (ε̂ − ε)², with `learned_range` + the variational bound's term. Forward and gradient; allocates nothing.
public struct HybridLoss: Sendable {
  public let schedule: NoiseSchedule

  public init(_ schedule: NoiseSchedule) { self.schedule = schedule }

  /// The loss of each sample.
  ///
  /// - Parameters:
  ///   - output: the network's at (x_t, t), (N, C', H, W): ε̂, then v with `learned_range`.
  ///   - clean: x_*, (N, C, H, W).
  ///   - noise: ε, (N, C, H, W).
  ///   - timesteps: t of each sample, 0…T−1.
  ///   - losses: N values, replaced.
  public func evaluate(
    output: Span<Float>, clean: Span<Float>, noise: Span<Float>, timesteps: [Int], shape: BatchShape,
    losses: inout MutableSpan<SampleLoss>
  ) {
    var none = MutableSpan<Float>()
    run(output, clean, noise, timesteps, shape, &losses, &none, 0)
  }

  /// The loss of each sample, and the gradient of weight · mean_n(loss_n) with respect to the output.
  ///
  /// Parameters as above, and:
  /// - Parameters:
  ///   - gradient: (N, C', H, W), replaced.
  ///   - weight: of this batch in the whole, for example 1/k when gradients of k equal batches are accumulated.
  public func evaluate(
    output: Span<Float>, clean: Span<Float>, noise: Span<Float>, timesteps: [Int], shape: BatchShape,
    losses: inout MutableSpan<SampleLoss>, gradient: inout MutableSpan<Float>, weight: Double = 1
  ) {
    shape.require("gradient", gradient.count, is: output.count)
    run(output, clean, noise, timesteps, shape, &losses, &gradient, weight)
  }

  /// All samples; an empty `gradient` is not written.
  private func run(
    _ output: Span<Float>, _ clean: Span<Float>, _ noise: Span<Float>, _ timesteps: [Int], _ shape: BatchShape,
    _ losses: inout MutableSpan<SampleLoss>, _ gradient: inout MutableSpan<Float>, _ weight: Double
  ) {
    shape.require("output", output.count, is: shape.outputCount(schedule.variance))
    shape.require("clean", clean.count, is: shape.count)
    shape.require("noise", noise.count, is: shape.count)
    precondition(timesteps.count == shape.samples, "\(timesteps.count) timesteps for a batch \(shape)")
    precondition(losses.count == shape.samples, "\(losses.count) losses for a batch \(shape)")

    let learned = schedule.variance == .learnedRange
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    let scale = weight / Double(shape.samples * size)
    for n in 0..<shape.samples {
      let t = timesteps[n]
      precondition(0..<schedule.steps ~= t, "timestep \(t) of sample \(n) is not in 0…\(schedule.steps - 1)")
      let at = Sample(size: size, clean: n * size, epsilon: n * stride, interpolation: n * stride + size)
      let mse = squaredError(at, output, noise, &gradient, scale)
      let vb = learned ? bound(t, at, output, clean, noise, &gradient, scale) : nil
      losses[n] = SampleLoss(loss: mse + (vb ?? 0), mse: mse, vb: vb)
    }
  }

  /// Where one sample lies in the buffers: `clean` in x_* and ε, the others in the output and its gradient.
  private struct Sample {
    let size: Int
    let clean: Int
    let epsilon: Int
    let interpolation: Int
  }

  /// mean (ε̂ − ε)²; its gradient 2(ε̂ − ε) goes to the ε channels.
  private func squaredError(
    _ at: Sample, _ output: Span<Float>, _ noise: Span<Float>, _ gradient: inout MutableSpan<Float>, _ scale: Double
  ) -> Double {
    let writes = !gradient.isEmpty
    var sum = 0.0
    for i in 0..<at.size {
      let error = Double(output[at.epsilon + i]) - Double(noise[at.clean + i])
      sum += error * error
      if writes { gradient[at.epsilon + i] = Float(scale * 2 * error) }
    }
    return sum / Double(at.size)
  }

  /// The bound's term in bits; its gradient goes to the v channels.
  private func bound(
    _ t: Int, _ at: Sample, _ output: Span<Float>, _ clean: Span<Float>, _ noise: Span<Float>,
    _ gradient: inout MutableSpan<Float>, _ scale: Double
  ) -> Double {
    let bits = 1 / log(2.0)
    let ofEpsilon = schedule.tables.meanCoefficients(t).epsilon
    let (low, high) = schedule.tables.logVarianceRange(t)
    let writes = !gradient.isEmpty
    var sum = 0.0
    for i in 0..<at.size {
      // log σ² = f log β + (1−f) log β̃, f = (v+1)/2
      let fraction = (Double(output[at.interpolation + i]) + 1) / 2
      let logVariance = fraction * high + (1 - fraction) * low
      let deviation = ofEpsilon * (Double(output[at.epsilon + i]) - Double(noise[at.clean + i]))
      let (value, slope) =
        t == 0
        ? discretizedGaussian(value: clean[at.clean + i], deviation: deviation, logVariance: logVariance)
        : gaussianDivergence(deviation: deviation, logVariance: logVariance, trueLogVariance: low)
      sum += value
      if writes { gradient[at.interpolation + i] = Float(scale * bits * slope * (high - low) / 2) }
    }
    return bits * sum / Double(at.size)
  }
}

/// KL( N(μ̃, s²) ‖ N(μ, σ²) ) = ½( log σ² − log s² − 1 + s²/σ² + (μ̃−μ)²/σ² ) and its derivative by log σ², in nats.
private func gaussianDivergence(
  deviation: Double, logVariance: Double, trueLogVariance: Double
) -> (divergence: Double, slope: Double) {
  let ratio = exp(trueLogVariance - logVariance)
  let square = deviation * deviation * exp(-logVariance)
  return (0.5 * (logVariance - trueLogVariance - 1 + ratio + square), 0.5 * (1 - ratio - square))
}
