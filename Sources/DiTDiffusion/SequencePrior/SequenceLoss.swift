// Sequence consistency: how far the reverse process's Gaussians of the patches are from an autoregressive prior's.
//
//   L_seq = 1/(L n) Σ_i KL( p_θ(z_i | z_<i) ‖ q(z_i | z_<i) )
//   KL    = ½( tr(S⁻¹ Σ_θ) + (μ_θ − m)ᵀ S⁻¹ (μ_θ − m) − n + log det S − log det Σ_θ )
//
// z = x_{t−1} is drawn from the true posterior q(x_{t−1} | x_t, x_*) and enters the conditions (teacher forcing);
// p_θ(z_i | z_<i) = N(μ_θ,i , Σ_θ), Σ_θ diagonal with the configured variance, because the reverse Gaussian factorizes
// given x_t; q(z_i | z_<i) = N(m, S) is `SequencePrior` at noise level t−1. Σ_θ is a constant: the gradient goes to the
// mean alone and is S⁻¹(μ_θ − m)/(L n), also with `learned_range`, whose v it leaves to the variational bound.
//
// Each sample's term carries the weight w_t = 1 − ᾱ_{t−1}; as S ⪰ (1 − ᾱ_{t−1}) I, w_t S⁻¹ ⪯ I. At t = 0, where there
// is no x_{−1}, it is skipped. All of it in Double, patches row-major, n = P²C elements of a patch, L patches.

import DiTKernels
import DiTLinearAlgebra
import Foundation

/// w_t L_seq of the samples of a batch, forward and gradient. Holds the memory that takes: evaluating allocates nothing.
public struct SequenceLoss {
  public let schedule: NoiseSchedule
  public let conditionals: SequenceConditionals
  private let coefficients: PredictionCoefficients
  private let context: ComputeContext
  private let layout: SequenceLayout
  private var scratch: SequenceScratch

  /// - Parameters:
  ///   - conditionals: the prior's Gaussians of a patch, given its neighbors.
  ///   - schedule: the model's.
  ///   - samples: the most that are evaluated at once.
  ///   - context: where to run.
  /// - Precondition: samples ≥ 1; the prediction is not `flow`.
  public init(
    _ conditionals: SequenceConditionals, schedule: NoiseSchedule, samples: Int, context: ComputeContext
  ) {
    precondition(samples > 0, "a loss of no samples")
    self.schedule = schedule
    coefficients = PredictionCoefficients(schedule)
    self.conditionals = conditionals
    self.context = context
    layout = SequenceLayout(conditionals.grid)
    scratch = SequenceScratch(conditionals.grid, samples: samples)
  }

  /// w_t L_seq of each sample of the last batch; 0 at t = 0. (N), and after a batch that is not full more behind it.
  public var losses: [Double] { scratch.losses }

  /// w_t KL/n of each patch of the last batch, (N, L): the mean over a sample's L patches is its loss. As for `losses`,
  /// there may be more behind it.
  public var patches: [Double] { scratch.patches }

  /// Computes ``losses`` and ``patches``.
  ///
  /// - Parameters:
  ///   - output: the network's at (x_t, t), (N, C', H, W).
  ///   - clean: x_*, (N, C, H, W).
  ///   - noise: ε of x_t, (N, C, H, W).
  ///   - posteriorNoise: N(0, 1), from which x_{t−1} = c₁ x_* + c₂ x_t + √β̃_t · it is drawn, (N, C, H, W).
  ///   - levels: of each sample, by `schedule`.
  ///   - shape: (N, C, H, W).
  public mutating func evaluate(
    output: Span<Float>, clean: Span<Float>, noise: Span<Float>, posteriorNoise: Span<Float>, levels: [NoiseLevel],
    shape: BatchShape
  ) {
    var none = MutableSpan<Float>()
    run(output, clean, noise, posteriorNoise, levels, shape, &none, 0)
  }

