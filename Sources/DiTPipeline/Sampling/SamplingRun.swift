import DiTDiffusion
import DiTModel
import DiTTensor

/// A run over N images in sub-batches.
final class SamplingRun {
  /// What takes a sub-batch all the way.
  private enum Walker {
    case steps(any ReverseProcess, GuidedNetwork)
    case adaptive(AdaptiveNetwork)
  }

  private let model: DiT
  private let labels: [Int]
  private let sequence: SequenceInput?
  private let walker: Walker
  private let batches: [Range<Int>]
  /// (N, C, H, W) of all images.
  private let x: MutableFloatSlice
  /// C, H, W.
  private let imageShape: [Int]
  private let count: Int
  /// Whether the process leads to noise.
  private let isInversion: Bool
  private var random: NoiseSource

  /// - Parameters:
  ///   - labels: one per image; none for an unconditional model.
  ///   - sequence: one per image; nil for a model that takes none.
  ///   - start: what to start from; nil draws noise.
  ///   - isInversion: whether the method leads to noise.
  init(
    _ model: DiT, _ method: SamplingMethod, count: Int, labels: [Int], sequence: SequenceInput?,
    options: SamplingOptions, start: Tensor?, isInversion: Bool
  ) {
    let c = model.configuration.network
    let guidance = options.guidance.resolved(c, model.schedule.process, model.configuration.sampling.guidance)
    let batch = min(count, options.batch ?? BatchPlan.inference(c, passes: method.passes(c, guidance)))
    self.model = model
    self.labels = labels
    self.sequence = sequence
    imageShape = [c.inChannels, c.inputHeight, c.inputWidth]
    batches = DiTPipeline.batches(count, of: batch)
    walker =
      switch method {
      case .steps(let process):
        .steps(process, GuidedNetwork(model.network, guidance: guidance, process: process, batch: batch))
      case .adaptive(let sampler):
        .adaptive(AdaptiveNetwork(model.network, guidance: guidance, sampler: sampler, batch: batch))
      }
    self.count = count
    self.isInversion = isInversion
    random = NoiseSource(
      options.random, seed: options.seed, images: count, size: c.imageElements,
      isGuided: guidance.scale > 1 && !c.isToldGuidance)
    let noise = start.map { MutableFloatSlice($0.elements) } ?? MutableFloatSlice(zeros: count * c.imageElements)
    x = noise
    var elements = noise.mutableSpan
    if start == nil {
      random.drawStart(&elements)
    } else {
      random.skipStart()
    }
    let startScale = method.startScale
    if startScale != 1 {
      for index in 0..<count * c.imageElements { elements[index] = Float(startScale * Double(elements[index])) }
    }
  }

  /// Takes all steps of all images, unless `progress` stops.
  func finish(_ progress: (SamplingProgress) throws -> Bool) throws -> Samples {
    var isComplete = true
    for images in batches where isComplete { isComplete = try walk(images, progress) }
    let shape = model.configuration.network.imageShape(count)
    return Samples(images: Tensor(shape: shape, elements: x.array), labels: labels, isComplete: isComplete)
  }

  /// Takes all steps of a sub-batch, unless `progress` stops: then false.
  private func walk(_ images: Range<Int>, _ progress: (SamplingProgress) throws -> Bool) throws -> Bool {
    let window = x[images.elements(model.configuration.network.imageElements)]
    let (labels, sequence) = (labels.isEmpty ? [] : Array(labels[images]), sequence?.samples(images))
    do {
      switch walker {
      case .steps(let process, let network):
        random.begin()
        network.begin(samples: images.count, labels: labels, sequence: sequence)
        return try walk(process, network, images, window, progress)
      case .adaptive(let network):
        return try network.walk(window, labels: labels, sequence: sequence) { step, evaluation in
          try check(window, step, images)
          return try progress(self.progress(step, images, window, evaluation, network.evaluatedImages))
        }
      }
    } catch let error as OverflowError {
      throw error.moved(by: images.lowerBound)
    }
  }

  /// Throws unless the images at hand are finite after a step; the error counts them from 0.
  private func check(_ window: MutableFloatSlice, _ step: SamplingStep, _ images: Range<Int>) throws(OverflowError) {
    guard let (image, found) = window.span.notFinite(images: images.count) else { return }
    throw OverflowError(
      isInversion ? "noise" : "samples", image: image, found: found,
      place: "after step \(step.number) of \(step.count)")
  }

  private func walk(
    _ process: some ReverseProcess, _ network: GuidedNetwork, _ images: Range<Int>, _ window: MutableFloatSlice,
    _ progress: (SamplingProgress) throws -> Bool
  ) throws -> Bool {
    var failure: (any Error)?
    func report(_ step: SamplingStep) -> Bool {
      do {
        try check(window, step, images)
        let evaluation = isInversion ? nil : network.last
        return try progress(self.progress(step, images, window, evaluation, network.evaluatedImages))
      } catch {
        failure = error
        return false
      }
    }
    var x = window.mutableSpan
    let shape = model.configuration.network.batchShape(images.count)
    let isComplete = try process.sample(
      &x, shape: shape,
      predict: { x, step, output in
        do throws(OverflowError) {
          try network.predict(&output, x, evaluation: step.evaluation)
        } catch {
          throw error.placed("at step \(step.number) of \(step.count)")
        }
      },
      noise: { _, noise in random.draw(images, into: &noise) }, progress: { step, _ in report(step) })
    if let failure { throw failure }
    return isComplete
  }

  private func progress(
    _ step: SamplingStep, _ images: Range<Int>, _ window: MutableFloatSlice, _ evaluation: LastEvaluation?,
    _ evaluatedImages: Int
  ) -> SamplingProgress {
    let before = batches.firstIndex(of: images) ?? 0
    return SamplingProgress(
      step: step.number, steps: step.count, time: step.time, images: images, count: count,
      completedSteps: before * step.count + step.number, totalSteps: batches.count * step.count,
      evaluatedImages: evaluatedImages,
      shape: imageShape, elements: window.reading, schedule: model.schedule,
      evaluation: evaluation)
  }
}
