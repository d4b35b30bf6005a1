import DiTImaging
import DiTPipeline
import DiTTensor
import DiTTraining

extension Trainer {
  /// A labeled grid of samples from the averaged weights, by the model's own sampling settings with seed 0: what a run
  /// shows of its progress when `sample_every` is due.
  ///
  /// A model with classes makes one image per class, at most `count`; any other makes `count` images, of the data's first
  /// captions or context images where it takes them.
  ///
  /// - Returns: the picture, and what it was made with; nil for a model whose samples are latents.
  /// - Throws: as `DiT.sample(_:options:start:inpainting:progress:)`.
  public func sampleGrid(
    count: Int = 10, software: String
  ) throws -> (picture: Image, settings: SampleSettings)? {
    guard model.samplesArePixels else { return nil }
    let dit = try averagedModel()
    let options = dit.samplingOptions
    let samples =
      model.network.numClasses > 0
      ? try dit.sample(.classes(Array(0..<min(model.network.numClasses, count))), options: options)
      : try dit.sample(Condition(firstSequences(count), classes: nil, count: count), options: options)
    let settings = SampleSettings(
      options, software: software, precision: training.numerics.precision, classes: samples.labels, hasNoise: false)
    return (SampleGrid(model).picture(samples.images, labels: samples.labels), settings)
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
