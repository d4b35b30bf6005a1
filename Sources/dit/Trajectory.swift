import DiTImaging
import DiffusionTransformers

/// x after every step of every image.
struct Trajectory {
  /// (N, C, H, W) without N.
  private let shape: [Int]
  /// A state a step: (N, C, H, W).
  private var states: [[Float]]
  /// What the network was asked at, a training index a step, descending.
  private(set) var timesteps: [Int]

  init(count: Int, network: DiTConfiguration, timesteps: [Int]) {
    shape = [network.inChannels, network.inputHeight, network.inputWidth]
    states = timesteps.map { _ in [Float](repeating: 0, count: count * network.imageElements) }
    self.timesteps = timesteps
  }

  /// Keeps what a step left.
  mutating func record(_ progress: SamplingProgress) {
    let size = shape.reduce(1, *)
    let x = progress.x
    let range = progress.images.lowerBound * size..<progress.images.upperBound * size
    states[progress.step - 1].replaceSubrange(range, with: x.elements)
  }

  /// Writes the trajectories of the first `count` images.
  ///
  /// `.safetensors`: `states` (S, N, C, H, W), `timesteps` (S). `.png`: a row an image, from noise on the left to the
  /// sample on the right, at most ``columns`` of the states.
  func write(_ count: Int, labels: [String], to file: OutputFile, settings: SampleSettings) throws(Failure) {
    switch file.format {
    case .png:
      let picture = grid(count, labels: labels).rendered()
      try file.saving { try picture.writePNG(to: file.path, text: settings.text) }
    default:
      let size = shape.reduce(1, *)
      let elements = states.flatMap { $0.prefix(count * size) }
      let states = Tensor(shape: [timesteps.count, count] + shape, elements: elements)
      try file.write(
        [TensorSource("states", states), TensorSource("timesteps", timesteps)], metadata: settings.metadata)
    }
  }

  private static let columns = 12

  private func grid(_ count: Int, labels: [String]) -> ImageGrid {
    let size = shape.reduce(1, *)
    let columns = min(Self.columns, states.count)
    // The last state is always there; the others lie evenly before it.
    let shown = (1...columns).map { states.count * $0 / columns - 1 }
    let images = (0..<count).flatMap { n in
      shown.map { step in
        Image(
          planes: Array(states[step][n * size..<(n + 1) * size]), channels: shape[0], height: shape[1],
          width: shape[2])
      }
    }
    return ImageGrid(
      images, columns: columns, rowLabels: labels, columnLabels: shown.map { "t = \(timesteps[$0])" })
  }
}
