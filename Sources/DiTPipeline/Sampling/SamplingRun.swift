import DiTDiffusion
import DiTModel
import DiTTensor

/// A run over N images in sub-batches.
final class SamplingRun {
  /// What takes a sub-batch all the way.
  private enum Walker {
    /// With the part of the images that is given, if any.
    case steps(any ReverseProcess, GuidedNetwork, KnownPart?)
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
  ///   - start: checked; of an inversion the images, as if they were given noise.
  ///   - inpainting: checked; for steps that are known beforehand.
  /// - Precondition: at least one step is taken.
  init(
    _ model: DiT, _ whole: SamplingMethod, count: Int, labels: [Int], sequence: SequenceInput?,
    options: SamplingOptions, start: Start, inpainting: Inpainting?
  ) {
    let c = model.configuration.network
    let taken = start.taken(of: whole.stepCount)
    let (method, level) =
      taken < whole.stepCount ? whole.ending(taken) : (whole, (signal: 0, spread: whole.startScale))
    let guidance = options.guidance.resolved(c, model.schedule.process, model.configuration.sampling.guidance)
    let batch = min(count, options.batch ?? BatchPlan.inference(c, passes: method.passes(c, guidance), options.caching))
    self.model = model
    self.labels = labels
    self.sequence = sequence
    imageShape = [c.inChannels, c.inputHeight, c.inputWidth]
    batches = DiTPipeline.batches(count, of: batch)
    self.count = count
    random = NoiseSource(
      options.random, seed: options.seed, images: count, size: c.imageElements,
      isGuided: guidance.scale > 1 && !c.isToldGuidance, share: options.share)
    let noise =
      start.givenNoise.map { MutableFloatSlice($0.elements) } ?? MutableFloatSlice(zeros: count * c.imageElements)
    x = noise
    var elements = noise.mutableSpan
    if start.givenNoise == nil {
      random.drawStart(&elements)
    } else {
      random.skipStart()
    }
    switch method {
    case .steps(let process):
      let known = inpainting.map { KnownPart($0, count: count, process: process) }
      known?.keep(noise: noise.reading, of: 0)
      let network = GuidedNetwork(
        model.network, guidance: guidance, process: process, caching: options.caching, batch: batch)
      (walker, isInversion) = (.steps(process, network, known), false)
    case .inversion(let process):
      let network = GuidedNetwork(model.network, guidance: guidance, process: process, batch: batch)
      (walker, isInversion) = (.steps(process, network, nil), true)
    case .adaptive(let sampler):
      let network = AdaptiveNetwork(model.network, guidance: guidance, sampler: sampler, batch: batch)
      (walker, isInversion) = (.adaptive(network), false)
    }
    if taken < whole.stepCount, case .image(let images, _, _) = start {
      let given = images.elements.span
      for index in elements.indices {
        let (clean, noise) = (Double(given[index % given.count]), Double(elements[index]))
        elements[index] = Float(level.signal * clean + level.spread * noise)
      }
    } else if level.spread != 1 {
      for index in elements.indices { elements[index] = Float(level.spread * Double(elements[index])) }
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
      case .steps(let process, let network, let known):
        random.begin()
        network.begin(samples: images.count, labels: labels, sequence: sequence)
        return try walk(process, network, known, images, window, progress)
      case .adaptive(let network):
        return try network.walk(window, labels: labels, sequence: sequence) { step, evaluation in
          try check(window, step, images)
          return try progress(self.progress(step, images, window, evaluation, network.evaluatedImages))
        }
      }
    } catch let error as DiTError {
      throw error.moved(by: images.lowerBound)
    }
  }

  /// Throws unless the images at hand are finite after a step; the error counts them from 0.
  private func check(_ window: MutableFloatSlice, _ step: SamplingStep, _ images: Range<Int>) throws(DiTError) {
    guard let (image, found) = window.span.notFinite(images: images.count) else { return }
    throw DiTError(
      overflow: isInversion ? "noise" : "samples", image: image, found: found,
      place: "after step \(step.number) of \(step.count)")
  }

  private func walk(
    _ process: some ReverseProcess, _ network: GuidedNetwork, _ known: KnownPart?, _ images: Range<Int>,
    _ window: MutableFloatSlice, _ progress: (SamplingProgress) throws -> Bool
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
        do throws(DiTError) {
          try network.predict(&output, x, evaluation: step.evaluation)
        } catch {
          throw error.placed("at step \(step.number) of \(step.count)")
        }
      },
      noise: { _, noise in random.draw(images, into: &noise) },
      finish: { step, x in known?.restore(&x, images, step: step.number) }, progress: { step, _ in report(step) })
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