  /// Computes ``losses`` and ``patches``, and adds the gradient of weight · mean_n(loss_n) with respect to the output.
  ///
  /// Parameters as above, and:
  /// - Parameters:
  ///   - output: the network's at (x_t, t), (N, C', H, W).
  ///   - clean: x_*, (N, C, H, W).
  ///   - noise: ε of x_t, (N, C, H, W).
  ///   - posteriorNoise: N(0, 1), from which x_{t−1} is drawn, (N, C, H, W).
  ///   - levels: of each sample, by `schedule`.
  ///   - shape: (N, C, H, W).
  ///   - gradient: (N, C', H, W), added to.
  ///   - weight: λ_seq times this batch's part in the whole.
  public mutating func evaluate(
    output: Span<Float>, clean: Span<Float>, noise: Span<Float>, posteriorNoise: Span<Float>, levels: [NoiseLevel],
    shape: BatchShape, gradient: inout MutableSpan<Float>, weight: Double
  ) {
    shape.require("gradient", gradient.count, is: output.count)
    run(output, clean, noise, posteriorNoise, levels, shape, &gradient, weight)
  }

  private mutating func run(
    _ output: Span<Float>, _ clean: Span<Float>, _ noise: Span<Float>, _ posteriorNoise: Span<Float>,
    _ levels: [NoiseLevel], _ shape: BatchShape, _ gradient: inout MutableSpan<Float>, _ weight: Double
  ) {
    let grid = conditionals.grid
    precondition(
      (shape.channels, shape.height, shape.width) == (grid.channels, grid.height, grid.width)
        && shape.samples <= scratch.samples, "a batch \(shape) for \(scratch.samples) samples of \(grid)")
    shape.require("output", output.count, is: shape.outputCount(schedule.variance))
    for (name, count) in [("clean", clean.count), ("noise", noise.count), ("posterior noise", posteriorNoise.count)] {
      shape.require(name, count, is: shape.count)
    }
    precondition(levels.count == shape.samples, "\(levels.count) noise levels for a batch \(shape)")

    scratch.begin(shape.samples)
    for n in levels.indices {
      let t = levels[n].time.index
      precondition(0..<schedule.steps ~= t, "timestep \(t) of sample \(n) is not in 0…\(schedule.steps - 1)")
      if t > 0 { draw(n, t, output, clean, noise, posteriorNoise, shape) }
    }
    for kind in conditionals.tables.indices {
      evaluate(kind, output, levels, shape, &gradient, weight / Double(shape.samples))
    }
    for n in levels.indices { scratch.finish(n) }
  }

  // MARK: z and μ_θ

  /// One sample's z and μ_θ, both less the prior's mean at that level, patch by patch.
  private mutating func draw(
    _ n: Int, _ t: Int, _ output: Span<Float>, _ clean: Span<Float>, _ noise: Span<Float>, _ drawn: Span<Float>,
    _ shape: BatchShape
  ) {
    let tables = schedule.tables
    let (signal, spread) = (tables.alphasCumprod[t].squareRoot(), (1 - tables.alphasCumprod[t]).squareRoot())
    let (ofClean, ofNoised) = (tables.posteriorCleanCoefficient[t], tables.posteriorNoisedCoefficient[t])
    let deviation = tables.posteriorVariance[t].squareRoot()
    let ofMean = tables.alphasCumprodPrevious[t].squareRoot()
    let (meanOfNoised, meanOfOutput) = coefficients.mean(at: t)
    let (first, firstOutput) = (n * shape.elementsPerSample, n * (output.count / shape.samples))
    var at = n * shape.elementsPerSample
    for origin in layout.origins {
      for offset in layout.offsets {
        let i = origin + offset
        let x = Double(clean[first + i])
        let noised = signal * x + spread * Double(noise[first + i])
        let mean = ofMean * conditionals.mean[i]
        scratch.sequence[at] = ofClean * x + ofNoised * noised + deviation * Double(drawn[first + i]) - mean
        scratch.means[at] = meanOfNoised * noised + meanOfOutput * Double(output[firstOutput + i]) - mean
        at += 1
      }
    }
    scratch.activate(n)
  }

  // MARK: Patches of one kind

  /// The patches of one kind of all samples, a number of rows at a time.
  private mutating func evaluate(
    _ kind: Int, _ output: Span<Float>, _ levels: [NoiseLevel], _ shape: BatchShape,
    _ gradient: inout MutableSpan<Float>,
    _ scale: Double
  ) {
    let table = conditionals.tables[kind]
    for slot in 0..<scratch.activeCount {
      let signal = schedule.tables.alphasCumprodPrevious[levels[scratch.active[slot]].time.index]
      scratch.logDeterminants[slot] = table.logDeterminant(signal: signal)
      table.inverseDiagonal(
        &scratch.diagonals, at: slot * layout.patchElements, signal: signal, context: context)
    }
    let rows = scratch.activeCount * layout.tokens[kind].count
    for start in stride(from: 0, to: rows, by: scratch.rows) {
      let range = start..<min(start + scratch.rows, rows)
      gather(kind, range, levels)
      table.condition(
        range.count, residuals: &scratch.residuals, energies: &scratch.energies, neighbors: scratch.neighbors,
        signals: scratch.signals, projected: &scratch.projected, spectral: &scratch.spectral, context: context)
      collect(kind, range, output, levels, shape, &gradient, scale)
    }
  }

