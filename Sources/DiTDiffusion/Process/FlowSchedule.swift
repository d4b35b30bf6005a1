import DiTKernels

/// Rectified flow (Liu, Gong & Liu 2023; Lipman et al. 2023): x_s = (1−s) x_* + s ε, s from 0 (clean) to 1 (noise).
///
/// The network predicts the velocity ε − x_* at the real time 1000·s. Training draws s uniformly from (0, 1]; sampling
/// walks s_i = 1 − i/S. The β schedule plays no part, except that diffusion-aware attention looks its β and ᾱ up at a
/// training index.
public enum FlowSchedule {
  /// The network's time at s = 1, whatever T.
  public static let timeScale = FlowTime.scale

  /// The network time of s in 0…1, of a schedule of T steps.
  public static func networkTime(_ s: Double, steps: Int) -> NetworkTime {
    NetworkTime(value: Float(timeScale * s), index: trainingIndex(s, steps: steps))
  }

  /// The training index that stands for s: min(T−1, max(0, ⌈s·T − 10⁻⁶⌉ − 1)).
  ///
  /// So s = 1 is T−1, s = k/T is k−1, also when rounding put it a little above.
  /// - Parameters:
  ///   - s: 0…1.
  ///   - steps: T.
  public static func trainingIndex(_ s: Double, steps: Int) -> Int {
    FlowTime.trainingIndex(s, steps: steps)
  }

  /// The training index of a network time 1000·s, which has lost up to half an ulp when it was rounded to Float: s·T may
  /// lie that much too high.
  ///
  /// - Parameters:
  ///   - time: 0…1000.
  ///   - steps: T.
  public static func trainingIndex(networkTime time: Float, steps: Int) -> Int {
    FlowTime.trainingIndex(networkTime: time, steps: steps)
  }

  /// s_0 = 1, …, s_i = 1 − i/S, …, s_S = 0: S+1 numbers, each the nearest Double to its fraction.
  ///
  /// - Parameter count: S, at least 1.
  public static func grid(_ count: Int) -> [Double] {
    precondition(count > 0, "a grid of \(count) steps")
    return (0...count).map { Double(count - $0) / Double(count) }
  }
}
