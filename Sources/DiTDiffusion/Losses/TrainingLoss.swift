// The training loss of every prediction (Nichol & Dhariwal 2021, section 3.1, as DiT trains with it):
//
//   loss = w · mse + vb + cosine        (and λ_seq w_t L_seq: see SequenceLoss.swift)
//   mse  = κ mean (out − target)²
//   vb   = mean KL( q(x_{t−1} | x_t, x_*) ‖ p_θ(x_{t−1} | x_t) ) in bits, and at t = 0 −log₂ p_θ(x_*) discretized
//   cosine = mean over H·W of 1 − cos ∠(out, target) of the C channels there
//
// Means are over C·H·W of each sample. w is the weighting of the noise level. target and κ are the process's
// (`DiffusionProcess.trainingTarget`). vb belongs to `learned_range` on a β path only, and its μ_θ is detached: it
// trains v, not the prediction. The cosine is there where `loss` is `mse+cosine`. On a linear path a second half of the output is not read, and its gradient is 0.
//
// The target is affine in (x_*, ε), so x_t is not needed; and as μ_θ is affine in the output, μ̃ − μ_θ is its coefficient
// times (target − out), so that both terms follow from out − target without the cancellation of two means.

import Foundation

/// The loss of one sample.
public struct SampleLoss: Equatable, Sendable {
  /// w · mse + vb + cosine + λ_seq seq.
  public var loss: Double
  /// κ mean (out − target)², before the weighting.
  public var mse: Double
  /// The variational bound's term in bits per element; nil unless the variance is learned.
  public var vb: Double?
  /// Mean of 1 − cos ∠(out, target), 0…2; nil unless it is part of the loss.
  public var cosine: Double?
  /// w_t L_seq, see ``SequenceLoss``; nil unless it is part of the loss.
  public var seq: Double?

  public static let zero = SampleLoss(loss: 0, mse: 0, vb: nil)

  public init(loss: Double, mse: Double, vb: Double?, cosine: Double? = nil) {
    self.loss = loss
    self.mse = mse
    self.vb = vb
    self.cosine = cosine
  }
}

/// w · mse, with `learned_range` + the variational bound's term. Forward and gradient; allocates nothing.
public struct TrainingLoss: Sendable {
  public let process: DiffusionProcess
  public let weighting: LossWeighting

  public var schedule: NoiseSchedule { process.schedule }

  public init(_ schedule: NoiseSchedule, weighting: LossWeighting = .uniform) {
    process = schedule.process
    self.weighting = weighting
  }

  /// The loss of each sample.
  ///
  /// - Parameters:
  ///   - output: the network's at (x_t, t), (N, C', H, W): the prediction, then v with `learned_range`.
  ///   - clean: x_*, (N, C, H, W).
  ///   - noise: ε, (N, C, H, W).
  ///   - levels: of each sample, by `schedule`.
  ///   - shape: (N, C, H, W).
  ///   - losses: N values, replaced.
  public func evaluate(
    output: Span<Float>, clean: Span<Float>, noise: Span<Float>, levels: [NoiseLevel], shape: BatchShape,
    losses: inout MutableSpan<SampleLoss>
  ) {
    var none = MutableSpan<Float>()
    run(output, clean, noise, levels, shape, &losses, &none, 0)
  }

  /// The loss of each sample, and the gradient of weight · mean_n(loss_n) with respect to the output.
  ///
  /// Parameters as above, and:
  /// - Parameters:
  ///   - output: the network's at (x_t, t), (N, C', H, W).
  ///   - clean: x_*, (N, C, H, W).
  ///   - noise: ε, (N, C, H, W).
  ///   - levels: of each sample, by `schedule`.
  ///   - shape: (N, C, H, W).
  ///   - losses: N values, replaced.
  ///   - gradient: (N, C', H, W), replaced.
  ///   - weight: of this batch in the whole, for example 1/k when gradients of k equal batches are accumulated.
  public func evaluate(
    output: Span<Float>, clean: Span<Float>, noise: Span<Float>, levels: [NoiseLevel], shape: BatchShape,
    losses: inout MutableSpan<SampleLoss>, gradient: inout MutableSpan<Float>, weight: Double = 1
  ) {
    shape.require("gradient", gradient.count, is: output.count)
    run(output, clean, noise, levels, shape, &losses, &gradient, weight)
  }

