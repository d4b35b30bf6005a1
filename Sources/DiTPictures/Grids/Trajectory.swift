import DiTDiffusion
import DiTFiles
import DiTImaging
import DiTModel
import DiTPipeline
import DiTTensor

/// x after every step of every image of a sampling run.
///
///     var trajectory = Trajectory(count: 2, of: model.configuration, times: try model.stepTimes(sampler))
///     _ = try model.sample(.classes([2, 7]), options: options) { trajectory.record($0); return true }
///     try trajectory.grid(2, labels: ["2", "7"]).rendered().writePNG(to: "steps.png")
///
/// It holds S·N·C·H·W floats.
public struct Trajectory: Sendable {
  /// (C, H, W).
  private let shape: [Int]
  /// One state per step: (N, C, H, W).
  private var states: [[Float]]
  /// The first of the images at hand, and their steps so far.
  private var recorded = (image: 0, steps: 0)
  /// The network's time of each step, from noise on.
  private let times: [NetworkTime]
  /// Whether `times` are training indices.
  private let hasWholeTimes: Bool

  /// - Parameters:
  ///   - count: N, the images of the run.
  ///   - model: whose images they are.
  ///   - times: the network's time of each step, in the order of the steps.
  public init(count: Int, of model: ModelConfiguration, times: [NetworkTime]) {
    let network = model.network
    shape = [network.inChannels, network.inputHeight, network.inputWidth]
    states = times.map { _ in [Float](repeating: 0, count: count * network.imageElements) }
    self.times = times
    hasWholeTimes = model.diffusion.path.hasWholeTimes
  }

  /// Keeps what a step left, and for steps that were passed over the same.
  public mutating func record(_ progress: SamplingProgress) {
    let size = shape.reduce(1, *)
    let range = progress.images.lowerBound * size..<progress.images.upperBound * size
    let elements = progress.x.elements
    if progress.images.lowerBound != recorded.image || progress.step <= recorded.steps {
      recorded = (progress.images.lowerBound, 0)  // other images, or another run
    }
    for step in recorded.steps..<progress.step { states[step].replaceSubrange(range, with: elements) }
    recorded.steps = progress.step
  }

  /// The first `count` images' trajectories as tensors: `states` (S, N, C, H, W) and `timesteps` (S): training indices,
  /// or a linear path's real network times.
  public func tensors(_ count: Int) -> [TensorSource] {
    let size = shape.reduce(1, *)
    let elements = states.flatMap { $0.prefix(count * size) }
    let timesteps =
      hasWholeTimes
      ? TensorSource("timesteps", shape: [times.count], integers: times.map(\.index))
      : TensorSource("timesteps", Tensor(shape: [times.count], elements: times.map(\.value)))
    return [TensorSource("states", Tensor(shape: [times.count, count] + shape, elements: elements)), timesteps]
  }

  /// The most states that a row of ``grid(_:labels:)`` shows.
  public static let columns = 12

  /// The first `count` images' trajectories as a grid: one row per image, from noise on the left to the sample on the
  /// right, at most ``columns`` of the states, evenly chosen, the last always among them.
  ///
  /// - Parameters:
  ///   - count: of the rows.
  ///   - labels: one per image, or none.
  /// - Precondition: C is 1 or 3.
  public func grid(_ count: Int, labels: [String]) -> ImageGrid {
    let size = shape.reduce(1, *)
    let columns = min(Self.columns, states.count)
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

  private func label(_ time: NetworkTime) -> String {
    guard !hasWholeTimes else { return "\(time.index)" }
    // One decimal of times up to 1000, four of times up to 1.
    let digits: Float = (times.map(\.value).max() ?? 0) > 1 ? 10 : 10_000
    return "\((time.value * digits).rounded() / digits)"
  }
}
