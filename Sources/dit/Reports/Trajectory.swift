import DiTImaging
import DiffusionTransformers

/// x after every step of every image.
struct Trajectory {
  /// (N, C, H, W) without N.
  private let shape: [Int]
  /// A state a step: (N, C, H, W).
  private var states: [[Float]]
  /// What the network was asked at, by the step, descending.
  private let times: [NetworkTime]
  /// Whether `times` are real numbers.
  private let isFlow: Bool

  init(count: Int, network: DiTConfiguration, times: [NetworkTime], isFlow: Bool) {
    shape = [network.inChannels, network.inputHeight, network.inputWidth]
    states = times.map { _ in [Float](repeating: 0, count: count * network.imageElements) }
    self.times = times
    self.isFlow = isFlow
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
  /// `.safetensors`: `states` (S, N, C, H, W), `timesteps` (S), training indices or a flow's 1000·s. `.png`: a row an image, from noise on the left to the
  /// sample on the right, at most ``columns`` of the states.
  func write(_ count: Int, labels: [String], to file: OutputFile, settings: SampleSettings) throws(Failure) {
    switch file.format {
    case .png:
      let picture = grid(count, labels: labels).rendered()
      try file.saving { try picture.writePNG(to: file.path, text: settings.text) }
    default:
      let size = shape.reduce(1, *)
      let elements = states.flatMap { $0.prefix(count * size) }
      let states = Tensor(shape: [times.count, count] + shape, elements: elements)
      let timesteps =
        isFlow
        ? TensorSource("timesteps", Tensor(shape: [times.count], elements: times.map(\.value)))
        : TensorSource("timesteps", times.map(\.index))
      try file.write([TensorSource("states", states), timesteps], metadata: settings.metadata)
    }
  }

  private func label(_ time: NetworkTime) -> String {
    isFlow ? "\((time.value * 10).rounded() / 10)" : "\(time.index)"
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
      images, columns: columns, rowLabels: labels, columnLabels: shown.map { "t = \(label(times[$0]))" })
  }
}