  /// The map of L_patch: the mse of every patch. Their mean over a sample's patches is its mse.
  ///
  /// Parameters as above, and:
  /// - Parameters:
  ///   - output: the network's at (x_t, t), (N, C', H, W).
  ///   - clean: x_*, (N, C, H, W).
  ///   - noise: ε, (N, C, H, W).
  ///   - levels: of each sample, by `schedule`.
  ///   - shape: (N, C, H, W).
  ///   - patchSize: P, which divides H and W.
  ///   - means: (N, L) with the L = (H/P)(W/P) patches row-major, replaced: κ mean (out − target)² over C·P².
  public func patchErrors(
    output: Span<Float>, clean: Span<Float>, noise: Span<Float>, levels: [NoiseLevel], shape: BatchShape,
    patchSize: Int, means: inout MutableSpan<Float>
  ) {
    check(output, clean, noise, levels, shape)
    precondition(
      patchSize > 0 && shape.height % patchSize == 0 && shape.width % patchSize == 0,
      "patches of \(patchSize) do not fill \(shape)")
    let (rows, columns) = (shape.height / patchSize, shape.width / patchSize)
    shape.require("means", means.count, is: shape.samples * rows * columns)
    let stride = output.count / shape.samples
    for n in 0..<shape.samples {
      let target = process.trainingTarget(levels[n])
      let scale = target.scale / Double(shape.channels * patchSize * patchSize)
      for patch in 0..<rows * columns {
        var sum = 0.0
        for place in 0..<shape.channels * patchSize {
          let row = patch / columns * patchSize + place % patchSize
          let first =
            (place / patchSize * shape.height + row) * shape.width + patch % columns * patchSize
          for i in first..<first + patchSize {
            let at = n * shape.elementsPerSample + i
            let error = Double(output[n * stride + i]) - target.value(clean[at], noise[at])
            sum += error * error
          }
        }
        means[n * rows * columns + patch] = Float(scale * sum)
      }
    }
  }

  private func check(
    _ output: Span<Float>, _ clean: Span<Float>, _ noise: Span<Float>, _ levels: [NoiseLevel], _ shape: BatchShape
  ) {
    shape.require("output", output.count, is: shape.outputCount(schedule.variance))
    shape.require("clean", clean.count, is: shape.count)
    shape.require("noise", noise.count, is: shape.count)
    precondition(levels.count == shape.samples, "\(levels.count) noise levels for a batch \(shape)")
  }

  /// All samples; an empty `gradient` is not written.
  private func run(
    _ output: Span<Float>, _ clean: Span<Float>, _ noise: Span<Float>, _ levels: [NoiseLevel], _ shape: BatchShape,
    _ losses: inout MutableSpan<SampleLoss>, _ gradient: inout MutableSpan<Float>, _ weight: Double
  ) {
    check(output, clean, noise, levels, shape)
    precondition(losses.count == shape.samples, "\(losses.count) losses for a batch \(shape)")

    let learned = process.learnsVariance
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    let scale = weight / Double(shape.samples * size)
    for n in 0..<shape.samples {
      let level = levels[n]
      let target = process.trainingTarget(level)
      let importance = weighting.weight(process, at: level)
      let at = Sample(size: size, clean: n * size, prediction: n * stride, interpolation: n * stride + size)
      let mse = squaredError(target, at, output, clean, noise, &gradient, scale * importance)
      let vb = learned ? bound(level.time.index, target, at, output, clean, noise, &gradient, scale) : nil
      let cosine =
        process.loss == .mseAndCosine
        ? cosineError(target, at, shape.channels, output, clean, noise, &gradient, weight / Double(shape.samples))
        : nil
      if !learned, !gradient.isEmpty {
        for i in n * stride + size..<(n + 1) * stride { gradient[i] = 0 }
      }
      losses[n] = SampleLoss(
        loss: importance * mse + (vb ?? 0) + (cosine ?? 0), mse: mse, vb: vb, cosine: cosine)
    }
  }