  /// Which active sample and which patch a row is.
  private func place(_ row: Int, _ kind: Int) -> (slot: Int, token: Int) {
    let tokens = layout.tokens[kind]
    return (row / tokens.count, tokens[row % tokens.count])
  }

  /// The rows' signal levels a, the neighbors' deviations times a, and μ_θ.
  private mutating func gather(_ kind: Int, _ range: Range<Int>, _ levels: [NoiseLevel]) {
    let n = layout.patchElements
    let distances = layout.distances[kind]
    for row in range {
      let (slot, token) = place(row, kind)
      let sample = scratch.active[slot]
      let signal = schedule.tables.alphasCumprodPrevious[levels[sample].time.index]
      let to = row - range.lowerBound
      let from = (sample * layout.origins.count + token) * n
      scratch.signals[to] = signal
      for e in 0..<n { scratch.residuals[to * n + e] = scratch.means[from + e] }
      for (block, distance) in distances.enumerated() {
        let target = (to * distances.count + block) * n
        let source = from - distance * n
        for e in 0..<n { scratch.neighbors[target + e] = signal * scratch.sequence[source + e] }
      }
    }
  }

  /// The rows' divergences, and their gradients.
  private mutating func collect(
    _ kind: Int, _ range: Range<Int>, _ output: Span<Float>, _ levels: [NoiseLevel], _ shape: BatchShape,
    _ gradient: inout MutableSpan<Float>, _ scale: Double
  ) {
    let n = layout.patchElements
    let stride = output.count / shape.samples
    for row in range {
      let (slot, token) = place(row, kind)
      let sample = scratch.active[slot]
      let t = levels[sample].time.index
      let from = row - range.lowerBound
      let first = sample * stride + layout.origins[token]
      let weight = 1 - schedule.tables.alphasCumprodPrevious[t]
      let (trace, logVariance) = variance(t, output, first + shape.elementsPerSample, slot)
      let divergence =
        0.5 * (trace + scratch.energies[from] - Double(n) + scratch.logDeterminants[slot] - logVariance)
      scratch.patches[sample * layout.origins.count + token] = weight * divergence / Double(n)
      guard !gradient.isEmpty else { continue }
      let slope = scale * weight * coefficients.mean(at: t).output / Double(layout.origins.count * n)
      for e in 0..<n { gradient[first + layout.offsets[e]] += Float(slope * scratch.residuals[from * n + e]) }
    }
  }

  /// tr(S⁻¹ Σ_θ) and log det Σ_θ of a patch whose v begins at `first`.
  private func variance(_ t: Int, _ output: Span<Float>, _ first: Int, _ slot: Int) -> (trace: Double, log: Double) {
    let n = layout.patchElements
    let (low, high) = schedule.logVarianceRange(t)
    var (trace, sum) = (0.0, 0.0)
    for e in 0..<n {
      let fraction = schedule.variance == .learnedRange ? (Double(output[first + layout.offsets[e]]) + 1) / 2 : 0
      let logVariance = low + fraction * (high - low)
      trace += scratch.diagonals[slot * n + e] * exp(logVariance)
      sum += logVariance
    }
    return (trace, sum)
  }
}

extension SampleLoss {
  /// Takes λ · seq into the loss.
  public mutating func add(sequence seq: Double, weight lambda: Double) {
    self.seq = seq
    loss += lambda * seq
  }
}

extension NoiseSchedule {
  /// The ends of log σ_t²: the same value twice where the variance is fixed.
  fileprivate func logVarianceRange(_ t: Int) -> (low: Double, high: Double) {
    switch variance {
    case .fixedSmall: (tables.posteriorLogVariance[t], tables.posteriorLogVariance[t])
    case .fixedLarge: (tables.fixedLargeLogVariance[t], tables.fixedLargeLogVariance[t])
    case .learnedRange: tables.logVarianceRange(t)
    }
  }
}
