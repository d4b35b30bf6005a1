// L_seq as a part of the loss at given noise: what a caller gives.

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
  /// - Throws: what `SequencePrior.init(directory:for:)` does, `DiTError` when there is no prior or its covariance
  ///   is none.
  public init(directory: String, for model: DiT) throws {
    let path = Paths.join(directory, SequencePrior.fileName)
    guard let prior = try SequencePrior(directory: directory, for: model.configuration.network) else {
      throw DiTError(file: path, .missing)
    }
    do throws(DiTError) {
      try self.init(prior, context: model.context)
    } catch {
      throw error.about(file: path, .tensor(error.name), .content)
    }
  }
}

extension SequenceLossInput {
  /// Throws unless the term can be part of the loss of `clean`: `DiTError` when the draws have another shape, or the
  /// model's path has no posterior.
  func check(_ model: DiT, _ clean: Tensor) throws(DiTError) {
    guard model.configuration.diffusion.path.hasPosterior else {
      throw DiTError(option: "lambda_seq", expected: "0 on a linear path, which has no x_{t−1}", found: "\(weight)")
    }
    guard posteriorNoise.shape == clean.shape else {
      throw DiTError(
        argument: "posterior_noise", expected: "the shape \(clean.shape) of x0", found: "\(posteriorNoise.shape)")
    }
    try posteriorNoise.checkFinite("posterior_noise")
  }
}
