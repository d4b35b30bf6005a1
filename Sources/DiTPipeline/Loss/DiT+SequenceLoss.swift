// L_seq as a part of the loss at given noise.

import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor

/// The sequence-consistency term of a loss: λ_seq w_t L_seq with given draws.
public struct SequenceLossInput: Sendable {
  /// The prior at every noise level.
  public let conditionals: SequenceConditionals
  /// λ_seq.
  public let weight: Double
  /// `posterior_noise`: what x_{t−1} = c₁ x_* + c₂ x_t + √β̃_t · it is drawn with, (N, C, H, W).
  public let posteriorNoise: Tensor

  public init(_ conditionals: SequenceConditionals, weight: Double, posteriorNoise: Tensor) {
    self.conditionals = conditionals
    self.weight = weight
    self.posteriorNoise = posteriorNoise
  }
}

extension SequenceConditionals {
  /// The conditionals of the prior in the directory of a model.
  ///
  /// - Throws: what `SequencePrior.init(directory:for:)` does, `FileError` when there is no prior, ``ModelFileError`` when
  ///   its covariance is none.
  public init(directory: String, for model: DiT) throws {
    let path = ModelDirectory.join(directory, SequencePrior.fileName)
    guard let prior = try SequencePrior(directory: directory, for: model.configuration.network) else {
      throw FileError(path: path, reason: .missing)
    }
    do throws(DiffusionError) {
      try self.init(prior, context: model.context)
    } catch {
      throw ModelFileError(file: path, item: "tensor \(error.name)", expected: error.expected, found: error.found)
    }
  }
}

/// Adds the term to the losses of one part of the samples after the other.
struct SequencePass {
  private let input: SequenceLossInput
  private let network: DiTConfiguration
  private var loss: SequenceLoss
  /// w_t KL/n of each patch so far, (N, L).
  private(set) var patches: Tensor

  /// - Throws: ``InputError`` when the draws have another shape than `clean`, or the model is a flow.
  init(_ input: SequenceLossInput, _ model: DiT, clean: Tensor, batch: Int) throws(InputError) {
    guard !model.configuration.diffusion.isFlow else {
      throw InputError("lambda_seq", expected: "0 for a flow, which has no x_{t−1}", found: "\(input.weight)")
    }
    guard input.posteriorNoise.shape == clean.shape else {
      throw InputError(
        "posterior_noise", expected: "the shape \(clean.shape) of x0", found: "\(input.posteriorNoise.shape)")
    }
    self.input = input
    network = model.configuration.network
    loss = SequenceLoss(input.conditionals, schedule: model.schedule, samples: batch, context: model.context)
    patches = Tensor(zeros: [clean.shape[0], network.tokens])
  }

  /// Adds the term of the samples in `range` to their losses, and the gradient of weight · λ · mean(term) by the output to
  /// `gradient` unless that is empty. All but `clean` and `noise` are of those samples alone.
  mutating func add(
    _ range: Range<Int>, clean: Tensor, noise: Tensor, output: Span<Float>, levels: [NoiseLevel],
    losses: inout [SampleLoss], gradient: inout MutableSpan<Float>, weight: Double
  ) {
    let elements = range.elements(network.imageElements)
    let drawn = input.posteriorNoise.elements
    if gradient.isEmpty {
      loss.evaluate(
        output: output, clean: clean.elements.span.extracting(elements),
        noise: noise.elements.span.extracting(elements),
        posteriorNoise: drawn.span.extracting(elements), levels: levels, shape: network.batchShape(range.count))
    } else {
      loss.evaluate(
        output: output, clean: clean.elements.span.extracting(elements),
        noise: noise.elements.span.extracting(elements),
        posteriorNoise: drawn.span.extracting(elements), levels: levels, shape: network.batchShape(range.count),
        gradient: &gradient, weight: weight * input.weight)
    }
    for n in losses.indices { losses[n].add(sequence: loss.losses[n], weight: input.weight) }
    let tokens = network.tokens
    for i in 0..<range.count * tokens { patches.elements[range.lowerBound * tokens + i] = Float(loss.patches[i]) }
  }
}
