import DiTDiffusion
import DiTKernels
import DiTModel
import DiTTensor

/// Images on their way by ``DormandPrince``, each with steps of its own length, so that none depends on the others; one
/// evaluation of the network serves all that are still on their way, at a time per row.
final class AdaptiveNetwork {
  private let network: DiTNetwork
  private let guidance: Guidance
  private let sampler: AdaptiveSampler
  private let workspace: InferenceWorkspace
  private let inputs, outputs: MutableFloatSlice
  private let modulationValues: MutableFloatSlice
  /// dx/dτ of one image, and its prediction.
  private let slope, prediction: MutableFloatSlice
  /// dx/dτ of all images at hand, where each is.
  private let slopes: MutableFloatSlice
  private(set) var evaluatedImages = 0

  init(_ network: DiTNetwork, guidance: Guidance, sampler: AdaptiveSampler, batch: Int) {
    let c = network.configuration
    self.network = network
    self.guidance = guidance
    self.sampler = sampler
    let rows = guidance.scale == 1 ? batch : 2 * batch
    workspace = InferenceWorkspace(network, samples: rows)
    inputs = MutableFloatSlice(zeros: rows * c.imageElements)
    outputs = MutableFloatSlice(zeros: rows * c.outputElements)
    modulationValues = MutableFloatSlice(zeros: Modulation.elements(c, rows: rows))
    slope = MutableFloatSlice(zeros: c.imageElements)
    prediction = MutableFloatSlice(zeros: c.outputElements)
    slopes = MutableFloatSlice(zeros: batch * c.imageElements)
  }

  /// An image's row of a batch.
  private struct Row {
    let image: Int
    let time: NetworkTime
    let isConditional: Bool
  }

  /// Takes images from noise to data.
  ///
  /// - Parameters:
  ///   - window: (n, C, H, W): noise at first, then where each image is.
  ///   - labels: one per image; none for an unconditional model.
  ///   - report: called when all images have passed another of the even parts of the way; false stops.
  /// - Returns: whether all have arrived.
  /// - Throws: `DiTError` of the tolerance, what `report` throws.
  func walk(
    _ window: MutableFloatSlice, labels: [Int], sequence: SequenceInput?,
    _ report: (SamplingStep, LastEvaluation) throws -> Bool
  ) throws -> Bool {
    let (c, slope) = (network.configuration, slope)
    let count = window.count / c.imageElements
    let own = sequence.map { network.embed($0) }
    var images = (0..<count).map { n in
      DormandPrince(
        window[n * c.imageElements..<(n + 1) * c.imageElements].array, from: sampler.begin, tolerance: sampler.tolerance
      )
    }
    var shown = sampler.skipped
    while shown < sampler.points {
      let active = images.indices.filter { !images[$0].isFinished }
      let rows = rows(active, images)
      evaluate(rows, images, labels, own)
      for (place, n) in active.enumerated() {
        let second = rows.indices.dropFirst(active.count).first { rows[$0].image == n }
        try find(slope, of: images[n], image: n, place, second)
        try images[n].take(slope.span)
        window[n * c.imageElements..<(n + 1) * c.imageElements].copy(from: images[n].state.span)
        slopes[n * c.imageElements..<(n + 1) * c.imageElements].copy(from: images[n].slope.span)
      }
      let reached = images.map(\.reached).min() ?? 1
      let point = Int(reached * Double(sampler.points))
      guard point > shown else { continue }
      shown = point
      let step = SamplingStep(
        number: point - sampler.skipped, count: sampler.points - sampler.skipped,
        evaluation: point - sampler.skipped - 1,
        time: sampler.networkTime(reached))
      let last = LastEvaluation(
        shape: c.batchShape(count), x: window.reading, outputs: slopes[0..<window.count].reading, guidance: nil,
        reading: .each(images.map { sampler.clean($0.reached) }))
      guard try report(step, last) else { return false }
    }
    return true
  }

  /// The conditional rows of these images, then the unconditional ones of those that are guided at their time.
  private func rows(_ active: [Int], _ images: [DormandPrince]) -> [Row] {
    let conditional = active.map { n in
      Row(image: n, time: sampler.networkTime(images[n].time), isConditional: true)
    }
    return conditional
      + conditional.filter { isGuided(images[$0.image]) }.map {
        Row(image: $0.image, time: $0.time, isConditional: false)
      }
  }

  /// Whether an image is guided where it asks. Beyond the end, where a last step may ask, as at the end.
  private func isGuided(_ image: DormandPrince) -> Bool {
    guidance.isActive(at: sampler.networkTime(min(1, image.time)))
  }

  /// The network's output of each row.
  private func evaluate(_ rows: [Row], _ images: [DormandPrince], _ labels: [Int], _ own: SequenceTokens?) {
    let c = network.configuration
    for (place, row) in rows.enumerated() {
      inputs[place * c.imageElements..<(place + 1) * c.imageElements].copy(from: images[row.image].x.span)
    }
    var sequences: SequenceTokens?
    if let own {
      var all = SequenceTokens(c, samples: rows.count)
      for (place, row) in rows.enumerated() where row.isConditional { all.copySample(place, from: own, row.image) }
      sequences = all
    }
    let modulation = Modulation(c, rows: rows.count, values: modulationValues)
    network.modulate(
      times: rows.map(\.time.value),
      labels: labels.isEmpty ? [] : rows.map { $0.isConditional ? labels[$0.image] : c.numClasses }, into: modulation)
    network.forward(
      output: outputs[0..<rows.count * c.outputElements].mutableSpan,
      images: inputs[0..<rows.count * c.imageElements].span, modulation: modulation, sequence: sequences,
      samples: rows.count, workspace: workspace)
    evaluatedImages += rows.count
  }

  /// dx/dτ of the image in row `place`, whose unconditional prediction is in row `second`, if it is guided.
  private func find(
    _ slope: MutableFloatSlice, of image: DormandPrince, image number: Int, _ place: Int, _ second: Int?
  ) throws(DiTError) {
    let (c, prediction, outputs) = (network.configuration, prediction, outputs)
    func row(_ n: Int) -> FloatSlice { outputs[n * c.outputElements..<(n + 1) * c.outputElements].reading }
    if let second {
      var guided = prediction.mutableSpan
      guidance.combine(
        conditional: row(place).span, unconditional: row(second).span, shape: c.batchShape(1), into: &guided)
    } else {
      prediction.copy(from: row(place).span)
    }
    if let (_, found) = prediction.span.notFinite(images: 1) {
      let cause = second == nil ? "" : " under guidance \(guidance.scale)"
      throw DiTError(
        overflow: "prediction", image: number, found: found, place: "at \(Float(image.time)) of the way\(cause)")
    }
    let (ofNoised, ofOutput) = sampler.slope(image.time)
    let (x, out) = (image.x, prediction.span)
    var result = slope.mutableSpan
    for i in 0..<c.imageElements {
      result[i] = Float(
        ofNoised == 0 ? ofOutput * Double(out[i]) : ofNoised * Double(x[i]) + ofOutput * Double(out[i]))
    }
  }
}
