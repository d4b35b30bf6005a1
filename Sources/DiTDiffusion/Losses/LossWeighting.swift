/// How much the samples of a batch count, by their noise level. SNR = signal²/spread².
public enum LossWeighting: Equatable, Sendable {
  /// All the same.
  case uniform
  /// Min-SNR-γ (Hang et al. 2023): min(SNR, γ) times the squared error of x̂_*, whatever is predicted.
  ///
  /// In the prediction's own space: min(SNR, γ)/SNR for `epsilon` and `mean`, min(SNR, γ) for `x0`, min(SNR, γ)/(SNR + 1)
  /// for `v`, and for `flow`, where x̂_* = x_s − s·out, s² min(SNR, γ). The authors take γ = 5.
  case minSNR(gamma: Double)

  /// The factor of a sample's squared error.
  public func weight(_ prediction: Prediction, at level: NoiseLevel) -> Double {
    guard case .minSNR(let gamma) = self else { return 1 }
    let (signal, spread) = (level.signal * level.signal, level.spread * level.spread)
    switch prediction {
    case .epsilon, .mean: return min(1, gamma * spread / signal)
    case .x0: return min(signal / spread, gamma)
    case .v, .flow: return min(signal, gamma * spread)  // spread is 1/(SNR + 1) for v, s² for flow
    }
  }
}
