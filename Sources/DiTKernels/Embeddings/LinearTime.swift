/// What a network counts its time in on a linear path x_s = (1−s) x_* + s·ς·ε, s from 0 (clean) to 1 (noise).
///
/// It differs between codebases, also in which end is noise, so it is a property of a model: the spelling is that of
/// config.json's `network_time`.
public enum LinearTime: String, CaseIterable, Sendable {
  /// 1000·s, so that the embedding sees numbers as large as training indices.
  case thousandths = "1000s"
  /// s: 1 is noise (REPA, MeanFlow).
  case s
  /// 1−s: 0 is noise, 1 is data (SiT, JiT, LightningDiT).
  case oneMinusS = "1-s"

  /// The largest time; the least is 0.
  public var greatest: Double { self == .thousandths ? 1000 : 1 }

  /// +1 where the time grows from data to noise, −1 where it grows from noise to data: the sign of a velocity along it.
  public var direction: Double { self == .oneMinusS ? -1 : 1 }

  /// The time of s in 0…1.
  public func time(_ s: Double) -> Double {
    switch self {
    case .thousandths: greatest * s
    case .s: s
    case .oneMinusS: 1 - s
    }
  }

  /// s of a time in 0…``greatest``.
  public func s(_ time: Double) -> Double {
    switch self {
    case .thousandths: time / greatest
    case .s: time
    case .oneMinusS: 1 - time
    }
  }

  /// The training index that stands for s: min(T−1, max(0, ⌈s·T − 10⁻⁶⌉ − 1)).
  ///
  /// So s = 1 is T−1, s = k/T is k−1, also when rounding put it a little above.
  /// - Parameters:
  ///   - s: 0…1.
  ///   - steps: T.
  public static func trainingIndex(_ s: Double, steps: Int) -> Int { index(s, steps, slack: 1e-6) }

  /// The training index of a network's time. s·T may lie too high by half an ulp that rounding to Float has lost, and on the grids
  /// of `s` and `1-s`, which are torch.linspace's, by one and a half.
  public func trainingIndex(networkTime time: Float, steps: Int) -> Int {
    let ulps = self == .thousandths ? 0.51 : 1.6
    let rounding = ulps * Double(time.ulp) / greatest * Double(steps)
    return Self.index(s(Double(time)), steps, slack: max(1e-6, rounding))
  }

  private static func index(_ s: Double, _ steps: Int, slack: Double) -> Int {
    let last = (s * Double(steps) - slack).rounded(.up) - 1
    return Int(min(Double(steps - 1), max(0, last)))
  }
}
