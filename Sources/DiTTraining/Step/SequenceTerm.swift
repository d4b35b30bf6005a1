// L_seq as a part of the training loss.

import DiTDiffusion
import DiTFiles
import DiTKernels
import DiTPipeline
import DiTTensor

extension TrainingConfiguration {
  /// The prior of a run: the given one, else one fitted to the samples that are trained on, as they stand (not mirrored);
  /// nil without λ_seq.
  ///
  /// - Throws: `ConfigurationFileError` for a flow, and when the network's grid can have none; `DiffusionError`;
  ///   ``DatasetError`` when a sample cannot be read.
  func sequencePrior(
    _ given: SequencePrior?, _ model: ModelConfiguration, _ data: Dataset, _ samples: [Int], _ context: ComputeContext
  ) throws -> SequencePrior? {
    guard lambdaSeq > 0 else { return nil }
    guard !model.diffusion.isFlow else {
      throw ConfigurationFileError(
        file: "training configuration", key: "lambda_seq", expected: "0 for a flow, which has no x_{t−1}",
        found: "\(lambdaSeq)")
    }
    let grid = model.network.inputGrid
    do throws(DiffusionError) {
      try grid.checkSequence()
    } catch {
      throw ConfigurationFileError(
        file: "training configuration", key: error.name, expected: error.expected, found: error.found)
    }
    if let given {
      precondition(given.grid == grid, "a prior of \(given.grid) for \(grid)")
      return given
    }
    // The fit asks for all samples twice, in order.
    let reader = SampleReader(
      data, order: ListOrder(samples: samples), end: 2 * samples.count, threads: loaderThreads)
    var number = 0
    return try SequencePrior(fitting: samples.count, of: grid, context: context) { index, image in
      precondition(number % samples.count == index, "sample \(index) as the \(number)-th")
      try reader.copy(number, flipped: false, into: &image)
      number += 1
    }
  }
}

/// What L_seq of any batch is computed from.
struct SequenceObjective {
  let conditionals: SequenceConditionals
  /// λ_seq.
  let weight: Double
  let schedule: NoiseSchedule
  let context: ComputeContext

  init(
    _ prior: SequencePrior, weight: Double, schedule: NoiseSchedule, context: ComputeContext
  ) throws(DiffusionError) {
    conditionals = try SequenceConditionals(prior, context: context)
    self.weight = weight
    self.schedule = schedule
    self.context = context
  }
}

/// λ_seq w_t L_seq of one micro-batch, with its memory.
struct SequenceTerm {
  /// What x_{t−1} is drawn with, (N, C, H, W).
  let noise: Slice
  private let weight: Double
  private var loss: SequenceLoss

  init(_ objective: SequenceObjective, _ shape: BatchShape) {
    noise = Slice(zeros: shape.count)
    weight = objective.weight
    loss = SequenceLoss(
      objective.conditionals, schedule: objective.schedule, samples: shape.samples, context: objective.context)
  }

  /// Adds the term to each sample's loss.
  mutating func add(
    to losses: inout [SampleLoss], output: Slice, clean: Slice, noise: Slice, levels: [NoiseLevel], shape: BatchShape
  ) {
    let drawn = self.noise
    loss.evaluate(
      output: output.span, clean: clean.span, noise: noise.span, posteriorNoise: drawn.span, levels: levels,
      shape: shape)
    for n in losses.indices { losses[n].add(sequence: loss.losses[n], weight: weight) }
  }

  /// Also adds the gradient of share · mean(term) by the output.
  mutating func add(
    to losses: inout [SampleLoss], gradient: Slice, weight share: Double, output: Slice, clean: Slice, noise: Slice,
    levels: [NoiseLevel], shape: BatchShape
  ) {
    let drawn = self.noise
    var slopes = gradient.mutableSpan
    loss.evaluate(
      output: output.span, clean: clean.span, noise: noise.span, posteriorNoise: drawn.span, levels: levels,
      shape: shape, gradient: &slopes, weight: weight * share)
    for n in losses.indices { losses[n].add(sequence: loss.losses[n], weight: weight) }
  }
}
