/// The time of a rectified flow as networks take it, 1000·s for s from 0 (clean) to 1 (noise), and the training step t of T
/// that it stands for.
package enum FlowTime {
  /// The network's time at s = 1, whatever T.
  package static let scale = 1000.0

  /// min(T−1, max(0, ⌈s·T − 10⁻⁶⌉ − 1)) of s in 0…1: so s = 1 is T−1, and s = k/T is k−1, also when rounding put it a
  /// little above.
  package static func trainingIndex(_ s: Double, steps: Int) -> Int { index(s, steps, slack: 1e-6) }

  /// The same of a network time 1000·s, which has lost up to half an ulp when it was rounded to Float: s·T may lie that
  /// much too high.
  package static func trainingIndex(networkTime time: Float, steps: Int) -> Int {
    let rounding = 0.51 * Double(time.ulp) / scale * Double(steps)
    return index(Double(time) / scale, steps, slack: max(1e-6, rounding))
  }

  private static func index(_ s: Double, _ steps: Int, slack: Double) -> Int {
    let last = (s * Double(steps) - slack).rounded(.up) - 1
    return Int(min(Double(steps - 1), max(0, last)))
  }
}
