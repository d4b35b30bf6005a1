// L_seq as a part of the training loss.

import DiTDiffusion
import DiTKernels
import DiTTensor

/// What L_seq of any batch is computed from.
package struct SequenceObjective {
  package let conditionals: SequenceConditionals
  /// λ_seq.
  package let weight: Double
  package let schedule: NoiseSchedule
  package let context: ComputeContext

  package init(
    _ conditionals: SequenceConditionals, weight: Double, schedule: NoiseSchedule, context: ComputeContext
  ) {
    self.conditionals = conditionals
    self.weight = weight
    self.schedule = schedule
    self.context = context
  }
}

/// λ_seq w_t L_seq of one batch, with its memory.
struct SequenceTerm {
  private let weight: Double
  private var loss: SequenceLoss

  /// w_t KL/n of each patch of the last batch, (N, L).
  var patches: [Double] { loss.patches }

  init(_ objective: SequenceObjective, _ shape: BatchShape) {
    weight = objective.weight
    loss = SequenceLoss(
      objective.conditionals, schedule: objective.schedule, samples: shape.samples, context: objective.context)
  }

  /// Adds the term to each sample's loss, and the gradient of share · mean(term) by the output to `gradient`, unless that is
  /// empty; `drawn` is what x_{t−1} is drawn with.
  mutating func add(
    to losses: inout [SampleLoss], gradient: inout MutableSpan<Float>, weight share: Double, output: FloatSlice,
    clean: FloatSlice, noise: FloatSlice, drawn: FloatSlice, levels: [NoiseLevel], shape: BatchShape
  ) {
    if gradient.isEmpty {
      loss.evaluate(
        output: output.span, clean: clean.span, noise: noise.span, posteriorNoise: drawn.span, levels: levels,
        shape: shape)
    } else {
      loss.evaluate(
        output: output.span, clean: clean.span, noise: noise.span, posteriorNoise: drawn.span, levels: levels,
        shape: shape, gradient: &gradient, weight: weight * share)
    }
    for n in losses.indices { losses[n].add(sequence: loss.losses[n], weight: weight) }
  }
}
