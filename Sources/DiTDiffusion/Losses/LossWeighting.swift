/// How much the samples of a batch count, by their noise level. SNR = signal²/spread².
public enum LossWeighting: Equatable, Sendable {
  /// All the same.
  case uniform
  /// Min-SNR-γ (Hang et al. 2023): min(SNR, γ) times the squared error of x̂_*, whatever is predicted.
  ///
  /// In the space that the loss compares in: min(SNR, γ)/SNR for `epsilon` and `mean`, min(SNR, γ) for `x0`,
  /// min(SNR, γ)/(SNR + 1) for `v`, s² min(SNR, γ) for `velocity`, and max(s, t_floor)² min(SNR, γ) where x̂_* is compared as a
  /// velocity. The authors take γ = 5.
  case minSNR(gamma: Double)

  /// The factor of a sample's squared error.
  public func weight(_ process: DiffusionProcess, at level: NoiseLevel) -> Double {
    guard case .minSNR(let gamma) = self else { return 1 }
    return process.minSNRWeight(gamma, at: level)
  }
}
