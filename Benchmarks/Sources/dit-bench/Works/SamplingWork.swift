import DiTEngine

/// A whole sampling run: DDIM with guidance, all images in one batch, both passes of guidance together.
final class SamplingWork: Work {
  /// The images of the last run.
  private(set) var images: Tensor?
  private let model: DiT
  private let labels: [Int]
  private let start: Tensor?
  private let options: SamplingOptions

  /// - Parameters:
  ///   - labels: one per image.
  ///   - start: noise to start from, (N, C, H, W); nil draws it.
  init(_ model: DiT, labels: [Int], start: Tensor? = nil, steps: Int, guidance: Double) {
    self.model = model
    self.labels = labels
    self.start = start
    options = SamplingOptions(
      sampler: Sampler(.ddim, steps: steps), guidance: Guidance(scale: guidance), batch: labels.count)
  }

  func run() throws {
    images = try model.sample(.classes(labels), options: options, start: start.map { .given($0) } ?? .noise).images
  }
}
