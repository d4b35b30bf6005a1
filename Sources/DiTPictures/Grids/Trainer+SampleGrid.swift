import DiTDistributed
import DiTImaging
import DiTPipeline
import DiTTensor
import DiTTraining

extension Trainer {
  /// A labeled grid of samples from the averaged weights, by the model's own sampling settings with seed 0: what a run
  /// shows of its progress when `sample_every` is due.
  ///
  /// A model with classes makes one image per class, at most `count`; any other makes `count` images, of the data's first
  /// captions or context images where it takes them. Of several processes, which all call this, each makes its share.
  ///
  /// - Returns: the picture, and what it was made with, on the first process; nil for a model whose samples are latents.
  /// - Throws: as `DiT.sample(_:options:start:inpainting:progress:)`.
  public func sampleGrid(
    count: Int = 10, software: String
  ) throws -> (picture: Image, settings: SampleSettings)? {
    guard model.samplesArePixels else { return nil }
    let classes = model.network.numClasses
    let total = classes > 0 ? min(classes, count) : count
    guard let (dit, images, made) = try evenSamples(count: total), group.isFirst else { return nil }
    let labels = try made ?? dit.nullLabels(total)
    let options = dit.samplingOptions
    let settings = SampleSettings(
      options, software: software, precision: training.numerics.precision, classes: labels, hasNoise: false)
    return (SampleGrid(model).picture(images, labels: labels), settings)
  }

  /// Samples of the averaged weights by the model's own sampling settings with seed 0: sample i of class i mod C, or of caption or context
  /// image i of the data where the model takes those. Of several processes, which all call this, each makes its share.
  ///
  /// - Parameter progress: called with the steps of a share's images done, and all of them; false stops.
  /// - Returns: the model that was sampled; on the first process all samples and their classes, nil for a model without. Nil where it was
  ///   stopped.
  /// - Throws: as `DiT.sample(_:options:start:inpainting:progress:)`.
  func evenSamples(
    count total: Int, progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }
  ) throws -> (dit: DiT, images: Tensor, labels: [Int]?)? {
    let dit = try averagedModel()
    let classes = model.network.numClasses
    var options = dit.samplingOptions
    options.share = ImageShare(index: group.rank, of: group.size)
    let numbers = options.share.numbers(of: total)
    let c = model.network
    var (images, failure) = (Tensor(zeros: [0, c.inChannels, c.inputHeight, c.inputWidth]), DiTError?.none)
    do {
      let condition: Condition =
        classes > 0
        ? .classes(numbers.map { $0 % classes })
        : Condition(firstSequences(total)?.picking(numbers), classes: nil, count: numbers.count)
      if !numbers.isEmpty {
        let made = try dit.sample(condition, options: options) { progress($0.completedSteps, $0.totalSteps) }
        if !made.isComplete, group.size == 1 { return nil }
        images = made.images
      }
    } catch let error as DiTError {
      failure = error
    }
    try group.barrier()  // shares take their time
    try group.agree(on: failure)
    images = try group.collect(images, total: total)
    return (dit, images, classes > 0 ? (0..<total).map { $0 % classes } : nil)
  }

  /// The first `count` captions or context images of the data, from the beginning again where there are fewer; nil for a
  /// model that takes none.
  private func firstSequences(_ count: Int) -> ConditioningSequence? {
    switch model.network.sequence {
    case nil: return nil
    case .text: return data.captions.map { captions in .texts((0..<count).map { captions[$0 % captions.count] }) }
    case .image:
      return data.context.map { context in
        let images = (0..<count).flatMap { n in
          let index = n % context.shape[0]
          return context.range(index..<index + 1).elements
        }
        return .images(Tensor(shape: [count] + context.shape.dropFirst(), elements: images))
      }
    }
  }
}
