// How a network is trained: the `training` block of a configuration file.

import DiTDiffusion
import DiTKernels
import DiTModel
import Foundation

/// How the learning rate moves after the warm-up.
public enum LearningRateSchedule: String, CaseIterable, Sendable {
  /// Half a cosine, from the full rate at the end of the warm-up to 0 at the schedule's last step.
  case cosine
  /// The full rate.
  case constant
}

/// How the noise levels are weighted, by name: see `LossWeighting`.
public enum LossWeightingName: String, CaseIterable, Sendable {
  case uniform
  case minSNR = "min_snr"
}

/// The training settings. Defaults are the engine's for images; label dropout is the model's `class_dropout_prob`.
public struct TrainingConfiguration: Equatable, Sendable {
  public var steps = 400_000
  public var batch = 128
  /// V: the parts of a batch whose gradients are added in one order, whatever number of processes computes them.
  public var virtualRanks = 1
  /// How the gradients of virtual ranks go from process to process; see ``GradientExchange``.
  public var exchange = GradientExchange.fp32
  /// 0 chooses: see ``microBatch(tokens:)``.
  public var microBatch = 0
  public var learningRate = 1e-4
  public var warmupSteps = 5000
  public var schedule = LearningRateSchedule.cosine
  /// The step at which a cosine has come to 0, where the rate stays; 0 for the last step, `steps`.
  public var scheduleSteps = 0
  public var weightDecay = 0.05
  public var beta1 = 0.9
  public var beta2 = 0.999
  public var epsilon = 1e-8
  /// The largest decay of the moving average; see ``emaDecay(_:step:)``.
  public var emaDecay = 0.9999
  /// The decays of several moving averages in place of ``emaDecay``, the first that of `ema.safetensors`; empty for one.
  public var emaDecays: [Double] = []
  /// Whether a decay is limited at the beginning; see ``emaDecay(_:step:)``.
  public var emaWarmup = true
  /// The largest global gradient norm; 0 does not clip.
  public var gradientClip = 0.0
  public var lossWeighting = LossWeightingName.uniform
  /// γ of `min_snr`.
  public var minSNRGamma = 5.0
  /// The weight λ_seq of the sequence-consistency loss; 0 leaves it out.
  public var lambdaSeq = 0.0
  public var flip = true
  public var seed = 0
  /// With M, every sample i with i mod M = M − 1 is held out; 0 holds none out.
  public var validationModulus = 20
  public var checkpointEvery = 1000
  public var keepCheckpoints = 2
  public var validateEvery = 1000
  public var sampleEvery = 1000
  public var logEvery = 10
  /// Steps between evaluations of samples of the averaged weights; 0 for none.
  public var evaluateEvery = 0
  /// Samples of an evaluation, sample i of class i mod C.
  public var evaluateSamples = 1000
  /// What they are measured against, as `dit evaluate` names sets; empty for the held-out samples.
  public var evaluateReference = ""
  /// In what they are measured: `pixels`, `pca:K`, or the file of a network.
  public var evaluateFeatures = "pixels"
  /// How pictures are resized for the network; empty for its own way.
  public var evaluateResize = ""
  /// A list between commas; the first says which weights are the best.
  public var evaluateMeasures = "frechet"
  /// The format of the blocks' operands and activations; weights, moments and the residual stream stay float32.
  public var precision = Precision.fp32
  /// The matrix-multiplication backend.
  public var gemm = GEMM.auto
  /// Whether the backward pass computes the widest activations again instead of keeping them.
  public var recompute = false
  /// The rate of dropout inside the middle half of the blocks, 0 ..< 1 (see `Dropout`).
  public var projDropout = 0.0

  /// What becomes of images in a folder that cannot be decoded.
  public var brokenImages = BrokenImages.refuse
  /// Threads that read samples ahead where the data are not in memory.
  public var loaderThreads = 2
  /// Data of a folder that take no more than so many MiB, once resized, are kept in memory.
  public var cacheMegabytes = 512

  public init() {}

  /// How much the noise levels count.
  public var weighting: LossWeighting {
    lossWeighting == .minSNR ? .minSNR(gamma: minSNRGamma) : .uniform
  }

  public var numerics: Numerics { Numerics(precision: precision, gemm: gemm) }

  /// The optimizer's constants.
  public var adamW: AdamW {
    AdamW(
      beta1: Float(beta1), beta2: Float(beta2), epsilon: Float(epsilon), weightDecay: Float(weightDecay))
  }

  /// The learning rate of update `step`, 1 for the first: rate · step / warmup while warming up, then for cosine
  /// rate · (1 + cos(π · min(1, (step − warmup) / (end − warmup)))) / 2, where end is `schedule_steps`, or `steps` where
  /// that is 0. A run shorter than its warm-up ends inside it.
  public func learningRate(step: Int) -> Double {
    if step <= warmupSteps { return learningRate * Double(step) / Double(warmupSteps) }
    switch schedule {
    case .constant: return learningRate
    case .cosine:
      let progress = Double(step - warmupSteps) / Double(max(scheduleEnd - warmupSteps, 1))
      return learningRate * (1 + cos(.pi * min(progress, 1))) / 2
    }
  }

  /// The step at which a cosine has come to 0.
  public var scheduleEnd: Int { scheduleSteps > 0 ? scheduleSteps : steps }

  /// The decays of all averages, the first that of `ema.safetensors`.
  public var decays: [Double] { emaDecays.isEmpty ? [emaDecay] : emaDecays }

  /// The decay at update n, 1 for the first, of the average whose decay is `decay`: min(decay, (1 + n) / (10 + n)), without
  /// `ema_warmup` `decay` itself.
  public func emaDecay(_ decay: Double, step n: Int) -> Double {
    emaWarmup ? min(decay, Double(1 + n) / Double(10 + n)) : decay
  }

  /// The same of the average in `ema.safetensors`.
  public func emaDecay(step n: Int) -> Double { emaDecay(emaDecays.first ?? emaDecay, step: n) }

  /// Samples of a virtual rank in each step.
  public var virtualBatch: Int { batch / virtualRanks }

  /// Samples whose gradients are computed at a time: `micro_batch`, or with 0 the largest divisor of a virtual rank's
  /// samples with at most 8192 tokens of a network that cuts an image into `tokens`.
  public func microBatch(tokens: Int) -> Int {
    if microBatch > 0 { return microBatch }
    let limit = max(1, min(virtualBatch, 8192 / max(tokens, 1)))
    return stride(from: limit, to: 0, by: -1).first { virtualBatch % $0 == 0 } ?? 1
  }
}
