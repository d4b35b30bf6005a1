import DiTKernels
import DiTTensor

/// How attention depends on the noise level. The default is the published DiT's, which does not.
///
/// For each head s_ij = q_i·k_j. A logit inside the window is scale · g · s_ij: the `temperature` gives the scale, and with
/// a `mask` every block has a gate g(t) = sigmoid(MLP(E_time(t))) per head. The `window` of image token i is |i − j| < k(t).
/// Tokens before the image's are inside every window.
public struct AttentionConfiguration: Equatable, Sendable {
  /// The scale on q·k, with β_t of the training step t.
  public enum Temperature: String, CaseIterable, Sendable {
    /// 1/√d.
    case standard
    /// √β_t: sharper at high noise, smoother at low.
    case sqrtBeta = "sqrt_beta"
    /// 1/(√d √β_t).
    case inverseSqrtBeta = "inverse_sqrt_beta"
  }

  /// What the tokens outside a window do.
  public enum Mask: String, CaseIterable, Sendable {
    /// There is neither gate nor window.
    case none
    /// They take part with logit 0.
    case soft
    /// They take no part.
    case hard
  }

  /// The window's share a_t of the image; k(t) = ⌈a_t · L⌉.
  public enum Window: String, CaseIterable, Sendable {
    /// √ᾱ_t: wide at low noise.
    case signal
    /// √(1−ᾱ_t): wide at high noise.
    case noise
    /// 1.
    case full
  }

  /// How far two image tokens are from each other.
  public enum Distance: String, CaseIterable, Sendable {
    /// |i − j| in row-major order.
    case raster
    /// The larger of the rows' and the columns' distance; k(t) = ⌈a_t · max(H, W)/P⌉.
    case grid
  }

  public var temperature: Temperature
  public var mask: Mask
  public var window: Window
  public var distance: Distance

  public init(
    temperature: Temperature = .standard, mask: Mask = .none, window: Window = .full, distance: Distance = .raster
  ) {
    self.temperature = temperature
    self.mask = mask
    self.window = window
    self.distance = distance
  }

  /// Whether every block has a gate.
  public var hasGate: Bool { mask != .none }
  /// Whether the noise schedule's tables are needed.
  public var readsNoise: Bool { temperature != .standard || (hasGate && window != .full) }
  /// Whether attention is anything but the published one.
  public var isStandard: Bool { self == AttentionConfiguration() }

  /// Throws when a window or a distance is set that no mask uses.
  func validate() throws(DiTError) {
    guard hasGate || window == .full else {
      throw DiTError(
        key: "attention.window", expected: "full, as there is no mask", found: "\(window.rawValue)")
    }
    guard hasGate || distance == .raster else {
      throw DiTError(
        key: "attention.distance", expected: "raster, as there is no mask", found: "\(distance.rawValue)")
    }
  }
}

/// What attention reads of the noise schedule, as plain values.
public struct AttentionNoise: Equatable, Sendable {
  /// β_t and ᾱ_t, one per training step.
  public let betas, alphasCumprod: [Double]
  /// What the network counts its time in on a linear path; nil where it is t itself.
  public let linearTime: LinearTime?

  /// The tables of T steps.
  public init(betas: [Double], alphasCumprod: [Double], linearTime: LinearTime? = nil) {
    precondition(!betas.isEmpty && betas.count == alphasCumprod.count, "\(betas.count) β, \(alphasCumprod.count) ᾱ")
    self.betas = betas
    self.alphasCumprod = alphasCumprod
    self.linearTime = linearTime
  }

  /// The training step t that a network's time stands for; on a linear path min(T−1, max(0, ⌈sT − δ⌉ − 1)), where δ is 10⁻⁶
  /// or, if that is more, what the time lost when it was rounded to float32.
  public func index(ofTime time: Float) -> Int {
    if let linearTime { return linearTime.trainingIndex(networkTime: time, steps: betas.count) }
    return Int(min(Double(betas.count - 1), max(0, Double(time).rounded())))
  }
}

extension AttentionConfiguration {
  /// What multiplies the gate and q·k at step t, for heads of `headSize`.
  public func scale(at t: Int, of noise: AttentionNoise?, headSize: Int) -> Float {
    let d = Double(headSize)
    switch temperature {
    case .standard: return 1 / Float(headSize).squareRoot()
    case .sqrtBeta: return Float(Self.table(noise).betas[t].squareRoot())
    case .inverseSqrtBeta: return Float(1 / (d.squareRoot() * Self.table(noise).betas[t].squareRoot()))
    }
  }

  /// k(t), at least 1, for a grid of `rows` × `columns` image tokens.
  public func width(at t: Int, of noise: AttentionNoise?, rows: Int, columns: Int) -> Int {
    let extent = distance == .raster ? rows * columns : max(rows, columns)
    switch window {
    case .full: return extent
    case .signal: return Self.width(Self.table(noise).alphasCumprod[t].squareRoot(), extent)
    case .noise: return Self.width((1 - Self.table(noise).alphasCumprod[t]).squareRoot(), extent)
    }
  }

  private static func width(_ share: Double, _ extent: Int) -> Int {
    min(extent, max(1, Int((share * Double(extent)).rounded(.up))))
  }

  private static func table(_ noise: AttentionNoise?) -> AttentionNoise {
    guard let noise else { preconditionFailure("attention that depends on the noise, without a noise schedule") }
    return noise
  }
}
