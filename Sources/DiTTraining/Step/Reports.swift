// What training tells of a step, and of the held-out samples.

/// What a step did.
public struct StepReport: Equatable, Sendable {
  /// 1 for the first.
  public var step: Int
  /// Means over the batch: the weighted mse + vb + cosine + λ_seq seq, mse, with a learned variance the bound's term in bits,
  /// with `mse+cosine` 1 − cos, and with λ_seq w_t L_seq.
  public var loss, mse: Double
  public var vb: Double?
  public var cosine: Double?
  public var seq: Double?
  /// The gradient's global norm before clipping.
  public var gradientNorm: Double
  public var learningRate: Double
  /// Samples drawn since the run began, this step's included.
  public var samplesSeen: Int
}

/// The mean loss of an average on the held-out split.
public struct AverageLoss: Equatable, Sendable {
  public let decay, loss: Double
}

/// The loss on the held-out split.
public struct ValidationReport: Equatable, Sendable {
  /// The step whose weights were measured.
  public var step: Int
  /// Means over the samples.
  public var loss, mse: Double
  public var vb: Double?
  public var cosine: Double?
  public var seq: Double?
  /// The number of samples held out.
  public var samples: Int
  /// Where their mse lies. Nil where it was not measured.
  public var patches: PatchLossMap?
  /// What the further averages of `ema_decays` lose.
  public var furtherAverages: [AverageLoss] = []

  public init(
    step: Int, loss: Double, mse: Double, vb: Double?, cosine: Double? = nil, seq: Double? = nil, samples: Int,
    patches: PatchLossMap? = nil
  ) {
    self.step = step
    self.loss = loss
    self.mse = mse
    self.vb = vb
    self.cosine = cosine
    self.seq = seq
    self.samples = samples
    self.patches = patches
  }
}