  /// Where one sample lies in the buffers: `clean` in x_* and ε, the others in the output and its gradient.
  private struct Sample {
    let size: Int
    let clean: Int
    let prediction: Int
    let interpolation: Int
  }

  /// κ mean (out − target)²; its gradient 2κ(out − target) goes to the prediction's channels.
  private func squaredError(
    _ target: TrainingTarget, _ at: Sample, _ output: Span<Float>, _ clean: Span<Float>, _ noise: Span<Float>,
    _ gradient: inout MutableSpan<Float>, _ scale: Double
  ) -> Double {
    let writes = !gradient.isEmpty
    let slope = scale * 2 * target.scale
    var sum = 0.0
    for i in 0..<at.size {
      let error = Double(output[at.prediction + i]) - target.value(clean[at.clean + i], noise[at.clean + i])
      sum += error * error
      if writes { gradient[at.prediction + i] = Float(slope * error) }
    }
    return target.scale * sum / Double(at.size)
  }

  /// Mean over pixels of 1 − out·target / (max(|out|, ε) max(|target|, ε)), ε = 10⁻⁸ as torch's; its gradient
  /// −(target/|target| − cos · out/|out|)/|out| is added to the prediction's channels.
  private func cosineError(
    _ target: TrainingTarget, _ at: Sample, _ channels: Int, _ output: Span<Float>, _ clean: Span<Float>,
    _ noise: Span<Float>, _ gradient: inout MutableSpan<Float>, _ weight: Double
  ) -> Double {
    let (area, least) = (at.size / channels, 1e-8)
    let writes = !gradient.isEmpty
    let scale = weight / Double(area)
    var sum = 0.0
    for pixel in 0..<area {
      var (product, ofOutput, ofTarget) = (0.0, 0.0, 0.0)
      for i in stride(from: pixel, to: at.size, by: area) {
        let out = Double(output[at.prediction + i])
        let wanted = target.value(clean[at.clean + i], noise[at.clean + i])
        product += out * wanted
        ofOutput += out * out
        ofTarget += wanted * wanted
      }
      let (length, wantedLength) = (max(ofOutput.squareRoot(), least), max(ofTarget.squareRoot(), least))
      let cosine = product / (length * wantedLength)
      sum += 1 - cosine
      guard writes else { continue }
      // Where the length is the least one it does not change with the output.
      let turn = length > least ? cosine / length : 0
      for i in stride(from: pixel, to: at.size, by: area) {
        let wanted = target.value(clean[at.clean + i], noise[at.clean + i])
        let slope = (wanted / wantedLength - turn * Double(output[at.prediction + i])) / length
        gradient[at.prediction + i] -= Float(scale * slope)
      }
    }
    return sum / Double(area)
  }

  /// The bound's term in bits; its gradient goes to the v channels.
  private func bound(
    _ t: Int, _ target: TrainingTarget, _ at: Sample, _ output: Span<Float>, _ clean: Span<Float>,
    _ noise: Span<Float>, _ gradient: inout MutableSpan<Float>, _ scale: Double
  ) -> Double {
    let bits = 1 / log(2.0)
    let ofOutput = process.mean(at: t).output
    let (low, high) = schedule.tables.logVarianceRange(t)
    let writes = !gradient.isEmpty
    var sum = 0.0
    for i in 0..<at.size {
      // log σ² = f log β + (1−f) log β̃, f = (v+1)/2
      let fraction = (Double(output[at.interpolation + i]) + 1) / 2
      let logVariance = fraction * high + (1 - fraction) * low
      let error = Double(output[at.prediction + i]) - target.value(clean[at.clean + i], noise[at.clean + i])
      let deviation = -ofOutput * error  // μ̃ − μ_θ
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
