import DiTTensor

/// Which random numbers a run draws.
public enum RandomStream: String, CaseIterable, Sendable {
  /// One Philox stream per image: image n depends on (seed, n) alone.
  case philox
  /// torch's CPU generator in the order of diffusers' pipeline, so that a seed gives the same pictures there and here.
  case torch
}

/// The noise of a run over N images of C·H·W numbers.
///
/// - `philox`: image n has stream n of the seed to itself, its start first, then C·H·W numbers for each step that needs
///   noise; so it does not matter which images run together.
/// - `torch`: one generator. The start of all images is one draw (N, C, H, W), then each step that needs noise is one draw
///   for all of them, as where all run together. Where classes are guided diffusers' batch holds every image twice, and so
///   does the draw, of which the first half counts (its own noise then comes from the global generator: this is the order of
///   `generator=torch.manual_seed(seed)`). Images that run one part after the other each draw the same again from the state
///   after the start, and keep their elements.
///
/// Later noise is the same whether or not the start was drawn.
struct NoiseSource {
  private enum State {
    /// One stream per image.
    case philox([Philox])
    /// As it stands, and as it stood after the start.
    case torch(TorchGenerator, afterStart: TorchGenerator)
  }

  private var state: State
  private let images: Int
  private let size: Int
  /// Elements of a later draw of the one generator.
  private let drawCount: Int
  /// C·H·W of them.
  private let numbers: MutableFloatSlice

  /// - Parameters:
  ///   - images: N.
  ///   - size: C·H·W.
  ///   - isGuided: whether guidance is above 1.
  ///   - share: of which images of a larger run these are.
  init(
    _ random: RandomStream, seed: UInt64, images: Int, size: Int, isGuided: Bool, share: ImageShare = .whole
  ) {
    self.images = images
    self.size = size
    drawCount = (isGuided ? 2 : 1) * images * size
    numbers = MutableFloatSlice(zeros: size)
    switch random {
    case .philox: state = .philox((0..<images).map { Philox(seed: seed, stream: UInt64(share.number($0))) })
    case .torch:
      let generator = TorchGenerator(seed: seed)
      state = .torch(generator, afterStart: generator)
    }
  }

  /// Draws what all images start from, (N, C, H, W).
  mutating func drawStart(_ noise: inout MutableSpan<Float>) {
    switch state {
    case .philox: draw(0..<images, into: &noise)
    case .torch(var generator, _):
      generator.fillNormal(&noise)
      state = .torch(generator, afterStart: generator)
    }
  }

  /// Goes on as if the start had been drawn.
  mutating func skipStart() {
    switch state {
    case .philox(let streams):
      let position = UInt64((size + 3) / 4)  // a block of Philox is four numbers
      state = .philox(streams.map { Philox(seed: $0.seed, stream: $0.stream, position: position) })
    case .torch(var generator, _):
      var nothing = MutableSpan<Float>()
      generator.fillNormal(&nothing, elements: 0..<0, of: images * size)
      state = .torch(generator, afterStart: generator)
    }
  }

  /// Prepares for the steps of the next sub-batch.
  mutating func begin() {
    if case .torch(_, let afterStart) = state { state = .torch(afterStart, afterStart: afterStart) }
  }

  /// Draws a step's noise of these images, (n, C, H, W).
  mutating func draw(_ range: Range<Int>, into noise: inout MutableSpan<Float>) {
    switch state {
    case .philox(var streams):
      state = .philox([])  // so that the streams are changed in place
      var drawn = numbers.mutableSpan
      for (place, image) in range.enumerated() {
        streams[image].fillNormal(&drawn)
        for index in 0..<size { noise[place * size + index] = drawn[index] }
      }
      state = .philox(streams)
    case .torch(var generator, let afterStart):
      generator.fillNormal(&noise, elements: range.elements(size), of: drawCount)
      state = .torch(generator, afterStart: afterStart)
    }
  }
}
