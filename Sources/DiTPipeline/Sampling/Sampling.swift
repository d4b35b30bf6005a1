import DiTDiffusion
import DiTModel
import DiTTensor

/// How images are sampled. A model's own are `DiT.samplingOptions`; there are no others to start from.
public struct SamplingOptions: Equatable, Sendable {
  public var sampler: Sampler
  public var guidance: Guidance
  /// With Philox image n is drawn from stream n of this seed, whatever the batch.
  public var seed: UInt64
  /// Where noise comes from.
  public var random: RandomStream
  /// Images at once; nil is at most 64 and what about 1 GB holds.
  public var batch: Int?
  /// Which evaluations are forecast; nil is none. Of samplers that evaluate the network once a step.
  public var caching: StepCaching?
  /// Of which images of a larger run these are; with ``RandomStream/torch`` all.
  public var share = ImageShare.whole

  public init(
    sampler: Sampler, guidance: Guidance, seed: UInt64 = 0,
    random: RandomStream = .philox, batch: Int? = nil, caching: StepCaching? = nil, share: ImageShare = .whole
  ) {
    self.sampler = sampler
    self.guidance = guidance
    self.seed = seed
    self.random = random
    self.batch = batch
    self.caching = caching
    self.share = share
  }
}

/// Where a run is, after one of its steps.
public struct SamplingProgress: Sendable {
  /// 1…`steps`: the steps that the images at hand have taken.
  public let step: Int
  /// S.
  public let steps: Int
  /// What the network was asked at; of Heun's two evaluations the second.
  public let time: NetworkTime
  /// The images at hand: they run in sub-batches.
  public let images: Range<Int>
  /// All images.
  public let count: Int
  /// Steps taken over all sub-batches.
  public let completedSteps: Int
  /// Steps to take over all sub-batches.
  public let totalSteps: Int
  /// Images that the network has been evaluated for so far, over all sub-batches, forecasts not counted: with guidance an image counts twice where
  /// the unconditional pass is run too, and once outside the guidance's interval.
  public let evaluatedImages: Int
  let shape: [Int]
  let elements: FloatSlice
  let schedule: NoiseSchedule
  /// Nil where a run goes backwards.
  let evaluation: LastEvaluation?

  /// The images at hand as they are after this step, (`images.count`, C, H, W). A copy is made at each access; in a callback it
  /// is of this step only there.
  public var x: Tensor { Tensor(shape: [images.count] + shape, elements: elements.array) }

  /// x̂_*, what the network's output of this step (of Heun's two the second) says the finished images are, not clipped; nil
  /// where a run goes backwards. Computed at each access; as ``x``, in a callback of this step only there.
  public var estimate: Tensor? {
    evaluation.map { Tensor(shape: [images.count] + shape, elements: $0.estimate(schedule.process)) }
  }
}

/// One of a run's images.
public struct Sample: Equatable, Sendable {
  /// (C, H, W): pixels, or latents.
  public let image: Tensor
  /// Its class; nil of an unconditional model.
  public let label: Int?

  public init(image: Tensor, label: Int?) { (self.image, self.label) = (image, label) }
}

/// What a run leaves: a collection of images.
public struct Samples: Equatable, Sendable, RandomAccessCollection {
  /// (N, C, H, W). A stopped run leaves the images at hand half denoised, and later ones as they started.
  public let images: Tensor
  /// One per image; empty for an unconditional model.
  public let labels: [Int]
  /// Whether all steps of all images were taken.
  public let isComplete: Bool

  /// - Precondition: `images` is (N, C, H, W), and there are N labels or none.
  public init(images: Tensor, labels: [Int], isComplete: Bool = true) {
    precondition(
      images.shape.count == 4 && [0, images.shape[0]].contains(labels.count),
      "\(labels.count) labels for images of shape \(images.shape)")
    (self.images, self.labels, self.isComplete) = (images, labels, isComplete)
  }

  public var startIndex: Int { 0 }
  public var endIndex: Int { images.shape.first ?? 0 }

  /// Image n with its label.
  public subscript(n: Int) -> Sample {
    Sample(image: images[n], label: labels.isEmpty ? nil : labels[n])
  }
}
